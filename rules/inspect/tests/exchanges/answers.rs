//! Answers that a rule on the response refuses, and the ways a server may try to get one past it.

use gnomon_engine::{Adjustments, Origin, RuleSet, Source};
use gnomon_inspect::{Authority, Bounds, Connection, EventFlow, Exchange, Gate, Head, Hello, Inspector, ResponsePlan, Surroundings};
use gnomon_observe::{Action, Field, Observation};
use http::{HeaderMap, HeaderValue, Method, Version};
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
    of_type(&inspector, "application/json")
}

/// A POST of a body of this type.
fn of_type(inspector: &Arc<Inspector>, content_type: &str) -> Exchange {
    let mut seen = Observation::new();
    seen.set(Field::Channel, "https");
    let (mut connection, _) = Connection::open(inspector, seen);
    let _ = connection.hello("mcp.example.com", 443, &Hello::default());
    let mut headers = HeaderMap::new();
    headers.insert("content-type", content_type.parse().unwrap());
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
fn a_body_in_a_character_set_that_hides_ascii_is_refused_where_a_rule_could_match() {
    let rule = RULE.replace("mcp.server.name: evil", "mcp.method.name: tools/call");
    let source = Source { name: "r.yml".into(), text: rule.as_str().into(), origin: Origin::Admin };
    let rules = Arc::new(RuleSet::compile_with(&[source], &Adjustments::default()).unwrap());
    let inspector = Arc::new(Inspector::new(rules, Surroundings::default(), Bounds::default()));
    for (charset, refused) in [
        ("", false),
        ("; charset=utf-8", false),
        ("; charset=\"ISO-8859-1\"", false),
        ("; charset=utf-7", true),
        ("; profile=x; Charset = \"UTF-7-IMAP\"", true),
        ("; charset=ibm037", true),
    ] {
        let mut exchange = of_type(&inspector, &format!("application/json{charset}"));
        exchange.request_bytes(b"{\"+AGo-sonrpc\":\"2.0\"}");
        assert_eq!(matches!(exchange.request_end(), Gate::Refuse(_)), refused, "{charset}");
    }
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
fn the_call_that_a_session_begins_with_is_of_that_session() {
    let mut exchange = waiting();
    let mut headers = head("application/json", None);
    headers.insert("mcp-session-id", "7da9fbca".parse().unwrap());
    exchange.response_head(200, &headers);
    exchange.response_bytes(answer("\"id\":1", "good").as_bytes());
    exchange.response_end(&mut Vec::new());
    exchange.flush();
    let reports: Vec<_> = exchange.reports().collect();
    assert_eq!(reports.iter().map(|report| report.seen.text(Field::McpSessionId)).collect::<Vec<_>>(), [Some("7da9fbca")]);
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

/// What a client gets of an answer under `RULE`: in pieces of this size, as whatever it says that it is.
fn given(exchange: &mut Exchange, content_type: &[u8], answer: &str, piece: usize) -> String {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_bytes(content_type).unwrap());
    let plan = exchange.response_head(200, &headers);
    let (mut out, mut refused) = (Vec::new(), false);
    for bytes in answer.as_bytes().chunks(piece) {
        match plan {
            ResponsePlan::FilterEvents => assert_eq!(exchange.filter_events(bytes, &mut out), EventFlow::Continue),
            _ => refused |= matches!(exchange.response_bytes(bytes), Gate::Refuse(_)),
        }
    }
    refused |= matches!(exchange.response_end(&mut out), Gate::Refuse(_));
    match plan {
        ResponsePlan::FilterEvents => String::from_utf8(out).unwrap(),
        _ if refused => String::new(),
        _ => answer.to_owned(),
    }
}

#[test]
fn a_refused_answer_is_refused_whatever_it_says_that_it_is() {
    let (json, events) = (answer("\"id\":1", "evil"), format!("event: message\ndata: {}\n\n", answer("\"id\":1", "evil")));
    for (kind, text) in [
        (&b"text/event-stream; x=\xe9"[..], &events),
        (b"text/event-streamX", &events),
        (b"text/event-stream, application/json", &events),
        (b"Application/JSON, Text/Event-Stream", &events),
        (b"text/plain", &events),
        (b"application/json", &events),
        (b"application/octet-stream", &format!("\u{feff}: note\n\n{events}")),
        (b"text/event-stream", &json),
        (b"text/event-stream", &json.replace("\"result\"", "\n\n\"result\"")),
        (b"application/json; x=\xe9", &json),
        (b"image/png", &json),
    ] {
        for piece in [usize::MAX, 11, 1] {
            let given = given(&mut waiting(), kind, text, piece);
            let read = given.contains("evil") && given.contains("serverInfo");
            assert!(!read, "{} in pieces of {piece}: {given}", String::from_utf8_lossy(kind));
        }
    }
    let good = events.replace("evil", "good");
    assert_eq!(given(&mut waiting(), b"text/plain", &good, 11), good);
}

const TOOLS: &str = "gnomon.tools: danger";

/// A `tools/list` whose answer may not name a tool.
fn listing() -> Exchange {
    let mut exchange = post(&RULE.replace("mcp.server.name: evil", TOOLS));
    exchange.request_bytes(br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    assert!(matches!(exchange.request_end(), Gate::Stream));
    exchange
}

#[test]
fn all_names_of_a_long_list_are_judged_whatever_is_kept_of_them() {
    let list = |count: usize, last: &str| {
        let tools: Vec<String> = (0..count).map(|number| format!(r#"{{"name":"tool_{number}"}}"#)).collect();
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{},{{"name":"{last}"}}]}}}}"#, tools.join(","))
    };
    for (count, last, refused) in
        [(10, "harmless", false), (10, "danger", true), (600, "harmless", false), (600, "danger", true), (10, &"x".repeat(5_000), false)]
    {
        let mut exchange = listing();
        exchange.response_head(200, &head("application/json", None));
        let gate = exchange.response_bytes(list(count, last).as_bytes());
        assert_eq!(matches!(gate, Gate::Refuse(_)), refused, "{count} and {last}");
    }
}

