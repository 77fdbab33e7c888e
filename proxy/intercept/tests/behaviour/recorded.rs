//! Every call that a server executed is recorded, with the time at which it was made, whatever the server, the client and a stop of gnomon
//! do meanwhile. Executions are counted at the server, which acts on a call as soon as it has received it.

use gnomon_record::{Duty, Left};
use gnomon_stage::{
    client::{Ends, H1, H2},
    coding::Coding,
    gnomon::Gnomon,
    request::{call, h1_head, h1_post, h2_post, request},
    rules, soon,
    upstream::{Answer, End, Received, Upstream},
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::Mutex,
    time::{Duration, Instant, SystemTime},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

const HTTP1: &[&str] = &["http/1.1"];
/// What is promised: an event within two seconds of its call.
const PROMISED: Duration = Duration::from_secs(2);
/// What a loaded machine may add, where the attendant, the writer of the file and the test wait for a processor. An event that waits for
/// anything else comes far later: for the end of its call, for a stop, or for another bound than the recorder's second and a half.
const SLACK: Duration = Duration::from_secs(2);

/// The defect that a duty of this test has: every road counts what is lost by it.
#[derive(Clone, Copy)]
enum Defect {
    /// Its worker says that it is over, and records nothing.
    Forgotten,
    /// It panics when it is recorded.
    Fails,
}

impl Duty for Defect {
    fn look(&self, _: Instant) {}

    fn settle(&self, _: Left) {
        assert!(!matches!(self, Self::Fails), "a defect that this test made");
    }

    fn is_recorded(&self) -> bool {
        false
    }
}

/// The metrics as a scraper gets them.
async fn scraped(gnomon: &Gnomon) -> String {
    let mut stream = TcpStream::connect(gnomon.metrics_address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// The time at which the event says that its call was seen.
fn seen(event: &Value) -> SystemTime {
    OffsetDateTime::parse(event["@timestamp"].as_str().unwrap(), &Rfc3339).unwrap().into()
}

/// Whether that is within 1.2 seconds of `made`: the time of the call, not of its answer or of the report.
fn close_to(event: &Value, made: SystemTime) -> bool {
    let (seen, slack) = (seen(event), Duration::from_millis(1));
    let late = seen.duration_since(made - slack).expect("not before it was made");
    // A loaded machine may take a while to read a call; reports are written later than this.
    late < Duration::from_millis(1200)
}

/// Waits until the server has a call, and says when that was.
pub async fn at_the_server(upstream: &Upstream) -> Instant {
    upstream.until("the call at the server", |all| all.iter().any(|one| !one.executed.is_empty())).await;
    Instant::now()
}

/// The events of calls, which are in their file in the time that is promised, counted from when the server had the call. The file is read
/// as anybody else would read it: nothing makes gnomon write it earlier.
pub async fn in_time(gnomon: &Gnomon, since: Instant) -> Vec<Value> {
    let file = gnomon.state_dir().join("events.jsonl");
    let calls = soon("the event of the call in its file", async {
        loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            // The last line may not be whole yet.
            let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let calls: Vec<Value> = events.filter(|event| event["gen_ai.tool.name"].is_string()).collect();
            if !calls.is_empty() {
                return calls;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let took = since.elapsed();
    assert!(took < PROMISED + SLACK, "the event came {took:?} after the server had the call: {calls:#?}");
    calls
}

fn executed(upstream: &Upstream) -> usize {
    upstream.executed().len()
}

#[tokio::test]
async fn a_call_to_a_server_that_says_nothing_is_reported_without_its_answer_over_http1() {
    let upstream = Upstream::answering(HTTP1, |_| Some(Answer::Nothing)).await;
    let gnomon = Gnomon::with().rules(rules::shipped()).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let made = SystemTime::now();
    client.write(&h1_post("/rpc", call(1, "carry_out").to_string().as_bytes())).await;
    let events = in_time(&gnomon, at_the_server(&upstream).await).await;
    assert_eq!((&events[0]["gen_ai.tool.name"], &events[0]["gnomon.pending"]), (&json!("carry_out"), &json!(true)));
    assert!(close_to(&events[0], made), "{:#}", events[0]);
    assert_eq!(executed(&upstream), 1);
    drop(client);
    let events = gnomon.finish().await;
    assert_eq!(events.len(), 2, "and what became of it: {events:#?}");
    assert_eq!(events[1]["gnomon.observation.id"], events[0]["gnomon.observation.id"]);
    assert!(events[1]["error.type"].is_string(), "{:#}", events[1]);
}

#[tokio::test]
async fn a_call_to_a_server_that_says_nothing_is_reported_over_http2_and_a_reset_reaches_the_server() {
    let upstream = Upstream::answering(&["h2"], |_| Some(Answer::Nothing)).await;
    let gnomon = Gnomon::with().rules(rules::shipped()).before(&upstream).await;
    let mut client = H2::connect(&gnomon).await;
    let made = SystemTime::now();
    let (response, mut body) = client.begin(h2_post("/rpc", Coding::Identity), Ends::WithBody).await;
    body.send_data(call(1, "carry_out").to_string().into(), true).unwrap();
    let events = in_time(&gnomon, at_the_server(&upstream).await).await;
    assert!(events[0]["gnomon.pending"] == true && close_to(&events[0], made), "{:#}", events[0]);
    body.send_reset(h2::Reason::CANCEL);
    drop(response);
    let gone = |all: &[Received]| all.iter().any(|one| one.end == Some(End::Reset(8)));
    upstream.until("the reset at the server", gone).await;
    let events = gnomon.events_until(2).await;
    assert_eq!((&events[1]["event.kind"], &events[1]["error.type"]), (&json!("outcome"), &json!("client_aborted")));
    assert!(gnomon.metrics().contains("gnomon_unfinished_total 0\n"));
}

#[tokio::test]
async fn a_call_over_the_legacy_transport_is_reported_though_nothing_answers_it_on_the_event_stream() {
    for accepted in [Some(202), None] {
        let (stream, feed) = Answer::events();
        let stream = Mutex::new(Some(stream));
        let upstream = Upstream::answering(HTTP1, move |received| {
            received.end?;
            match received.path.as_str() {
                "/sse" => stream.lock().unwrap().take(),
                _ => Some(accepted.map_or(Answer::Nothing, Answer::status)),
            }
        })
        .await;
        let gnomon = Gnomon::with().rules(rules::shipped()).before(&upstream).await;
        let mut listener = H1::connect(&gnomon).await;
        listener.write(&h1_head("GET", "/sse", "accept: text/event-stream\r\n")).await;
        assert_eq!(listener.head().await.unwrap().status, 200);
        let path = "/messages?sessionId=0123456789abcdef";
        feed.send(format!("event: endpoint\ndata: {path}\n\n").into_bytes()).unwrap();
        assert!(listener.chunk().await.unwrap().is_some());
        let mut poster = H1::connect(&gnomon).await;
        let made = SystemTime::now();
        poster.write(&h1_post(path, call(1, "carry_out").to_string().as_bytes())).await;
        let since = at_the_server(&upstream).await;
        if let Some(status) = accepted {
            assert_eq!(poster.head().await.unwrap().status, status);
        }
        let events = in_time(&gnomon, since).await;
        assert_eq!((&events[0]["gen_ai.tool.name"], executed(&upstream)), (&json!("carry_out"), 1), "{accepted:?}");
        assert!(close_to(&events[0], made), "{accepted:?}: {:#}", events[0]);
        drop((feed, listener, poster));
    }
}

#[tokio::test]
async fn what_ends_without_being_recorded_is_counted_while_gnomon_runs_and_costs_no_other_its_record() {
    let upstream = Upstream::answering(HTTP1, |_| Some(Answer::Nothing)).await;
    let gnomon = Gnomon::with().rules(rules::shipped()).before(&upstream).await;
    assert!(scraped(&gnomon).await.contains("\ngnomon_unfinished_total 0\n"));
    let recorder = gnomon.recorder();
    assert!(recorder.duties().take_on(Defect::Forgotten).finish());
    gnomon.metrics_until("gnomon_unfinished_total 1").await;
    // What fails while it is recorded is handed over together with a call whose client leaves.
    let mut client = H1::connect(&gnomon).await;
    client.write(&h1_post("/rpc", call(1, "carry_out").to_string().as_bytes())).await;
    upstream.until("the call at the server", |all| !all.is_empty()).await;
    drop(recorder.duties().take_on(Defect::Fails));
    drop((recorder, client));
    gnomon.metrics_until("gnomon_unfinished_total 2").await;
    let events = gnomon.events_until(1).await;
    assert_eq!(events[0]["gen_ai.tool.name"], json!("carry_out"));
    // Scrapers that come one after the other get the same page for a while.
    soon("the scraped metrics", async {
        while !scraped(&gnomon).await.contains("\ngnomon_unfinished_total 2\n") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_rule_finds_in_an_answer_that_was_long_in_coming_is_reported_as_well() {
    let (answer, feed) = Answer::events();
    let answer = Mutex::new(Some(answer));
    let upstream = Upstream::answering(HTTP1, move |received| received.executed.first().and_then(|_| answer.lock().unwrap().take())).await;
    let gnomon = Gnomon::with()
        .rules([rules::rule(1, "A tool that is watched for", "gnomon.tools|contains: evil_tool", "action: log")])
        .before(&upstream)
        .await;
    let mut client = H1::connect(&gnomon).await;
    let made = SystemTime::now();
    client.write(&h1_post("/rpc", request(7, "tools/list").to_string().as_bytes())).await;
    client.head().await.unwrap();
    let early = gnomon.events_until(1).await;
    assert!(early[0]["gnomon.pending"] == true && early[0].get("rule.id").is_none(), "{:#}", early[0]);
    let list = r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"evil_tool","inputSchema":{"type":"object"}}]}}"#;
    feed.send(format!("data: {list}\n\n").into_bytes()).unwrap();
    drop(feed);
    while client.chunk().await.unwrap().is_some() {}
    drop(client);
    let events = gnomon.finish().await;
    let found = events.iter().find(|event| event["rule.id"].is_string()).unwrap_or_else(|| panic!("not found: {events:#?}"));
    assert_eq!(found["gnomon.observation.id"], early[0]["gnomon.observation.id"], "it is the same call");
    assert!(close_to(found, made), "{found:#}");
}

#[tokio::test]
async fn a_stop_records_every_call_that_a_server_has_and_not_answered() {
    for protocols in [HTTP1, &["h2"]] {
        let upstream = Upstream::answering(protocols, |_| Some(Answer::Nothing)).await;
        let gnomon = Gnomon::with().rules(rules::shipped()).drain(Duration::from_millis(200)).before(&upstream).await;
        let (mut h1, mut h2) = (Vec::new(), Vec::new());
        for number in 0..6 {
            let body = call(number, "carry_out").to_string();
            if protocols == HTTP1 {
                let mut client = H1::connect(&gnomon).await;
                client.write(&h1_post("/rpc", body.as_bytes())).await;
                h1.push(client);
            } else {
                let mut client = H2::connect(&gnomon).await;
                let (response, mut sent) = client.begin(h2_post("/rpc", Coding::Identity), Ends::WithBody).await;
                sent.send_data(body.into(), true).unwrap();
                h2.push((client, response, sent));
            }
        }
        upstream.until("all calls at the server", |all| all.iter().map(|one| one.executed.len()).sum::<usize>() >= 6).await;
        let recorder = gnomon.recorder();
        let events = gnomon.finish().await;
        let calls = events.iter().filter(|event| event["gen_ai.tool.name"] == "carry_out").count();
        assert_eq!(calls, executed(&upstream), "over {protocols:?}: {events:#?}");
        assert_eq!(recorder.duties().open(), 0);
        drop((h1, h2));
    }
}

/// A server for HTTP/1.1 without TLS that reports what it sees of its clients after their request.
mod plain {
    use std::{net::SocketAddr, time::Duration};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::mpsc,
    };

    /// What the server saw of a client.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Saw {
        Request,
        Fin,
        Reset,
    }

    /// Answers a request `after` its client's FIN, and never if the connection was reset.
    pub async fn server(after: Duration) -> (SocketAddr, mpsc::UnboundedReceiver<Saw>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let mut read = Vec::new();
                    let mut buffer = [0; 4096];
                    loop {
                        match stream.read(&mut buffer).await {
                            Ok(0) => {
                                let _ = tell.send(Saw::Fin);
                                tokio::time::sleep(after).await;
                                let body = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
                                let head =
                                    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
                                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                                return;
                            }
                            Ok(n) => {
                                read.extend_from_slice(&buffer[..n]);
                                if read.ends_with(b"}}") {
                                    let _ = tell.send(Saw::Request);
                                }
                            }
                            Err(_) => {
                                let _ = tell.send(Saw::Reset);
                                return;
                            }
                        }
                    }
                });
            }
        });
        (address, told)
    }
}

