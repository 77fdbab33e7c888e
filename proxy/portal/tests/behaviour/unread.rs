//! Whoever does not read what they asked for loses their connection in the end; whoever waits for something does not.

use crate::{
    Running, Setup,
    client::{Client, next_event},
    server::{Server, Speaks},
    soon,
};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The time for which an answer may be unread in these tests.
const PATIENCE: Duration = Duration::from_millis(400);
/// All seats.
const SEATS: usize = 4;
/// More than the buffers of a connection over loopback hold.
const MUCH: usize = 15 << 20;

/// A server whose answers are large, and a portal before it with few seats.
async fn few_seats() -> (Server, Running) {
    let large = "x".repeat(MUCH);
    let server = Server::scripted("one", Speaks::Both, move |method, params| {
        let wanted = method == "tools/call" && params["arguments"]["text"] == "large";
        wanted.then(|| json!({"content": [{"type": "text", "text": large}]}))
    })
    .await;
    let mut setup = Setup::of([("one", server.url())]).seats(SEATS).unread_for(PATIENCE);
    setup.limits.message = 16 << 20;
    let portal = setup.start().await;
    (server, portal)
}

#[tokio::test]
async fn callers_that_do_not_read_their_answers_lose_their_seats_and_keep_nobody_out() {
    let (_server, portal) = few_seats().await;
    let mut deaf = Vec::new();
    for _ in 0..SEATS {
        let mut client = Client::modern(portal.address);
        let (headers, body) = client.message("tools/call", json!({"name": "one_echo", "arguments": {"text": "large"}}));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        deaf.push((client.open(&headers, body).await, client));
    }
    let began = Instant::now();
    // Each has a request under way, so none gives its seat up by itself.
    assert_eq!(Client::modern(portal.address).call("one_echo", json!({"text": "small"})).await.text(), "one: small");
    assert!(began.elapsed() < PATIENCE + Duration::from_secs(20), "{:?}", began.elapsed());
    let (answer, _client) = deaf.swap_remove(0);
    let rest = soon("the end of an answer that nobody read", answer.into_body().collect()).await;
    assert!(rest.is_err(), "not all of it came");
}

#[tokio::test]
async fn over_http2_a_caller_that_reads_the_connection_and_not_its_streams_loses_it_as_well() {
    let (_server, portal) = few_seats().await;
    for window in [0, 64 << 10] {
        let mut deaf = Vec::new();
        for _ in 0..SEATS {
            let stream = TcpStream::connect(portal.address).await.unwrap();
            let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
            let (mut sender, connection) = builder.initial_stream_window_size(window).handshake(TokioIo::new(stream)).await.unwrap();
            let open = tokio::spawn(connection);
            let mut client = Client::modern(portal.address);
            let (headers, body) = client.message("tools/call", json!({"name": "one_echo", "arguments": {"text": "large"}}));
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = soon("a head", sender.send_request(client.build(http::Method::POST, &headers, body.to_string()))).await.unwrap();
            assert_eq!(answer.status(), 200);
            deaf.push((answer, sender, open));
        }
        let call = Client::modern(portal.address).call("one_echo", json!({"text": "small"})).await;
        assert_eq!(call.text(), "one: small", "beside windows of {window}");
        for (_answer, _sender, open) in deaf {
            let _ = soon("the end of the connection", open).await;
        }
    }
}

#[tokio::test]
async fn a_caller_that_reads_slowly_gets_all_of_its_answer() {
    let (_server, portal) = few_seats().await;
    let mut client = Client::modern(portal.address);
    let (headers, body) = client.message("tools/call", json!({"name": "one_echo", "arguments": {"text": "large"}}));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut answer = client.open(&headers, body).await;
    let (began, mut read) = (Instant::now(), 0);
    while let Some(frame) = soon("a piece", answer.frame()).await {
        read += frame.unwrap().into_data().unwrap().len();
        if began.elapsed() < 4 * PATIENCE {
            tokio::time::sleep(PATIENCE / 8).await;
        }
    }
    assert!(read > MUCH && began.elapsed() > 2 * PATIENCE, "{read} bytes in {:?}", began.elapsed());
}

#[tokio::test]
async fn streams_that_are_silent_and_calls_that_wait_for_people_last_as_long_as_they_take() {
    // With a script, it has a stream of its own, on which it says things beside its answers.
    let server = Server::scripted("one", Speaks::Legacy, |_, _| None).await;
    let portal = Setup::of([("one", server.url())]).unread_for(PATIENCE).start().await;
    let mut client = Client::legacy(portal.address).await;
    client.call("one_echo", json!({"text": "x"})).await;
    let mut standing = client.stand().await;
    let (headers, body) = client.message("tools/call", json!({"name": "one_ask", "arguments": {}}));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut asking = client.open(&headers, body).await;
    let question = tokio::select! {
        question = next_event(asking.body_mut()) => question,
        question = next_event(&mut standing) => question,
    };
    assert_eq!(question["method"], "elicitation/create", "{question}");
    tokio::time::sleep(4 * PATIENCE).await;
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"colour": "blue"}}});
    assert_eq!(client.post(&[("mcp-session-id", &client.session())], answer).await.status, 202);
    let outcome = next_event(asking.body_mut()).await;
    assert!(outcome["result"].is_object(), "{outcome}");
    server.say("notifications/message", json!({"level": "info", "data": "still there"}));
    assert_eq!(next_event(&mut standing).await["params"]["data"], "still there");
}

#[tokio::test]
async fn a_head_has_so_many_fields_and_so_many_bytes_and_what_a_proxy_adds_fits() {
    let server = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", server.url())]).start().await;
    let status = async |fields: &str| {
        let mut stream = TcpStream::connect(portal.address).await.unwrap();
        let head = format!("GET /elsewhere HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{fields}\r\n");
        // It may be closed before all of it was sent.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = soon("an answer", stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|status| status.parse::<u16>().ok())
    };
    let fields = |count: usize| (0..count).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    assert_eq!(status(&fields(60)).await, Some(404), "what is allowed gets an answer");
    assert_eq!(status(&fields(200)).await, Some(431));
    assert_eq!(status(&format!("x: {}\r\n", "y".repeat(30 << 10))).await, Some(404));
    assert_ne!(status(&format!("x: {}\r\n", "y".repeat(200 << 10))).await, Some(404), "hyper alone would take this");
}
