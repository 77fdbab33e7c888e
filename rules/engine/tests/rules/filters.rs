//! Filters, overrides, and what is said about rules: as an administrator meets them.

use gnomon_engine::{Adjustments, Answer, Enforcement, FilterStatus, Finding, Lint, Origin, RuleSet, Source, explain};
use gnomon_observe::{Action, Field, Level, Observation, Phase};
use proptest::prelude::*;
use rsigma_eval::{Engine, event::JsonEvent};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

const CALLS: &str = "title: Calls\nid: 5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10\nname: tool_calls\nlogsource: {product: mcp, category: mcp_traffic}\n\
    detection:\n    sel:\n        mcp.method.name: tools/call\n    condition: sel\nlevel: high\n";

fn filter(rules: &str, body: &str, condition: &str) -> String {
    format!(
        "title: Not in the lab\nid: 7a0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10\nlogsource:\n    product: mcp\n    category: mcp_traffic\n\
         filter:\n    rules: {rules}\n    selection:\n        {body}\n    condition: {condition}\n"
    )
}

fn source(name: &str, text: &str, origin: Origin) -> Source {
    Source { name: name.to_owned(), text: text.to_owned(), origin }
}

fn set(texts: &[&str], adjustments: &Adjustments) -> Result<RuleSet, String> {
    let sources: Vec<_> = texts.iter().enumerate().map(|(n, text)| source(&format!("{n}.yml"), text, Origin::Vendor)).collect();
    RuleSet::compile_with(&sources, adjustments).map_err(|errors| errors.to_string())
}

fn matches(set: &RuleSet, event: &Value) -> bool {
    !set.one_shot(&Observation::from_json(event.as_object().unwrap()).unwrap()).matched.is_empty()
}

#[test]
fn an_exception_takes_out_what_it_selects_and_nothing_else() {
    let exception = filter("[5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10]", "user.name: ada", "not selection");
    let set = set(&[CALLS, &exception], &Adjustments::default()).unwrap();
    assert!(!matches(&set, &json!({"mcp.method.name": "tools/call", "user.name": "ada"})));
    assert!(matches(&set, &json!({"mcp.method.name": "tools/call", "user.name": "bob"})));
    assert!(matches(&set, &json!({"mcp.method.name": "tools/call"})));
    assert_eq!((set.filters()[0].status, set.rules()[0].filters.as_slice()), (FilterStatus::Acts(1), [0].as_slice()));
    assert!(set.warnings().is_empty(), "{:?}", set.warnings());
}

#[test]
fn a_filter_is_for_the_rules_it_names_by_id_name_or_any() {
    let event = json!({"mcp.method.name": "tools/call", "user.name": "ada"});
    for (rules, excepted) in [("tool_calls", true), ("[x, tool_calls]", true), ("any", true), ("[]", true), ("[other]", false)] {
        let set = set(&[CALLS, &filter(rules, "user.name: ada", "not selection")], &Adjustments::default()).unwrap();
        assert_eq!(matches(&set, &event), !excepted, "{rules}");
        assert_eq!(set.filters()[0].status == FilterStatus::Idle, !excepted, "{rules}");
    }
}

#[test]
fn a_filter_without_not_and_one_for_no_rule_are_worth_a_warning() {
    let set = set(&[CALLS, &filter("[tool_cals]", "user.name: ada", "selection")], &Adjustments::default()).unwrap();
    let warnings: Vec<_> = set.warnings().iter().map(ToString::to_string).collect();
    assert!(warnings[0].starts_with("1.yml:10:16: the condition has no `not`"), "{warnings:?}");
    assert!(warnings[1].contains("no rule `tool_cals` is loaded; did you mean `tool_calls`?"), "{warnings:?}");
}

