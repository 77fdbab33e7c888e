//! Attempts to get around the rules: compressed answers, early answers, pipelining, request smuggling, plain HTTP, trailers, concurrent
//! streams.

use gnomon_stage::{
    HOST,
    client::{Ends, H1, H2, h2_answer, tunnel},
    coding::Coding,
    gnomon::Gnomon,
    request::{call, chunk, h1_head, h1_post, h1_post_with, h2_post, json_headers, request},
    rules::{MESSAGE, block},
    upstream::{Answer, Upstream},
};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use tokio::net::TcpStream;

const H1: &[&str] = &["http/1.1"];

fn blocking() -> Vec<gnomon_engine::Source> {
    vec![block(1, "gen_ai.tool.name: blocked_tool"), block(2, "gnomon.tools: evil_tool")]
}

fn tools(id: &Value, description: &str) -> String {
    let tool = |name: &str| json!({"name": name, "description": description, "inputSchema": {"type": "object"}});
    json!({"jsonrpc": "2.0", "id": id, "result": {"tools": [tool("nice_tool"), tool("evil_tool")]}}).to_string()
}

/// An upstream whose answers to `tools/list` are made by `answer` from the request's id.
async fn listing(answer: impl Fn(&Value) -> Answer + Send + Sync + 'static) -> Upstream {
    Upstream::answering(H1, move |received| {
        received.end?;
        let message: Value = serde_json::from_slice(&received.decoded).ok()?;
        (message["method"] == "tools/list").then(|| answer(&message["id"]))
    })
    .await
}

#[tokio::test]
async fn a_blocked_answer_is_found_in_any_coding() {
    for coding in Coding::ALL {
        let upstream = listing(move |id| Answer::Full {
            status: 200,
            headers: [("content-type", "application/json".to_owned())]
                .into_iter()
                .chain(coding.header().map(|name| ("content-encoding", name.to_owned())))
                .collect(),
            body: coding.encode(tools(id, "").as_bytes()),
        })
        .await;
        let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
        let mut client = H1::connect(&gnomon).await;
        let answer = client.send(&[h1_post("/rpc", request(1, "tools/list").to_string().as_bytes())]).await;
        assert_eq!(answer.header("x-gnomon"), Some("block"), "{coding:?}");
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(MESSAGE));
    }
}

#[tokio::test]
async fn a_blocked_answer_in_a_coded_event_stream_is_replaced_without_the_coding() {
    let upstream = listing(|id| {
        let body = Coding::Gzip.encode(format!("event: message\ndata: {}\n\n", tools(id, "")).as_bytes());
        let headers = vec![("content-type", "text/event-stream".to_owned()), ("content-encoding", "gzip".to_owned())];
        Answer::Full { status: 200, headers, body }
    })
    .await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let answer = client.send(&[h1_post("/rpc", request(1, "tools/list").to_string().as_bytes())]).await;
    assert_eq!(answer.header("content-encoding"), None);
    assert!(answer.text().contains(MESSAGE) && !answer.text().contains("evil_tool"), "{answer:?}");
}

#[tokio::test]
async fn a_blocked_answer_beyond_the_window_is_never_complete() {
    let upstream = listing(|id| Answer::json(tools(id, &"long ".repeat(60_000)))).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    client.write(&h1_post("/rpc", request(1, "tools/list").to_string().as_bytes())).await;
    assert!(client.try_answer().await.is_err(), "it ended as if it were whole");
    assert!(serde_json::from_slice::<Value>(&client.buffer).is_err());
    let events = gnomon.finish().await;
    assert_eq!(events.iter().filter(|e| e["gnomon.action"] == "block").count(), 1, "{events:#?}");
}

#[tokio::test]
async fn an_answer_before_its_request_is_over_does_not_pass_unjudged() {
    let upstream = Upstream::answering(H1, |_| Some(Answer::json(tools(&json!(1), "")))).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    // Longer than the window, and never complete: gnomon does not know the request's method when the answer comes.
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"filler":"{}"#, "x".repeat(100 << 10));
    let lines = format!("{}content-length: {}\r\n", json_headers(Coding::Identity), body.len() + 1000);
    client.write(&h1_head("POST", "/rpc", &lines)).await;
    let _ = client.try_write(body.as_bytes()).await;
    let answer = client.try_answer().await;
    assert!(answer.as_ref().is_err() || !answer.as_ref().unwrap().text().contains("evil_tool"), "{answer:?}");
}

#[tokio::test]
async fn pipelined_requests_are_judged_one_by_one() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let tools = ["allowed_tool", "blocked_tool", "allowed_tool"];
    let posts: Vec<u8> = (0..).zip(tools).flat_map(|(id, tool)| h1_post("/rpc", call(id, tool).to_string().as_bytes())).collect();
    client.write(&posts).await;
    for (id, tool) in (0..).zip(tools) {
        let answer = client.answer().await;
        assert_eq!((&answer.json()["id"], answer.header("x-gnomon").is_some()), (&json!(id), tool == "blocked_tool"));
    }
    assert_eq!(upstream.executed().len(), 2);
}

