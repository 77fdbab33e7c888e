//! Requests that say what they say in an odd way, and the ways a client may try to get a call past a rule.

use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_inspect::{Authority, Bounds, Connection, Exchange, Gate, Head, Hello, Inspector, Surroundings};
use gnomon_observe::Observation;
use http::{HeaderMap, Method, Version};
use std::sync::Arc;

const CALLS: &str = "mcp.method.name: tools/call";

/// A POST to `/api`, with this header, under a rule that blocks what fits.
fn post(rule: &str, header: (&'static str, &str)) -> Exchange {
    asked(rule, &Method::POST, "/api", header)
}

/// The same by another method or at another path.
fn asked(rule: &str, method: &Method, path: &str, (name, value): (&'static str, &str)) -> Exchange {
    let text = format!(
        "title: T\nid: 0d9c2a51-2f57-4f0e-8d0b-5d0f8c1c7e22\nlogsource: {{ product: mcp, category: mcp_traffic }}\n\
         detection:\n    seen: {{ {rule} }}\n    condition: seen\ngnomon: {{ response: {{ action: block }} }}\n"
    );
    let rules = RuleSet::compile(&[Source { name: "r.yml".into(), text, origin: Origin::Admin }]).unwrap();
    let inspector = Arc::new(Inspector::new(Arc::new(rules), Surroundings::default(), Bounds::default()));
    let (mut connection, _) = Connection::open(&inspector, Observation::new());
    let _ = connection.hello("tools.example", 443, &Hello::default());
    let mut headers = HeaderMap::new();
    headers.insert(name, value.parse().unwrap());
    let head = Head { method, path, query: None, version: Version::HTTP_11, headers: &headers, alpn: None, authority: Authority::Agrees };
    Exchange::begin(&connection, &head)
}

const JSON: (&str, &str) = ("content-type", "application/json");

/// Whether this body is refused, with an event, in pieces of this size.
fn refuses_in(mut exchange: Exchange, body: &[u8], piece: usize) -> bool {
    let mut refused = body.chunks(piece).any(|chunk| matches!(exchange.request_bytes(chunk), Gate::Refuse(_)));
    refused |= matches!(exchange.request_end(), Gate::Refuse(_));
    exchange.flush();
    let told = exchange.reports().any(|report| report.action.interferes());
    assert_eq!(refused, told, "{}", String::from_utf8_lossy(body));
    refused
}

fn refuses(rule: &str, body: &str) -> bool {
    let whole = refuses_in(post(rule, JSON), body.as_bytes(), usize::MAX);
    assert_eq!(whole, refuses_in(post(rule, JSON), body.as_bytes(), 1), "{body}");
    whole
}

#[test]
fn a_call_whose_method_stands_in_an_array_is_that_call() {
    for method in [r#"["tools/call"]"#, r#"[["tools/call"]]"#] {
        for body in [
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":{method},"params":{{"name":"echo"}}}}"#),
            format!(r#"{{"jsonrpc":"2.0","method":{method}}}"#),
            format!(r#"{{"id":1,"method":{method},"params":{{"name":"echo"}}}}"#),
            format!(r#"[{{"jsonrpc":"2.0","id":0,"method":"ping"}},{{"id":1,"method":{method}}}]"#),
        ] {
            assert!(refuses(CALLS, &body), "{body}");
            assert!(!refuses("mcp.method.name: tools/list", &body), "{body}");
        }
    }
    // What a server makes of several is not known.
    assert!(refuses("mcp.method.name: tools/list", r#"{"jsonrpc":"2.0","method":["tools/call","x"]}"#));
    assert!(!refuses(CALLS, r#"{"method":["tools/call","tools/list"],"since":"1h"}"#));
    assert!(!refuses(CALLS, r#"{"method":["GET"],"path":"/"}"#));
}

#[test]
fn a_name_that_is_no_string_could_be_any() {
    for params in [r#"{"name":["echo"]}"#, r#"{"name":[["echo"]]}"#, r#"{"name":7}"#, r#"["echo",{}]"#] {
        let call = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        assert!(refuses("gen_ai.tool.name: echo", &call), "{call}");
        let other = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{params}}}"#);
        assert!(!refuses("gen_ai.tool.name: echo", &other), "{other}");
    }
    assert!(!refuses("gen_ai.tool.name: echo", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"other"}}"#));
    assert!(!refuses("gen_ai.tool.name: echo", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#));
    let read = r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":["file:///x"]}}"#;
    assert!(refuses("mcp.resource.uri|startswith: 'file:'", read));
    let by_position = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["echo",{"path":"/etc/passwd"}]}"#;
    assert!(refuses("gen_ai.tool.call.arguments|contains: /etc/passwd", by_position));
}

#[test]
fn arguments_are_judged_by_what_they_mean() {
    let call =
        |arguments: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"read","arguments":{arguments}}}}}"#);
    for (rule, meant, other) in [
        ("gnomon.arguments.decoded|contains: /etc/passwd", r#"{"path":"..%252f..%252fetc%252fpasswd"}"#, r#"{"path":"etc passwd"}"#),
        ("gnomon.arguments.decoded|startswith: /root/", r#"{"path":"/srv/../root/.ssh"}"#, r#"{"path":"/srv/./root/.ssh"}"#),
        ("gnomon.arguments.addresses|cidr: 169.254.0.0/16", r#"{"o":{"url":"http://0xa9fea9fe/"}}"#, r#"{"o":{"url":"http://0xa9/"}}"#),
        ("gnomon.arguments.numbers: payment_card", r#"{"text":"4539 1488 0343 6467"}"#, r#"{"text":"4539 1488 0343 6468"}"#),
    ] {
        assert!(refuses(rule, &call(meant)), "{rule}");
        assert!(!refuses(rule, &call(other)), "{rule}");
        assert!(!refuses(rule, &call("{}")), "{rule}");
        // A meaning that is not known is undecidable, as are the arguments.
        assert!(refuses(rule, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["read",{}]}"#), "{rule}");
    }
}

#[test]
fn nul_bytes_before_a_call_hide_nothing_of_it() {
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#;
    for nul in ["\0", "\0\0", "\0\0\0", "\0\0\0\0\0", " \0", "\0\n", " \0 \0", "\0 \0 ", "\u{feff}\0", "\0// x\n"] {
        for kind in ["application/json", "text/plain", "application/octet-stream", "application/grpc", "application/connect+json"] {
            for piece in [usize::MAX, 3, 1] {
                let body = format!("{nul}{call}");
                assert!(refuses_in(post(CALLS, ("content-type", kind)), body.as_bytes(), piece), "{kind}, {piece}: {body:?}");
            }
        }
        for piece in [usize::MAX, 1] {
            let body = zstd::encode_all(format!("{nul}{call}").as_bytes(), 3).unwrap();
            assert!(refuses_in(post(CALLS, ("content-encoding", "zstd")), &body, piece), "{piece}: {nul:?}");
        }
        assert!(!refuses(CALLS, &format!("{nul}{{\"a\":1}}")), "{nul:?}");
    }
}

#[test]
fn whoever_waits_for_the_answer_to_a_frame_is_not_kept_waiting() {
    for kind in ["application/grpc", "application/grpc-web+proto", "application/connect+proto"] {
        for frame in [&b"\0\0\0\0\0"[..], b"\0\0\0\0\x02\x08\x01", b"\0\0\0\0\x7b\n\x01"] {
            let mut exchange = post(CALLS, ("content-type", kind));
            assert!(matches!(exchange.request_bytes(frame), Gate::Stream), "{kind} {frame:?}");
        }
    }
}

#[test]
fn a_body_that_compresses_well_is_no_call_for_it_and_a_call_behind_it_is_found() {
    let coded = |text: &str| zstd::encode_all(text.as_bytes(), 3).unwrap();
    let post = || post(CALLS, ("content-encoding", "zstd"));
    for rows in [3_200, 380_000] {
        let rows = r#"{"name":"requests","value":1,"host":"web"},"#.repeat(rows);
        assert!(!refuses_in(post(), &coded(&format!("[{rows}1]")), usize::MAX));
        let call = format!(r#"[{rows}{{"jsonrpc":"2.0","id":1,"method":"tools/call"}}]"#);
        for piece in [usize::MAX, 7] {
            assert!(refuses_in(post(), &coded(&call), piece));
        }
    }
    // Logs that compress by less, and are more.
    let log = |n: u32| format!(r#"{{"time":{n},"body":"request {} took {} ms"}},"#, n.wrapping_mul(2_654_435_761), n % 977);
    let logs: String = (0..400_000).map(log).collect();
    assert!(logs.len() > 15 << 20);
    assert!(!refuses_in(post(), &coded(&format!("[{logs}1]")), 64 << 10));
    // Beyond the bounds nobody knows.
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(b' '), 80 << 20), 3).unwrap();
    assert!(refuses_in(post(), &bomb, usize::MAX));
}

#[test]
fn what_a_few_bytes_decode_to_is_judged_in_steps() {
    let blanks = zstd::encode_all(std::io::Read::take(std::io::repeat(b' '), 12 << 20), 3).unwrap();
    let mut exchange = post(CALLS, ("content-encoding", "zstd"));
    let (mut gate, mut steps) = (exchange.request_some(&blanks), 1);
    while gate.is_none() {
        (gate, steps) = (exchange.request_some(&[]), steps + 1);
    }
    assert!(matches!(gate, Some(Gate::Hold)) && steps >= 12, "{gate:?} {steps}");
}

#[test]
fn a_call_with_white_space_or_control_characters_in_its_words_is_that_call_or_could_be() {
    for call in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/c\nall ","params":{"name":"echo"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"\u0000Tools/Call","params":{"name":"echo"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":" tools/call","params":{"name":"echo"}}"#,
    ] {
        assert!(refuses(CALLS, call), "{call}");
        assert!(refuses("gen_ai.tool.name: echo", call), "{call}");
        assert!(!refuses("gen_ai.tool.name: other", call), "{call}");
    }
    // Members that some reader takes for those that decide.
    for call in [
        r#"{"jsonrpc":"2.0","id":1," method":"tools/call","params":{"name":"echo"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"METHOD\t":"tools/call","params":{"name":"echo"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"other","na\u0001me":"echo"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo "}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ec\u0000ho"}}"#,
    ] {
        assert!(refuses("gen_ai.tool.name: echo", call), "{call}");
    }
    for other in [
        r#"{"jsonrpc":"2.0","id":1,"method":"my tools/call me","params":{"name":"echo"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo it"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"other","arguments":{" name":"echo"," method":" tools/call"}}}"#,
    ] {
        assert!(!refuses("gen_ai.tool.name: echo", other), "{other}");
    }
}

#[test]
fn a_method_in_another_case_is_the_same_on_every_path() {
    for method in ["Tools/Call", "TOOLS/CALL", "tools/Call"] {
        let call = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"echo"}}}}"#);
        for path in ["/api", "/mcp", "/", "/v1/agents/7/messages"] {
            let refused = |rule| refuses_in(asked(rule, &Method::POST, path, JSON), call.as_bytes(), usize::MAX);
            assert!(refused(CALLS), "{path} {call}");
            assert!(refused("gen_ai.tool.name: echo"), "{path} {call}");
            assert!(!refused("gen_ai.tool.name: other"), "{path} {call}");
        }
    }
    assert!(!refuses(CALLS, r#"{"jsonrpc":"2.0","id":1,"method":"Tools.Call"}"#));
}

#[test]
fn a_call_in_characters_that_hide_it_is_refused_whatever_media_type_names_them() {
    let (hidden, harmless) = (br#"{"jsonrpc":"2.0","id":1,"method":"+AHQ-ools/call","params":{"name":"echo"}}"#, b"notes of a meeting");
    for media in ["text/plain", "image/png", "application/octet-stream", "application/x-www-form-urlencoded", "application/json"] {
        for charset in ["utf-7", "\"unicode-1-1-utf-7\"", "cp037", "IBM1140", "raw_unicode_escape", "x\"; charset=utf-8\"; charset=u7"] {
            let kind = format!("{media}; charset={charset}");
            for rule in [CALLS, "gen_ai.tool.name: danger"] {
                assert!(refuses_in(post(rule, ("content-type", &kind)), hidden, usize::MAX), "{kind} {rule}");
            }
        }
        for charset in ["utf-8", "windows-1252", "cp850", "Shift_JIS", "macintosh"] {
            let kind = format!("text/plain; charset={charset}");
            assert!(!refuses_in(post(CALLS, ("content-type", &kind)), harmless, usize::MAX), "{kind}");
        }
    }
}

#[test]
fn a_body_under_a_method_that_mcp_does_not_use_is_read_where_it_is_called_json_or_the_request_says_mcp() {
    let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#;
    let text = ("content-type", "text/plain");
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, Method::TRACE] {
        let refused = |rule: &str, path: &str, header| refuses_in(asked(rule, &method, path, header), call, usize::MAX);
        assert!(refused(CALLS, "/api", JSON), "{method}");
        assert!(refused(CALLS, "/mcp", text), "{method}");
        assert!(refused(CALLS, "/api", ("mcp-session-id", "1")), "{method}");
        // As an upload of a transcript it passes, and nothing tells of it.
        let mut upload = asked(CALLS, &method, "/api", text);
        assert!(!matches!(upload.request_bytes(call), Gate::Refuse(_)) && !matches!(upload.request_end(), Gate::Refuse(_)), "{method}");
        upload.flush();
        assert!(upload.passed().is_none() && upload.reports().next().is_none(), "{method}");
        // What the head decides holds.
        assert!(refused(&format!("http.request.method: {method}"), "/api", text), "{method}");
        assert!(refused("server.address: tools.example", "/api", text), "{method}");
    }
}

#[test]
fn the_methods_that_rules_may_name_unwarned_are_those_by_which_messages_are_recognised() {
    let mut recognised: Vec<_> = gnomon_wire::mcp::methods().collect();
    let mut named = gnomon_observe::MCP_METHODS.to_vec();
    recognised.sort_unstable();
    named.sort_unstable();
    assert_eq!(named, recognised);
}
