//! Request bodies that are padded, cut, coded, oversized or contradictory.

use gnomon_stage::{
    HOST,
    client::{Ends, H1, H2, h2_answer},
    coding::Coding,
    gnomon::Gnomon,
    request::{call, chunk, h1_head, h1_post, h1_post_with, h2_post, json_headers, request},
    rules::{MESSAGE, block, id, rule, vendor_rule},
    upstream::{Answer, End, Upstream},
};
use serde_json::{Value, json};

const H1: &[&str] = &["http/1.1"];
const H2: &[&str] = &["h2"];

fn blocking() -> Vec<gnomon_engine::Source> {
    vec![block(1, "gen_ai.tool.name: blocked_tool")]
}

/// A call whose name comes after arguments that are larger than the window.
fn late_name(tool: &str) -> String {
    let filler = "x".repeat(256 << 10);
    format!(r#"{{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{{"arguments":{{"text":"{filler}"}},"name":"{tool}"}}}}"#)
}

fn assert_failed_call(message: &Value, id: Value) {
    assert_eq!((&message["id"], &message["result"]["isError"]), (&id, &json!(true)), "{message}");
    assert!(message["result"]["content"][0]["text"].as_str().unwrap().contains(MESSAGE));
}

#[tokio::test]
async fn a_connection_that_began_harmless_is_judged_all_the_same() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    assert_eq!(client.send(&[h1_head("GET", "/", "")]).await.text(), "GET /");
    for (number, tool) in ["allowed_tool", "blocked_tool", "allowed_tool", "blocked_tool"].into_iter().enumerate() {
        let answer = client.send(&[h1_post("/rpc", call(number, tool).to_string().as_bytes())]).await;
        assert_eq!(answer.header("x-gnomon").is_some(), tool == "blocked_tool");
    }
    assert_eq!(upstream.paths(), ["/", "/rpc", "/rpc"]);
    assert!(!upstream.executed().concat().contains("blocked_tool"));
}

#[tokio::test]
async fn a_body_in_chunks_reaches_its_server_whatever_the_method() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    for method in ["GET", "HEAD", "DELETE", "POST"] {
        let mut client = H1::connect(&gnomon).await;
        let body = call(1, &format!("tool_of_{method}")).to_string();
        let head = h1_head(method, "/rpc", "transfer-encoding: chunked\r\ncontent-type: application/json\r\n");
        client.write(&[&head[..], format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes()].concat()).await;
        upstream.until(method, |all| all.iter().any(|request| request.raw == body.as_bytes() && request.end.is_some())).await;
    }
    // One without a body goes on as one without.
    let mut client = H1::connect(&gnomon).await;
    assert_eq!(client.send(&[h1_head("GET", "/", "")]).await.text(), "GET /");
    assert!(upstream.requests(|all| all.last().is_some_and(|request| !request.headers.contains_key("transfer-encoding"))));
}

#[tokio::test]
async fn an_http2_connection_that_began_harmless_is_judged_all_the_same() {
    let upstream = Upstream::start(H2).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H2::connect(&gnomon).await;
    for (number, tool) in ["allowed_tool", "blocked_tool", "allowed_tool", "blocked_tool"].into_iter().enumerate() {
        let body = call(number, tool).to_string().into_bytes();
        let answer = client.send(h2_post("/rpc", Coding::Identity), &[body]).await.unwrap();
        assert_eq!(answer.header("x-gnomon").is_some(), tool == "blocked_tool");
    }
    assert_eq!(upstream.paths().len(), 2);
    assert!(!upstream.executed().concat().contains("blocked_tool"));
}

#[tokio::test]
async fn a_blocked_value_is_refused_with_its_last_byte_though_its_body_goes_on() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let body = call(1, "blocked_tool").to_string();
    let head = h1_head("POST", "/rpc", &format!("{}content-length: {}\r\n", json_headers(Coding::Identity), body.len() + 100));
    // The padding never comes.
    let answer = client.send(&[head, body.into_bytes()]).await;
    assert_failed_call(&answer.json(), json!(1));
    assert!(upstream.paths().is_empty());
}

