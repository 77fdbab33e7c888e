//! A verdict that was reached on the request stands, whatever a rule on the answer still waits for.

use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_inspect::{
    Authority, Bounds, Connection, Dialogue, Exchange, Gate, Head, Hello, Inspector, ResponsePlan, Sighting, Surroundings,
};
use gnomon_observe::{Action, Field, Observation};
use http::{HeaderMap, Method, Version};
use std::sync::Arc;

const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#;
/// Waits for the answer to each call.
const WAITS: (u8, Origin, &str, &str) = (1, Origin::Admin, "gnomon.tools|contains: evil", "block");

fn rule((id, origin, selection, action): (u8, Origin, &str, &str)) -> Source {
    let text = format!(
        "title: R{id}\nid: 0d9c2a51-2f57-4f0e-8d0b-5d0f8c1c7e{id:02}\nlogsource: {{ product: mcp, category: mcp_traffic }}\n\
         level: critical\ndetection:\n    seen: {{ {selection} }}\n    condition: seen\ngnomon: {{ response: {{ action: {action} }} }}\n"
    );
    Source { name: format!("r{id}.yml"), text, origin }
}

fn connection(rules: impl IntoIterator<Item = (u8, Origin, &'static str, &'static str)>) -> Connection {
    let sources: Vec<Source> = rules.into_iter().map(rule).collect();
    let rules = Arc::new(RuleSet::compile(&sources).unwrap());
    let inspector = Arc::new(Inspector::new(rules, Surroundings::default(), Bounds::default()));
    let mut seen = Observation::new();
    seen.set(Field::Channel, "https");
    let (mut connection, _) = Connection::open(&inspector, seen);
    let _ = connection.hello("mcp.example.com", 443, &Hello::default());
    connection
}

/// A call that went up.
fn called(connection: &Connection) -> Exchange {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    let head = Head {
        method: &Method::POST,
        path: "/mcp",
        query: None,
        version: Version::HTTP_11,
        headers: &headers,
        alpn: None,
        authority: Authority::Agrees,
    };
    let mut exchange = Exchange::begin(connection, &head);
    exchange.request_bytes(CALL);
    assert!(matches!(exchange.request_end(), Gate::Stream));
    exchange
}

/// The answer passes.
fn answered(exchange: &mut Exchange, (status, kind, body): (u16, &str, &str)) {
    let mut headers = HeaderMap::new();
    if !kind.is_empty() {
        headers.insert("content-type", kind.parse().unwrap());
    }
    let mut out = Vec::new();
    match exchange.response_head(status, &headers) {
        ResponsePlan::Refuse(refusal) => panic!("{refusal:?}"),
        ResponsePlan::FilterEvents => {
            exchange.filter_events(body.as_bytes(), &mut out);
        }
        _ => assert!(!matches!(exchange.response_bytes(body.as_bytes()), Gate::Refuse(_))),
    }
    assert!(matches!(exchange.response_end(&mut out), Gate::Stream));
}

/// The one report of a call: its rule's title, and what was done.
fn told(reports: impl IntoIterator<Item = Sighting>) -> (Option<String>, Action) {
    let reports: Vec<_> = reports.into_iter().collect();
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!(report.seen.text(Field::Action), Some(report.action.as_str()));
    (report.seen.text(Field::RuleName).map(str::to_owned), report.action)
}

