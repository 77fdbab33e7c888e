//! What a server tells without wanting an answer is judged as its questions are, and is an event only where a rule means it.

use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_inspect::{
    Authority, Bounds, Connection, Dialogue, EventFlow, Exchange, Gate, Head, Hello, Inspector, ResponsePlan, Sighting, Surroundings,
};
use gnomon_observe::{Action, Field, Observation};
use http::{HeaderMap, Method, Version};
use std::sync::Arc;

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

fn rule(id: u8, selection: &str, action: &str) -> Source {
    let text = format!(
        "title: R{id}\nid: 0d9c2a51-2f57-4f0e-8d0b-5d0f8c1c7e{id:02}\nlogsource: {{ product: mcp, category: mcp_traffic }}\n\
         detection:\n    seen: {{ {selection} }}\n    condition: seen\ngnomon: {{ response: {{ action: {action} }} }}\n"
    );
    Source { name: format!("r{id}.yml"), text, origin: Origin::Admin }
}

fn connection(rules: &[Source]) -> Connection {
    let rules = Arc::new(RuleSet::compile(rules).unwrap());
    let inspector = Arc::new(Inspector::new(rules, Surroundings::default(), Bounds::default()));
    let mut seen = Observation::new();
    seen.set(Field::Channel, "https");
    let (mut connection, _) = Connection::open(&inspector, seen);
    let _ = connection.hello("mcp.example.com", 443, &Hello::default());
    connection
}

/// A stream of events: the answer to a call, or one that was opened for what the server says.
fn stream(rules: &[Source], method: &Method) -> Exchange {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    headers.insert("mcp-session-id", "s".parse().unwrap());
    let (version, authority) = (Version::HTTP_11, Authority::Agrees);
    let head = Head { method, path: "/mcp", query: None, version, headers: &headers, alpn: None, authority };
    let mut exchange = Exchange::begin(&connection(rules), &head);
    if method == Method::POST {
        exchange.request_bytes(br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#);
    }
    assert!(matches!(exchange.request_end(), Gate::Stream));
    exchange
}

/// What of these messages comes through, and what is told.
fn given(exchange: &mut Exchange, messages: &[&str], piece: usize) -> (String, Vec<Sighting>) {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "text/event-stream".parse().unwrap());
    let plan = exchange.response_head(200, &headers);
    let mut out = Vec::new();
    let text: String = messages.iter().map(|message| format!("data: {message}\n\n")).collect();
    for bytes in text.as_bytes().chunks(piece) {
        match plan {
            ResponsePlan::FilterEvents => assert_eq!(exchange.filter_events(bytes, &mut out), EventFlow::Continue),
            ResponsePlan::Stream => {
                assert!(matches!(exchange.response_bytes(bytes), Gate::Stream));
                out.extend_from_slice(bytes);
            }
            _ => panic!("{plan:?}"),
        }
    }
    assert!(matches!(exchange.response_end(&mut out), Gate::Stream));
    (String::from_utf8(out).unwrap(), exchange.reports().collect())
}

fn tells(method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{{"level":"info","data":"{method} secret"}}}}"#)
}

/// Reports of notifications: method, rule and action.
fn told<'r>(reports: &'r [Sighting]) -> Vec<(&'r str, &'r str, Action)> {
    let of = |report: &&Sighting| report.seen.text(Field::McpMethod).is_some_and(|method| method.starts_with("notifications/"));
    let text = |report: &'r Sighting, field| report.seen.text(field).unwrap_or_default();
    let parts = |report: &'r Sighting| (text(report, Field::McpMethod), text(report, Field::RuleName), report.action);
    reports.iter().filter(of).map(parts).collect()
}

#[test]
fn a_notification_that_a_rule_blocks_is_withheld_without_an_answer_and_the_stream_goes_on() {
    for method in [Method::POST, Method::GET] {
        for piece in [usize::MAX, 7, 1] {
            let mut exchange = stream(&[rule(1, "mcp.method.name: notifications/message", "block")], &method);
            let (message, progress) = (tells("message"), tells("progress"));
            let (out, reports) = given(&mut exchange, &[&progress, &message, &progress, RESULT], piece);
            assert_eq!(out, format!("data: {progress}\n\ndata: {progress}\n\ndata: {RESULT}\n\n"), "{method} {piece}");
            assert_eq!(told(&reports), [("notifications/message", "R1", Action::Block)], "{method} {piece}");
        }
    }
}

