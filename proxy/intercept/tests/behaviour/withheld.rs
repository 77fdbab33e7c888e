//! Answers that a rule on the response refuses are withheld on every transport and in every content type, with a message for the model; and
//! rules on requests are no weaker for that.

use gnomon_stage::{
    client::H1,
    coding::Coding,
    gnomon::Gnomon,
    request::{h1_head, h1_post, json_headers, request},
    rules::{MESSAGE, block},
    soon,
    upstream::{Answer, End, Received, Upstream},
};
use serde_json::{Value, json};
use std::sync::Mutex;

const H1: &[&str] = &["http/1.1"];

fn evil() -> Vec<gnomon_engine::Source> {
    vec![block(1, "gnomon.tools: evil_tool")]
}

fn tools(id: u64) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": {"tools": [{"name": "evil_tool", "inputSchema": {"type": "object"}}]}}).to_string()
}

fn event(data: &str) -> Vec<u8> {
    format!("event: message\ndata: {data}\n\n").into_bytes()
}

/// The message in an event.
fn said(chunk: &[u8]) -> Value {
    let text = String::from_utf8_lossy(chunk).into_owned();
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or_else(|| panic!("{text}"));
    serde_json::from_str(data).unwrap()
}

fn assert_words(message: &Value, id: u64) {
    assert_eq!(message["id"], json!(id), "{message}");
    assert!(message["error"]["message"].as_str().is_some_and(|text| text.contains(MESSAGE)), "{message}");
}

async fn next<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(client: &mut H1<S>) -> Vec<u8> {
    soon("an event", client.chunk()).await.unwrap().unwrap()
}

/// One event stream at `/sse`; every other request is accepted.
async fn streaming() -> (Upstream, tokio::sync::mpsc::UnboundedSender<Vec<u8>>) {
    let (answer, feed) = Answer::events();
    let answer = Mutex::new(Some(answer));
    let upstream = Upstream::answering(H1, move |received: &Received| {
        received.end?;
        if received.path.starts_with("/sse") { answer.lock().unwrap().take() } else { Some(Answer::status(202)) }
    })
    .await;
    (upstream, feed)
}

