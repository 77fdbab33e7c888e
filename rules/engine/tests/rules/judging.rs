//! The fast judge, walked through the phases, ends where the slow truth is.

use gnomon_engine::{Adjustments, Answer, Origin, RuleSet, Source};
use gnomon_observe::{Action, Family, Field, Observation, Phase};
use proptest::prelude::*;
use std::fmt::Write;

/// Two fields of each phase, and members of families.
const FIELDS: &[(&str, Field)] = &[
    ("user.name", Field::UserName),
    ("host.name", Field::HostName),
    ("server.address", Field::ServerAddress),
    ("gnomon.server.id", Field::ServerId),
    ("url.path", Field::UrlPath),
    ("http.request.method", Field::HttpMethod),
    ("mcp.method.name", Field::McpMethod),
    ("gen_ai.tool.name", Field::ToolName),
    ("mcp.server.name", Field::McpServerName),
    ("error.type", Field::ErrorType),
];

#[derive(Clone, Debug)]
enum Cond {
    Item(usize, Test),
    Keyword,
    And(Vec<Cond>),
    Or(Vec<Cond>),
    Not(Box<Cond>),
}

#[derive(Clone, Copy, Debug)]
enum Test {
    Is(u8),
    IsNot(u8),
    Exists(bool),
    Null,
    Like(usize),
}

#[derive(Clone, Debug)]
struct Spec {
    cond: Cond,
    origin: Origin,
    action: Action,
    level: &'static str,
    mode: &'static str,
}

fn cond() -> impl Strategy<Value = Cond> {
    let test = prop_oneof![
        4 => (0u8..2).prop_map(Test::Is),
        1 => (0u8..2).prop_map(Test::IsNot),
        1 => any::<bool>().prop_map(Test::Exists),
        1 => Just(Test::Null),
        1 => (0..FIELDS.len()).prop_map(Test::Like),
    ];
    let leaf = prop_oneof![8 => (0..FIELDS.len(), test).prop_map(|(f, t)| Cond::Item(f, t)), 1 => Just(Cond::Keyword)];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Cond::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Cond::Or),
            inner.prop_map(|c| Cond::Not(Box::new(c))),
        ]
    })
}

fn spec() -> impl Strategy<Value = Spec> {
    let origin = prop_oneof![Just(Origin::Vendor), Just(Origin::Admin)];
    let action = prop_oneof![Just(Action::Allow), Just(Action::Log), Just(Action::Redirect), Just(Action::Block)];
    let level = prop_oneof![Just("low"), Just("high")];
    let mode = prop_oneof![3 => Just("enforce"), 1 => Just("shadow")];
    (cond(), origin, action, level, mode).prop_map(|(cond, origin, action, level, mode)| {
        // An exemption must be decidable on the request.
        let action = if action == Action::Allow && asks_answer(&cond) { Action::Log } else { action };
        Spec { cond, origin, action, level, mode }
    })
}

fn asks_answer(cond: &Cond) -> bool {
    let late = |f: usize| FIELDS[f].1.info().phase == Phase::Response;
    match cond {
        Cond::Item(f, Test::Like(other)) => late(*f) || late(*other),
        Cond::Item(f, _) => late(*f),
        Cond::Keyword => false,
        Cond::And(conds) | Cond::Or(conds) => conds.iter().any(asks_answer),
        Cond::Not(cond) => asks_answer(cond),
    }
}

fn write_cond(cond: &Cond, ids: &mut String, count: &mut usize, out: &mut String) {
    match cond {
        Cond::Item(..) | Cond::Keyword => {
            let id = format!("s{count}");
            *count += 1;
            let body = match cond {
                Cond::Item(f, Test::Is(v)) => format!("{{{}: v{v}}}", FIELDS[*f].0),
                Cond::Item(f, Test::IsNot(v)) => format!("{{{}|neq: v{v}}}", FIELDS[*f].0),
                Cond::Item(f, Test::Exists(e)) => format!("{{{}|exists: {e}}}", FIELDS[*f].0),
                Cond::Item(f, Test::Null) => format!("{{{}: null}}", FIELDS[*f].0),
                Cond::Item(f, Test::Like(other)) => format!("{{{}|fieldref: {}}}", FIELDS[*f].0, FIELDS[*other].0),
                _ => "[v1]".to_owned(),
            };
            writeln!(ids, "  {id}: {body}").unwrap();
            out.push_str(&id);
        }
        Cond::And(conds) | Cond::Or(conds) => {
            let word = if matches!(cond, Cond::And(_)) { " and " } else { " or " };
            for (n, cond) in conds.iter().enumerate() {
                out.push_str(if n == 0 { "(" } else { word });
                write_cond(cond, ids, count, out);
            }
            out.push(')');
        }
        Cond::Not(cond) => {
            out.push_str("not ");
            write_cond(cond, ids, count, out);
        }
    }
}

