//! What a server of the transport of 2024-11-05 (HTTP+SSE) logs: a session of it has one stream, on which nothing says which call it is for.

use crate::{
    Setup,
    client::{Answer, Client, next_event},
    soon,
};
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

/// The server; killed when dropped.
struct Logs {
    child: Child,
    url: String,
}

impl Logs {
    /// `None`, reported as a skip, where there is no Python.
    fn start(test: &str) -> Option<Self> {
        if !gnomon_testkit::has(test, &["python3"]) {
            return None;
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/behaviour/logs.py");
        let mut child = Command::new("python3").arg(script).stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Some(Self { child, url: format!("http://127.0.0.1:{}/sse", port.trim()) })
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Level and text of what is logged.
fn logged(message: &Value) -> Option<(String, String)> {
    let of = |member: &str| message["params"][member].as_str().unwrap_or_default().to_owned();
    (message["method"] == "notifications/message").then(|| (of("level"), of("data")))
}

fn heard(answer: &Answer) -> Vec<(String, String)> {
    answer.messages.iter().filter_map(logged).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(level, text)| ((*level).to_owned(), (*text).to_owned())).collect()
}

/// A call that logs this text, of a client of the stateless era that wants to hear from this level on.
async fn call(client: &mut Client, level: Option<&str>, text: &str, seconds: f64) -> Answer {
    let mut params = json!({"name": "one_log", "arguments": {"text": text, "seconds": seconds}});
    if let Some(level) = level {
        params["_meta"] = json!({"io.modelcontextprotocol/logLevel": level});
    }
    client.request("tools/call", params).await
}

#[tokio::test]
async fn what_a_server_over_http_and_sse_logs_is_told_within_the_call_that_asks_for_its_level_and_to_no_other() {
    let Some(server) = Logs::start("what_a_server_over_http_and_sse_logs_is_told_within_the_call_that_asks_for_its_level_and_to_no_other")
    else {
        return;
    };
    let portal = Setup::of([("one", server.url.clone())]).start().await;
    let (mut one, mut two, mut deaf) = (Client::modern(portal.address), Client::modern(portal.address), Client::modern(portal.address));
    for (level, expected) in
        [("warning", pairs(&[("warning", "x")])), ("debug", pairs(&[("debug", "x"), ("warning", "x")])), ("error", vec![])]
    {
        assert_eq!(heard(&call(&mut one, Some(level), "x", 0.0).await), expected, "{level}");
    }
    assert_eq!(heard(&call(&mut one, None, "x", 0.0).await), vec![], "who does not ask is told nothing");
    // At the same time, from different levels on; who asks for none sees none of it.
    let all = async {
        tokio::join!(call(&mut one, Some("debug"), "a", 0.2), call(&mut two, Some("warning"), "b", 0.2), call(&mut deaf, None, "c", 0.2))
    };
    let (a, b, c) = soon("the calls", all).await;
    assert_eq!((heard(&a), heard(&b), heard(&c)), (pairs(&[("debug", "a"), ("warning", "a")]), pairs(&[("warning", "b")]), vec![]));
    // From the same level on: nothing says whose it is, so it may be nobody's, and is never the other's.
    let both = async { tokio::join!(call(&mut one, Some("debug"), "a", 0.2), call(&mut two, Some("debug"), "b", 0.2)) };
    let (a, b) = soon("the calls", both).await;
    assert!(heard(&a).iter().all(|(_, text)| text == "a") && heard(&b).iter().all(|(_, text)| text == "b"), "{a:?} {b:?}");
}

/// What a client with a session is told of its call, within it or beside it.
async fn told(client: &mut Client, standing: &mut Incoming, text: &str, count: usize) -> Vec<(String, String)> {
    let answer = client.call("one_log", json!({"text": text})).await;
    let mut told = heard(&answer);
    while told.len() < count {
        told.extend(logged(&next_event(standing).await));
    }
    told.sort();
    told
}

#[tokio::test]
async fn a_session_hears_what_its_own_calls_of_such_a_server_log_from_the_level_on_that_it_set() {
    let Some(server) = Logs::start("a_session_hears_what_its_own_calls_of_such_a_server_log_from_the_level_on_that_it_set") else { return };
    let portal = Setup::of([("one", server.url.clone())]).start().await;
    let (mut one, mut two) = (Client::legacy(portal.address).await, Client::legacy(portal.address).await);
    for (client, level) in [(&mut one, "warning"), (&mut two, "debug")] {
        let set = client.request("logging/setLevel", json!({"level": level})).await;
        assert!(set.last()["result"].is_object(), "{set:?}");
    }
    let (mut of_one, mut of_two) = (one.stand().await, two.stand().await);
    let both = async { tokio::join!(told(&mut one, &mut of_one, "a", 1), told(&mut two, &mut of_two, "b", 2)) };
    let (a, b) = soon("what is logged", both).await;
    assert_eq!((a, b), (pairs(&[("warning", "a")]), pairs(&[("debug", "b"), ("warning", "b")])));
    // Nothing more comes of it: what is next is the second call's.
    let b = soon("what is logged", told(&mut two, &mut of_two, "c", 2)).await;
    assert_eq!(b, pairs(&[("debug", "c"), ("warning", "c")]));
}
