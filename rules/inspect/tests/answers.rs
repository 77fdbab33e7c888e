//! Answers that a rule on the response refuses, and the ways a server may try to get one past it.
#![allow(clippy::unwrap_used)]

use gnomon_engine::{Adjustments, Origin, RuleSet, Source};
use gnomon_inspect::{Authority, Bounds, Connection, EventFlow, Exchange, Gate, Head, Hello, Inspector, ResponsePlan, Surroundings};
use gnomon_observe::{Action, Field, Observation};
use http::{HeaderMap, Method, Version};
use std::sync::Arc;

const RULE: &str = "
title: No answers of the evil server
id: 0d9c2a51-2f57-4f0e-8d0b-5d0f8c1c7e22
logsource: { product: mcp, category: mcp_traffic }
detection:
    server: { mcp.server.name: evil }
    condition: server
gnomon: { response: { action: block } }
";

/// A POST under a rule that blocks tool calls.
fn blocking() -> Exchange {
    post(&RULE.replace("mcp.server.name: evil", "mcp.method.name: tools/call"))
}

/// An `initialize` that went up and waits for its answer.
fn waiting() -> Exchange {
    let mut exchange = post(RULE);
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;
    exchange.request_bytes(body);
    assert!(matches!(exchange.request_end(), Gate::Stream));
    exchange
}

fn post(rule: &str) -> Exchange {
    post_under(rule, None)
}

fn post_under(rule: &str, overrides: Option<&str>) -> Exchange {
    let source = |name: &str, text: &str| Source { name: name.into(), text: text.into(), origin: Origin::Admin };
    let adjustments = Adjustments { overrides: overrides.map(|text| source("overrides.yml", text)), ..Adjustments::default() };
    let rules = Arc::new(RuleSet::compile_with(&[source("r.yml", rule)], &adjustments).unwrap());
    let inspector = Arc::new(Inspector::new(rules, Surroundings::default(), Bounds::default()));
    let mut seen = Observation::new();
    seen.set(Field::Channel, "https");
    let (mut connection, _) = Connection::open(&inspector, seen);
    let _ = connection.hello("mcp.example.com", 443, &Hello::default());
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    let head = Head {
        method: &Method::POST,
        path: "/api",
        query: None,
        version: Version::HTTP_11,
        headers: &headers,
        alpn: None,
        authority: Authority::Agrees,
    };
    Exchange::begin(&connection, &head)
}

#[test]
fn a_body_that_breaks_before_it_shows_what_it_is_comes_out_alike_in_all_pieces() {
    let body = br#"{ /* c */ "jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file"}}"#;
    for piece in [usize::MAX, 7, 1] {
        let mut exchange = blocking();
        let refused = body.chunks(piece).any(|chunk| matches!(exchange.request_bytes(chunk), Gate::Refuse(_)));
        assert!(refused || matches!(exchange.request_end(), Gate::Refuse(_)), "pieces of {piece}");
    }
    // And one that never shows it is some other API's mistake.
    let mut exchange = blocking();
    exchange.request_bytes(br#"{ /* c */ "a": 1 }"#);
    assert!(matches!(exchange.request_end(), Gate::Stream));
}

#[test]
fn a_rule_in_shadow_lets_pass_at_once_and_the_report_says_what_it_would_have_done() {
    let rule = RULE.replace("mcp.server.name: evil", "mcp.method.name: tools/call");
    let shadow = "- {rule: 0d9c2a51-2f57-4f0e-8d0b-5d0f8c1c7e22, mode: shadow, reason: pilot}";
    let mut exchange = post_under(&rule, Some(shadow));
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file"}}"#;
    for chunk in body.chunks(9) {
        assert!(matches!(exchange.request_bytes(chunk), Gate::Stream), "nothing is held for it");
    }
    assert!(matches!(exchange.request_end(), Gate::Stream));
    exchange.flush();
    let reports: Vec<_> = exchange.reports().collect();
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!((report.action, report.seen.text(Field::Would)), (Action::Log, Some("block")));
    assert_eq!(report.seen.text(Field::RuleId), Some("0d9c2a51-2f57-4f0e-8d0b-5d0f8c1c7e22"));
}

fn head(content_type: &str, coding: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", content_type.parse().unwrap());
    if let Some(coding) = coding {
        headers.insert("content-encoding", coding.parse().unwrap());
    }
    headers
}

fn answer(id: &str, name: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0",{id},"result":{{"protocolVersion":"2025-11-25","capabilities":{{}},"serverInfo":{{"name":"{name}","version":"1"}}}}}}"#
    )
}

