//! Answers are judged before the client reads them where a rule asks for that, and passed on at once otherwise.

use crate::recorded::{at_the_server, in_time};
use gnomon_stage::{
    HOST, client,
    client::{H1, H2},
    coding::Coding,
    gnomon::Gnomon,
    request::{call, h1_head, h1_post, h2_post, request},
    rules::{MESSAGE, block, id},
    soon,
    upstream::{Answer, Received, Upstream},
};
use serde_json::{Value, json};
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const H1: &[&str] = &["http/1.1"];

fn tools(id: u64, names: &[&str]) -> String {
    let tools: Vec<Value> = names.iter().map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).collect();
    json!({"jsonrpc": "2.0", "id": id, "result": {"tools": tools}}).to_string()
}

/// An upstream with one event stream, and the sender that feeds it.
async fn streaming(alpn: &[&str]) -> (Upstream, tokio::sync::mpsc::UnboundedSender<Vec<u8>>) {
    let (answer, feed) = Answer::events();
    let answer = Mutex::new(Some(answer));
    let upstream = Upstream::answering(alpn, move |received: &Received| {
        received.end?;
        answer.lock().unwrap().take()
    })
    .await;
    (upstream, feed)
}

fn event(data: &str) -> Vec<u8> {
    format!("event: message\ndata: {data}\n\n").into_bytes()
}

#[tokio::test]
async fn a_blocked_answer_is_replaced_and_others_pass() {
    let upstream = Upstream::answering(&["h2", "http/1.1"], |received| {
        let message: Value = serde_json::from_slice(&received.decoded).ok()?;
        let names: &[&str] = if message["id"] == 1 { &["nice_tool", "evil_tool"] } else { &["nice_tool"] };
        Some(Answer::json(tools(message["id"].as_u64()?, names)))
    })
    .await;
    let gnomon = Gnomon::with().rules([block(1, "gnomon.tools: evil_tool")]).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let answer = client.send(&[h1_post("/rpc", request(1, "tools/list").to_string().as_bytes())]).await;
    assert!(!answer.text().contains("evil_tool"), "{answer:?}");
    assert_eq!((answer.status, &answer.json()["id"]), (200, &json!(1)));
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains(MESSAGE));
    let answer = client.send(&[h1_post("/rpc", request(2, "tools/list").to_string().as_bytes())]).await;
    assert_eq!(answer.text(), tools(2, &["nice_tool"]));
    client.close().await;
    let events = gnomon.finish().await;
    let told: Vec<_> = events.iter().map(|e| (&e["jsonrpc.request.id"], &e["gnomon.action"], e.get("rule.id").is_some())).collect();
    assert_eq!(told, [(&json!("1"), &json!("block"), true), (&json!("2"), &json!("allow"), false)]);
    assert_eq!((&events[0]["rule.id"], &events[0]["http.response.status_code"]), (&json!(id(1)), &json!(200)));
}

#[tokio::test]
async fn a_blocked_event_is_replaced_and_other_events_of_its_stream_pass() {
    let (upstream, feed) = streaming(H1).await;
    let gnomon = Gnomon::with().rules([block(1, "gnomon.tools: evil_tool")]).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    client.write(&h1_post("/rpc", request(1, "tools/list").to_string().as_bytes())).await;
    let progress = event(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"soon"}}"#);
    let bad = event(&tools(1, &["nice_tool", "evil_tool"]));
    let later = event(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"done"}}"#);
    feed.send(progress.clone()).unwrap();
    assert_eq!(client.head().await.unwrap().header("content-type"), Some("text/event-stream"));
    assert_eq!(client.chunk().await.unwrap(), Some(progress));
    // The bad event comes in two pieces.
    let (first, second) = bad.split_at(bad.len() / 2);
    feed.send(first.to_vec()).unwrap();
    feed.send(second.to_vec()).unwrap();
    feed.send(later.clone()).unwrap();
    drop(feed);
    let mut rest = Vec::new();
    while let Some(chunk) = client.chunk().await.unwrap() {
        rest.extend_from_slice(&chunk);
    }
    let rest = String::from_utf8(rest).unwrap();
    assert!(!rest.contains("evil_tool") && !rest.contains("nice_tool"), "{rest}");
    let replaced = rest.strip_suffix(std::str::from_utf8(&later).unwrap()).unwrap_or_else(|| panic!("{rest}"));
    let message: Value = serde_json::from_str(replaced.lines().find_map(|l| l.strip_prefix("data: ")).unwrap()).unwrap();
    assert_eq!(message["id"], 1);
    assert!(message["error"]["message"].as_str().unwrap().contains(MESSAGE));
    client.close().await;
    let events = gnomon.finish().await;
    assert_eq!(events.iter().filter(|e| e["gnomon.action"] == "block").count(), 1, "{events:#?}");
}