fn id(n: usize) -> String {
    format!("5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f{n:04x}")
}

/// The rules, each in its mode by an override.
fn compile(specs: &[Spec]) -> RuleSet {
    let sources: Vec<_> = specs.iter().enumerate().map(|(n, spec)| source(n, spec)).collect();
    let mut text = String::new();
    for (n, spec) in specs.iter().enumerate() {
        writeln!(text, "- {{rule: {}, mode: {}, reason: x}}", id(n), spec.mode).unwrap();
    }
    let overrides = Some(Source { name: "overrides.yml".into(), text, origin: Origin::Admin });
    RuleSet::compile_with(&sources, &Adjustments { overrides, ..Adjustments::default() }).unwrap_or_else(|e| panic!("{e}"))
}

fn source(n: usize, spec: &Spec) -> Source {
    let (mut ids, mut condition) = (String::new(), String::new());
    write_cond(&spec.cond, &mut ids, &mut 0, &mut condition);
    let to = if spec.action == Action::Redirect { ", to: main" } else { "" };
    let text = format!(
        "title: R{n}\nid: {}\nlevel: {}\nlogsource: {{product: mcp, category: mcp_traffic}}\n\
         detection:\n{ids}  condition: {condition}\ngnomon: {{response: {{action: {}{to}}}}}\n",
        id(n),
        spec.level,
        spec.action
    );
    Source { name: format!("r{n}.yml"), text, origin: spec.origin }
}

/// Absent, unreadable, or one of three values.
fn observation() -> impl Strategy<Value = Observation> {
    let state = prop_oneof![3 => Just(0u8), 1 => Just(1), 3 => Just(2), 3 => Just(3), 1 => Just(4)];
    (prop::collection::vec(state, FIELDS.len()), any::<Option<bool>>()).prop_map(|(states, arguments)| {
        let mut seen = Observation::new();
        for ((_, field), state) in FIELDS.iter().zip(states) {
            match state {
                0 => {}
                1 => seen.set_unreadable(*field),
                n => seen.set(*field, format!("v{}", n - 2)),
            }
        }
        match arguments {
            Some(true) => seen.set_member(Family::Argument, "path", "v1"),
            Some(false) => seen.set_family_unreadable(Family::Argument),
            None => {}
        }
        seen
    })
}

fn answers(set: &RuleSet, seen: &Observation, phases: &[Phase]) -> (Answer, Vec<usize>) {
    let mut progress = set.start();
    let mut last = Answer::Decided(gnomon_engine::Verdict { action: Action::Allow, rule: None });
    for phase in phases {
        last = set.judge(seen, *phase, &mut progress);
        match last {
            Answer::Decided(verdict) if verdict.action.interferes() => break,
            Answer::Undecidable(_) => break,
            Answer::Needs(next) => assert!(next > *phase, "{next} is not after {phase}"),
            Answer::Decided(_) => {}
        }
    }
    (last, progress.matched().map(|index| index.get()).collect())
}