#[test]
fn what_follows_an_event_that_was_left_out_never_becomes_the_beginning_of_the_clients_stream() {
    for end in ["\n\n", "\r\n\r\n", "\r\r"] {
        for method in [Method::POST, Method::GET] {
            for piece in [usize::MAX, 7, 1] {
                let mut exchange = stream(&[rule(1, "mcp.method.name: notifications/message", "block")], &method);
                // A mark, which is stripped at the beginning alone.
                let events = format!("{}{end}\u{feff}data: {RESULT}", tells("message"));
                let (out, _) = given(&mut exchange, &[&events], piece);
                assert!(out.starts_with(":\n\n") && !out.contains("secret"), "{method} {piece}: {out:?}");
                assert!(out.contains(&format!("\n\u{feff}data: {RESULT}")), "{method} {piece}: {out:?}");
            }
        }
    }
}

#[test]
fn a_notification_is_an_event_where_a_rule_means_it_and_only_there() {
    let rules = |selection| [rule(1, selection, "log")];
    for (selection, events) in [
        ("mcp.method.name: notifications/message", 2),
        ("mcp.method.name|startswith: notifications/", 3),
        ("mcp.method.name: tools/call", 0),
        // What holds of all that is said is no news of each.
        ("mcp.method.name|exists: true", 0),
        ("server.address: mcp.example.com", 0),
        ("http.response.status_code: 200", 0),
        ("gen_ai.tool.call.arguments|contains: secret", 0),
    ] {
        for method in [Method::POST, Method::GET] {
            let (message, progress) = (tells("message"), tells("progress"));
            let (out, reports) = given(&mut stream(&rules(selection), &method), &[&message, &progress, &message, RESULT], 50);
            assert_eq!(out.matches("secret").count(), 3, "{selection}");
            let told = told(&reports);
            assert_eq!(told.len(), events, "{selection} {method}: {told:?}");
            assert!(told.iter().all(|(_, rule, action)| (*rule, *action) == ("R1", Action::Log)), "{told:?}");
        }
    }
}

