//! Request bodies that a server could read differently than gnomon does. They are judged by what they say in each way they can be read,
//! refused where a rule could match and they cannot be read, and passed where they are ordinary traffic.

use gnomon_stage::{
    HOST,
    client::{H1, H2},
    coding::Coding,
    gnomon::Gnomon,
    request::{call, chunk, h1_head, h1_post, h2_post},
    rules::block,
    upstream::{Answer, Upstream},
};
use serde_json::{Value, json};

/// The README's rule: every tool call to any host.
fn readme() -> Vec<gnomon_engine::Source> {
    vec![block(1, "mcp.method.name: tools/call")]
}

fn post(method: &str, path: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = h1_head(method, path, &format!("{lines}content-length: {}\r\n", body.len()));
    bytes.extend_from_slice(body);
    bytes
}

const JSON: &str = "content-type: application/json\r\n";

#[tokio::test]
async fn a_call_under_a_coding_that_it_does_not_have_never_reaches_its_server() {
    let upstream = Upstream::start(&["http/1.1", "h2"]).await;
    let gnomon = Gnomon::with().rules([block(1, "gen_ai.tool.name: blocked_tool")]).before(&upstream).await;
    let body = call(1, "blocked_tool").to_string();
    let gzipped = Coding::Gzip.encode(body.as_bytes());
    let mut refused = 0;
    for coding in ["deflate", "gzip", "br", "zstd", "foo", "none", "gzip, foo", "deflate, gzip", "compress"] {
        for kind in [JSON, "content-type: text/plain\r\n", ""] {
            let mut client = H1::connect(&gnomon).await;
            let answer = client.send(&[post("POST", "/rpc", &format!("{kind}content-encoding: {coding}\r\n"), body.as_bytes())]).await;
            assert_eq!(answer.header("x-gnomon"), Some("block"), "{coding} {kind}");
            assert_eq!(answer.json()["result"]["isError"], json!(true), "{coding} {kind}");
            refused += 1;
        }
        let mut client = H2::connect(&gnomon).await;
        let mut request = h2_post("/rpc", Coding::Identity);
        request.headers_mut().insert("content-encoding", coding.parse().unwrap());
        let answer = client.send(request, &[body.clone().into_bytes()]).await.unwrap();
        assert_eq!(answer.header("x-gnomon"), Some("block"), "{coding}");
        refused += 1;
    }
    // The other way round: a compressed body without a `Content-Encoding`.
    let mut client = H1::connect(&gnomon).await;
    for pieces in [vec![gzipped.clone()], gzipped.chunks(1).map(<[u8]>::to_vec).collect()] {
        let mut sent = vec![h1_head("POST", "/rpc", &format!("{JSON}transfer-encoding: chunked\r\n"))];
        sent.extend(pieces.iter().map(|piece| chunk(piece)));
        sent.push(b"0\r\n\r\n".to_vec());
        let answer = client.send(&sent).await;
        assert_eq!(answer.header("x-gnomon"), Some("block"));
        refused += 1;
    }
    assert!(upstream.paths().is_empty(), "did the tool run? {:?}", upstream.executed());
    // An allowed call passes unchanged.
    let allowed = call(1, "allowed_tool").to_string();
    client.send(&[post("POST", "/rpc", &format!("{JSON}content-encoding: foo\r\n"), allowed.as_bytes())]).await;
    upstream.requests(|all| assert!(all.len() == 1 && all[0].raw == allowed.as_bytes()));
    client.close().await;
    let events = gnomon.finish().await;
    let told = events.iter().filter(|e| e["gnomon.action"] == "block" && e["gnomon.mismatch"] == json!(["content-encoding"]));
    assert_eq!(told.count(), refused, "{events:#?}");
}