#[tokio::test]
async fn a_refused_answer_of_the_legacy_transport_is_replaced_on_its_stream() {
    let (upstream, feed) = streaming().await;
    let gnomon = Gnomon::with().rules(evil()).before(&upstream).await;
    let mut listener = H1::connect(&gnomon).await;
    listener.write(&h1_head("GET", "/sse", "accept: text/event-stream\r\n")).await;
    assert_eq!(listener.head().await.unwrap().status, 200);
    feed.send(b"event: endpoint\ndata: /messages?sessionId=0123456789abcdef\n\n".to_vec()).unwrap();
    next(&mut listener).await;
    let mut poster = H1::connect(&gnomon).await;
    for id in [1, 2] {
        let path = "/messages?sessionId=0123456789abcdef";
        assert_eq!(poster.send(&[h1_post(path, request(id, "tools/list").to_string().as_bytes())]).await.status, 202);
        feed.send(event(&tools(id))).unwrap();
        assert_words(&said(&next(&mut listener).await), id);
    }
    let good = event(r#"{"jsonrpc":"2.0","id":3,"result":{"tools":[{"name":"nice_tool"}]}}"#);
    feed.send(good.clone()).unwrap();
    assert_eq!(next(&mut listener).await, good);
    drop(feed);
    listener.close().await;
    poster.close().await;
    let events = gnomon.finish().await;
    assert_eq!(events.iter().filter(|e| e["gnomon.action"] == "block").count(), 2, "{events:#?}");
}

#[tokio::test]
async fn a_refused_answer_on_a_stream_that_was_taken_up_again_is_replaced() {
    for rule in ["gnomon.tools: evil_tool", "mcp.method.name: tools/list, gnomon.tools: evil_tool"] {
        let (upstream, feed) = streaming().await;
        let gnomon = Gnomon::with().rules([block(1, rule)]).before(&upstream).await;
        let mut listener = H1::connect(&gnomon).await;
        let lines = "accept: text/event-stream\r\nmcp-session-id: s\r\nmcp-protocol-version: 2025-11-25\r\nlast-event-id: 7\r\n";
        listener.write(&h1_head("GET", "/sse", lines)).await;
        listener.head().await.unwrap();
        for id in [1, 2] {
            feed.send(event(&tools(id))).unwrap();
            assert_words(&said(&next(&mut listener).await), id);
        }
    }
}

#[tokio::test]
async fn a_refused_event_whose_end_comes_later_is_replaced_at_once_and_the_stream_goes_on() {
    let (upstream, feed) = streaming().await;
    let gnomon = Gnomon::with().rules(evil()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    client.write(&h1_post("/sse", request(1, "tools/list").to_string().as_bytes())).await;
    client.head().await.unwrap();
    feed.send(format!("event: message\ndata: {}", tools(1)).into_bytes()).unwrap();
    assert_words(&said(&next(&mut client).await), 1);
    feed.send(b"\ndata: and more\n".to_vec()).unwrap();
    feed.send(b"\n".to_vec()).unwrap();
    let later = event(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"done"}}"#);
    feed.send(later.clone()).unwrap();
    assert_eq!(next(&mut client).await, later);
    drop(feed);
    assert_eq!(client.chunk().await.unwrap(), None, "it ends as the server ends it");
}

#[tokio::test]
async fn a_refused_answer_is_withheld_under_every_content_type() {
    for kind in [Some("text/plain"), Some("text/json"), Some("application/octet-stream"), Some("application/json; charset=x"), None] {
        let upstream = Upstream::answering(H1, move |received| {
            received.end?;
            let headers = kind.map(|kind| ("content-type", kind.to_owned())).into_iter().collect();
            Some(Answer::Full { status: 200, headers, body: tools(1).into_bytes() })
        })
        .await;
        let gnomon = Gnomon::with().rules(evil()).before(&upstream).await;
        let mut client = H1::connect(&gnomon).await;
        let answer = client.send(&[h1_post("/rpc", request(1, "tools/list").to_string().as_bytes())]).await;
        assert_eq!(answer.header("x-gnomon"), Some("block"), "{kind:?}");
        assert_words(&answer.json(), 1);
        // An answer with another id than the request's is withheld too.
        let answer = client.send(&[h1_post("/rpc", request(9, "tools/list").to_string().as_bytes())]).await;
        assert!(!answer.text().contains("evil_tool"), "{kind:?}: {answer:?}");
    }
    // And one whose Content-Encoding is false.
    let upstream = Upstream::answering(H1, |received| {
        received.end?;
        let headers = vec![("content-type", "application/json".to_owned()), ("content-encoding", "deflate".to_owned())];
        Some(Answer::Full { status: 200, headers, body: tools(1).into_bytes() })
    })
    .await;
    let gnomon = Gnomon::with().rules(evil()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let answer = client.send(&[h1_post("/rpc", request(1, "tools/list").to_string().as_bytes())]).await;
    assert_eq!(answer.header("x-gnomon"), Some("block"), "{answer:?}");
}

#[tokio::test]
async fn pages_and_downloads_pass_beside_a_rule_on_answers() {
    let page = format!("<!doctype html><pre>{}</pre>", tools(1));
    let script = format!("/*! licence */ var example = {};", tools(1));
    let bodies = [("text/html", page), ("text/javascript", script), ("text/plain", "[not json".to_owned()), ("text/plain", String::new())];
    for (kind, body) in bodies {
        let sent = body.clone();
        let upstream = Upstream::answering(H1, move |received| received.end.map(|_| Answer::full(kind, sent.clone()))).await;
        let gnomon = Gnomon::with().rules(evil()).before(&upstream).await;
        let mut client = H1::connect(&gnomon).await;
        assert_eq!(client.send(&[h1_head("GET", "/page", "")]).await.text(), body);
    }
}

#[tokio::test]
async fn a_rule_on_answers_weakens_no_rule_on_requests() {
    let rules = || vec![block(1, "mcp.method.name: tools/call"), block(2, "gnomon.tools: evil_tool")];
    // The keys that identify the call come after more bytes than the window holds, and the server answers before it has received them.
    let padded = format!(r#"{{"pad":"{}","jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"x"}}}}"#, "x".repeat(200 << 10));
    let upstream = Upstream::answering(H1, |received| (received.raw.len() > 70 << 10).then(|| Answer::json(r#"{"early":true}"#))).await;
    let gnomon = Gnomon::with().rules(rules()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let lines = format!("{}content-length: {}\r\n", json_headers(Coding::Identity), padded.len());
    client.write(&h1_head("POST", "/rpc", &lines)).await;
    let (most, rest) = padded.as_bytes().split_at(150 << 10);
    client.write(most).await;
    let answer = client.answer().await;
    assert_eq!(answer.json(), json!({"early": true}));
    let _ = client.try_write(rest).await;
    client.close().await;
    let _ = gnomon.finish().await;
    upstream.until("the end", |all| all[0].end.is_some()).await;
    upstream.requests(|all| assert!(all[0].executed.is_empty() && all[0].end != Some(End::Clean), "did the tool run?"));
}

/// A question of a server, under a claim for which nobody could read it.
const QUESTION: &str = r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"message":"password?"}}"#;

async fn asking(kind: &'static str, coding: Option<&'static str>, body: String) -> Upstream {
    Upstream::answering(H1, move |received| {
        received.end?;
        let coding = coding.map(|coding| ("content-encoding", coding.to_owned()));
        let headers = [("content-type", kind.to_owned())].into_iter().chain(coding).collect();
        Some(Answer::Full { status: 200, headers, body: body.clone().into_bytes() })
    })
    .await
}

#[tokio::test]
async fn an_event_stream_that_cannot_be_undone_is_refused_where_a_rule_refuses_what_servers_ask() {
    let refuses = || vec![block(1, "mcp.method.name: elicitation/create")];
    let stream = format!("data: {QUESTION}\n\n");
    let listens = || h1_head("GET", "/listen", "accept: text/event-stream\r\n");
    let calls = || h1_post("/rpc", request(1, "tools/list").to_string().as_bytes());
    for (kind, coding) in [("text/event-stream; charset=utf-16", None), ("text/event-stream", Some("x-unknown"))] {
        for asked in [listens(), calls()] {
            let upstream = asking(kind, coding, stream.clone()).await;
            let gnomon = Gnomon::with().rules(refuses()).before(&upstream).await;
            let mut client = H1::connect(&gnomon).await;
            let answer = client.send(std::slice::from_ref(&asked)).await;
            assert_eq!(answer.header("x-gnomon"), Some("block"), "{kind} {coding:?}: {answer:?}");
            assert!(!answer.text().contains("password?"), "{kind} {coding:?}: {answer:?}");
            assert_eq!(passed_unread(&gnomon), 0);
            client.close().await;
            let events = gnomon.finish().await;
            let refused = events.iter().filter(|e| e["gnomon.passage"] == "events_unreadable" && e["gnomon.action"] == "block").count();
            assert_eq!(refused, 1, "{kind} {coding:?}: {events:#?}");

            // Where no rule could match, it passes as it is, counted and told.
            let gnomon = Gnomon::with().before(&upstream).await;
            let mut client = H1::connect(&gnomon).await;
            assert_eq!(client.send(&[asked]).await.text(), stream, "{kind} {coding:?}");
            assert_eq!(passed_unread(&gnomon), 1);
            client.close().await;
            let events = gnomon.finish().await;
            let told = events.iter().filter(|e| e["gnomon.passage"] == "events_unreadable" && e["event.kind"] != "outcome");
            assert!(told.clone().count() >= 1 && told.clone().all(|e| e["gnomon.action"] == "allow"), "{kind} {coding:?}: {events:#?}");
        }
    }
    // One that can be read is judged event by event.
    let quiet = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n";
    let upstream = asking("text/event-stream", None, quiet.to_owned()).await;
    let gnomon = Gnomon::with().rules(refuses()).before(&upstream).await;
    assert_eq!(H1::connect(&gnomon).await.send(&[listens()]).await.text(), quiet);
}

#[tokio::test]
async fn an_answer_that_cannot_be_undone_is_refused_where_a_rule_refuses_what_it_may_ask() {
    let asks = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"resultType":"input_required","inputRequests":{{"a":{QUESTION}}}}}}}"#);
    let upstream = asking("application/json", Some("x-unknown"), asks).await;
    let gnomon = Gnomon::with().rules([block(1, "mcp.method.name: elicitation/create")]).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let body = request(1, "tools/list").to_string();
    let lines = format!("{}mcp-protocol-version: 2026-07-28\r\ncontent-length: {}\r\n", json_headers(Coding::Identity), body.len());
    client.write(&h1_head("POST", "/mcp", &lines)).await;
    client.write(body.as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!(answer.header("x-gnomon"), Some("block"), "{answer:?}");
}

fn passed_unread(gnomon: &Gnomon) -> u64 {
    let line = "gnomon_passed_total{reason=\"events_unreadable\"} ";
    gnomon.metrics().lines().find_map(|l| l.strip_prefix(line)?.parse().ok()).unwrap()
}