#[tokio::test]
async fn an_allowed_value_passes_with_its_padding() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let body = call(1, "allowed_tool").to_string();
    let padded = format!("{body}{}", " \r\n\t".repeat(25));
    let head = h1_head("POST", "/rpc", &format!("{}content-length: {}\r\n", json_headers(Coding::Identity), padded.len()));
    client.write(&head).await;
    client.write(body.as_bytes()).await;
    let answer = client.send(&[padded.as_bytes()[body.len()..].to_vec()]).await;
    assert_eq!(answer.status, 200);
    upstream.requests(|all| assert_eq!(all[0].raw, padded.as_bytes()));
}

#[tokio::test]
async fn a_coded_value_is_refused_before_the_coding_ends() {
    for coding in [Coding::Gzip, Coding::Zlib] {
        let upstream = Upstream::start(H1).await;
        let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
        let mut client = H1::connect(&gnomon).await;
        let coded = coding.encode(call(1, "blocked_tool").to_string().as_bytes());
        // The last 8 bytes of gzip and 4 of zlib are a checksum, which no plain text depends on. They are never sent.
        let cut = coded.len() - if coding == Coding::Gzip { 8 } else { 4 };
        let head = h1_head("POST", "/rpc", &format!("{}transfer-encoding: chunked\r\n", json_headers(coding)));
        let answer = client.send(&[head, chunk(&coded[..cut])]).await;
        assert_failed_call(&answer.json(), json!(1));
        assert!(upstream.paths().is_empty(), "{coding:?}");
    }
}

#[tokio::test]
async fn a_blocked_upload_beyond_the_window_breaks_off_before_its_closing_byte() {
    for framing in ["content-length", "chunked"] {
        let upstream = Upstream::start(H1).await;
        let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
        let mut client = H1::connect(&gnomon).await;
        let body = late_name("blocked_tool");
        let answer = if framing == "chunked" {
            let head = h1_head("POST", "/rpc", &format!("{}transfer-encoding: chunked\r\n", json_headers(Coding::Identity)));
            let mut pieces = vec![head];
            pieces.extend(body.as_bytes().chunks(16_000).map(chunk));
            pieces.push(b"0\r\n\r\n".to_vec());
            client.send(&pieces).await
        } else {
            client.send(&[h1_post("/rpc", body.as_bytes())]).await
        };
        assert_failed_call(&answer.json(), json!(5));
        upstream.until("the abort", |all| all.first().is_some_and(|r| r.end.is_some())).await;
        upstream.requests(|all| {
            assert_eq!(all[0].end, Some(End::Broken), "{framing}");
            assert!(!all[0].raw.is_empty(), "beyond the window the body streams");
            assert!(body.as_bytes().starts_with(&all[0].raw) && all[0].raw.len() < body.len());
            assert!(all[0].executed.is_empty());
        });
        client.close().await;
        // Other clients, on other connections, are served as before.
        let mut client = H1::connect(&gnomon).await;
        assert_eq!(client.send(&[h1_post("/next", call(6, "allowed_tool").to_string().as_bytes())]).await.status, 200);
        upstream.requests(|all| assert_ne!(all[0].connection, all[1].connection, "an aborted connection is not used again"));
        client.close().await;
        let events = gnomon.finish().await;
        let refused: Vec<_> = events.iter().filter(|e| e["gnomon.action"] == "block").collect();
        assert_eq!(refused.len(), 1, "{events:#?}");
        assert_eq!((&refused[0]["gen_ai.tool.name"], &refused[0]["rule.id"]), (&json!("blocked_tool"), &json!(id(1))));
    }
}

#[tokio::test]
async fn a_blocked_http2_upload_beyond_the_window_is_reset() {
    let upstream = Upstream::start(H2).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H2::connect(&gnomon).await;
    let body = late_name("blocked_tool");
    let frames: Vec<Vec<u8>> = body.as_bytes().chunks(10_000).map(<[u8]>::to_vec).collect();
    let answer = client.send(h2_post("/rpc", Coding::Identity), &frames).await.unwrap();
    assert_failed_call(&answer.json(), json!(5));
    upstream.until("the reset", |all| all.first().is_some_and(|r| r.end.is_some())).await;
    upstream.requests(|all| {
        assert_eq!(all[0].end, Some(End::Reset(8)), "RST_STREAM CANCEL (RFC 9113 section 7)");
        assert!(!all[0].raw.is_empty() && all[0].raw.len() < body.len());
        assert!(all[0].executed.is_empty());
    });
    let answer = client.send(h2_post("/next", Coding::Identity), &[call(6, "allowed_tool").to_string().into_bytes()]).await;
    assert_eq!(answer.unwrap().status, 200);
}