#[test]
fn an_exception_that_cannot_be_read_silences_no_rule_and_refuses_nothing_less() {
    let exception = filter("any", "gen_ai.tool.name: echo", "not selection");
    let told = set(&[CALLS, &exception], &Adjustments::default()).unwrap();
    let call = Observation::from_json(json!({"mcp.method.name": "tools/call"}).as_object().unwrap()).unwrap();
    let named = |name: &str| {
        let mut seen = call.clone();
        seen.set(Field::ToolName, name);
        seen
    };
    let mut unread = call.clone();
    unread.set_unreadable(Field::ToolName);
    let mut partial = named("echo ");
    partial.set_partial(Field::ToolName);
    let matched = |seen: &Observation| {
        let mut progress = told.start();
        let _ = told.judge(seen, Phase::Message, &mut progress);
        let slow = told.one_shot(seen).matched.len();
        assert_eq!(progress.matched().count(), slow, "both judges agree");
        slow
    };
    assert_eq!([&unread, &partial, &named("delete"), &named("echo")].map(matched), [1, 1, 1, 0]);
    // What is to be known later still decides.
    for (name, expected) in [("echo", 0), ("delete", 1)] {
        let mut progress = told.start();
        told.settle(&unread, Phase::Message, &mut progress);
        assert_eq!(progress.matched().count(), 0);
        let _ = told.judge(&named(name), Phase::Message, &mut progress);
        assert_eq!(progress.matched().count(), expected, "{name}");
    }
    let blocking = format!("{CALLS}gnomon: {{response: {{action: block}}}}\n");
    let blocks = set(&[&blocking, &exception], &Adjustments::default()).unwrap();
    assert!(matches!(blocks.one_shot(&unread).answer, Answer::Undecidable(verdict) if verdict.action == Action::Block));
    let mut without_method = Observation::new();
    without_method.set_unreadable(Field::McpMethod);
    without_method.set_unreadable(Field::ToolName);
    assert_eq!(matched(&without_method), 0, "a rule that is not known to match is told of nothing");
}

#[test]
fn an_exception_ends_when_its_time_is_over() {
    let text = format!(
        "{}gnomon:\n    expires: 2026-12-31\n    owner: ada\n    reason: the lab's server\n",
        filter("any", "user.name: ada", "not selection")
    );
    let event = json!({"mcp.method.name": "tools/call", "user.name": "ada"});
    // 2027-01-01T00:00:00Z
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_761_600);
    let at = |now| set(&[CALLS, &text], &Adjustments { now, ..Adjustments::default() }).unwrap();
    let before = at(end - Duration::from_secs(1));
    assert!(!matches(&before, &event));
    assert_eq!(before.next_expiry(), Some(end));
    let after = at(end);
    assert!(matches(&after, &event));
    assert_eq!((after.filters()[0].status, after.next_expiry()), (FilterStatus::Expired, None));
    assert_eq!(after.filters()[0].owner.as_deref(), Some("ada"));
}

#[test]
fn a_blocking_rule_is_not_made_to_wait_for_the_answer() {
    let blocking = format!("{CALLS}gnomon: {{response: {{action: block}}}}\n");
    let late = filter("any", "http.response.status_code: 200", "not selection");
    let error = set(&[&blocking, &late], &Adjustments::default()).unwrap_err();
    assert!(error.contains("1.yml:7:5: `Calls` is decided on the request, but this filter needs the answer"), "{error}");
    assert!(set(&[CALLS, &late], &Adjustments::default()).is_ok());
}

#[test]
fn what_a_filter_excepts_does_not_break_the_tests_of_its_rule_and_it_has_tests_of_its_own() {
    let rule =
        format!("{CALLS}gnomon:\n    tests:\n      - observe: {{mcp.method.name: tools/call, user.name: ada}}\n        expect: match\n");
    let exception = format!(
        "{}gnomon:\n    tests:\n      - observe: {{user.name: ada}}\n        expect: no_match\n      - observe: {{user.name: bob}}\n        expect: match\n",
        filter("any", "user.name: ada", "not selection")
    );
    let results = set(&[&rule, &exception], &Adjustments::default()).unwrap().run_tests();
    assert_eq!(results.len(), 3);
    assert!(results.iter().all(|result| result.passed), "{results:?}");
}

fn overridden(text: &str) -> Result<RuleSet, String> {
    set(&[CALLS], &Adjustments { overrides: Some(source("overrides.yml", text, Origin::Admin)), ..Adjustments::default() })
}

#[test]
fn an_override_changes_level_response_and_activity_and_says_why() {
    let set = overridden("- rule: tool_calls\n  level: low\n  response: {action: block, message: no}\n  reason: pilot\n").unwrap();
    let rule = &set.rules()[0];
    assert_eq!((rule.level, rule.response.action), (Level::Low, Action::Block));
    let change = rule.change.as_ref().unwrap();
    assert_eq!((change.level, change.action, change.reason.as_str(), change.line), (Level::High, Action::Log, "pilot", 1));
    let off = overridden("- rule: 5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10\n  enabled: false\n  reason: noise\n").unwrap();
    assert_eq!((off.rules().len(), off.disabled().len()), (0, 1));
    assert!(!matches(&off, &json!({"mcp.method.name": "tools/call"})));
    assert!(off.find("tool_calls").is_some() && off.find("5f0c").is_some());
}