#[tokio::test]
async fn a_coded_call_under_another_coding_s_name_or_behind_a_bound_of_ours_never_reaches_its_server() {
    let upstream = Upstream::start(&["http/1.1"]).await;
    let gnomon = Gnomon::with().rules(readme()).before(&upstream).await;
    let body = call(1, "any_tool").to_string();
    let (gzip, zlib) = (Coding::Gzip.encode(body.as_bytes()), Coding::Zlib.encode(body.as_bytes()));
    let spaced = |spaces: usize| Coding::Gzip.encode(format!("{}{body}", " ".repeat(spaces)).as_bytes());
    let members = [Coding::Gzip.encode(b"").repeat(3000), gzip.clone()].concat();
    for (coding, body) in [
        ("deflate", gzip.clone()),
        ("br", gzip.clone()),
        ("foo", gzip.clone()),
        ("gzip, gzip", gzip.clone()),
        ("deflate, gzip", gzip),
        ("gzip", zlib.clone()),
        ("identity", zlib),
        ("gzip", spaced(100_000)),
        ("gzip", spaced(3_000_000)),
        ("gzip", members),
    ] {
        for kind in [JSON, "content-type: text/plain\r\n", ""] {
            let mut client = H1::connect(&gnomon).await;
            let answer = client.send(&[post("POST", "/rpc", &format!("{kind}content-encoding: {coding}\r\n"), &body)]).await;
            assert_eq!(answer.header("x-gnomon"), Some("block"), "{coding} {kind} of {} bytes: {answer:?}", body.len());
        }
    }
    assert!(upstream.paths().is_empty(), "did the tool run? {:?}", upstream.executed());
}

#[tokio::test]
async fn what_some_server_skips_before_a_call_or_takes_for_post_is_looked_past() {
    let upstream = Upstream::start(&["http/1.1"]).await;
    let gnomon = Gnomon::with().rules(readme()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let body = call(1, "any_tool").to_string();
    let before = [
        "// c\n",
        "/* c */",
        "#!\n",
        ")]}',\n",
        "\u{A0}",
        "\u{B}",
        "\u{1E}",
        "\u{FEFF}\u{FEFF}",
        "null",
        "1 ",
        "\"x\" ",
        "\0",
        "\0\0\0",
        " \0",
    ];
    for before in before {
        for kind in [JSON, "content-type: text/plain\r\n", ""] {
            let answer = client.send(&[post("POST", "/rpc", kind, format!("{before}{body}").as_bytes())]).await;
            assert_eq!(answer.header("x-gnomon"), Some("block"), "{before:?}");
        }
    }
    let utf16: Vec<u8> = body.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (method, kind, body) in [("post", "", body.as_bytes()), ("QUERY", "", body.as_bytes()), ("POST", "", &utf16[..])] {
        let answer = client.send(&[post(method, "/rpc", kind, body)]).await;
        assert_eq!(answer.header("x-gnomon"), Some("block"), "{method}");
    }
    assert!(upstream.paths().is_empty(), "did the tool run?");
    client.close().await;
    let events = gnomon.finish().await;
    assert!(events.len() == before.len() * 3 + 3 && events.iter().all(|e| e["gnomon.action"] == "block"), "{events:#?}");
}

#[tokio::test]
async fn every_tools_call_is_one_whatever_was_seen_before() {
    let calls = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ["read_file", {}]}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call"}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": 7}}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": ["read_file"]}}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": null}),
        json!({"id": 1, "method": "tools/call"}),
    ];
    let others = [json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}), json!({"jsonrpc": "2.0", "id": 1, "method": "vendor/method"})];
    let upstream = Upstream::start(&["http/1.1"]).await;
    for known in [false, true] {
        let rules =
            [block(1, "mcp.method.name: tools/call"), block(2, "mcp.method.name: ping"), block(3, "mcp.method.name: vendor/method")];
        let gnomon = Gnomon::with().rules(rules).before(&upstream).await;
        let mut client = H1::connect(&gnomon).await;
        if known {
            let list = json!({"jsonrpc": "2.0", "id": 0, "method": "tools/list"}).to_string();
            assert_eq!(client.send(&[h1_post("/rpc", list.as_bytes())]).await.header("x-gnomon"), None);
        }
        for call in &calls {
            let answer = client.send(&[h1_post("/rpc", call.to_string().as_bytes())]).await;
            assert_eq!(answer.header("x-gnomon"), Some("block"), "{call} known: {known}");
        }
        // Methods that other protocols use too are recognised by the request itself or not at all.
        for other in &others {
            let bare = post("POST", "/rpc", JSON, other.to_string().as_bytes());
            assert_eq!(client.send(&[bare]).await.header("x-gnomon"), None, "{other} known: {known}");
            let lines = format!("{JSON}mcp-protocol-version: 2025-11-25\r\n");
            let answer = client.send(&[post("POST", "/rpc", &lines, other.to_string().as_bytes())]).await;
            assert_eq!(answer.header("x-gnomon"), Some("block"), "{other} known: {known}");
        }
        client.close().await;
        let events = gnomon.finish().await;
        let vague = events.iter().filter(|e| e["mcp.method.name"] == "tools/call");
        assert!(vague.clone().count() == calls.len() && vague.clone().all(|e| e["gnomon.confidence"] == "probable"), "{events:#?}");
    }
    assert!(!upstream.executed().concat().contains("tools/call"), "did the tool run?");
}