/// A client without TLS whose server has received its call and not answered it yet.
async fn waiting(gnomon: &Gnomon, server: SocketAddr, told: &mut mpsc::UnboundedReceiver<plain::Saw>) -> H1<TcpStream> {
    let mut client = H1::over(TcpStream::connect(gnomon.address).await.unwrap());
    let body = call(1, "carry_out").to_string();
    let head = format!(
        "POST http://{server}/rpc HTTP/1.1\r\nhost: {server}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.write(format!("{head}{body}").as_bytes()).await;
    assert_eq!(soon("the request at the server", told.recv()).await, Some(plain::Saw::Request));
    client
}

#[tokio::test]
async fn a_client_that_ends_its_side_and_reads_on_is_answered_and_its_server_sees_the_end() {
    let (server, mut told) = plain::server(Duration::from_millis(100)).await;
    let gnomon = Gnomon::with().rules(rules::shipped()).start().await;
    let mut client = waiting(&gnomon, server, &mut told).await;
    let since = Instant::now();
    client.stream.shutdown().await.unwrap();
    assert_eq!(soon("the end at the server", told.recv()).await, Some(plain::Saw::Fin));
    assert_eq!(soon("the answer", client.head()).await.unwrap().status, 200);
    let events = in_time(&gnomon, since).await;
    assert!(events[0].get("error.type").is_none(), "it was answered: {:#}", events[0]);
    // The next client's request is not sent over the connection that was ended.
    drop(client);
    drop(waiting(&gnomon, server, &mut told).await);
}

#[tokio::test]
async fn a_client_that_resets_takes_its_call_back_at_the_server_and_that_is_recorded() {
    let (server, mut told) = plain::server(Duration::from_secs(60)).await;
    let gnomon = Gnomon::with().rules(rules::shipped()).start().await;
    let client = waiting(&gnomon, server, &mut told).await;
    let since = Instant::now();
    client.stream.set_zero_linger().unwrap();
    drop(client);
    assert!(matches!(soon("the end at the server", told.recv()).await, Some(plain::Saw::Fin | plain::Saw::Reset)));
    let events = in_time(&gnomon, since).await;
    assert_eq!((&events[0]["gen_ai.tool.name"], &events[0]["error.type"]), (&json!("carry_out"), &json!("client_aborted")));
}
