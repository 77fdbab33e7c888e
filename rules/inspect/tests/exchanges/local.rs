//! Local servers apart from their messages: live and replayed they come out alike, and nothing says that it was refused.

use std::sync::Arc;

use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_inspect::{Bounds, Inspector, Surroundings, judge_local, judge_recorded};
use gnomon_observe::{Action, Field, Observation};

const BLOCKS: &str = "title: t\nid: 00000000-0000-4000-8000-000000000001\nlogsource: {product: mcp, category: mcp_traffic}\n\
     detection:\n  s: {package.name: bad-mcp}\n  condition: s\nlevel: high\ngnomon: {class: policy, response: {action: block}}\n";

fn inspector(rules: &[&str]) -> Arc<Inspector> {
    let source = |text: &&str| Source { name: "r.yml".into(), text: (*text).to_owned(), origin: Origin::Admin };
    let rules = RuleSet::compile(&rules.iter().map(source).collect::<Vec<_>>()).unwrap_or_else(|errors| panic!("{errors}"));
    Arc::new(Inspector::new(Arc::new(rules), Surroundings::default(), Bounds::default()))
}

fn start(known_by: &str, package: &str) -> Observation {
    let mut seen = Observation::new();
    seen.set(Field::Channel, "process");
    seen.set(Field::LocalKnownBy, known_by);
    seen.set(Field::PackageName, package);
    seen
}

#[test]
fn a_known_package_is_probable_without_any_rule_and_a_name_alone_is_nothing_to_tell() {
    let [told] = &judge_local(&inspector(&[]), start("catalogue", "x"))[..] else { panic!("one") };
    assert_eq!((told.seen.text(Field::Confidence), told.rule), (Some("probable"), None));
    assert!(judge_local(&inspector(&[]), start("name", "x")).is_empty());
}

#[test]
fn a_rule_that_refuses_is_logged_with_what_it_would_have_done_live_and_replayed() {
    let inspector = inspector(&[BLOCKS]);
    let live = judge_local(&inspector, start("name", "bad-mcp"));
    let [told] = &live[..] else { panic!("{live:?}") };
    assert_eq!((told.action, told.seen.text(Field::Action), told.seen.text(Field::Would)), (Action::Log, Some("log"), Some("block")));
    assert_eq!(told.seen.text(Field::Confidence), Some("suspected"));
    let replayed = judge_recorded(&inspector, told.seen.clone());
    for field in [Field::Action, Field::Would, Field::Confidence, Field::Evidence, Field::RuleId, Field::PackageName] {
        assert_eq!(replayed[0].seen.get(field), told.seen.get(field), "{field}");
    }
}

#[test]
fn a_server_that_a_file_lists_by_its_address_has_its_standing() {
    let mut seen = Observation::new();
    for (field, value) in [(Field::Channel, "config"), (Field::LocalKnownBy, "config"), (Field::ServerAddress, "mcp.vendor.example")] {
        seen.set(field, value);
    }
    let [told] = &judge_local(&inspector(&[]), seen)[..] else { panic!("one") };
    assert_eq!(told.seen.get(Field::Sanctioned), gnomon_observe::Lookup::Value(&false.into()));
}
