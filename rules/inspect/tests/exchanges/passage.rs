//! What passes on unread asks the judge, entry by entry of the table.

use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_inspect::{Bounds, Connection, Hello, Inspector, Legibility, Passage, Passed, Surroundings, unknown_fields};
use gnomon_observe::{Action, Channel, Field, Observation};
use std::{collections::BTreeSet, sync::Arc};

/// The README's rule, shortened: no host in it.
const CALLS: &str = "mcp.method.name: tools/call";

fn inspector(selections: &[&str]) -> Arc<Inspector> {
    acting("block", selections)
}

fn acting(action: &str, selections: &[&str]) -> Arc<Inspector> {
    let rules: Vec<Source> = selections
        .iter()
        .enumerate()
        .map(|(n, selection)| Source {
            name: format!("{n}.yml"),
            text: format!(
                "title: Rule {n}\nid: 0197a000-0000-4000-8000-00000000000{n}\nlogsource: {{product: mcp, category: mcp_traffic}}\n\
                 detection: {{s: {{{selection}}}, condition: s}}\ngnomon: {{response: {{action: {action}, message: 'not here'}}}}\n"
            ),
            origin: Origin::Admin,
        })
        .collect();
    Arc::new(Inspector::new(Arc::new(RuleSet::compile(&rules).unwrap()), Surroundings::default(), Bounds::default()))
}

fn connection(inspector: &Arc<Inspector>, host: &str, passage: Passage) -> Connection {
    let mut seen = Observation::new();
    seen.set(Field::Channel, Channel::Https.as_str());
    if passage.legibility() == Legibility::Unknown {
        passage.veil(&mut seen);
    }
    let (mut connection, _) = Connection::open(inspector, seen);
    let _ = connection.hello(host, 443, &Hello::default());
    connection
}

fn refuses(rules: &[&str], passage: Passage) -> bool {
    match connection(&inspector(rules), "tools.example", passage).pass(passage, "passthrough") {
        Passed::Refuse(_, text, reports) => {
            assert_eq!(text, "not here");
            assert_eq!(reports[0].seen.text(Field::Passage), Some(passage.reason()), "{passage:?} is refused without an event");
            true
        }
        Passed::Go(_) => false,
    }
}

#[test]
fn every_entry_has_a_name_of_its_own() {
    let reasons: BTreeSet<_> = Passage::ALL.iter().map(|passage| passage.reason()).collect();
    assert_eq!(reasons.len(), Passage::ALL.len());
}

#[test]
fn a_rule_can_name_every_entry_and_no_other_word() {
    let reasons: Vec<_> = Passage::ALL.iter().map(|passage| passage.reason()).collect();
    assert_eq!(Field::Passage.words(), Some(&*reasons));
}

#[test]
fn a_rule_on_the_reason_holds_for_every_entry_and_for_no_other() {
    for &passage in Passage::ALL {
        let named = format!("gnomon.passage: {}", passage.reason());
        assert!(refuses(&[&named], passage), "{passage:?}");
        assert!(refuses(&[&format!("{named}, server.address: tools.example")], passage), "{passage:?}");
        let may_be_another = passage.legibility() == Legibility::Unknown;
        assert_eq!(refuses(&[&format!("{named}, server.address: other.example")], passage), may_be_another, "{passage:?}");
        assert!(refuses(&["gnomon.passage: '*'"], passage), "{passage:?}");
        let other = if passage == Passage::Foreign { "bypass" } else { "foreign" };
        assert!(!refuses(&[&format!("gnomon.passage: {other}")], passage), "{passage:?}");
        // It is told of, where a rule only asks for that.
        let Passed::Go(reports) = connection(&acting("log", &[&named]), "tools.example", passage).pass(passage, "passthrough") else {
            panic!("{passage:?} is refused");
        };
        assert!(reports.iter().any(|report| report.rule.is_some() && report.action == Action::Log), "{passage:?}");
    }
}