fn effect(answer: Answer) -> (bool, Action) {
    match answer {
        Answer::Decided(verdict) => (true, verdict.action),
        Answer::Undecidable(verdict) => (false, verdict.action),
        Answer::Needs(phase) => panic!("still needs {phase} at the end"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn walking_the_phases_ends_in_the_action_of_the_slow_truth(
        specs in prop::collection::vec(spec(), 1..7), seen in observation(), skip in any::<[bool; 3]>(),
    ) {
        let set = compile(&specs);
        let slow = set.one_shot(&seen);
        let (walked, matched) = answers(&set, &seen, Phase::ALL);
        prop_assert_eq!(effect(walked), effect(slow.answer));
        if let Answer::Decided(verdict) = walked && !verdict.action.interferes() {
            prop_assert_eq!(matched, slow.matched.iter().map(|index| index.get()).collect::<Vec<_>>());
            prop_assert_eq!(Answer::Decided(verdict), slow.answer);
        }
        // Early phases may be left out: a plain connection has no ClientHello.
        let some: Vec<_> = Phase::ALL.iter().copied().enumerate().filter(|(n, _)| *n > 2 || skip[*n]).map(|(_, p)| p).collect();
        prop_assert_eq!(effect(answers(&set, &seen, &some).0), effect(slow.answer));
    }

    #[test]
    fn an_early_decision_to_pass_is_never_taken_back(
        specs in prop::collection::vec(spec(), 1..7), seen in observation(),
    ) {
        let set = compile(&specs);
        let mut progress = set.start();
        let mut passed = false;
        for phase in Phase::ALL {
            match set.judge(&seen, *phase, &mut progress) {
                Answer::Decided(verdict) if verdict.action.interferes() => { prop_assert!(!passed); break }
                Answer::Decided(_) => passed = true,
                Answer::Needs(_) => prop_assert!(!passed),
                Answer::Undecidable(_) => { prop_assert!(!passed && *phase >= Phase::Message); break }
            }
        }
    }

    #[test]
    fn what_is_known_of_a_rule_stays_so_as_phases_pass(spec in spec(), seen in observation()) {
        let set = RuleSet::compile(&[source(0, &spec)]).unwrap_or_else(|e| panic!("{e}"));
        let mut progress = set.start();
        let mut matched = false;
        for phase in Phase::ALL {
            set.judge(&seen, *phase, &mut progress);
            let now = progress.matched().count() == 1;
            prop_assert!(now || !matched);
            // Judging afresh at this phase knows as much as having walked there.
            let mut fresh = set.start();
            set.judge(&seen, *phase, &mut fresh);
            prop_assert_eq!(fresh.matched().count() == 1, now);
            matched = now;
        }
    }
}

fn rule(n: usize, origin: Origin, action: &str, field: &str) -> Source {
    let to = if action == "redirect" { ", to: main" } else { "" };
    let text = format!(
        "title: R{n}\nid: 5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f{n:04x}\nlogsource: {{product: mcp, category: mcp_traffic}}\n\
         detection: {{sel: {{{field}: x}}, condition: sel}}\ngnomon: {{response: {{action: {action}{to}}}}}\n"
    );
    Source { name: format!("r{n}.yml"), text, origin }
}

fn seen(fields: &[Field]) -> Observation {
    let mut seen = Observation::new();
    fields.iter().for_each(|field| seen.set(*field, "x"));
    seen
}

fn at(set: &RuleSet, seen: &Observation, phase: Phase) -> Answer {
    set.judge(seen, phase, &mut set.start())
}

fn decided(answer: Answer) -> (Action, Option<usize>) {
    match answer {
        Answer::Decided(verdict) => (verdict.action, verdict.rule.map(|rule| rule.get())),
        other => panic!("not decided: {other:?}"),
    }
}

#[test]
fn a_block_is_decided_at_once_whatever_else_is_pending() {
    let set = RuleSet::compile(&[
        rule(0, Origin::Vendor, "block", "server.address"),
        rule(1, Origin::Vendor, "redirect", "mcp.method.name"),
        rule(2, Origin::Admin, "block", "mcp.server.name"),
    ])
    .unwrap();
    assert_eq!(decided(at(&set, &seen(&[Field::ServerAddress]), Phase::Hello)), (Action::Block, Some(0)));
}

#[test]
fn an_exemption_that_is_still_open_keeps_a_vendors_block_open_but_not_an_admins() {
    let allow = rule(0, Origin::Admin, "allow", "gen_ai.tool.name");
    let vendor = RuleSet::compile(&[allow.clone(), rule(1, Origin::Vendor, "block", "server.address")]).unwrap();
    let both = seen(&[Field::ServerAddress, Field::ToolName]);
    assert_eq!(at(&vendor, &both, Phase::Hello), Answer::Needs(Phase::Message));
    assert_eq!(decided(at(&vendor, &both, Phase::Message)), (Action::Allow, Some(0)));
    assert_eq!(decided(at(&vendor, &seen(&[Field::ServerAddress]), Phase::Message)), (Action::Block, Some(1)));
    let admin = RuleSet::compile(&[allow, rule(1, Origin::Admin, "block", "server.address")]).unwrap();
    assert_eq!(decided(at(&admin, &both, Phase::Hello)), (Action::Block, Some(1)));
}

#[test]
fn a_vendors_allow_sets_nothing_aside() {
    let set =
        RuleSet::compile(&[rule(0, Origin::Vendor, "allow", "url.path"), rule(1, Origin::Vendor, "block", "server.address")]).unwrap();
    assert_eq!(decided(at(&set, &seen(&[Field::ServerAddress, Field::UrlPath]), Phase::Message)), (Action::Block, Some(1)));
    assert_eq!(decided(at(&set, &seen(&[Field::UrlPath]), Phase::Message)), (Action::Log, Some(0)));
}

#[test]
fn a_redirect_waits_for_a_block_on_the_request_but_not_for_one_on_the_answer() {
    let redirect = rule(0, Origin::Vendor, "redirect", "server.address");
    let hello = seen(&[Field::ServerAddress]);
    let request = RuleSet::compile(&[redirect.clone(), rule(1, Origin::Vendor, "block", "gen_ai.tool.name")]).unwrap();
    assert_eq!(at(&request, &hello, Phase::Hello), Answer::Needs(Phase::Message));
    let answer = RuleSet::compile(&[redirect, rule(1, Origin::Vendor, "block", "mcp.server.name")]).unwrap();
    assert_eq!(decided(at(&answer, &hello, Phase::Hello)), (Action::Redirect, Some(0)));
    assert_eq!(at(&answer, &seen(&[]), Phase::Message), Answer::Needs(Phase::Response));
}

#[test]
fn rules_that_only_log_hold_nothing() {
    let set = RuleSet::compile(&[rule(0, Origin::Vendor, "log", "mcp.server.name"), rule(1, Origin::Admin, "allow", "gen_ai.tool.name")])
        .unwrap();
    assert_eq!(decided(at(&set, &seen(&[]), Phase::Connect)), (Action::Allow, None));
}

#[test]
fn what_an_interfering_rule_cannot_read_is_undecidable_once_the_request_is_complete() {
    let set =
        RuleSet::compile(&[rule(0, Origin::Vendor, "block", "gen_ai.tool.name"), rule(1, Origin::Admin, "allow", "url.path")]).unwrap();
    let mut unreadable = seen(&[]);
    unreadable.set_unreadable(Field::ToolName);
    assert_eq!(at(&set, &unreadable, Phase::Head), Answer::Needs(Phase::Message));
    assert!(matches!(at(&set, &unreadable, Phase::Message), Answer::Undecidable(verdict) if verdict.action == Action::Block));
    unreadable.set(Field::UrlPath, "x");
    assert_eq!(decided(at(&set, &unreadable, Phase::Message)), (Action::Allow, Some(1)));
}

#[test]
fn what_an_exemption_cannot_read_exempts_nobody() {
    let set = RuleSet::compile(&[rule(0, Origin::Vendor, "block", "server.address"), rule(1, Origin::Admin, "allow", "gen_ai.tool.name")])
        .unwrap();
    let mut unreadable = seen(&[Field::ServerAddress]);
    unreadable.set_unreadable(Field::ToolName);
    assert_eq!(decided(at(&set, &unreadable, Phase::Message)), (Action::Block, Some(0)));
}

#[test]
fn progress_is_carried_from_connection_to_requests_and_reaches_past_one_word() {
    let sources: Vec<_> = (0..300).map(|n| rule(n, Origin::Vendor, "log", if n % 2 == 0 { "user.name" } else { "url.path" })).collect();
    let set = RuleSet::compile(&sources).unwrap();
    let mut connection = set.start();
    let mut request = seen(&[Field::UserName]);
    set.judge(&request, Phase::Connect, &mut connection);
    assert_eq!(connection.matched().count(), 150);
    let mut first = connection.clone();
    request.set(Field::UrlPath, "x");
    set.judge(&request, Phase::Head, &mut first);
    assert_eq!((first.matched().count(), connection.matched().count()), (300, 150));
}

#[test]
fn what_rules_ask_for_is_gathered_and_nothing_else() {
    let wanted = |body: &str| {
        let text = format!(
            "title: T\nid: 5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f0000\nlogsource: {{product: mcp, category: mcp_traffic}}\ndetection: {{sel: {body}, condition: sel}}\n"
        );
        RuleSet::compile(&[Source { name: "r.yml".into(), text, origin: Origin::Vendor }]).unwrap().wanted().clone()
    };
    use gnomon_engine::{Arguments, NeededEvidence};
    assert_eq!(wanted("{url.path: /mcp}"), NeededEvidence::default());
    let members = wanted("{http.request.header.Mcp-Name: x, gen_ai.tool.call.arguments.path: y, http.response.header.server: z}");
    assert_eq!(members.request_headers, ["mcp-name"]);
    assert_eq!(members.response_headers, ["server"]);
    assert_eq!(members.arguments, Arguments::Named(vec!["path".into()]));
    assert!(members.response && !members.body_text);
    for field in ["decoded", "addresses", "numbers"] {
        let meaning = wanted(&format!("{{gnomon.arguments.{field}: x}}"));
        assert!(meaning.meaning && meaning.arguments == Arguments::All { named: vec![] }, "{field}");
    }
    let keywords = wanted("[secret]");
    assert!(!keywords.meaning);
    assert!(keywords.body_text && keywords.arguments == Arguments::All { named: vec![] });
}