#[tokio::test]
async fn a_length_beside_chunks_smuggles_nothing() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let hidden = h1_post("/hidden", call(2, "blocked_tool").to_string().as_bytes());
    let harmless = call(1, "allowed_tool").to_string();
    // A server that goes by the length takes the second request for a part of the first one's body.
    let mut bytes =
        h1_head("POST", "/rpc", &format!("{}content-length: {}\r\ntransfer-encoding: chunked\r\n", json_headers(Coding::Identity), 4096));
    bytes.extend(chunk(harmless.as_bytes()));
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes.extend(hidden);
    let mut client = H1::connect(&gnomon).await;
    let _ = client.try_write(&bytes).await;
    while client.try_answer().await.is_ok_and(|answer| answer.header("x-gnomon").is_none()) {}
    assert!(!upstream.executed().concat().contains("blocked_tool"));
    assert!(!upstream.paths().contains(&"/hidden".to_owned()));
    upstream.requests(|all| {
        assert!(all.iter().all(|r| !(r.headers.contains_key("content-length") && r.headers.contains_key("transfer-encoding"))));
    });
}

#[tokio::test]
async fn http_without_tls_is_held_back_as_well() {
    let upstream = Upstream::without_tls(|_| None).await;
    let gnomon = Gnomon::with().rules(blocking()).resolve(HOST, upstream.address).start().await;
    for tool in ["blocked_tool", "allowed_tool"] {
        // As a request to the proxy, and inside a tunnel.
        let post = String::from_utf8(h1_post("/rpc", call(1, tool).to_string().as_bytes())).unwrap();
        let mut asked = H1::over(TcpStream::connect(gnomon.address).await.unwrap());
        let absolute = post.replacen("POST /rpc", &format!("POST http://{HOST}/rpc"), 1);
        let mut inside = H1::over(tunnel(gnomon.address, &format!("{HOST}:80")).await);
        for answer in [asked.send(&[absolute.into_bytes()]).await, inside.send(&[post.into_bytes()]).await] {
            assert_eq!((answer.status, answer.header("x-gnomon").is_some()), (200, tool == "blocked_tool"), "{answer:?}");
        }
        if tool == "blocked_tool" {
            assert_eq!(upstream.log.bytes.load(Ordering::SeqCst), 0);
        }
    }
    assert_eq!(upstream.paths().len(), 2);
    let events = gnomon.events_until(4).await;
    assert!(events.iter().all(|e| e["gnomon.channel"] == "http" && e["server.port"] == 80), "{events:#?}");
}

#[tokio::test]
async fn streams_of_one_connection_do_not_wait_for_each_other() {
    let upstream = Upstream::start(&["h2"]).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H2::connect(&gnomon).await;
    let body = call(1, "blocked_tool").to_string().into_bytes();
    let (slow, mut rest) = client.begin(h2_post("/slow", Coding::Identity), Ends::WithBody).await;
    rest.send_data(body[..20].to_vec().into(), false).unwrap();
    let next = client.send(h2_post("/rpc", Coding::Identity), &[call(2, "allowed_tool").to_string().into_bytes()]).await.unwrap();
    assert_eq!(next.status, 200);
    rest.send_data(body[20..].to_vec().into(), true).unwrap();
    let answer = h2_answer(slow).await.unwrap();
    assert_eq!(answer.header("x-gnomon"), Some("block"));
    assert_eq!(upstream.paths(), ["/rpc"]);
}

#[tokio::test]
async fn trailers_end_a_body_like_any_other_end() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let head = h1_head("POST", "/rpc", &format!("{}transfer-encoding: chunked\r\ntrailer: x-sum\r\n", json_headers(Coding::Identity)));
    let body = call(1, "blocked_tool").to_string();
    let answer = client.send(&[head, chunk(body.as_bytes()), b"0\r\nx-sum: 1\r\n\r\n".to_vec()]).await;
    assert_eq!(answer.header("x-gnomon"), Some("block"));

    let upstream = Upstream::start(&["h2"]).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H2::connect(&gnomon).await;
    for tool in ["blocked_tool", "allowed_tool"] {
        let (response, mut send) = client.begin(h2_post("/rpc", Coding::Identity), Ends::WithBody).await;
        send.send_data(call(1, tool).to_string().into(), false).unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        // Where the message was refused with its last byte, the stream may already be closed.
        let _ = send.send_trailers(trailers);
        let answer = h2_answer(response).await.unwrap();
        assert_eq!((answer.status, answer.header("x-gnomon").is_some()), (200, tool == "blocked_tool"));
    }
    assert_eq!(upstream.executed().len(), 1);
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_is_held_leaves_nothing_behind() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let post = h1_post("/rpc", call(1, "allowed_tool").to_string().as_bytes());
    client.write(&post[..post.len() - 1]).await;
    client.close().await;
    assert!(gnomon.finish().await.is_empty());
    assert_eq!(upstream.log.bytes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_body_that_is_not_called_json_is_read_all_the_same() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().rules(blocking()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let body = call(1, "blocked_tool").to_string();
    for kind in ["text/plain", "application/octet-stream", "image/png", "multipart/form-data; boundary=x"] {
        let mut bytes = h1_head("POST", "/rpc", &format!("content-type: {kind}\r\ncontent-length: {}\r\n", body.len()));
        bytes.extend_from_slice(body.as_bytes());
        let answer = client.send(&[bytes]).await;
        assert_eq!(answer.header("x-gnomon"), Some("block"), "{kind}");
    }
    for before in ["\u{feff}", " \r\n\t", "\n"] {
        let answer = client.send(&[h1_post("/rpc", format!("{before}{body}").as_bytes())]).await;
        assert_eq!(answer.header("x-gnomon"), Some("block"), "{before:?}");
    }
    let answer = client.send(&[h1_post_with("/rpc", "content-encoding: identity\r\n", body.as_bytes())]).await;
    assert_eq!(answer.header("x-gnomon"), Some("block"));
    assert!(upstream.paths().is_empty());
}
