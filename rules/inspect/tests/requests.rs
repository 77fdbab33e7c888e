//! Requests that say what they say in an odd way, and the ways a client may try to get a call past a rule.
#![allow(clippy::unwrap_used)]

use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_inspect::{Authority, Bounds, Connection, Exchange, Gate, Head, Hello, Inspector, Surroundings};
use gnomon_observe::Observation;
use http::{HeaderMap, Method, Version};
use std::sync::Arc;

const CALLS: &str = "mcp.method.name: tools/call";

/// A POST to `/api`, with this header, under a rule that blocks what fits.
fn post(rule: &str, (name, value): (&'static str, &str)) -> Exchange {
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

const JSON: (&str, &str) = ("content-type", "application/json");

/// Whether this body is refused, with an event, in pieces of this size.
fn refuses_in(mut exchange: Exchange, body: &[u8], piece: usize) -> bool {
    let mut refused = body.chunks(piece).any(|chunk| matches!(exchange.request_bytes(chunk), Gate::Refuse(_)));
    refused |= matches!(exchange.request_end(), Gate::Refuse(_));
    exchange.flush();
    let told = exchange.reports().any(|report| report.rule.is_some());
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