#[test]
fn a_refused_answer_is_refused_and_another_passes() {
    for (name, refused) in [("evil", true), ("good", false)] {
        let mut exchange = waiting();
        assert!(matches!(exchange.response_head(200, &head("application/json", None)), ResponsePlan::HoldBody));
        let gate = exchange.response_bytes(answer("\"id\":1", name).as_bytes());
        assert_eq!(matches!(gate, Gate::Refuse(_)), refused, "{name}");
    }
}

#[test]
fn an_answer_that_two_parsers_read_differently_is_refused() {
    let mut exchange = waiting();
    exchange.response_head(200, &head("application/json", None));
    let gate = exchange.response_bytes(answer("\"id\":1,\"id\":1", "evil").as_bytes());
    assert!(matches!(gate, Gate::Refuse(_)), "{gate:?}");
}

#[test]
fn an_event_that_two_parsers_read_differently_is_replaced() {
    let mut exchange = waiting();
    assert!(matches!(exchange.response_head(200, &head("text/event-stream", None)), ResponsePlan::FilterEvents));
    let event = format!("data: {}\n\n", answer("\"id\":1,\"id\":1", "evil"));
    let mut out = Vec::new();
    assert_eq!(exchange.filter_events(event.as_bytes(), &mut out), EventFlow::Continue);
    let out = String::from_utf8(out).unwrap();
    assert!(!out.contains("evil\"") && out.contains("\"error\""), "{out}");
}

#[test]
fn an_answer_in_an_unknown_coding_is_refused() {
    let mut exchange = waiting();
    let plan = exchange.response_head(200, &head("application/json", Some("snappy")));
    assert!(matches!(plan, ResponsePlan::Refuse(_)), "{plan:?}");
}

#[test]
fn an_answer_that_is_no_message_passes() {
    let mut exchange = waiting();
    assert!(matches!(exchange.response_head(404, &head("text/html", None)), ResponsePlan::HoldBody));
    assert!(matches!(exchange.response_bytes(b"<!doctype html>"), Gate::Stream));
}

/// Whether a rule on the size of a `tools/call` matches a request whose body is this long, and whether its answer passes.
fn of_a_size(bytes: usize, response: &str) -> (bool, Gate) {
    let rule = RULE.replace("mcp.server.name: evil", "mcp.method.name: tools/call, http.request.body.size|gte: 4096");
    let mut exchange = post(&rule.replace("gnomon: { response: { action: block } }", response));
    let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"copy"}}"#;
    // The message is complete before the body is.
    exchange.request_bytes(call);
    exchange.request_bytes(&b" ".repeat(bytes - call.len()));
    exchange.request_end();
    exchange.response_head(200, &head("application/json", None));
    let gate = exchange.response_bytes(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    exchange.response_end(&mut Vec::new());
    let matched = exchange.reports().any(|report| report.seen.text(Field::RuleId).is_some());
    (matched, gate)
}

#[test]
fn a_rule_on_the_size_of_a_request_sees_all_of_it() {
    assert!(matches!(of_a_size(4096, ""), (true, Gate::Stream)));
    assert!(matches!(of_a_size(4095, ""), (false, Gate::Stream)));
    // One that refuses withholds the answer: the server has the request by then.
    let block = "gnomon: { response: { action: block } }";
    assert!(matches!(of_a_size(4096, block), (true, Gate::Refuse(_))));
    assert!(matches!(of_a_size(4095, block), (false, Gate::Stream)));
}