#[test]
fn a_rule_in_shadow_refuses_nothing_and_is_told_what_it_would_do() {
    let text = "- rule: tool_calls\n  mode: shadow\n  response: {action: block}\n  reason: pilot\n";
    let set = overridden(text).unwrap();
    let rule = &set.rules()[0];
    assert_eq!((rule.response.action, rule.enforcement, rule.acts()), (Action::Block, Enforcement::Shadow, Action::Log));
    let seen = Observation::from_json(json!({"mcp.method.name": "tools/call"}).as_object().unwrap()).unwrap();
    let outcome = set.one_shot(&seen);
    assert!(matches!(outcome.answer, Answer::Decided(verdict) if verdict.action == Action::Log), "{outcome:?}");
    let enforced = overridden(&text.replace("shadow", "enforce")).unwrap().one_shot(&seen);
    assert!(matches!(enforced.answer, Answer::Decided(verdict) if verdict.action == Action::Block), "{enforced:?}");
}

#[test]
fn a_pack_is_changed_as_a_whole_but_for_rules_that_have_a_change_of_their_own() {
    let other = CALLS.replace("5f0c1b9e", "6f0c1b9e").replace("tool_calls", "other_calls");
    let sources = [source("pilot/a.yml", CALLS, Origin::Vendor), source("pilot/b.yml", &other, Origin::Vendor)];
    let changed = |text: &str| {
        let overrides = Some(source("overrides.yml", text, Origin::Admin));
        RuleSet::compile_with(&sources, &Adjustments { overrides, ..Adjustments::default() }).map_err(|errors| errors.to_string())
    };
    let of_pack = "- pack: pilot\n  mode: shadow\n  response: {action: block}\n  reason: pilot\n";
    let set = changed(&format!("{of_pack}- rule: other_calls\n  level: low\n  reason: noise\n")).unwrap();
    let state = |name: &str| set.find(name).map(|rule| (rule.response.action, rule.enforcement)).unwrap();
    assert_eq!(state("tool_calls"), (Action::Block, Enforcement::Shadow));
    assert_eq!(state("other_calls"), (Action::Log, Enforcement::Enforce));
    for (text, words) in [
        (of_pack.replace("pilot\n  mode", "pilo\n  mode"), "overrides.yml:1:9: no rule of a pack `pilo` is loaded"),
        (of_pack.repeat(2), "overrides.yml:5:3: the pack `pilot` is changed twice"),
        (of_pack.replace("mode: shadow", "mode: shade"), "`mode` takes enforce or shadow; did you mean `shadow`?"),
        (of_pack.replace("- pack", "- rule: tool_calls\n  pack"), "either `rule` or `pack`"),
    ] {
        let error = changed(&text).unwrap_err();
        assert!(error.contains(words), "expected `{words}` in: {error}");
    }
}

#[test]
fn a_wrong_override_is_told_with_its_place_and_what_was_meant() {
    for (text, words) in [
        ("- rule: tool_call\n  level: low\n  reason: x\n", "overrides.yml:1:9: no rule `tool_call` is loaded; did you mean `tool_calls`?"),
        ("- rule: tool_calls\n  level: low\n", "overrides.yml:1:3: `reason` is missing"),
        ("- rule: tool_calls\n  reason: x\n", "nothing is changed"),
        (
            "- rule: tool_calls\n  levels: low\n  reason: x\n",
            "overrides.yml:2:3: unknown key `levels` in `override`; did you mean `level`?",
        ),
        ("- rule: tool_calls\n  level: lo\n  reason: x\n", "overrides.yml:2:10: "),
        ("- rule: tool_calls\n  enabled: no\n  reason: x\n", "`enabled` takes true or false"),
        ("- rule: tool_calls\n  response: {action: allow}\n  reason: x\n", "a shipped rule's `allow` sets nothing aside"),
        (
            "- {rule: tool_calls, level: low, reason: x}\n- {rule: tool_calls, level: high, reason: x}\n",
            "overrides.yml:2:3: the rule `tool_calls` is changed twice",
        ),
        ("rule: tool_calls\n", "overrides are a list"),
    ] {
        let error = overridden(text).unwrap_err();
        assert!(error.contains(words), "expected `{words}` in: {error}");
    }
    assert!(overridden("# nothing yet\n").is_ok());
}

fn advice(detection: &str) -> Vec<String> {
    let text = format!(
        "title: T\nid: 5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10\nlogsource: {{product: mcp, category: mcp_traffic}}\ndetection:\n{detection}"
    );
    let set = set(&[&text], &Adjustments { lint: Lint::Run, ..Adjustments::default() }).unwrap();
    set.warnings().iter().map(ToString::to_string).collect()
}