#[test]
fn an_administrators_allow_and_a_channel_without_heads_are_the_same_for_notifications() {
    let rules = [rule(1, "mcp.method.name|startswith: notifications/", "block")];
    let mut dialogue = Dialogue::begin(&connection(&rules), |_| ());
    assert!(dialogue.answer_message(&[tells("progress").as_bytes()]).is_err());
    assert!(dialogue.answer_message(&[br#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#]).is_ok());
    let reports: Vec<_> = dialogue.reports().collect();
    assert_eq!(told(&reports), [("notifications/progress", "R1", Action::Block)]);
    let allowed = [rule(1, "mcp.method.name: notifications/progress", "allow")];
    let mut dialogue = Dialogue::begin(&connection(&allowed), |_| ());
    assert!(dialogue.answer_message(&[tells("progress").as_bytes()]).is_ok());
    assert_eq!(dialogue.reports().count(), 0);
}

#[test]
fn a_notification_that_cannot_be_read_does_not_pass_a_rule_that_blocks_it() {
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for odd in [
        tells("message").replacen("\"params\"", "\"method\":\"notifications/message\",\"params\"", 1),
        tells("message").replace("\"info\"", &deep),
        tells("message").replacen("\"params\"", &format!("\"x\":{deep},\"params\""), 1),
    ] {
        for piece in [usize::MAX, 7] {
            let mut exchange = stream(&[rule(1, "mcp.method.name: notifications/message", "block")], &Method::POST);
            let (out, reports) = given(&mut exchange, &[&odd, RESULT], piece);
            assert!(!out.contains("secret") && out.contains(RESULT), "{piece}: {out}");
            assert_eq!(told(&reports), [("notifications/message", "R1", Action::Block)], "{piece}: {odd}");
        }
    }
}

const ASKS: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list"},"b":{"method":"elicitation/create","params":{"message":"secret"}}},"requestState":"x"}}"#;

/// A call of 2026-07-28 and its answer as JSON, in pieces: whether it is refused, before anything of it left.
fn answered(rules: &[Source], answer: &str, piece: usize) -> (Option<serde_json::Value>, Vec<Sighting>) {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    headers.insert("mcp-protocol-version", "2026-07-28".parse().unwrap());
    let (method, version, authority) = (&Method::POST, Version::HTTP_11, Authority::Agrees);
    let head = Head { method, path: "/mcp", query: None, version, headers: &headers, alpn: None, authority };
    let mut exchange = Exchange::begin(&connection(rules), &head);
    exchange.request_bytes(br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#);
    assert!(matches!(exchange.request_end(), Gate::Stream));
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    let plan = exchange.response_head(200, &headers);
    for bytes in answer.as_bytes().chunks(piece) {
        match exchange.response_bytes(bytes) {
            Gate::Refuse(refusal) => {
                assert!(matches!(plan, ResponsePlan::HoldBody), "{plan:?}");
                return (Some(serde_json::from_str(&refusal.reply().body).unwrap()), exchange.reports().collect());
            }
            gate => assert_eq!(matches!(plan, ResponsePlan::HoldBody), matches!(gate, Gate::Hold), "{gate:?}"),
        }
    }
    assert!(matches!(exchange.response_end(&mut Vec::new()), Gate::Stream));
    (None, exchange.reports().collect())
}

#[test]
fn what_a_server_asks_in_its_result_is_judged_as_if_it_asked_by_itself() {
    for piece in [usize::MAX, 9] {
        for method in ["elicitation/create", "roots/list"] {
            let (refused, reports) = answered(&[rule(1, &format!("mcp.method.name: {method}"), "block")], ASKS, piece);
            let refused = refused.unwrap();
            assert_eq!((&refused["id"], &refused["result"]["isError"]), (&1.into(), &true.into()), "{refused}");
            let told: Vec<_> = reports.iter().map(|report| (report.seen.text(Field::McpMethod), report.action)).collect();
            assert_eq!(told, [(Some(method), Action::Block), (Some("tools/call"), Action::Block)]);
        }
        for (selection, action, events) in [
            ("mcp.method.name: sampling/createMessage", "block", 0),
            ("gen_ai.tool.name: y", "block", 0),
            ("mcp.method.name: elicitation/create", "log", 1),
        ] {
            let (refused, reports) = answered(&[rule(1, selection, action)], ASKS, piece);
            assert_eq!((refused, reports.len()), (None, 1 + events), "{selection}: {reports:?}");
        }
    }
    // One whose method is not known could be any.
    let block = [rule(1, "mcp.method.name: elicitation/create", "block")];
    for odd in
        [r#"{"a":{"Method":"elicitation/create"}}"#, r#"{"a":{"method":["elicitation/create"]}}"#, r#"[{"method":"elicitation/create"}]"#]
    {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"resultType":"input_required","inputRequests":{odd}}}}}"#);
        assert!(answered(&block, &text, usize::MAX).0.is_some(), "{odd}");
    }
}

#[test]
fn what_a_server_asks_in_a_result_on_a_stream_is_replaced_by_words() {
    let mut exchange = stream(&[rule(1, "mcp.method.name: elicitation/create", "block")], &Method::POST);
    let (out, _) = given(&mut exchange, &[&tells("progress"), ASKS], 20);
    assert!(out.contains("progress secret") && !out.contains("input_required") && out.contains(r#""id":1,"result""#), "{out}");
}

#[test]
fn a_question_that_was_withheld_does_not_pass_within_the_result_and_one_that_was_told_is_told_once() {
    let asked = r#"{"jsonrpc":"2.0","id":9,"method":"elicitation/create","params":{"message":"secret"}}"#;
    for (action, through, events) in [("block", false, 2), ("log", true, 1)] {
        let mut exchange = stream(&[rule(1, "mcp.method.name: elicitation/create", action)], &Method::POST);
        let (out, reports) = given(&mut exchange, &[asked, ASKS], usize::MAX);
        assert_eq!(out.contains("secret"), through, "{out}");
        let questions = reports.iter().filter(|report| report.seen.text(Field::McpMethod) == Some("elicitation/create"));
        assert_eq!(questions.count(), events, "{action}: {reports:?}");
    }
}