/// On an MCP path it is recognised whatever the method, the content type and the end of the path.
#[tokio::test]
async fn a_call_on_a_path_of_mcp_is_read_with_every_method_and_behind_rows() {
    let upstream = Upstream::start(&["http/1.1"]).await;
    let gnomon = Gnomon::with().rules([block(1, "mcp.method.name: tools/call")]).before(&upstream).await;
    let call = call(1, "any_tool").to_string();
    let text = "content-type: text/plain\r\n";
    let rows = format!("{{}}\n{call}\n");
    let mut asked = vec![post("POST", "/mcp/_bulk", JSON, rows.as_bytes()), post("POST", "/mcp/_msearch", text, rows.as_bytes())];
    asked.extend(["GET", "PUT", "PATCH", "DELETE", "OPTIONS"].map(|method| post(method, "/mcp", text, call.as_bytes())));
    let count = asked.len();
    for request in asked {
        let mut client = H1::connect(&gnomon).await;
        let answer = client.send(std::slice::from_ref(&request)).await;
        assert_eq!(answer.header("x-gnomon"), Some("block"), "{}", String::from_utf8_lossy(&request));
        client.close().await;
    }
    let events = gnomon.finish().await;
    assert_eq!(events.iter().filter(|event| event["gnomon.action"] == "block").count(), count, "{events:#?}");
    assert!(!upstream.executed().concat().contains("tools/call"), "did the tool run?");
}

/// Documents may quote calls, so the rows behind the first are not judged as messages; that they are there does not stay untold.
#[tokio::test]
async fn rows_behind_the_first_are_a_passage_that_is_counted_and_named_and_refused_where_a_rule_means_their_place() {
    let call = call(1, "any_tool").to_string();
    let bulk = |first: &str| post("POST", "/logs/_bulk", "content-type: application/x-ndjson\r\n", format!("{first}\n{call}\n").as_bytes());
    for (rule, passed, told) in [
        ("mcp.method.name: tools/list".to_owned(), 2, 1),
        ("gnomon.passage: rows".to_owned(), 0, 2),
        (format!("mcp.method.name: tools/call, server.address: {HOST}"), 0, 2),
        ("mcp.method.name: tools/call, url.path: /logs/_bulk".to_owned(), 0, 2),
        ("mcp.method.name: tools/call, url.path: /other".to_owned(), 2, 1),
    ] {
        let upstream = Upstream::answering(&["http/1.1"], |received| received.end.map(|_| Answer::json("{}"))).await;
        let gnomon = Gnomon::with().rules([block(1, &rule)]).before(&upstream).await;
        // The first value is read as anywhere else: a message in it is an event of its own.
        for first in [r#"{"index":{}}"#, r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#] {
            let mut client = H1::connect(&gnomon).await;
            let answer = client.send(&[bulk(first)]).await;
            let refused = passed == 0 || (rule.ends_with("tools/list") && first.contains("tools/list"));
            assert_eq!(answer.header("x-gnomon").is_some(), refused, "{rule} {first}: {answer:?}");
            client.close().await;
        }
        // One value and nothing behind it is no passage.
        let mut client = H1::connect(&gnomon).await;
        let one = post("POST", "/logs/_bulk", "content-type: application/x-ndjson\r\n", b"{\"index\":{}}\n\n");
        assert_eq!(client.send(&[one]).await.status, 200);
        client.close().await;
        let passed = passed - usize::from(rule.ends_with("tools/list"));
        gnomon.metrics_until(&format!("gnomon_passed_total{{reason=\"rows\"}} {passed}")).await;
        let events = gnomon.finish().await;
        assert!(events.iter().filter(|event| !event["gnomon.action"].is_null()).count() >= told, "{rule}: {events:#?}");
        if rule.starts_with("gnomon.passage") {
            assert!(events.iter().any(|event| event["gnomon.passage"] == "rows" && event["gnomon.action"] == "block"), "{events:#?}");
        }
    }
}

