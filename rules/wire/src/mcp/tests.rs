use super::*;
use crate::jsonrpc::{Likeness, Limits, Message, Scanner};

fn message(body: &str) -> Message {
    let mut scanner = Scanner::new(Limits::default());
    let mut messages = Vec::new();
    scanner.feed(body.as_bytes(), &mut |message| messages.push(message.clone())).unwrap();
    scanner.finish(&mut |_| ()).unwrap();
    messages.pop().unwrap()
}

#[test]
fn the_legacy_handshake_is_b1_and_its_neighbours_are_nothing() {
    let mcp = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;
    assert_eq!(message_signature(&message(mcp)), Some(Signature::B1));
    for other in [
        // LSP
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"processId":1,"clientInfo":{"name":"vscode"},"capabilities":{}}}"#,
        // ACP
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":1,"clientCapabilities":{},"clientInfo":{"name":"zed"}}}"#,
        // Something else
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2.0","clientName":"foo"}}"#,
    ] {
        assert_eq!(message_signature(&message(other)), None, "{other}");
    }
}

#[test]
fn modern_metadata_is_b2_whatever_the_method() {
    let body =
        r#"{"jsonrpc":"2.0","id":0,"method":"vendor/x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    assert_eq!(message_signature(&message(body)), Some(Signature::B2));
}

#[test]
fn methods_only_mcp_uses_are_b3() {
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
        r#"{"id":1,"method":"tools/call","params":{"name":"a"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["a",{}]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}"#,
    ] {
        assert_eq!(message_signature(&message(body)), Some(Signature::B3), "{body}");
    }
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/callBatch","params":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"message/send","params":{}}"#,
    ] {
        assert_eq!(message_signature(&message(body)), None, "{body}");
    }
}

#[test]
fn tasks_are_weak_and_a2a_tasks_are_nothing() {
    let mcp = r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"t"}}"#;
    assert_eq!(message_signature(&message(mcp)), Some(Signature::B4));
    let a2a = r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"t"}}"#;
    assert_eq!(message_signature(&message(a2a)), None);
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(message_signature(&message(ping)), Some(Signature::B4));
    assert_eq!(Signature::B4.strength(), Strength::Weak);
}

#[test]
fn answers_of_mcp_servers_are_r1_and_their_errors_r4() {
    for body in [
        r#"{"id":1,"result":{"protocolVersion":"2025-06-18","serverInfo":{"name":"s"},"capabilities":{}}}"#,
        r#"{"id":1,"result":{"tools":[{"name":"a","inputSchema":{}}]}}"#,
        r#"{"id":1,"result":{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}}"#,
        r#"{"id":1,"result":{"supportedVersions":["2026-07-28"]}}"#,
    ] {
        assert_eq!(response_signature(&message(body)), Some(Signature::R1), "{body}");
    }
    for body in [
        r#"{"id":1,"result":{"ok":true}}"#,
        r#"{"id":1,"result":{"tools":["a"],"supportedVersions":["1.0"]}}"#,
        r#"{"id":1,"result":{"protocolVersion":"1","serverInfo":{},"capabilities":{}}}"#,
        r#"{"id":1,"error":{"code":-32601,"message":"x"}}"#,
    ] {
        assert_eq!(response_signature(&message(body)), None, "{body}");
    }
    let error = r#"{"id":null,"error":{"code":-32022,"message":"x"}}"#;
    assert_eq!(response_signature(&message(error)), Some(Signature::R4));
}

#[test]
fn protocol_versions_are_dates_or_drafts() {
    for version in ["2024-11-05", "2026-07-28", "DRAFT-2026-v1", "DRAFT-2026-v12"] {
        assert!(is_protocol_version(version), "{version}");
    }
    for other in [
        "",
        "2025",
        "1999-01-01",
        "2025-1-01",
        "2025-11-255",
        "2025-11-2a",
        "DRAFT-2026-v",
        "DRAFT-26-v1",
        "draft-2026-v1",
        "2025-11-25 ",
        "2٠25-11-25",
        "20\u{666}5-11-25",
    ] {
        assert!(!is_protocol_version(other), "{other}");
    }
}