#[tokio::test]
async fn an_event_stream_is_forwarded_event_by_event() {
    for judged in [false, true] {
        let (upstream, feed) = streaming(H1).await;
        let rules = judged.then(|| block(1, "gnomon.tools: evil_tool"));
        let gnomon = Gnomon::with().rules(rules).before(&upstream).await;
        let mut client = H1::connect(&gnomon).await;
        client.write(&h1_post("/rpc", request(1, "tools/list").to_string().as_bytes())).await;
        assert_eq!(client.head().await.unwrap().status, 200, "the head comes before any event");
        for number in 0..3 {
            // The next event is sent only once this one has arrived.
            let one = event(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": number}}).to_string());
            feed.send(one.clone()).unwrap();
            assert_eq!(client.chunk().await.unwrap(), Some(one));
        }
        drop(feed);
        assert_eq!(client.chunk().await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_event_stream_over_http2_is_forwarded_event_by_event() {
    let (upstream, feed) = streaming(&["h2"]).await;
    let gnomon = Gnomon::with().before(&upstream).await;
    let mut client = H2::connect(&gnomon).await;
    let (response, mut body) = client.begin(h2_post("/rpc", Coding::Identity), client::Ends::WithBody).await;
    body.send_data(request(1, "tools/list").to_string().into(), true).unwrap();
    let mut stream = soon("the head", response).await.unwrap().into_body();
    for number in 0..3 {
        let one = event(&format!("{{\"number\":{number}}}"));
        feed.send(one.clone()).unwrap();
        assert_eq!(soon("the event", stream.data()).await.unwrap().unwrap(), one);
    }
    drop(feed);
    assert!(soon("the end", stream.data()).await.is_none_or(|last| last.unwrap().is_empty()));
}

#[tokio::test]
async fn a_call_whose_answer_is_long_in_coming_is_reported_before_it_comes() {
    let (upstream, feed) = streaming(H1).await;
    let gnomon = Gnomon::with().rules(gnomon_stage::rules::shipped()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    client.write(&h1_post("/rpc", call(1, "slow_tool").to_string().as_bytes())).await;
    let since = at_the_server(&upstream).await;
    client.head().await.unwrap();
    // The server sends nothing, and yet the event of the call is written.
    let events = in_time(&gnomon, since).await;
    assert_eq!((&events[0]["gen_ai.tool.name"], &events[0]["event.kind"]), (&json!("slow_tool"), &json!("alert")));
    assert_eq!(events[0]["gnomon.pending"], true);
    feed.send(event(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#)).unwrap();
    drop(feed);
    while client.chunk().await.unwrap().is_some() {}
    client.close().await;
    let events = gnomon.finish().await;
    assert_eq!(events.len(), 2, "it comes once, and then what came of it: {events:#?}");
    let outcome = &events[1];
    assert_eq!((&outcome["event.kind"], outcome.get("error.type")), (&json!("outcome"), None));
    assert_eq!(outcome["gnomon.observation.id"], events[0]["gnomon.observation.id"]);
    assert_eq!((&outcome["http.response.status_code"], &outcome["server.address"]), (&json!(200), &json!(HOST)));
    assert!(outcome["http.response.body.size"].as_u64() > Some(0));
}

#[tokio::test]
async fn what_goes_on_after_the_event_is_told_at_its_end_and_what_does_not_is_not() {
    for (more, expected) in [(100, 1), (10_000, 2)] {
        let (upstream, feed) = streaming(H1).await;
        let gnomon = Gnomon::with().rules(gnomon_stage::rules::shipped()).before(&upstream).await;
        let mut client = H1::connect(&gnomon).await;
        client.write(&h1_post("/rpc", call(1, "read_file").to_string().as_bytes())).await;
        client.head().await.unwrap();
        feed.send(event(r#"{"jsonrpc":"2.0","id":1,"result":{"isError":true,"content":[]}}"#)).unwrap();
        client.chunk().await.unwrap();
        let events = gnomon.events_until(1).await;
        assert_eq!((&events[0]["error.type"], events[0].get("gnomon.pending")), (&json!("tool_error"), None));
        feed.send(event(&"x".repeat(more))).unwrap();
        drop(feed);
        while client.chunk().await.unwrap().is_some() {}
        client.close().await;
        let events = gnomon.finish().await;
        assert_eq!(events.len(), expected, "{events:#?}");
        if let Some(outcome) = events.get(1) {
            assert_eq!(outcome["event.kind"], "outcome");
            assert!(outcome["http.response.body.size"].as_u64() > Some(10_000));
            assert!(outcome["gnomon.duration_ms"].is_u64());
        }
    }
}

#[tokio::test]
async fn a_websocket_is_joined_and_echoes() {
    let upstream = Upstream::answering(H1, |_| Some(Answer::Switch(""))).await;
    let gnomon = Gnomon::with().rules([block(1, "gen_ai.tool.name: blocked_tool")]).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let lines = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    client.write(&h1_head("GET", "/socket", lines)).await;
    let head = client.head().await.unwrap();
    assert_eq!((head.status, head.header("upgrade")), (101, Some("websocket")));
    for word in [&b"\x81\x85abcdhello"[..], b"\x00\xff\r\n\r\n"] {
        client.write(word).await;
        let mut echo = vec![0; word.len()];
        soon("the echo", client.stream.read_exact(&mut echo)).await.unwrap();
        assert_eq!(echo, word);
    }
    client.stream.shutdown().await.unwrap();
    upstream.requests(|all| assert_eq!(all[0].headers.get("sec-websocket-key").unwrap(), "dGhlIHNhbXBsZSBub25jZQ=="));
}

#[tokio::test]
async fn a_refused_post_of_the_legacy_transport_is_answered_on_its_event_stream() {
    let (answer, feed) = Answer::events();
    let answer = Mutex::new(Some(answer));
    let upstream = Upstream::answering(H1, move |received: &Received| {
        received.end?;
        if received.path == "/sse" { answer.lock().unwrap().take() } else { Some(Answer::status(202)) }
    })
    .await;
    let gnomon = Gnomon::with().rules([block(1, "gen_ai.tool.name: blocked_tool")]).before(&upstream).await;
    let mut listener = H1::connect(&gnomon).await;
    listener.write(&h1_head("GET", "/sse", "accept: text/event-stream\r\n")).await;
    assert_eq!(listener.head().await.unwrap().status, 200);
    let endpoint = b"event: endpoint\ndata: /messages?sessionId=0123456789abcdef\n\n".to_vec();
    feed.send(endpoint.clone()).unwrap();
    assert_eq!(listener.chunk().await.unwrap(), Some(endpoint));

    let mut poster = H1::connect(&gnomon).await;
    let path = "/messages?sessionId=0123456789abcdef";
    let answer = poster.send(&[h1_post(path, call(7, "blocked_tool").to_string().as_bytes())]).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let said = String::from_utf8(listener.chunk().await.unwrap().unwrap()).unwrap();
    let message: Value = serde_json::from_str(said.lines().find_map(|l| l.strip_prefix("data: ")).unwrap()).unwrap();
    assert_eq!((&message["id"], &message["result"]["isError"]), (&json!(7), &json!(true)));
    assert!(message["result"]["content"][0]["text"].as_str().unwrap().contains(MESSAGE));
    assert_eq!(upstream.paths(), ["/sse"]);

    // The stream goes on with what the server sends.
    let answer = poster.send(&[h1_post(path, call(8, "allowed_tool").to_string().as_bytes())]).await;
    assert_eq!(answer.status, 202);
    let later = event(r#"{"jsonrpc":"2.0","id":8,"result":{"content":[]}}"#);
    feed.send(later.clone()).unwrap();
    assert_eq!(listener.chunk().await.unwrap(), Some(later));
    drop(feed);
    listener.close().await;
    poster.close().await;
    let events = gnomon.finish().await;
    let refused: Vec<_> = events.iter().filter(|e| e["gnomon.action"] == "block").collect();
    assert_eq!(refused.len(), 1, "{events:#?}");
    assert_eq!((&refused[0]["jsonrpc.request.id"], &refused[0]["server.address"]), (&json!("7"), &json!(HOST)));
}

#[tokio::test]
async fn an_answer_of_the_upstreams_own_reaches_the_client_as_it_is() {
    let upstream = Upstream::answering(H1, |received| {
        received.end?;
        let challenge = r#"Bearer resource_metadata="https://tools.example/.well-known/oauth-protected-resource""#;
        Some(Answer::Full {
            status: 401,
            headers: vec![("www-authenticate", challenge.to_owned()), ("x-own", "1".to_owned())],
            body: b"no".to_vec(),
        })
    })
    .await;
    let gnomon = Gnomon::with().rules(gnomon_stage::rules::shipped()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let answer = client.send(&[h1_post("/rpc", request(1, "tools/list").to_string().as_bytes())]).await;
    assert_eq!((answer.status, answer.text().as_str(), answer.header("x-own")), (401, "no", Some("1")));
    assert!(answer.header("www-authenticate").unwrap().contains("resource_metadata"));
    client.close().await;
    let events = gnomon.finish().await;
    assert_eq!((&events[0]["http.response.status_code"], &events[0]["error.type"]), (&json!(401), &json!("401")));
}