#[test]
fn what_somebody_wants_passed_is_refused_by_no_rule_that_would_have_to_read_and_an_exemption_that_may_hold_counts() {
    let waived: Vec<_> = Passage::ALL.iter().copied().filter(|passage| passage.legibility() == Legibility::Waived).collect();
    for passage in waived {
        assert!(!refuses(&[&format!("gnomon.passage: {}, mcp.method.name: tools/call", passage.reason())], passage), "{passage:?}");
        let rule = |n: u8, origin, action: &str, selection: &str| Source {
            name: format!("{n}.yml"),
            text: format!(
                "title: Rule {n}\nid: 0197a000-0000-4000-8000-00000000000{n}\nlogsource: {{product: mcp, category: mcp_traffic}}\n\
                 detection: {{s: {{{selection}}}, condition: s}}\ngnomon: {{response: {{action: {action}}}}}\n"
            ),
            origin,
        };
        let shipped = rule(1, Origin::Vendor, "block", "server.address: tools.example");
        let allows = rule(2, Origin::Admin, "allow", "mcp.method.name: tools/list");
        for (rules, passes) in [(vec![shipped.clone()], false), (vec![shipped, allows], true)] {
            let rules = Arc::new(RuleSet::compile(&rules).unwrap());
            let inspector = Arc::new(Inspector::new(rules, Surroundings::default(), Bounds::default()));
            let passed = connection(&inspector, "tools.example", passage).pass(passage, "passthrough");
            assert_eq!(matches!(passed, Passed::Go(_)), passes, "{passage:?}");
        }
    }
}

#[test]
fn what_may_be_for_any_server_is_told_with_the_one_that_it_leads_to() {
    let inspector = inspector(&["server.address: blocked.example"]);
    let connection = connection(&inspector, "proxy.example", Passage::OtherProxyOdd);
    let Passed::Refuse(_, _, reports) = connection.pass(Passage::OtherProxyOdd, "other_proxy") else { panic!("it may be for that one") };
    assert_eq!(reports[0].seen.text(Field::ServerAddress), Some("proxy.example"));
}

#[test]
fn what_cannot_be_passed_is_reported_as_refused_with_its_reason_without_a_rule() {
    for rules in [&[][..], &["server.address: other.example"]] {
        let connection = connection(&inspector(rules), "tools.example", Passage::Foreign);
        let reports = connection.cannot_pass(Passage::Foreign, "it comes too late", "refused");
        let [report] = &reports[..] else { panic!("{} reports", reports.len()) };
        assert_eq!((report.action, report.rule, report.seen.text(Field::Action)), (Action::Block, None, Some("block")));
        assert_eq!(report.seen.text(Field::Passage), Some("foreign"));
        assert_eq!(report.seen.text(Field::Message), Some("it comes too late"));
    }
    // The rule that refuses it has the word.
    let reports = connection(&inspector(&["gnomon.passage: foreign"]), "tools.example", Passage::Foreign);
    let reports = reports.cannot_pass(Passage::Foreign, "it comes too late", "refused");
    assert!(reports[0].rule.is_some() && reports[0].seen.text(Field::Message) == Some("not here"));
}

#[test]
fn what_a_server_could_read_as_http_is_refused_by_a_rule_that_could_match() {
    for &passage in Passage::ALL {
        let expected = passage.legibility() == Legibility::Unknown;
        assert_eq!(refuses(&[CALLS], passage), expected, "{passage:?}");
        // The name of the server is in what is not read, too.
        assert_eq!(refuses(&["mcp.method.name: tools/call, server.address: other.example"], passage), expected, "{passage:?}");
        assert_eq!(refuses(&["server.address: other.example"], passage), expected, "{passage:?}");
        assert!(!refuses(&["server.address: other.example, server.port: 80"], passage), "{passage:?}");
    }
}

