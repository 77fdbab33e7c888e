//! Flows that are judged by their server's name alone, as nobody reads more of them.

use std::sync::Arc;

use gnomon_engine::RuleSet;
use gnomon_inspect::{Bounds, Connection, Hello, HostPatterns, Inspector, Sighting, Surroundings, Telling};
use gnomon_observe::{Action, Class, Field, Observation};

/// What is reported without any rule.
fn reported(server: &str, telling: Telling) -> Vec<Sighting> {
    let sanctioned = HostPatterns::parse(["mcp.corp.example"]).unwrap();
    let surroundings = Surroundings { sanctioned, ..Surroundings::default() };
    let inspector = Arc::new(Inspector::new(Arc::new(RuleSet::compile(&[]).unwrap()), surroundings, Bounds::default()));
    let (mut connection, _) = Connection::open(&inspector, Observation::new());
    connection.hello("203.0.113.7", 443, &Hello { sni: Some(server), random: None });
    connection.report(Action::Log, "observed", telling)
}

#[test]
fn a_name_that_points_to_mcp_is_suspected_even_where_no_rule_says_so() {
    let [sighting] = &reported("mcp.vendor.example", Telling::IfSuspected)[..] else { panic!("one") };
    assert_eq!((sighting.class, sighting.action, sighting.rule), (Class::Mcp, Action::Log, None));
    assert_eq!(sighting.seen.text(Field::Confidence), Some("suspected"));
    assert_eq!(sighting.seen.text(Field::FlowOutcome), Some("observed"));
}

#[test]
fn a_sanctioned_server_another_name_or_a_caller_that_asks_for_rules_only_gets_none() {
    assert!(reported("mcp.corp.example", Telling::IfSuspected).is_empty());
    assert!(reported("www.vendor.example", Telling::IfSuspected).is_empty());
    assert!(reported("mcp.vendor.example", Telling::IfMatched).is_empty());
}