#[test]
fn a_rule_that_can_never_match_or_never_miss_is_pointed_out() {
    let never = [
        "    a: {mcp.method.name: tools/call}\n    b: {mcp.method.name: [initialize, ping]}\n    condition: a and b\n",
        "    a: {mcp.method.name: tools/call}\n    condition: a and not a\n",
        "    a: {gnomon.sanctioned: maybe}\n    condition: a\n",
        "    a: {server.port: https}\n    condition: a\n",
        "    a: {gen_ai.tool.name|exists: false}\n    b: {gen_ai.tool.name: shell}\n    condition: a and b\n",
    ];
    for detection in never {
        let told = advice(detection);
        assert!(told.iter().any(|line| line.contains("can never match")), "{detection}\n{told:?}");
    }
    let always = "    a: {mcp.method.name: tools/call}\n    condition: a or not a\n";
    assert!(advice(always)[0].contains("matches everything"), "{:?}", advice(always));
}

#[test]
fn a_field_that_the_channel_of_its_rule_never_has_is_an_error_with_the_reason() {
    for (detection, error) in [
        (
            "    a: {gnomon.channel: stdio, mcp.method.name: tools/call}\n    b: {url.path: /mcp}\n    condition: a and not b\n",
            "0.yml:6:9: `url.path` is never filled on channel stdio, where this rule matches; it is filled on https, http, config",
        ),
        (
            "    a: {gnomon.channel: process, gen_ai.tool.call.result|contains: x}\n    condition: a\n",
            "0.yml:6:16: the rule can never match: no channel fills all of its fields, which are filled `gen_ai.tool.call.result` on https, http, stdio, `gnomon.channel` on https, http, stdio, config, process",
        ),
    ] {
        let text = format!(
            "title: T\nid: 5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10\nlogsource: {{product: mcp, category: mcp_traffic}}\ndetection:\n{detection}"
        );
        for lint in [Lint::Skip, Lint::Run] {
            let errors = set(&[&text], &Adjustments { lint, ..Adjustments::default() }).err().map(|errors| errors.to_string());
            assert_eq!(errors.as_deref(), Some(error), "{detection}");
        }
    }
}

#[test]
fn a_field_that_the_channel_of_a_large_rule_never_has_is_an_error_too() {
    // With the two above it thirteen items, more than are combined.
    let many: String = (0..11).map(|n| format!("    c{n}: {{process.command_line|contains: word{n}}}\n")).collect();
    for (condition, error) in [
        (
            "a and b and all of c*",
            Some(
                "0.yml:18:16: the rule can never match: no channel fills all of its fields, which are filled \
                 `gnomon.channel` on https, http, stdio, config, process, `process.command_line` on https, http, stdio, process, \
                 `user_agent.original` on https, http",
            ),
        ),
        (
            "a and not b and 1 of c*",
            Some(
                "0.yml:6:9: `user_agent.original` is never filled on channel process, where this rule matches; it is filled on https, http",
            ),
        ),
        // Of a program that is started, or of a request.
        ("(a or b) and 1 of c*", None),
    ] {
        let text = format!(
            "title: T\nid: 5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10\nlogsource: {{product: mcp, category: mcp_traffic}}\ndetection:\n    \
             a: {{gnomon.channel: process}}\n    b: {{user_agent.original|contains: curl}}\n{many}    condition: {condition}\n"
        );
        for lint in [Lint::Skip, Lint::Run] {
            let errors = set(&[&text], &Adjustments { lint, ..Adjustments::default() }).err().map(|errors| errors.to_string());
            assert_eq!(errors.as_deref(), error, "{condition}");
        }
    }
}

#[test]
fn a_method_that_mcp_does_not_have_is_pointed_out() {
    for (detection, method, near) in [
        ("    a: {mcp.method.name: tool/call}\n    condition: a\n", "tool/call", "did you mean `tools/call`?"),
        ("    a: {mcp.method.name: [tools/list, resource/read]}\n    condition: a\n", "resource/read", "did you mean `resources/read`?"),
        ("    a: {mcp.method.name|cased: tools/cal}\n    condition: a\n", "tools/cal", "did you mean `tools/call`?"),
        ("    a: {mcp.method.name: eth_call, server.address: a.example}\n    condition: a\n", "eth_call", ""),
    ] {
        let told = advice(detection);
        assert!(
            told.iter().any(|line| line.contains(&format!("has the method `{method}`")) && line.contains(near) && line.contains(":5:")),
            "{detection}{told:?}"
        );
    }
    for known in ["Tools/Call", "logging/setlevel", "tools/*", "notifications/tasks"] {
        let told = advice(&format!("    a: {{mcp.method.name: {known}}}\n    condition: a\n"));
        assert!(told.is_empty(), "{known}: {told:?}");
    }
}