/// Answers in which there is no result.
const NONE: [(u16, &str, &str); 9] = [
    (202, "", ""),
    (200, "application/json", "{}"),
    (200, "application/json", r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"te"#),
    (200, "text/event-stream", ""),
    (200, "text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"resu"),
    (404, "text/html", "<!doctype html>"),
    (500, "application/json", r#"{"error":"x"}"#),
    (500, "text/plain", "oops"),
    (200, "application/octet-stream", "\u{1}\u{2}"),
];

#[test]
fn a_rule_that_matches_a_request_is_an_alert_whatever_the_answer_lacks_that_another_waits_for() {
    for log in [(2, Origin::Admin, "mcp.method.name: tools/call", "log"), (2, Origin::Vendor, "mcp.method.name: tools/call", "log")] {
        for rules in [vec![WAITS, log], vec![log, WAITS], vec![log]] {
            let connection = connection(rules.clone());
            for answer in NONE {
                let mut exchange = called(&connection);
                answered(&mut exchange, answer);
                assert_eq!(told(exchange.reports()), (Some("R2".into()), Action::Log), "{answer:?} under {rules:?}");
            }
        }
    }
}

#[test]
fn a_rule_that_matches_a_request_is_an_alert_when_the_server_is_silent_or_fails() {
    let connection = connection([WAITS, (2, Origin::Admin, "mcp.method.name: tools/call", "log")]);
    let mut failed = called(&connection);
    failed.failed("client_aborted", "the client left");
    assert_eq!(told(failed.reports()), (Some("R2".into()), Action::Log));
    let mut silent = Dialogue::begin(&connection, |_| ());
    assert!(silent.request_message(&[CALL]).is_ok());
    silent.flush_overdue();
    assert_eq!(told(silent.reports()), (Some("R2".into()), Action::Log));
    // It is told once.
    silent.flush();
    assert_eq!(silent.reports().count(), 0);
}

#[test]
fn a_rule_on_an_answer_without_a_message_is_an_alert_beside_one_that_waits() {
    let connection = connection([WAITS, (2, Origin::Admin, "http.response.status_code: 500", "log")]);
    let mut exchange = called(&connection);
    answered(&mut exchange, (500, "text/html", "<!doctype html>"));
    assert_eq!(told(exchange.reports()), (Some("R2".into()), Action::Log));
}

#[test]
fn a_call_that_no_rule_matches_is_none_and_one_that_is_exempt_stays_so() {
    for (rules, rule) in [
        (vec![WAITS, (2, Origin::Admin, "mcp.method.name: tools/list", "log")], None),
        (
            vec![
                WAITS,
                (2, Origin::Vendor, "mcp.method.name: tools/call", "log"),
                (3, Origin::Admin, "mcp.method.name: tools/call", "allow"),
            ],
            Some("R3"),
        ),
    ] {
        let connection = connection(rules);
        for answer in NONE {
            let mut exchange = called(&connection);
            answered(&mut exchange, answer);
            assert_eq!(told(exchange.reports()), (rule.map(str::to_owned), Action::Allow), "{answer:?}");
        }
    }
}

#[test]
fn messages_of_a_channel_without_heads_keep_their_verdict_as_well() {
    let connection = connection([WAITS, (2, Origin::Admin, "mcp.method.name: tools/call", "log")]);
    for answer in [None, Some("{}"), Some(r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#)] {
        let mut dialogue = Dialogue::begin(&connection, |_| ());
        assert!(dialogue.request_message(&[CALL]).is_ok());
        dialogue.answer_begins(None);
        assert!(answer.is_none_or(|answer| dialogue.answer_message(&[answer.as_bytes()]).is_ok()));
        assert!(dialogue.answer_over().is_ok());
        assert_eq!(told(dialogue.reports()), (Some("R2".into()), Action::Log), "{answer:?}");
    }
}

#[test]
fn a_verdict_on_the_question_of_a_server_stands_beside_what_waits() {
    let connection = connection([
        (1, Origin::Admin, "mcp.server.name: evil", "block"),
        (2, Origin::Admin, "mcp.method.name: sampling/createMessage", "log"),
    ]);
    let mut dialogue = Dialogue::begin(&connection, |_| ());
    assert!(dialogue.answer_message(&[br#"{"jsonrpc":"2.0","id":5,"method":"sampling/createMessage","params":{}}"#]).is_ok());
    assert_eq!(told(dialogue.reports()), (Some("R2".into()), Action::Log));
}