#[test]
fn a_list_of_which_not_all_is_known_is_refused_where_a_rule_could_match_what_is_not() {
    let rule = RULE.replace("mcp.server.name: evil", "gnomon.tools|re: '^danger$'");
    let many: Vec<String> = (0..600).map(|number| format!(r#"{{"name":"tool_{number}"}}"#)).collect();
    let odd = r#"{"name":["danger"]}"#.to_owned();
    for (rule, tools, refused) in [
        (rule.clone(), many[..500].join(","), false),
        (rule, many.join(","), true),
        (RULE.replace("mcp.server.name: evil", TOOLS), odd, true),
    ] {
        let mut exchange = post(&rule);
        exchange.request_bytes(br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
        assert!(matches!(exchange.request_end(), Gate::Stream));
        exchange.response_head(200, &head("application/json", None));
        let gate = exchange.response_bytes(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{tools}]}}}}"#).as_bytes());
        assert_eq!(matches!(gate, Gate::Refuse(_)), refused, "{tools}");
    }
}

#[test]
fn an_error_is_one_however_its_number_or_its_truth_is_written() {
    for (rule, result, refused) in [
        ("rpc.response.status_code: '-32666'", r#""error":{"code":-32666.0,"message":"x"}"#, true),
        ("rpc.response.status_code: '-32666'", r#""error":{"code":-3.2666e4,"message":"x"}"#, true),
        ("rpc.response.status_code: '-32666'", r#""error":{"code":"-32666","message":"x"}"#, true),
        ("rpc.response.status_code: '-32666'", r#""error":{"code":-32000,"message":"x"}"#, false),
        ("error.type: tool_error", r#""result":{"content":[],"isError":true}"#, true),
        ("error.type: tool_error", r#""result":{"content":[],"isError":"true"}"#, true),
        ("error.type: tool_error", r#""result":{"content":[],"isError":1}"#, true),
        ("error.type: tool_error", r#""result":{"content":[],"isError":true,"isError":false}"#, true),
        ("error.type: tool_error", r#""result":{"content":[],"isError":false}"#, false),
        ("error.type: tool_error", r#""result":{"content":[],"isError":null}"#, false),
    ] {
        let mut exchange = post(&RULE.replace("mcp.server.name: evil", rule));
        exchange.request_bytes(br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#);
        assert!(matches!(exchange.request_end(), Gate::Stream));
        let status = if result.contains("isError\":1") { 400 } else { 200 };
        exchange.response_head(status, &head("application/json", None));
        let gate = exchange.response_bytes(format!(r#"{{"jsonrpc":"2.0","id":1,{result}}}"#).as_bytes());
        assert_eq!(matches!(gate, Gate::Refuse(_)), refused, "{rule} {result}");
    }
}

/// What a client gets of an answer in pieces of this size from a proxy that holds it back as it is told to, and whether it is told
/// of a refusal instead.
fn held_back(exchange: &mut Exchange, content_type: &str, answer: &[u8], piece: usize) -> (String, bool) {
    assert!(matches!(exchange.response_head(200, &head(content_type, None)), ResponsePlan::HoldBody));
    let (mut out, mut held, mut opened) = (Vec::new(), Vec::new(), false);
    for bytes in answer.chunks(piece) {
        match exchange.response_bytes(bytes) {
            Gate::Refuse(_) => return (String::from_utf8_lossy(&out).into_owned(), !opened),
            gate => {
                held.extend_from_slice(bytes);
                opened |= matches!(gate, Gate::Stream);
                if opened {
                    out.append(&mut held);
                }
            }
        }
    }
    if let Gate::Refuse(_) = exchange.response_end(&mut Vec::new()) {
        return (String::from_utf8_lossy(&out).into_owned(), !opened);
    }
    out.append(&mut held);
    (String::from_utf8_lossy(&out).into_owned(), false)
}

#[test]
fn an_answer_within_the_window_is_held_until_all_of_it_is_judged_in_a_batch_or_not() {
    let batch = format!("[{},{}]", answer("\"id\":1", "good"), answer("\"id\":2", "evil"));
    let rows = format!("{}\n{}", answer("\"id\":1", "good"), answer("\"id\":2", "evil"));
    for kind in ["application/json", "text/plain"] {
        for piece in [usize::MAX, 64, 7, 1] {
            for evil in [&batch, &rows, &answer("\"id\":1", "evil")] {
                let given = held_back(&mut waiting(), kind, evil.as_bytes(), piece);
                assert_eq!(given, (String::new(), true), "{kind} in pieces of {piece}: {evil}");
            }
            let good = batch.replace("evil", "fine");
            assert_eq!(held_back(&mut waiting(), kind, good.as_bytes(), piece), (good.clone(), false), "{kind} in pieces of {piece}");
        }
    }
}

#[test]
fn nul_bytes_before_an_answer_hide_nothing_of_it() {
    for nul in ["\0", "\0\0", "\0\0\0", "\0\0\0\0\0", " \0", "\0\n", " \0 \0", "\u{feff}\0"] {
        let evil = format!("{nul}{}", answer("\"id\":1", "evil"));
        for kind in ["application/json", "text/plain", "application/octet-stream"] {
            for piece in [usize::MAX, 7, 1] {
                assert_eq!(held_back(&mut waiting(), kind, evil.as_bytes(), piece), (String::new(), true), "{kind}, {piece}: {evil:?}");
            }
        }
        for events in [&evil, &format!("data: {}\n\n", evil.replace('\n', " "))] {
            for piece in [usize::MAX, 7, 1] {
                let given = given(&mut waiting(), b"text/event-stream", events, piece);
                assert!(!given.contains("serverInfo"), "{piece}: {given:?}");
            }
        }
    }
}

#[test]
fn no_answer_hides_behind_a_mark_that_only_some_clients_strip_from_the_beginning_of_a_stream() {
    let (evil, good) = (answer("\"id\":1", "evil"), answer("\"id\":1", "good"));
    let latin = "\u{ef}\u{bb}\u{bf}";
    for mark in [latin, "\u{feff}", &format!("\u{feff}{latin}")] {
        for stream in [
            format!("{mark}data: {evil}\n\n"),
            format!("{mark}data:{evil}\r\n\r\n"),
            format!("{mark}data\ndata: {evil}\n\n"),
            // Those who strip nothing begin to read with the second line.
            format!("{mark}data: x\ndata: {evil}\n\n"),
            format!("{mark}data: [\r\ndata: {evil}\r\n\r\n"),
            format!("{mark}data: {{\"a\":\"\ndata: {evil}\n\n"),
            format!("{mark}data: {good}\ndata: {evil}\n\n"),
        ] {
            for kind in [&b"text/event-stream"[..], b"text/plain"] {
                for piece in [usize::MAX, 7, 2, 1] {
                    let given = given(&mut waiting(), kind, &stream, piece);
                    assert!(!given.contains("\"evil\""), "{piece}: {given:?}");
                }
            }
        }
        let good = format!("{mark}event: message\ndata: {good}\n\n");
        assert_eq!(given(&mut waiting(), b"text/event-stream", &good, 7), good);
    }
}

#[test]
fn lines_without_data_cost_next_to_nothing_of_what_an_event_does() {
    let takes = |event: &str| {
        let stream = event.repeat(30_000);
        let once = || {
            let mut exchange = post(&RULE.replace("mcp.server.name: evil", "gen_ai.tool.call.result|contains: evil"));
            exchange.request_end();
            exchange.response_head(200, &head("text/event-stream", None));
            let (mut out, begin) = (Vec::new(), std::time::Instant::now());
            for bytes in stream.as_bytes().chunks(16 << 10) {
                exchange.filter_events(bytes, &mut out);
            }
            let took = begin.elapsed();
            exchange.response_end(&mut out);
            assert_eq!(out.len(), stream.len());
            took
        };
        (0..3).map(|_| once()).min().unwrap()
    };
    let event = takes("data\n\n");
    for blank in ["\n", "\r", "\r\n"] {
        assert!(takes(blank) * 2 < event, "{blank:?}: {:?} of {event:?}", takes(blank));
    }
}

/// Where lines end for readers that split text as Python's `str.splitlines` does (httpx-sse up to 0.4.0) and for no others.
const ODD_ENDS: [&str; 8] = ["\u{b}", "\u{c}", "\u{1c}", "\u{1d}", "\u{1e}", "\u{85}", "\u{2028}", "\u{2029}"];

#[test]
fn no_answer_hides_behind_a_character_at_which_only_some_readers_end_a_line() {
    let (evil, good) = (answer("\"id\":1", "evil"), answer("\"id\":1", "good"));
    let (begin, result) = evil.split_at(evil.find("\"result\"").unwrap());
    let good_result = &good[good.find("\"result\"").unwrap()..good.len() - 1];
    for odd in ODD_ENDS {
        for stream in [
            format!(": a comment{odd}data: {evil}\n\n"),
            format!("note{odd}{odd}data: {evil}\n\n"),
            format!("id: 7{odd}data: {evil}{odd}{odd}data: {good}\n\n"),
            // The message is closed by a line that only some see.
            format!("data: {begin}\n: {odd}data: {result}\n\n"),
            format!("data: {begin}{good_result}\n: {odd}data: ,{result}{odd}: \ndata: }}\n\n"),
            // What is in front ends for some, so that what follows is a message to them.
            format!("data: 1{odd}{odd}\ndata: {evil}\n\n"),
            format!("data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\",\"params\":{{}}}}\n\n: {odd}data: {evil}\n\n"),
            format!("\u{feff}: \u{e5}{odd}data:{evil}\r\n\r\n"),
        ] {
            for piece in [usize::MAX, 7, 2, 1] {
                let given = given(&mut waiting(), b"text/event-stream", &stream, piece);
                assert!(!given.contains("\"evil\""), "{piece}: {given:?}");
            }
        }
    }
    // The byte is a line end in ISO 8859-1.
    let mut exchange = waiting();
    exchange.response_head(200, &head("text/event-stream; charset=iso-8859-1", None));
    let (mut out, stream) = (Vec::new(), [b": note\x85data: ", evil.as_bytes(), b"\n\n"].concat());
    exchange.filter_events(&stream, &mut out);
    assert!(!String::from_utf8_lossy(&out).contains("\"evil\""));
}

#[test]
fn an_answer_that_has_such_a_character_in_its_text_passes_as_it_is() {
    for odd in ODD_ENDS.into_iter().skip(5).chain(["\u{e5}\u{2026}\u{c5}\u{205}", "\u{2028}\u{2028}data: x"]) {
        let good = format!("event: message\ndata: {}\n\n: \u{2026}\n\n", answer("\"id\":1", &format!("a{odd}b \u{1f512}")));
        for piece in [usize::MAX, 64, 7, 2, 1] {
            let mut exchange = waiting();
            assert_eq!(given(&mut exchange, b"text/event-stream", &good, piece), good, "{piece}");
        }
    }
}

#[test]
fn answers_in_frames_and_bytes_of_all_kinds_pass() {
    // The first frame has the length of an opening brace, and its client may wait for it.
    let frame = |message: &[u8]| [&[0, 0, 0, 0, message.len() as u8][..], message].concat();
    for (kind, answer) in [
        ("application/grpc", frame(&[1; 0x7b])),
        ("application/connect+json", frame(format!("{{\"a\":\"{}\"}}", "x".repeat(70)).as_bytes())),
        ("image/x-icon", b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0h\x04\0\0".to_vec()),
    ] {
        for piece in [usize::MAX, 5, 1] {
            let text = String::from_utf8_lossy(&answer).into_owned();
            assert_eq!(held_back(&mut waiting(), kind, &answer, piece), (text, false), "{kind} in pieces of {piece}");
        }
    }
    let mut exchange = waiting();
    exchange.response_head(200, &head("application/grpc", None));
    assert!(matches!(exchange.response_bytes(&frame(&[8, 1])), Gate::Stream));
    // Compressed: what stands in the raw bytes is no JSON, wherever a brace is among them.
    let mut exchange = waiting();
    exchange.response_head(200, &head("application/json", Some("gzip")));
    assert!(!matches!(exchange.response_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\x03{\xff"), Gate::Refuse(_)));
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
    assert!(matches!(of_a_size(4095, block), (false, Gate::Hold)));
}

#[test]
fn an_answer_that_compresses_well_passes_as_it_does_uncompressed() {
    let rows = format!("[{}1]", r#"{"name":"requests","value":1,"host":"web"},"#.repeat(380_000));
    let coded = zstd::encode_all(rows.as_bytes(), 3).unwrap();
    for piece in [usize::MAX, 999] {
        let mut exchange = waiting();
        exchange.response_head(200, &head("application/json", Some("zstd")));
        assert!(!coded.chunks(piece).any(|chunk| matches!(exchange.response_bytes(chunk), Gate::Refuse(_))), "{piece}");
        assert!(!matches!(exchange.response_end(&mut Vec::new()), Gate::Refuse(_)));
    }
    // A call's answer behind them is still found.
    let evil = format!("{},{}]", &rows[..rows.len() - 1], answer("\"id\":1", "evil"));
    let coded = zstd::encode_all(evil.as_bytes(), 3).unwrap();
    let mut exchange = waiting();
    exchange.response_head(200, &head("application/json", Some("zstd")));
    assert!(matches!(exchange.response_bytes(&coded), Gate::Refuse(_)));
    // In steps, too.
    let mut exchange = waiting();
    exchange.response_head(200, &head("application/json", Some("zstd")));
    let (mut gate, mut steps) = (exchange.response_some(&coded), 1);
    while gate.is_none() {
        (gate, steps) = (exchange.response_some(&[]), steps + 1);
    }
    assert!(matches!(gate, Some(Gate::Refuse(_))) && steps > 15, "{steps}");
}

#[test]
fn a_stream_of_events_that_compresses_well_is_handed_on_in_steps() {
    let stream = format!("{}data: {}\n\n", "data: {\"a\":1}\n\n".repeat(400_000), answer("\"id\":1", "evil"));
    let coded = zstd::encode_all(stream.as_bytes(), 3).unwrap();
    let mut exchange = waiting();
    assert!(matches!(exchange.response_head(200, &head("text/event-stream", Some("zstd"))), ResponsePlan::FilterEvents));
    let (mut all, mut raw) = (0, &coded[..]);
    loop {
        let mut out = Vec::new();
        let flow = exchange.filter_some(raw, &mut out);
        assert!(out.len() <= (1 << 20) + (64 << 10), "{}", out.len());
        assert!(!String::from_utf8(out.clone()).unwrap().contains("serverInfo"));
        (all, raw) = (all + out.len(), &[]);
        if flow == EventFlow::Continue {
            break;
        }
        assert_eq!(flow, EventFlow::Behind);
    }
    assert!(all > 5 << 20, "{all}");
}

/// Questions of a server that clients differ about: keys twice, and nested too deep.
fn odd_questions() -> [String; 2] {
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    [
        r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","method":"elicitation/create","params":{"message":"password?"}}"#
            .to_owned(),
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{{"message":"password?","x":{deep}}}}}"#),
    ]
}

#[test]
fn a_question_of_a_server_that_cannot_be_read_does_not_pass_a_rule_that_blocks_it() {
    let rule = RULE.replace("mcp.server.name: evil", "mcp.method.name: elicitation/create");
    for question in odd_questions() {
        for piece in [1, 7, usize::MAX] {
            let mut exchange = post(&rule);
            exchange.request_bytes(br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#);
            let _ = exchange.request_end();
            let stream = format!("data: {question}\n\ndata: {{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{}}}}\n\n");
            let given = given(&mut exchange, b"text/event-stream", &stream, piece);
            assert!(!given.contains("password?") && given.contains(r#""id":1,"result""#), "{piece}: {given}");
            let told: Vec<_> = exchange.reports().filter(|report| report.action == Action::Block).collect();
            assert_eq!(told.len(), 1, "{piece}: {told:#?}");
        }
    }
}

#[test]
fn an_object_of_another_api_in_a_stream_is_no_question_whatever_is_wrong_with_it() {
    let rule = RULE.replace("mcp.server.name: evil", "mcp.method.name: elicitation/create");
    let mut exchange = post(&rule);
    exchange.request_bytes(br#"{"q":1}"#);
    let _ = exchange.request_end();
    let stream = "data: {\"method\":\"GET\",\"method\":\"GET\",\"url\":\"/\"}\n\n";
    assert!(given(&mut exchange, b"text/event-stream", stream, usize::MAX).contains("GET"));
}

/// Rules on answers that name something of the request as well, with an answer that one matches, one that it cannot match whatever was
/// asked, and what the first must not tell.
fn of_both() -> [(&'static str, String, String); 3] {
    let failed =
        |error| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"secret"}}],"isError":{error}}}}}"#);
    let tools = |name| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{{"name":"{name}","title":"secret"}}]}}}}"#);
    [
        ("mcp.method.name: tools/list, gnomon.tools|contains: evil", tools("evil_tool"), tools("good_tool")),
        ("gen_ai.tool.name: hush*, error.type: tool_error", failed(true), failed(false)),
        ("gen_ai.tool.call.arguments|contains: x, error.type: tool_error", failed(true), failed(false)),
    ]
}

/// A request without a message, or with one, to this path.
fn asked(rule: &str, method: &Method, path: &str, lines: &[(&'static str, &str)], body: &str) -> Exchange {
    let source = Source { name: "r.yml".into(), text: RULE.replace("mcp.server.name: evil", rule), origin: Origin::Admin };
    let inspector = Arc::new(Inspector::new(Arc::new(RuleSet::compile(&[source]).unwrap()), Surroundings::default(), Bounds::default()));
    let mut seen = Observation::new();
    seen.set(Field::Channel, "https");
    let (mut connection, _) = Connection::open(&inspector, seen);
    let _ = connection.hello("mcp.example.com", 443, &Hello::default());
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.insert(*name, value.parse().unwrap());
    }
    let (version, authority) = (Version::HTTP_11, Authority::Agrees);
    let mut exchange = Exchange::begin(&connection, &Head { method, path, query: None, version, headers: &headers, alpn: None, authority });
    exchange.request_bytes(body.as_bytes());
    assert!(matches!(exchange.request_end(), Gate::Stream));
    exchange
}

const RESUMED: [(&str, &str); 4] =
    [("accept", "text/event-stream"), ("mcp-session-id", "s"), ("mcp-protocol-version", "2025-11-25"), ("last-event-id", "7")];

#[test]
fn an_answer_whose_question_is_not_known_is_refused_by_a_rule_that_could_match_with_it() {
    for (rule, evil, good) in of_both() {
        for path in ["/mcp", "/api"] {
            for (kind, piece) in
                [("text/event-stream", usize::MAX), ("text/event-stream", 7), ("text/plain", usize::MAX), ("text/plain", 7)]
            {
                let stream = |message: &str| format!(": hello\n\ndata: {message}\n\ndata: {message}\n\n");
                let give =
                    |message: &str| given(&mut asked(rule, &Method::GET, path, &RESUMED, ""), kind.as_bytes(), &stream(message), piece);
                assert!(!give(&evil).contains("secret"), "{rule} {path} {kind} {piece}");
                assert_eq!(give(&good), stream(&good), "{rule} {path} {kind} {piece}");
            }
        }
        // What comes with the answer to a notification, or to an answer of the client's.
        for body in [
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":2,"error":{"code":-1,"message":"no"}}"#,
        ] {
            for (kind, begin, end) in [("application/json", "", ""), ("text/event-stream", "data: ", "\n\n"), ("text/plain", "", "")] {
                let lines = [("content-type", "application/json"), ("mcp-session-id", "s")];
                let give = |message: &str| {
                    let mut exchange = asked(rule, &Method::POST, "/mcp", &lines, body);
                    given(&mut exchange, kind.as_bytes(), &format!("{begin}{message}{end}"), 11)
                };
                assert!(!give(&evil).contains("secret"), "{rule} {kind} {body}");
                assert!(give(&good).contains("secret"), "{rule} {kind} {body}");
            }
        }
        // In a coding that nobody here can undo.
        let plan = asked(rule, &Method::GET, "/mcp", &RESUMED, "").response_head(200, &head("text/event-stream", Some("snappy")));
        assert!(matches!(plan, ResponsePlan::Refuse(_)), "{plan:?}");
    }
}

#[test]
fn an_error_for_another_question_than_the_one_that_was_asked_is_judged_as_such() {
    let rule = "gen_ai.tool.name: hush, error.type: '-32000'";
    let call = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo"}}"#;
    for (id, passes) in [("1", false), ("2", true), ("null", true)] {
        let mut exchange = asked(rule, &Method::POST, "/mcp", &[("content-type", "application/json")], call);
        let error = format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":-32000,\"message\":\"secret\"}}}}\n\n");
        let given = given(&mut exchange, b"text/event-stream", &error, usize::MAX);
        assert_eq!(given.contains("secret"), passes, "{id}: {given}");
    }
}

#[test]
fn what_other_apis_answer_is_the_answer_to_what_was_asked_of_them() {
    let rule = "gen_ai.tool.name: hush*, error.type: '404'";
    let error = r#"{"error":{"code":404,"message":"no such row"}}"#;
    for (kind, text) in [("application/json", error.to_owned()), ("text/event-stream", format!("data: {error}\n\n"))] {
        for (method, body) in [(Method::GET, ""), (Method::POST, r#"{"q":1}"#)] {
            let mut exchange = asked(rule, &method, "/v1/rows", &[("content-type", "application/json")], body);
            assert_eq!(given(&mut exchange, kind.as_bytes(), &text, usize::MAX), text, "{method} {kind}");
        }
    }
}