/// This many equal rows, compressed with gzip.
fn metrics(rows: usize) -> Vec<u8> {
    let rows = r#"{"name":"requests","value":1,"host":"web"},"#.repeat(rows);
    Coding::Gzip.encode(format!("[{rows}1]").as_bytes())
}

/// Requests that are not MCP calls, whatever is in them.
fn ordinary() -> Vec<(&'static str, Vec<u8>)> {
    let document = call(1, "read_file").to_string();
    let telemetry = json!({"resourceSpans": [{"name": "tools/call", "note": document}]}).to_string();
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let bulk = format!("{{\"index\":{{}}}}\n{document}\n{{\"index\":{{}}}}\n{document}\n");
    let picture: Vec<u8> = b"\x89PNG\r\n\x1a\n".iter().copied().chain((0..=255).cycle().take(4000)).collect();
    let form = format!("--b\r\nContent-Disposition: form-data; name=\"log\"; filename=\"a.jsonl\"\r\n\r\n{document}\r\n--b--\r\n");
    let page = format!("# How to call a tool\n\nLike so:\n\n```json\n{document}\n```\n");
    let batch: Vec<Value> = (0..5000).map(|n| json!({"id": n, "method": "GET", "path": "/a"})).collect();
    let lines = |kind: &str, coding: &str| format!("content-type: {kind}\r\n{coding}");
    let of = |kind: &str, coding: &str, path: &str, body: &[u8]| post("POST", path, &lines(kind, coding), body);
    let (gzip, unknown) = ("content-encoding: gzip\r\n", "content-encoding: foo\r\n");
    vec![
        ("bulk", of("application/x-ndjson", "", "/logs/_bulk", bulk.as_bytes())),
        ("bulk as JSON", of("application/json", "", "/_bulk", bulk.as_bytes())),
        ("UTF-16", of("application/json", "", "/api", &utf16(r#"{"text":"jsonrpc","n":[1,2]}"#))),
        ("unknown coding", of("application/json", unknown, "/api", &Coding::Zstd.encode(telemetry.as_bytes())[4..])),
        ("telemetry", of("application/json", gzip, "/v1/traces", &Coding::Gzip.encode(telemetry.as_bytes()))),
        ("coded bytes", of("application/x-protobuf", gzip, "/v1/traces", &Coding::Gzip.encode(&picture))),
        ("broken coding", of("application/json", gzip, "/v1/traces", &picture)),
        ("picture", of("image/png", "", "/upload", &picture)),
        ("gRPC", of("application/grpc", "", "/svc/Method", b"\0\0\0\0\x05\x0a\x03abc")),
        ("form", of("multipart/form-data; boundary=b", "", "/upload", form.as_bytes())),
        ("fields", of("application/x-www-form-urlencoded", "", "/token", b"grant_type=authorization_code&code=tools%2Fcall")),
        ("page", of("text/markdown", "", "/docs", page.as_bytes())),
        ("archive", of("application/gzip", "", "/upload", &Coding::Gzip.encode(page.as_bytes()))),
        // Equal rows compress best: a few, and many.
        ("metrics", of("application/json", gzip, "/v1/metrics", &metrics(3_200))),
        ("many metrics", of("application/json", gzip, "/v1/metrics", &metrics(600_000))),
        ("another batch", of("application/json", "", "/batch", serde_json::to_string(&batch).unwrap().as_bytes())),
        ("a scalar", of("application/json", "", "/api", b"\"jsonrpc\"")),
    ]
}

#[tokio::test]
async fn the_readmes_rule_refuses_nothing_that_is_no_call() {
    let upstream = Upstream::answering(&["http/1.1"], |received| received.end.map(|_| Answer::json("{}"))).await;
    let gnomon = Gnomon::with().rules(readme()).before(&upstream).await;
    let ordinary = ordinary();
    for (what, bytes) in &ordinary {
        let mut client = H1::connect(&gnomon).await;
        let answer = client.send(std::slice::from_ref(bytes)).await;
        assert_eq!((answer.status, answer.header("x-gnomon")), (200, None), "{what}");
    }
    assert_eq!(upstream.paths().len(), ordinary.len());
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_where_the_request_says_mcp_or_a_rule_names_its_place() {
    let picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    let form = b"grant_type=authorization_code";
    let says_mcp = "mcp-session-id: 1\r\ncontent-type: application/json\r\n";
    for (rule, refused) in [
        ("mcp.method.name: tools/call".to_owned(), [false, false, true, true]),
        (format!("mcp.method.name: tools/call, server.address: {HOST}"), [true, false, true, true]),
        ("mcp.method.name: tools/call, url.path: /rpc".to_owned(), [true, false, true, true]),
        ("mcp.method.name: tools/call, server.address: other.example".to_owned(), [false; 4]),
    ] {
        let upstream = Upstream::start(&["http/1.1"]).await;
        let gnomon = Gnomon::with().rules([block(1, &rule)]).before(&upstream).await;
        let requests = [
            post("POST", "/rpc", "content-type: application/octet-stream\r\ncontent-encoding: foo\r\n", picture),
            post("POST", "/rpc", "content-type: application/x-www-form-urlencoded\r\n", form),
            post("POST", "/rpc", says_mcp, picture),
            post("POST", "/mcp", "accept: application/json, text/event-stream\r\n", picture),
        ];
        for (number, (bytes, refused)) in requests.into_iter().zip(refused).enumerate() {
            let mut client = H1::connect(&gnomon).await;
            let answer = client.send(&[bytes]).await;
            // The last request has another path.
            let refused = refused && !(number == 3 && rule.contains("url.path"));
            assert_eq!(answer.header("x-gnomon").is_some(), refused, "{number} under {rule}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn many_calls_of_one_batch_are_few_events_that_say_how_many() {
    const CALLS: usize = 5000;
    let upstream = Upstream::answering(&["http/1.1"], |received| received.end.map(|_| Answer::json("[]"))).await;
    let gnomon = Gnomon::with().rules(gnomon_stage::rules::shipped()).before(&upstream).await;
    let batch: Vec<Value> = (0..CALLS).map(|n| call(n, if n % 2 == 0 { "read_file" } else { "write_file" })).collect();
    let mut client = H1::connect(&gnomon).await;
    client.send(&[h1_post("/rpc", serde_json::to_string(&batch).unwrap().as_bytes())]).await;
    client.close().await;
    let line = format!("gnomon_mcp_messages_total{{channel=\"https\",method=\"tools/call\",sanctioned=\"false\"}} {CALLS}");
    gnomon.metrics_until(&line).await;
    let events = gnomon.finish().await;
    let calls = |e: &Value| e["gnomon.calls"].as_u64().unwrap_or(1);
    let of = |tool: &str| events.iter().filter(|e| e["gen_ai.tool.name"] == tool).map(calls).sum::<u64>();
    assert_eq!((of("read_file"), of("write_file")), (CALLS as u64 / 2, CALLS as u64 / 2), "{}", events.len());
    assert!(events.len() < 64, "{}", events.len());
    // Above the bound they are counted and not judged, which the event says.
    assert!(events.iter().any(|e| e["gnomon.malformed"] == "too_many_messages"), "{events:#?}");
    // Where a rule could refuse one of them, a batch above the bound is refused.
    let gnomon = Gnomon::with().rules([block(1, "gen_ai.tool.name: blocked_tool")]).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let small: Vec<Value> = (0..CALLS).map(|n| json!({"id": n, "method": "tools/call"})).collect();
    let coded = Coding::Gzip.encode(serde_json::to_string(&small).unwrap().as_bytes());
    let lines = format!("{JSON}content-encoding: gzip\r\n");
    let answer = client.send(&[post("POST", "/rpc", &lines, &coded)]).await;
    assert_eq!(answer.header("x-gnomon"), Some("block"));
}
