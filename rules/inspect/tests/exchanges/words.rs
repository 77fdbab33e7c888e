//! What an answer says that is no message: its client shows it as the error's text.

use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_inspect::{Authority, Bounds, Connection, Exchange, Gate, Head, Hello, Inspector, ResponsePlan, Surroundings};
use gnomon_observe::{Action, Observation};
use http::{HeaderMap, HeaderValue, Method, Version, header};
use serde_json::json;
use std::sync::Arc;

const RULE: &str = "error.message|contains: forbidden";

/// A call that went up, under this rule.
fn called(rule: &str, action: &str) -> Exchange {
    let text = format!(
        "title: T\nid: 0d9c2a51-2f57-4f0e-8d0b-5d0f8c1c7e22\nlogsource: {{ product: mcp, category: mcp_traffic }}\n\
         detection:\n    seen: {{ {rule} }}\n    condition: seen\ngnomon: {{ response: {{ action: {action} }} }}\n"
    );
    let rules = RuleSet::compile(&[Source { name: "r.yml".into(), text, origin: Origin::Admin }]).unwrap();
    let inspector = Arc::new(Inspector::new(Arc::new(rules), Surroundings::default(), Bounds::default()));
    let (mut connection, _) = Connection::open(&inspector, Observation::new());
    let _ = connection.hello("tools.example", 443, &Hello::default());
    let (headers, method) = (head("application/json"), &Method::POST);
    let head =
        Head { method, path: "/mcp", query: None, version: Version::HTTP_11, headers: &headers, alpn: None, authority: Authority::Agrees };
    let mut exchange = Exchange::begin(&connection, &head);
    exchange.request_bytes(br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#);
    assert!(matches!(exchange.request_end(), Gate::Stream));
    exchange
}

fn head(kind: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if !kind.is_empty() {
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
    }
    headers
}

/// Whether an answer with this body reaches its client whole.
fn passes(exchange: &mut Exchange, (status, headers): (u16, &HeaderMap), body: &[u8], piece: usize) -> bool {
    if let ResponsePlan::Refuse(_) = exchange.response_head(status, headers) {
        return false;
    }
    let refused = body.chunks(piece).any(|bytes| matches!(exchange.response_bytes(bytes), Gate::Refuse(_)));
    !refused && !matches!(exchange.response_end(&mut Vec::new()), Gate::Refuse(_))
}

#[test]
fn the_text_of_an_http_error_is_the_message_of_an_error() {
    for status in [400, 403, 404, 405, 409, 418, 429, 500, 502, 503] {
        for kind in ["text/plain", "text/html; charset=utf-8", "", "application/json", "text/event-stream", "image/png"] {
            for (text, said) in
                [("FORBIDDEN: do as I say", true), ("<p>Forbidden</p>", true), ("data: forbidden\n\n", true), ("fine", false)]
            {
                for piece in [usize::MAX, 3] {
                    let place = format!("{status} {kind} {text}");
                    assert_eq!(passes(&mut called(RULE, "block"), (status, &head(kind)), text.as_bytes(), piece), !said, "{place}");
                    let mut logged = called(RULE, "log");
                    assert!(passes(&mut logged, (status, &head(kind)), text.as_bytes(), piece), "{place}");
                    logged.flush();
                    let reports: Vec<_> = logged.reports().collect();
                    let [report] = &reports[..] else { panic!("{place}: {reports:?}") };
                    assert_eq!(report.rule.is_some(), said, "{place}");
                    let event = serde_json::to_value(&report.seen).unwrap();
                    assert_eq!(event.get("gnomon.text.places"), said.then(|| json!(["error.message error.message"])).as_ref(), "{event}");
                    assert_eq!((&event["error.type"], &event["http.response.status_code"]), (&json!(status.to_string()), &json!(status)));
                    assert!(!event.to_string().to_lowercase().contains("do as"), "{event}");
                }
            }
        }
    }
    let mut refused = called(RULE, "block");
    assert!(!passes(&mut refused, (500, &head("text/plain")), b"forbidden", usize::MAX));
    assert!(refused.reports().all(|report| report.action == Action::Block));
}

#[test]
fn what_is_announced_as_json_and_is_none_is_the_message_of_an_error_as_well() {
    let json = head("application/json");
    for (body, said) in
        [("FORBIDDEN not json", true), (" \n<forbidden>", true), ("fine", false), ("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", false)]
    {
        for piece in [usize::MAX, 1] {
            assert_eq!(passes(&mut called(RULE, "block"), (200, &json), body.as_bytes(), piece), !said, "{body}");
        }
    }
    // Clients refuse an answer of another type without a look at it.
    assert!(passes(&mut called(RULE, "block"), (200, &head("text/plain")), b"forbidden", usize::MAX));
}

const OK: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"fine"}]}}"#;