#[test]
fn a_rule_that_blocks_the_host_blocks_whatever_is_spoken() {
    for &passage in Passage::ALL {
        assert!(refuses(&["server.address: tools.example"], passage), "{passage:?}");
        assert!(refuses(&["server.port: 443"], passage), "{passage:?}");
        assert!(!refuses(&["server.port: 80"], passage), "{passage:?}");
    }
}

#[test]
fn a_rule_that_names_the_server_beside_the_method_refuses_what_may_carry_messages() {
    for &passage in Passage::ALL {
        let expected = matches!(passage.legibility(), Legibility::Unknown | Legibility::Opaque);
        assert_eq!(refuses(&["mcp.method.name: tools/call, server.address: tools.example"], passage), expected, "{passage:?}");
    }
}

#[test]
fn what_could_be_http_is_an_event_even_where_no_rule_matches() {
    for &passage in Passage::ALL.iter().filter(|p| p.legibility() == Legibility::Unknown && **p != Passage::OtherProxy) {
        let Passed::Go(reports) = connection(&inspector(&[]), "tools.example", passage).pass(passage, "passthrough") else {
            panic!("{passage:?}")
        };
        assert_eq!(reports.len(), 1, "{passage:?}");
        assert_eq!(reports[0].seen.text(Field::Passage), Some(passage.reason()));
    }
}

#[test]
fn of_a_hello_that_cannot_be_read_the_server_name_is_unknown_too() {
    for passage in [Passage::HelloUnreadable, Passage::HelloTooLong, Passage::ServerNameInvalid] {
        assert!(refuses(&["tls.client.server_name: tools.example"], passage), "{passage:?}");
        assert!(unknown_fields(passage).iter().any(|field| field.to_string() == "tls.client.server_name"));
    }
    assert!(!refuses(&["tls.client.server_name: tools.example"], Passage::Foreign));
}

#[test]
fn a_server_of_two_names_is_judged_by_the_one_that_a_rule_means() {
    let inspector = inspector(&["server.address: blocked.example"]);
    let plain = connection(&inspector, "192.0.2.1", Passage::Foreign).also_at("harmless.example", 443);
    assert!(matches!(plain.pass(Passage::Foreign, "passthrough"), Passed::Go(_)));
    let named = plain.also_at("blocked.example", 443);
    assert!(matches!(named.pass(Passage::Foreign, "passthrough"), Passed::Refuse(..)));
    // Whichever comes first.
    let first = connection(&inspector, "blocked.example", Passage::Foreign).also_at("harmless.example", 443);
    assert!(matches!(first.pass(Passage::Foreign, "passthrough"), Passed::Refuse(..)));
}

#[test]
fn where_both_names_have_rules_of_their_own_neither_is_evaded() {
    let inspector =
        inspector(&["server.address: one.example, mcp.method.name: tools/call", "server.address: two.example, mcp.method.name: x"]);
    for (a, b) in [("one.example", "two.example"), ("two.example", "one.example")] {
        let asks = |passage| connection(&inspector, a, passage).also_at(b, 443).pass(passage, "passthrough");
        assert!(matches!(asks(Passage::RequestLineOdd), Passed::Refuse(..)));
        assert!(matches!(asks(Passage::Foreign), Passed::Go(_)));
    }
}

#[test]
fn what_passes_unread_is_told_as_the_rules_that_match_it_say() {
    for (action, told) in [("log", Action::Log), ("allow", Action::Allow)] {
        let inspector = acting(action, &["server.address: tools.example"]);
        for &passage in Passage::ALL {
            let Passed::Go(reports) = connection(&inspector, "tools.example", passage).pass(passage, "passthrough") else {
                panic!("{passage:?} is refused");
            };
            let [report] = &reports[..] else { panic!("{passage:?}: {} reports", reports.len()) };
            assert_eq!((report.action, report.rule.is_some()), (told, true), "{passage:?}");
            assert_eq!(report.seen.text(Field::Action), Some(told.as_str()));
        }
    }
}