#[tokio::test]
async fn an_allowed_upload_beyond_the_window_streams() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let body = late_name("allowed_tool");
    let bytes = h1_post("/rpc", body.as_bytes());
    client.write(&bytes[..200 << 10]).await;
    upstream.until("the first bytes", |all| all.first().is_some_and(|r| !r.raw.is_empty())).await;
    let answer = client.send(&[bytes[200 << 10..].to_vec()]).await;
    assert_eq!(answer.json()["result"]["content"][0]["text"], "done by the upstream");
    upstream.requests(|all| assert!(all[0].raw == body.as_bytes()));
}

#[tokio::test]
async fn of_a_batch_beyond_the_window_the_bad_element_is_never_complete() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let filler = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "allowed_tool", "arguments": {"text": "x".repeat(100 << 10)}}});
    let body = json!([filler, call(2, "blocked_tool"), call(3, "allowed_tool")]).to_string();
    let bytes = h1_post("/rpc", body.as_bytes());
    let first = bytes.len() - json!([call(2, "blocked_tool"), call(3, "allowed_tool")]).to_string().len();
    client.write(&bytes[..first]).await;
    upstream.until("the first element", |all| all.first().is_some_and(|r| !r.executed.is_empty())).await;
    let _ = client.try_write(&bytes[first..]).await;
    let answer = client.try_answer().await.unwrap();
    assert_eq!(answer.header("x-gnomon"), Some("block"));
    upstream.until("the abort", |all| all[0].end.is_some()).await;
    upstream.requests(|all| assert_eq!((all[0].executed.len(), all[0].end), (1, Some(End::Broken))));
    assert!(!upstream.executed().concat().contains("blocked_tool"));
}

#[tokio::test]
async fn an_early_answer_does_not_let_a_blocked_upload_finish() {
    let early = |received: &gnomon_stage::upstream::Received| (received.path == "/rpc").then(|| Answer::json("{\"early\":true}"));
    for alpn in [H1, H2] {
        let upstream = Upstream::answering(alpn, early).await;
        let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
        let body = late_name("blocked_tool");
        let (most, rest) = body.as_bytes().split_at(200 << 10);
        if alpn == H1 {
            let mut client = H1::connect(&gnomon).await;
            let lines = format!("{}content-length: {}\r\n", json_headers(Coding::Identity), body.len());
            let answer = client.send(&[h1_head("POST", "/rpc", &lines), most.to_vec()]).await;
            assert_eq!(answer.json(), json!({"early": true}));
            let _ = client.try_write(rest).await;
            client.close().await;
        } else {
            let mut client = H2::connect(&gnomon).await;
            let (response, mut send) = client.begin(h2_post("/rpc", Coding::Identity), Ends::WithBody).await;
            send.send_data(most.to_vec().into(), false).unwrap();
            let answer = h2_answer(response).await.unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&answer.body).unwrap(), json!({"early": true}));
            let _ = send.send_data(rest.to_vec().into(), true);
            drop(send);
            upstream.until("the abort", |all| all[0].end.is_some()).await;
            client.close().await;
        }
        let events = gnomon.finish().await;
        upstream.until("the abort", |all| all[0].end.is_some()).await;
        upstream.requests(|all| {
            assert!(all[0].executed.is_empty(), "{alpn:?}");
            assert_ne!(all[0].end, Some(End::Clean));
        });
        // Over HTTP/1.1 an answer may end the request: then the message was never complete, and there may be no event of it.
        assert!(events.len() == 1 || alpn == H1 && events.is_empty(), "{events:#?}");
        assert!(events.iter().all(|e| e["gnomon.action"] == "block" && e["gen_ai.tool.name"] == "blocked_tool"), "{events:#?}");
    }
}

