//! What is wrong with a rule is said with its place, its cause and the way out.

use gnomon_engine::{Origin, RuleSet, Source};

fn source(name: &str, text: &str) -> Source {
    Source { name: name.to_owned(), text: text.to_owned(), origin: Origin::Admin }
}

const HEAD: &str = "title: T\nid: 5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10\nlogsource: {product: mcp, category: mcp_traffic}\n";

/// The errors of a rule that begins with a good head of three lines.
fn errors(rest: &str) -> String {
    RuleSet::compile(&[source("r.yml", &format!("{HEAD}{rest}"))]).map(|_| "no error".to_owned()).unwrap_or_else(|e| e.to_string())
}

fn detection(body: &str) -> String {
    errors(&format!("detection:\n  sel:\n    {body}\n  condition: sel\n"))
}

fn gnomon(block: &str) -> String {
    errors(&format!("detection: {{sel: {{server.port: 443}}, condition: sel}}\ngnomon:\n  {block}\n"))
}

#[track_caller]
fn says(error: &str, part: &str) {
    assert!(error.contains(part), "expected `{part}` in: {error}");
}

#[test]
fn an_unknown_field_is_answered_with_the_nearest_name_and_its_place() {
    assert_eq!(detection("mcp.method: tools/call"), "r.yml:6:5: unknown field `mcp.method`; did you mean `mcp.method.name`?");
}

#[test]
fn a_field_that_is_written_after_the_rules_ran_cannot_be_asked_for() {
    says(&detection("gnomon.action: block"), "r.yml:6:5: `gnomon.action` is written after the rules ran");
    says(&detection("server.address|fieldref: rule.id"), "r.yml:6:30: `rule.id` is written after");
}

#[test]
fn an_unknown_modifier_is_pointed_at() {
    assert_eq!(detection("url.path|contain: x"), "r.yml:6:14: `contain` is not a modifier; did you mean `contains`?");
    says(&detection("url.path|base64: x"), "r.yml:6:14: not supported yet: the modifier `base64`");
    says(&detection("url.path|re|contains: x"), "compare texts");
    says(&detection("url.path|contains|fieldref: url.full"), "must come before");
    says(&detection("url.path|contains|all: x"), "more than one value");
    says(&detection("url.path|i: x"), "flag of `re`");
}

#[test]
fn a_regular_expression_that_cannot_be_read_is_pointed_into() {
    assert_eq!(detection("url.path|re: 'ab(c'"), "r.yml:6:18: not a regular expression: unclosed group, at its character 3");
    says(&detection("url.path|re: '(?=a)'"), "look-around");
    says(&detection(r"url.path|re: '(a{1000}){1000}'"), "too large when compiled");
}

#[test]
fn values_of_the_wrong_shape_are_refused() {
    says(&detection("server.port|lt: many"), "r.yml:6:21: `many` is not a number");
    says(&detection("destination.address|cidr: 10.0.0.0/40"), "is not a network");
    says(&detection("server.port|exists: perhaps"), "takes true or false");
    says(&detection("server.port: {a: b}"), "not a mapping");
    says(&detection("server.port: []"), "an empty list matches nothing");
}

#[test]
fn conditions_are_pointed_into() {
    let condition = |condition: &str| errors(&format!("detection:\n  sel: {{server.port: 443}}\n  condition: {condition}\n"));
    assert_eq!(condition("sel and filter"), "r.yml:6:22: in the condition: no search id `filter`; use one of: sel");
    says(&condition("sel and (sel"), "`)` is missing");
    says(&condition("sel | count() > 5"), "r.yml:6:18: in the condition: not supported yet: aggregations");
    says(&condition("sel AND sel"), "must be written in lower case");
    says(&condition("2 of them"), "not supported yet: `2 of`");
    says(&condition("1 of filter_*"), "no search id fits `filter_*`");
    says(&condition("sel near sel"), "not supported yet: `near`");
    says(&condition("sel or"), "ends where a search id is expected");
    let unused = errors("detection: {sel: {server.port: 443}, filter: {server.port: 80}, condition: sel}\n");
    says(&unused, "the condition does not use `filter`");
    says(&condition(&"not ".repeat(100)), "nested too deeply");
}

#[test]
fn what_sigma_has_besides_detections_is_not_supported_yet() {
    let compile = |text: &str| RuleSet::compile(&[source("r.yml", text)]).unwrap_err().to_string();
    says(&compile("title: x\ncorrelation: {type: event_count}\n"), "r.yml:2:1: not supported yet: Sigma correlations");
    says(&errors("detection: {sel: {server.port: 1}, timeframe: 5m, condition: sel}\n"), "not supported yet: `timeframe`");
}

#[test]
fn a_rule_without_its_name_or_for_other_traffic_is_refused() {
    let text = "logsource: {product: windows, category: process_creation}\ndetection: {sel: {server.port: 1}, condition: sel}\n";
    let error = RuleSet::compile(&[source("r.yml", text)]).unwrap_err();
    assert_eq!(error.all().len(), 3, "{error}");
    says(&error.to_string(), "`title` is missing");
    says(&error.to_string(), "`id` is missing");
    says(&error.to_string(), "r.yml:1:22: this rule is for other traffic than ours");
    says(&errors("level: hihg\ndetection: {sel: {server.port: 1}, condition: sel}\n"), "`hihg` is not a known level");
    says(&errors("levle: high\ndetection: {sel: {server.port: 1}, condition: sel}\n"), "unknown key `levle`; did you mean `level`?");
}

#[test]
fn keys_of_others_making_are_left_alone() {
    assert_eq!(errors("regression_tests_path: x\ndetection: {sel: {server.port: 1}, condition: sel}\n"), "no error");
}