#[test]
fn sensible_rules_are_not_warned_of() {
    for detection in [
        "    a: {mcp.method.name: tools/call, gnomon.channel: [https, http]}\n    b: {gnomon.sanctioned: true}\n    condition: a and not b\n",
        "    a: {user.group.names: eng}\n    b: {user.group.names: ops}\n    condition: a and b\n",
        "    a: {server.port: 443}\n    b: {server.port: '443'}\n    condition: a and b\n",
        "    a: {gen_ai.tool.name: null}\n    b: {mcp.method.name: tools/call}\n    condition: a and b\n",
    ] {
        assert!(advice(detection).is_empty(), "{detection}{:?}", advice(detection));
    }
}

#[test]
fn an_explanation_names_each_part_with_what_was_seen() {
    let text = "title: T\ndetection:\n    call:\n        mcp.method.name: tools/call\n        gen_ai.tool.name|startswith: [read_, get_]\n    quiet: {gnomon.sanctioned: true}\n    condition: call and not quiet\n";
    let seen = json!({"mcp.method.name": "tools/call", "gen_ai.tool.name": "write_file"});
    let told = explain(text, 1, &Observation::from_json(seen.as_object().unwrap()).unwrap()).unwrap();
    assert_eq!((told.part.as_str(), told.finding), ("call and not quiet", Finding::False));
    let tool = &told.parts[0].parts[1];
    assert_eq!(
        (tool.part.as_str(), tool.seen.as_deref(), tool.finding),
        ("gen_ai.tool.name|startswith: [read_, get_]", Some("`write_file`"), Finding::False)
    );
    assert_eq!(told.parts[1].parts[0].seen.as_deref(), Some("absent"));
    assert!(explain(text, 2, &Observation::new()).is_none());
}

/// As rsigma combines them; pySigma's rule, which it follows, is `(rule) and (filter)`. It wants `rules` as a list, knows rules by id or title, and its `1 of sel*` also means search ids of the rule.
fn theirs(rule: &str, filter: &str, event: &Value) -> bool {
    let collection = rsigma_parser::parse_sigma_yaml(&format!("{rule}---\n{filter}")).unwrap();
    assert!(collection.errors.is_empty(), "{:?}", collection.errors);
    let mut engine = Engine::new();
    engine.add_collection(&collection).unwrap();
    !engine.evaluate(&JsonEvent::borrow(event)).is_empty()
}

proptest! {
    #[test]
    fn filters_combine_as_in_an_independent_implementation(
        rule in prop::sample::select(vec!["mcp.method.name: tools/call", "server.address|endswith: .example", "gnomon.sanctioned: false"]),
        body in prop::sample::select(vec![
            "user.name: ada", "user.name: [ada, bob]", "user.name|startswith: a", "gen_ai.tool.name|exists: false",
            "server.address|re: '^a'", "gen_ai.tool.name|neq: shell", "server.port|gte: 1024", "user.name: null",
        ]),
        condition in prop::sample::select(vec!["selection", "not selection", "not (selection)", "not not selection", "selection or not selection"]),
        target in prop::sample::select(vec!["any", "[5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10]", "[other]"]),
        method in prop::option::of(prop::sample::select(vec!["tools/call", "initialize"])),
        user in prop::option::of(prop::sample::select(vec!["ada", "bob", "eve"])),
        tool in prop::option::of(prop::sample::select(vec!["shell", "echo"])),
        server in prop::option::of(prop::sample::select(vec!["a.example", "b.example", "c.test"])),
        port in prop::option::of(prop::sample::select(vec![443i64, 8080])),
        sanctioned in prop::option::of(any::<bool>()),
    ) {
        let rule = CALLS.replace("mcp.method.name: tools/call", rule).replace("{product: mcp, category: mcp_traffic}", "\n    product: mcp\n    category: mcp_traffic");
        let filter = filter(target, body, condition);
        let mut event = json!({});
        for (field, value) in [("mcp.method.name", method), ("user.name", user), ("gen_ai.tool.name", tool), ("server.address", server)] {
            if let Some(value) = value {
                event[field] = value.into();
            }
        }
        if let Some(port) = port {
            event["server.port"] = port.into();
        }
        if let Some(sanctioned) = sanctioned {
            event["gnomon.sanctioned"] = sanctioned.into();
        }
        let ours = matches(&set(&[&rule, &filter], &Adjustments::default()).unwrap(), &event);
        prop_assert_eq!(ours, theirs(&rule, &filter, &event), "{}\n{}\n{}", rule, filter, event);
    }
}