#[tokio::test]
async fn an_early_answer_does_not_break_an_allowed_upload() {
    let early = |received: &gnomon_stage::upstream::Received| (received.path == "/rpc").then(|| Answer::json("{\"early\":true}"));
    let upstream = Upstream::answering(H2, early).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let body = late_name("allowed_tool");
    let (most, rest) = body.as_bytes().split_at(200 << 10);
    let mut client = H2::connect(&gnomon).await;
    let (response, mut send) = client.begin(h2_post("/rpc", Coding::Identity), Ends::WithBody).await;
    send.send_data(most.to_vec().into(), false).unwrap();
    let answer = h2_answer(response).await.unwrap();
    assert_eq!(answer.status, 200);
    send.send_data(rest.to_vec().into(), true).unwrap();
    drop(send);
    upstream.until("the end of the upload", |all| all[0].end.is_some()).await;
    upstream.requests(|all| assert!(all[0].end == Some(End::Clean) && all[0].raw == body.as_bytes()));
    client.close().await;
    let events = gnomon.finish().await;
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!((&events[0]["gen_ai.tool.name"], &events[0]["gnomon.action"]), (&json!("allowed_tool"), &json!("allow")));
}

#[tokio::test]
async fn an_administrators_allow_that_needs_the_message_keeps_a_vendors_block_open() {
    let upstream = Upstream::start(H1).await;
    let rules = [
        vendor_rule(1, "Blocks the server", &format!("server.address: {HOST}"), &format!("action: block, message: '{MESSAGE}'")),
        rule(2, "Allows one tool", "gen_ai.tool.name: allowed_tool", "action: allow"),
    ];
    let gnomon = Gnomon::with().rules(rules).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let answer = client.send(&[h1_post("/rpc", call(1, "allowed_tool").to_string().as_bytes())]).await;
    assert_eq!(answer.json()["result"]["content"][0]["text"], "done by the upstream");
    let answer = client.send(&[h1_post("/rpc", call(2, "other_tool").to_string().as_bytes())]).await;
    assert_failed_call(&answer.json(), json!(2));
    assert_eq!(upstream.paths().len(), 1);
    client.close().await;
    let events = gnomon.finish().await;
    let told: Vec<_> = events.iter().map(|e| (&e["gnomon.action"], &e["rule.id"])).collect();
    assert_eq!(told, [(&json!("allow"), &json!(id(2))), (&json!("block"), &json!(id(1)))]);
}

/// Bodies that two parsers could read differently, by what is wrong with them.
fn ambiguous() -> Vec<(&'static str, String)> {
    let harmless = call(1, "allowed_tool").to_string();
    let second = call(2, "blocked_tool").to_string();
    vec![
        ("duplicate key", harmless.replacen("\"method\"", "\"method\":\"ping\",\"method\"", 1)),
        ("duplicate name", harmless.replacen("\"name\"", "\"name\":\"other\",\"name\"", 1)),
        ("second value", format!("{harmless}{second}")),
        ("second value after a line end", format!("{harmless}\n{second}")),
        ("rest of a second value", format!("{harmless}}}")),
        ("cut", harmless[..harmless.len() - 1].to_owned()),
    ]
}

#[tokio::test]
async fn a_body_that_can_be_read_in_two_ways_is_refused_where_a_rule_could_block_it() {
    for (what, body) in ambiguous() {
        let upstream = Upstream::start(H1).await;
        let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
        let mut client = H1::connect(&gnomon).await;
        let answer = client.send(&[h1_post("/rpc", body.as_bytes())]).await;
        assert_eq!(answer.header("x-gnomon"), Some("block"), "{what}: {answer:?}");
        assert!(upstream.paths().is_empty(), "{what}");
        client.close().await;
        let events = gnomon.finish().await;
        assert!(events.iter().any(|e| e.get("gnomon.malformed").is_some() && e["gnomon.action"] == "block"), "{what}: {events:#?}");
    }
}