#[test]
fn the_block_of_our_own_is_read_strictly() {
    assert_eq!(gnomon("respons: {action: block}"), "r.yml:6:3: unknown key `respons` in `gnomon`; did you mean `response`?");
    says(&gnomon("response: {action: redact}"), "not supported yet: `redact`");
    says(&gnomon("response: {action: redirect, mode: serve, to: main}"), "not supported yet: `mode: serve`");
    says(&gnomon("response: {action: redirect}"), "has no `to`");
    says(&gnomon("response: {action: redirect, mode: location, to: main}"), "not an absolute URL");
    says(&gnomon("response: {action: redirect, mode: location, to: 'javascript://x'}"), "not an absolute URL");
    says(&gnomon("response: {action: redirect, to: 'https://user@host/'}"), "not an absolute URL");
    says(&gnomon("response: {action: block, to: main}"), "`to` belongs to `action: redirect`");
    says(&gnomon("class: mpc"), "`mpc` is not a known class");
    assert_eq!(gnomon("response: {action: redirect, to: main}"), "no error");
    assert_eq!(gnomon("response: {action: redirect, mode: location, to: 'https://[::1]:8443/mcp'}"), "no error");
}

#[test]
fn an_exemption_that_would_come_with_the_answer_is_refused() {
    let text = "detection: {sel: {http.response.status_code: 200}, condition: sel}\ngnomon: {response: {action: allow}}\n";
    says(&errors(text), "`allow` must be decidable on the request, but `http.response.status_code` is only known with the answer");
}

#[test]
fn a_bypass_is_decided_by_the_server_name_of_the_client_hello() {
    let rule = |field: &str| {
        format!("{HEAD}detection: {{sel: {{{field}}}, condition: sel}}\ngnomon: {{response: {{action: allow, mode: bypass}}}}\n")
    };
    let late = RuleSet::compile(&[source("r.yml", &rule("url.path: /mcp"))]).unwrap_err().to_string();
    says(&late, "must be decidable at the ClientHello, but `url.path`");
    let set = RuleSet::compile(&[source("r.yml", &rule("server.address: bank.example"))]).unwrap();
    assert_eq!(set.rules()[0].response.mode, gnomon_engine::Mode::Bypass);
    says(&gnomon("response: {action: allow, mode: explain}"), "the only mode of `allow` is `bypass`");
}

#[test]
fn an_example_with_an_unknown_field_or_type_is_refused() {
    says(&gnomon("tests: [{observe: {mcp.methd.name: x}, expect: match}]"), "did you mean `mcp.method.name`?");
    says(&gnomon("tests: [{observe: {server.port: https}, expect: match}]"), "must be of type Int");
    says(&gnomon("tests: [{observe: {server.port: 443}, expect: maybe}]"), "cannot be expected");
    says(&gnomon("tests: [{observe: {server.port: 443}}]"), "has no `expect`");
}

#[test]
fn the_same_id_in_two_files_names_both() {
    let text = format!("{HEAD}detection: {{sel: {{server.port: 443}}, condition: sel}}\n");
    let error = RuleSet::compile(&[source("a.yml", &text), source("b.yml", &text)]).unwrap_err();
    assert_eq!(error.all().len(), 1);
    says(&error.to_string(), "b.yml:2:5: the id 5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10 is also used in a.yml:2");
}

#[test]
fn all_errors_of_all_files_are_told_one_per_line() {
    let a = format!("{HEAD}detection: {{sel: {{nosuch: 1, url.path|re: '('}}, condition: sel}}\n");
    let error = RuleSet::compile(&[source("a.yml", &a), source("b.yml", "- 1\n")]).unwrap_err();
    assert_eq!(error.all().len(), 3, "{error}");
    assert_eq!(error.to_string().lines().count(), 3);
    assert_eq!(error.all()[2].file, "b.yml");
}

#[test]
fn yaml_that_grows_or_never_ends_is_refused() {
    says(&errors("author: &a x\nlicense: *a\n"), "not supported yet: YAML anchors");
    says(&errors(&format!("author: {}\n", "[".repeat(1000))), "r.yml:4:");
    says(&errors("author: x\nauthor: y\n"), "r.yml:5:1: `author` is given twice");
    says(&errors("author: [x\n"), "not YAML");
    let huge = "#".repeat(2 << 20);
    says(&RuleSet::compile(&[source("r.yml", &huge)]).unwrap_err().to_string(), "larger than");
    says(&RuleSet::compile(&[source("r.yml", "# nothing\n")]).unwrap_err().to_string(), "no rule in it");
}

#[test]
fn a_file_may_hold_several_rules() {
    let one = |id: char| {
        format!(
            "title: T\nid: 5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e1{id}\nlogsource: {{product: mcp, category: mcp_traffic}}\ndetection: {{sel: {{server.port: 443}}, condition: sel}}\n"
        )
    };
    let set = RuleSet::compile(&[source("r.yml", &format!("{}---\n{}", one('0'), one('1')))]).unwrap();
    assert_eq!(set.rules().iter().map(|rule| rule.line).collect::<Vec<_>>(), [1, 6]);
}

#[test]
fn an_unquoted_colon_among_the_false_positives_of_a_rule_is_no_reason_to_refuse_it() {
    let rest = "detection: {sel: {server.port: 443}, condition: sel}\nfalsepositives:\n  - plain\n  - Backups: of the night\n  - 7\n";
    let set = RuleSet::compile(&[source("r.yml", &format!("{HEAD}{rest}"))]).unwrap();
    assert_eq!(set.rules()[0].false_positives, ["plain", "Backups: of the night", "7"]);
}