#[test]
fn eras_follow_method_metadata_and_header() {
    let era = |body: &str, header| era_of(&message(body), header);
    let list = r#"{"method":"tools/list"}"#;
    assert_eq!(era(list, None), Some(Era::Legacy));
    assert_eq!(era(list, Some("2025-06-18")), Some(Era::Legacy));
    assert_eq!(era(list, Some("2026-07-28")), Some(Era::Modern));
    assert_eq!(era(r#"{"method":"server/discover"}"#, None), Some(Era::Modern));
    // rmcp asks for the newest version inside the legacy handshake.
    let initialize = r#"{"method":"initialize","params":{"protocolVersion":"2026-07-28"}}"#;
    assert_eq!(era(initialize, None), Some(Era::Legacy));
    assert_eq!(era(r#"{"method":"initialize","params":{"processId":1}}"#, None), None);
    assert_eq!(era(r#"{"method":"eth_call"}"#, None), None);
}

#[test]
fn headers_of_every_era_are_recognised() {
    let set = |name: &'static str, value: &'static str| header_signatures([(name, value.as_bytes())].into_iter());
    assert!(set("mcp-protocol-version", "2025-06-18").contains(Signature::H1));
    assert!(set("mcp-session-id", "a1").contains(Signature::H2));
    assert!(set("mcp-method", "tools/call").contains(Signature::H3));
    assert!(set("mcp-name", "x").contains(Signature::H3));
    assert!(set("mcp-param-region", "eu").contains(Signature::H3));
    for (name, value) in [
        ("mcp-protocol-version", "1"),
        ("mcp-session-id", ""),
        ("mcp-method", "turn/left"),
        ("x-protocol-version", "2025-11-25"),
        ("anthropic-beta", "mcp-client-2025-11-20"),
    ] {
        assert!(set(name, value).is_empty(), "{name}: {value}");
    }
}

#[test]
fn paths_are_compared_decoded_and_without_case() {
    let accept = Some("application/json, text/event-stream;q=0.9");
    for path in ["/mcp", "/v1/mcp/", "/MCP?x=1", "/%6dcp", "/sse", "https://h.example/mcp"] {
        assert!(path_signatures("POST", path, accept).contains(Signature::P2), "{path}");
    }
    for path in ["/en-us/credentials/mcp", "/mcp"] {
        assert!(path_signatures("GET", path, Some("text/html")).is_empty());
    }
    assert!(path_signatures("POST", "/api/mcp/status", accept).is_empty());
}

#[test]
fn session_queries_and_metadata_probes_are_path_signatures() {
    for path in ["/messages?session_id=a", "/m?x=1&sessionId=b"] {
        assert!(path_signatures("POST", path, None).contains(Signature::P1));
        assert!(!path_signatures("GET", path, None).contains(Signature::P1));
    }
    let probe = "/.well-known/oauth-protected-resource/mcp";
    assert!(path_signatures("GET", probe, None).contains(Signature::P3));
    for other in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server/mcp"] {
        assert!(path_signatures("GET", other, None).is_empty(), "{other}");
    }
}

#[test]
fn challenges_need_bearer_and_resource_metadata_outside_quotes() {
    for value in [
        r#"Bearer resource_metadata="https://s.example/.well-known/x""#,
        r#"bearer realm="a \" b", error="invalid_token", resource_metadata="u""#,
    ] {
        assert_eq!(challenge_signature(value), Some(Signature::R3), "{value}");
    }
    for value in [r#"Bearer realm="resource_metadata=""#, r#"Basic realm="x", resource_metadata="u""#, "Bearer"] {
        assert_eq!(challenge_signature(value), None, "{value}");
    }
}

#[test]
fn the_endpoint_event_names_its_session_path() {
    let endpoint = endpoint_event("endpoint", "/message?sessionId=1f").unwrap();
    assert_eq!(endpoint.path_and_query(), "/message?sessionId=1f");
    let absolute = endpoint_event("endpoint", "http://h:1/m?session_id=2").unwrap();
    assert_eq!(absolute.path_and_query(), "/m?session_id=2");
    assert_eq!(endpoint_event("message", "/message?sessionId=1f"), None);
    assert_eq!(endpoint_event("endpoint", "/message"), None);
}

#[test]
fn base64_header_values_are_decoded_strictly() {
    assert_eq!(decode_header_value("delete_repo").unwrap(), "delete_repo");
    assert_eq!(decode_header_value(" =?base64?ZGVsZXRlX3JlcG8=?= ").unwrap(), "delete_repo");
    assert_eq!(decode_header_value("=?BASE64?eA==?=").unwrap(), "=?BASE64?eA==?=");
    assert_eq!(decode_header_value("=?base64?eA==").unwrap(), "=?base64?eA==");
    assert_eq!(decode_header_value("=?base64?eA?="), Err(HeaderValueError::Base64));
    assert_eq!(decode_header_value("=?base64?eB==?="), Err(HeaderValueError::Base64));
    assert_eq!(decode_header_value("=?base64?/w==?="), Err(HeaderValueError::Utf8));
    // Too short to hold both markers.
    assert_eq!(decode_header_value("=?base64?=").unwrap(), "=?base64?=");
}

#[test]
fn mirrored_headers_are_compared_with_the_body() {
    let call =
        message(r#"{"method":"tools/call","params":{"name":"café","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#);
    let agreeing = header_mismatch(&call, Some("tools/call"), Some("=?base64?Y2Fmw6k=?="), Some("2026-07-28"));
    assert!(agreeing.is_empty());
    assert!(header_mismatch(&call, None, None, None).is_empty());
    let wrong = header_mismatch(&call, Some("tools/list"), Some("safe"), Some("2025-11-25"));
    assert_eq!(wrong.headers().collect::<Vec<_>>(), ["mcp-method", "mcp-name", "mcp-protocol-version"]);
    let read = message(r#"{"method":"resources/read","params":{"uri":"file:///a","name":"b"}}"#);
    assert!(header_mismatch(&read, None, Some("file:///a"), None).is_empty());
    assert!(header_mismatch(&read, None, Some("b"), None).name());
    let response = message(r#"{"id":1,"result":{}}"#);
    assert!(header_mismatch(&response, Some("tools/list"), None, None).method());
}

#[test]
fn signature_sets_know_their_strongest() {
    let set: SignatureSet = [Signature::P2, Signature::H1].into_iter().collect();
    assert_eq!(set.strength(), Some(Strength::Probable));
    assert_eq!(set.iter().collect::<Vec<_>>(), [Signature::H1, Signature::P2]);
    assert_eq!(SignatureSet::EMPTY.strength(), None);
    assert!(Likeness::Mcp > Likeness::JsonRpc);
}