#[tokio::test]
async fn a_second_value_in_a_later_chunk_is_refused_as_well() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let head = h1_head("POST", "/rpc", &format!("{}transfer-encoding: chunked\r\n", json_headers(Coding::Identity)));
    let first = chunk(call(1, "allowed_tool").to_string().as_bytes());
    let second = chunk(call(2, "allowed_tool").to_string().as_bytes());
    let answer = client.send(&[head, first, chunk(b"\n"), second, b"0\r\n\r\n".to_vec()]).await;
    assert_eq!(answer.header("x-gnomon"), Some("block"));
    assert!(upstream.paths().is_empty());
}

#[tokio::test]
async fn a_second_value_beyond_the_window_never_completes() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let head = h1_head("POST", "/rpc", &format!("{}transfer-encoding: chunked\r\n", json_headers(Coding::Identity)));
    let first = format!("{}{}", call(1, "allowed_tool"), " ".repeat(80 << 10));
    client.write(&head).await;
    client.write(&chunk(first.as_bytes())).await;
    upstream.until("the first value", |all| all.first().is_some_and(|r| !r.executed.is_empty())).await;
    let _ = client.try_write(&chunk(call(2, "blocked_tool").to_string().as_bytes())).await;
    assert_eq!(client.answer().await.header("x-gnomon"), Some("block"));
    upstream.until("the abort", |all| all[0].end.is_some()).await;
    upstream.requests(|all| assert_eq!((all[0].executed.len(), all[0].end), (1, Some(End::Broken))));
}

#[tokio::test]
async fn a_body_that_can_be_read_in_two_ways_passes_with_an_event_where_rules_only_log() {
    for (what, body) in ambiguous() {
        let upstream = Upstream::start(H1).await;
        let gnomon = Gnomon::with().rules([rule(1, "Notes calls", "mcp.method.name: tools/call", "action: log")]).before(&upstream).await;
        let mut client = H1::connect(&gnomon).await;
        let answer = client.send(&[h1_post("/rpc", body.as_bytes())]).await;
        assert_eq!(answer.header("x-gnomon"), None, "{what}");
        upstream.requests(|all| assert_eq!(all[0].raw, body.as_bytes(), "{what}"));
        client.close().await;
        let events = gnomon.finish().await;
        assert!(events.iter().any(|e| e.get("gnomon.malformed").is_some()), "{what}: {events:#?}");
    }
}

#[tokio::test]
async fn a_coding_that_cannot_be_undone_is_refused_where_a_rule_could_block_it_and_noted_where_none_could() {
    let body = call(1, "blocked_tool").to_string();
    let broken_gzip = {
        let mut coded = Coding::Gzip.encode(body.as_bytes());
        coded[12] ^= 0xff;
        coded
    };
    // Each event says that the body is malformed or contradicts its Content-Encoding; of the broken gzip nothing is known but that its path
    // is one of MCP's.
    let told = |event: &Value| event.get("gnomon.malformed").is_some() || event["gnomon.mismatch"] == json!(["content-encoding"]);
    for (coding, path, bytes) in [
        ("compress", "/rpc", body.clone().into_bytes()),
        ("gzip", "/rpc", body.clone().into_bytes()),
        ("gzip", "/mcp", broken_gzip.clone()),
    ] {
        for blocks in [true, false] {
            let upstream = Upstream::start(H1).await;
            let rules = if blocks { blocking() } else { vec![rule(1, "Notes calls", "mcp.method.name: tools/call", "action: log")] };
            let gnomon = Gnomon::with().rules(rules).before(&upstream).await;
            let mut client = H1::connect(&gnomon).await;
            let answer = client.send(&[h1_post_with(path, &format!("content-encoding: {coding}\r\n"), &bytes)]).await;
            assert_eq!(answer.header("x-gnomon").is_some(), blocks, "{coding}");
            assert_eq!(upstream.paths().is_empty(), blocks, "{coding}");
            client.close().await;
            let events = gnomon.finish().await;
            assert!(events.iter().any(told), "{coding} {blocks}: {events:#?}");
        }
    }
}