#[test]
fn json_that_is_no_message_or_ends_within_one_is_the_message_of_an_error() {
    let message = OK.replace("fine", "it is FORBIDDEN");
    let cut = |by: usize| message[..message.len() - by].to_owned();
    for (body, said, is_cut) in [
        (r#"["it is FORBIDDEN"]"#.to_owned(), true, false),
        (r#" [1,"it is FORBIDDEN"]"#.into(), true, false),
        (r#"{"a":{"b":"FORBIDDEN"}}"#.into(), true, false),
        (r#"{"FORBIDDEN":1}"#.into(), true, false),
        (r#"{"a":"FORBIDDEN"#.into(), true, true),
        (cut(1), true, true),
        (cut(2), true, true),
        (message.clone(), false, false),
        (r#"{"a":1}"#.into(), false, false),
        ("{}".into(), false, false),
    ] {
        for (kind, text) in [("application/json", body.clone()), ("text/event-stream", format!("data: {body}\n\n"))] {
            for piece in [usize::MAX, 5, 1] {
                let place = format!("{kind} {text}");
                assert_eq!(passes(&mut called(RULE, "block"), (200, &head(kind)), text.as_bytes(), piece), !said, "{place}");
                let mut logged = called(RULE, "log");
                assert!(passes(&mut logged, (200, &head(kind)), text.as_bytes(), piece), "{place}");
                logged.flush();
                let reports: Vec<_> = logged.reports().collect();
                let [report] = &reports[..] else { panic!("{place}: {reports:?}") };
                assert_eq!(report.rule.is_some(), said, "{place}");
                let event = serde_json::to_value(&report.seen).unwrap();
                // In an event that shows nothing of JSON-RPC, the data is as good as any.
                let told = is_cut && (kind == "application/json" || body.contains("jsonrpc"));
                assert_eq!(event.get("gnomon.response.malformed"), told.then(|| json!("truncated")).as_ref(), "{place}");
            }
        }
    }
    // A message in a list is no answer to many clients.
    let list = format!(r#"[{OK},{{"x":"FORBIDDEN"}}]"#);
    for (kind, text) in [("application/json", list.clone()), ("text/event-stream", format!("data: {list}\n\n"))] {
        for piece in [usize::MAX, 5] {
            assert!(!passes(&mut called(RULE, "block"), (200, &head(kind)), text.as_bytes(), piece), "{text}");
            let fine = text.replace("FORBIDDEN", "fine");
            assert!(passes(&mut called(RULE, "block"), (200, &head(kind)), fine.as_bytes(), piece), "{fine}");
        }
    }
}

#[test]
fn of_json_that_is_no_message_so_much_is_kept_and_the_rest_is_not_known() {
    let json = head("application/json");
    for (body, passing) in [
        (format!(r#"{{"a":"{}","b":"FORBIDDEN"}}"#, "x".repeat(60_000)), false),
        (format!(r#"{{"a":"{}","b":"FORBIDDEN"}}"#, "x".repeat(70_000)), false),
        (format!(r#"{{"a":"{}"}}"#, "x".repeat(60_000)), true),
        (OK.replace("fine", &"x".repeat(200_000)), true),
    ] {
        for piece in [usize::MAX, 4096] {
            let mut exchange = called(RULE, "block");
            assert_eq!(passes(&mut exchange, (200, &json), body.as_bytes(), piece), passing, "{}", body.len());
            let mut headers = json.clone();
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            let mut exchange = called(RULE, "block");
            assert!(matches!(exchange.response_head(200, &headers), ResponsePlan::HoldBody));
            let mut kept = 0;
            let gates = body.as_bytes().chunks(piece).map(|bytes| {
                let gate = exchange.response_bytes(bytes);
                kept = kept.max(exchange.answer_keeps());
                gate
            });
            let last = gates.last().unwrap();
            assert_eq!(matches!(last, Gate::Refuse(_)), !passing, "{}", body.len());
            assert!(kept < 128 << 10, "{kept}");
        }
    }
}

#[test]
fn an_http_error_is_heard_whole_whatever_json_it_is() {
    for body in [
        json!({"error": "forbidden"}),
        json!({"detail": "forbidden"}),
        json!({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "forbidden"}}),
        json!({"jsonrpc": "2.0", "id": null, "error": {"code": 1, "message": "forbidden"}}),
        json!({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "x"}, "note": "forbidden"}),
        json!({"jsonrpc": "2.0", "id": 1, "result": {}, "forbidden": 1}),
    ] {
        let (body, headers) = (body.to_string(), head("application/json"));
        for piece in [usize::MAX, 5] {
            assert!(!passes(&mut called(RULE, "block"), (500, &headers), body.as_bytes(), piece), "{body}");
            let other = format!("{RULE}, mcp.method.name: prompts/get");
            assert!(passes(&mut called(&other, "block"), (500, &headers), body.as_bytes(), piece), "{body}");
            let mut logged = called(RULE, "log");
            assert!(passes(&mut logged, (500, &headers), body.as_bytes(), piece), "{body}");
            logged.flush();
            assert_eq!(logged.reports().filter(|report| report.rule.is_some()).count(), 1, "{body}");
        }
    }
}

#[test]
fn the_length_and_the_characters_of_an_http_error_hide_nothing_of_it() {
    for length in [60_000, 3 << 20] {
        for (end, said) in [("fine", false), ("forbidden", true)] {
            let body = "a \"line\"\\\n".repeat(length / 10) + end;
            let mut headers = head("text/plain");
            assert_eq!(passes(&mut called(RULE, "block"), (500, &headers), body.as_bytes(), 16 << 10), !said, "{length}");
            // Of a length that is known, the last byte does not leave before the verdict.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            let mut exchange = called(RULE, "block");
            assert!(matches!(exchange.response_head(500, &headers), ResponsePlan::HoldBody));
            let last = body.as_bytes().chunks(16 << 10).map(|bytes| exchange.response_bytes(bytes)).last().unwrap();
            assert_eq!(matches!(last, Gate::Refuse(_)), said, "{length}");
        }
    }
    let coded = zstd::encode_all(&b"forbidden"[..], 3).unwrap();
    for lines in [&["zstd"][..], &["zstd", "zstd"], &["br", "zstd"]] {
        let mut headers = head("text/plain");
        for line in lines {
            headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(line));
        }
        assert!(!passes(&mut called(RULE, "block"), (500, &headers), &coded, usize::MAX), "{lines:?}");
    }
    let rule = "error.message|contains: 'verbötén'";
    for body in [&"VERBÖTÉN".as_bytes().to_vec(), &[b"\xff\xc3".to_vec(), "\"verbötén\"".into(), vec![0xe2]].concat()] {
        for piece in [usize::MAX, 1] {
            assert!(!passes(&mut called(rule, "block"), (500, &head("text/plain")), body, piece));
        }
    }
}

#[test]
fn where_no_rule_looks_at_errors_an_http_error_waits_for_nothing() {
    let mut exchange = called("gen_ai.tool.call.result|contains: forbidden", "block");
    assert!(!matches!(exchange.response_head(500, &head("text/plain")), ResponsePlan::Refuse(_)));
    assert!(matches!(exchange.response_bytes(b"forbidden"), Gate::Stream));
    let mut exchange = called("mcp.method.name: prompts/get", "block");
    assert!(matches!(exchange.response_head(500, &head("text/plain")), ResponsePlan::Stream));
}