#[tokio::test]
async fn a_header_that_contradicts_the_body_is_detected_by_the_shipped_rules() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().rules(gnomon_stage::rules::shipped()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let further = "mcp-method: tools/list\r\nmcp-protocol-version: 2026-07-28\r\n";
    let answer = client.send(&[h1_post_with("/rpc", further, call(1, "any_tool").to_string().as_bytes())]).await;
    assert_eq!(answer.status, 200);
    client.close().await;
    let events = gnomon.finish().await;
    let threat = events.iter().find(|e| e["gnomon.detection.class"] == "threat").unwrap_or_else(|| panic!("{events:#?}"));
    assert!(threat["gnomon.mismatch"].as_array().unwrap().contains(&json!("mcp-method")));
    assert!(events.iter().any(|e| e["gnomon.detection.class"] == "mcp"));
    assert!(events.iter().all(|e| e["gnomon.observation.id"] == threat["gnomon.observation.id"]), "one call: {events:#?}");
}

#[tokio::test]
async fn a_request_for_another_host_than_the_handshake_named_is_misdirected_and_detected() {
    for alpn in [H1, H2] {
        let upstream = Upstream::start(alpn).await;
        let gnomon = Gnomon::with().rules(gnomon_stage::rules::shipped()).before(&upstream).await;
        let body = call(1, "any_tool").to_string();
        let answer = if alpn == H1 {
            let mut client = H1::connect(&gnomon).await;
            let post = String::from_utf8(h1_post("/rpc", body.as_bytes())).unwrap().replacen(HOST, "elsewhere.example", 1);
            let answer = client.send(&[post.into_bytes()]).await;
            client.close().await;
            answer
        } else {
            let mut client = H2::connect(&gnomon).await;
            let mut post = h2_post("/rpc", Coding::Identity);
            *post.uri_mut() = "https://elsewhere.example/rpc".parse().unwrap();
            let answer = client.send(post, &[body.into_bytes()]).await.unwrap();
            client.close().await;
            answer
        };
        assert_eq!(answer.status, 421);
        assert!(upstream.paths().is_empty());
        let events = gnomon.finish().await;
        let threat = events.iter().find(|e| e["gnomon.detection.class"] == "threat").unwrap_or_else(|| panic!("{events:#?}"));
        assert_eq!((&threat["gnomon.mismatch"], &threat["error.type"]), (&json!(["authority"]), &json!("misdirected_request")));
    }
}

#[tokio::test]
async fn two_refusals_of_one_client_server_and_rule_are_one_alert() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().rules([block(1, "mcp.method.name|exists: true")]).before(&upstream).await;
    // A client whose first method is refused tries the older one at once.
    let mut older = request(1, "initialize");
    older["params"] = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}});
    for request in [request(0, "server/discover"), older] {
        let mut client = H1::connect(&gnomon).await;
        let answer = client.send(&[h1_post("/rpc", request.to_string().as_bytes())]).await;
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(MESSAGE));
        client.close().await;
    }
    let events = gnomon.finish().await;
    let kinds: Vec<_> = events.iter().map(|e| (&e["event.kind"], &e["mcp.method.name"])).collect();
    assert_eq!(kinds, [(&json!("alert"), &json!("server/discover")), (&json!("signal"), &json!("initialize"))]);
    assert_eq!(events[0]["gnomon.incident.id"], events[1]["gnomon.incident.id"]);
}

#[tokio::test]
async fn the_shipped_rules_say_nothing_of_a_sanctioned_server_and_alert_on_any_other() {
    for sanctioned in [true, false] {
        let upstream = Upstream::start(H1).await;
        let setup = Gnomon::with().rules(gnomon_stage::rules::shipped());
        let setup = if sanctioned { setup.sanctioned(HOST) } else { setup };
        let gnomon = setup.before(&upstream).await;
        let mut client = H1::connect(&gnomon).await;
        assert_eq!(client.send(&[h1_post("/rpc", call(1, "any_tool").to_string().as_bytes())]).await.status, 200);
        client.close().await;
        let events = gnomon.finish().await;
        assert_eq!(events.len(), 1, "{events:#?}");
        let told = (&events[0]["event.kind"], &events[0]["gnomon.sanctioned"], events[0].get("rule.id").is_none());
        assert_eq!(told, (&json!(if sanctioned { "event" } else { "alert" }), &json!(sanctioned), sanctioned));
    }
}
