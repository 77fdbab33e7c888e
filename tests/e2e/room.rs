//! What is held of requests that are not whole has a bound in all and for each principal, whatever carries them.

use crate::{
    alerts::prometheus::{Watched, home},
    support::{
        coding::brotli_with_large_window,
        gnomon::Gnomon,
        lenient::Lenient,
        neighbours::{Endured, Neighbours, best_of_three, from, resident},
        rules::{block, rule},
        soon,
        upstream::{Answer, Upstream},
    },
};
use bytes::Bytes;
use gnomon_inspect::Passage;
use http::Request;
use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// A rule that must see a call's whole message.
const FORBIDDEN: &str = "gen_ai.tool.name: forbidden";
/// The beginning of a call: its arguments never end.
fn begun() -> Bytes {
    let argument = "a".repeat(60_000);
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"forbidden","arguments":{{"p":"{argument}"#).into()
}

/// A request to the proxy whose head promises `length` bytes, and these of them.
fn posted(server: SocketAddr, length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST http://{server}/rpc HTTP/1.1\r\nhost: {server}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Says this to the proxy from a neighbour's address.
async fn said(number: u8, proxy: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = from(number, proxy).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

async fn heard(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    let _ = soon("an answer", stream.read_to_string(&mut answer)).await;
    answer
}

fn left_unread(gnomon: &Gnomon) -> u64 {
    let line = format!("gnomon_passed_total{{reason=\"{}\"}} ", Passage::NoRoom.reason());
    gnomon.metrics().lines().find_map(|l| l.strip_prefix(&line)?.parse().ok()).unwrap()
}

#[tokio::test]
async fn a_call_that_there_is_no_room_to_judge_is_refused_and_told_of_and_neighbours_have_theirs() {
    let server = Lenient::start().await;
    // Room for one such call of each, and a little more.
    let gnomon = Gnomon::with().rules([block(1, FORBIDDEN)]).held_bytes(1 << 20).start().await;
    let begun = begun();
    let one = said(0, gnomon.address, &posted(server.address, 70_000, &begun)).await;
    let two = said(0, gnomon.address, &posted(server.address, 70_000, &begun)).await;
    // Another's is held meanwhile, and one that is whole needs no room.
    let other = said(1, gnomon.address, &posted(server.address, 70_000, &begun)).await;
    let [mut first, mut second] = [[0; 1]; 2];
    let one_is_refused = tokio::select! {
        _ = one.peek(&mut first) => true,
        _ = two.peek(&mut second) => false,
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("neither is refused"),
    };
    let (refused, held) = if one_is_refused { (one, two) } else { (two, one) };
    let answer = heard(refused).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 2"), "{answer}");
    let whole = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"other"}}"#;
    assert!(heard(said(0, gnomon.address, &posted(server.address, whole.len(), whole.as_bytes())).await).await.ends_with("ran"));
    assert_eq!(server.calls(), 1);
    let events = gnomon.events_until(2).await;
    let refused = events.iter().filter(|event| event["gnomon.passage"] == "no_room" && event["gnomon.action"] == "block").count();
    assert_eq!((refused, left_unread(&gnomon)), (1, 0), "{events:#?}");
    // What is over gives its room back.
    drop(held);
    let rest = "a".repeat(70_000 - begun.len() - 3);
    let mut again = said(0, gnomon.address, &posted(server.address, 70_000, &begun)).await;
    again.write_all(format!("{rest}\"}}").as_bytes()).await.unwrap();
    again.write_all(b"}").await.unwrap();
    let answer = heard(again).await;
    assert!(!answer.starts_with("HTTP/1.1 503 ") && server.calls() == 1, "{answer}");
    drop(other);
}

#[tokio::test]
async fn where_no_rule_could_match_what_there_is_no_room_for_passes_and_is_an_event() {
    let server = Lenient::start().await;
    let gnomon = Gnomon::with().held_bytes(64 << 10).start().await;
    let begun = begun();
    let mut stream = said(0, gnomon.address, &posted(server.address, begun.len() + 4, &begun)).await;
    stream.write_all(b"\"}}}").await.unwrap();
    let answer = heard(stream).await;
    assert!(answer.ends_with("ran"), "{answer}");
    assert_eq!((server.calls(), left_unread(&gnomon)), (1, 1));
    assert_eq!(told(&gnomon.events_until(1).await), [1]);
}

/// For how many requests each event stands that passed as there was no room.
fn told(events: &[serde_json::Value]) -> Vec<u64> {
    let unread = |event: &&serde_json::Value| event["gnomon.passage"] == "no_room" && event["gnomon.action"] == "allow";
    events.iter().filter(unread).map(|event| event["gnomon.calls"].as_u64().unwrap_or(1)).collect()
}

#[tokio::test]
async fn a_call_that_rules_only_log_is_an_event_though_its_client_fills_all_the_room_it_has() {
    let server = Lenient::start().await;
    let log = rule(1, "Logged", FORBIDDEN, "action: log");
    let gnomon = Gnomon::with().rules([log]).held_bytes(64 << 10).start().await;
    // Nothing interferes, so its bytes pass as they come, and those that make it a call come late.
    let start = format!(r#"{{"jsonrpc":"2.0","id":1,"params":{{"arguments":{{"p":"{}"#, "a".repeat(20_000));
    let rest = r#""},"name":"forbidden"},"method":"tools/call"}"#;
    let mut stream = said(0, gnomon.address, &posted(server.address, start.len() + rest.len(), start.as_bytes())).await;
    soon("the beginning at the server", async {
        while server.got().len() < start.len() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    stream.write_all(rest.as_bytes()).await.unwrap();
    let answer = heard(stream).await;
    assert!(answer.ends_with("ran") && server.calls() == 1, "{answer}");
    assert_eq!(told(&gnomon.events_until(1).await), [1]);
}

/// Requests that are not whole on so many HTTP/2 connections of one client, as many as each takes.
async fn unfinished(proxy: SocketAddr, server: SocketAddr, connections: usize) {
    let body = begun();
    let mut kept = Vec::new();
    for _ in 0..connections {
        let Ok(mut stream) = from(0, proxy).await else { continue };
        let connect = format!("CONNECT {server} HTTP/1.1\r\nhost: {server}\r\n\r\n");
        let mut head = [0; 128];
        if stream.write_all(connect.as_bytes()).await.is_err() || stream.read(&mut head).await.is_err() {
            continue;
        }
        let Ok((mut send, connection)) = h2::client::handshake(stream).await else { continue };
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        let mut streams = Vec::new();
        for _ in 0..128 {
            let Ok(Ok(ready)) = tokio::time::timeout(Duration::from_millis(200), send.clone().ready()).await else { break };
            send = ready;
            let request = Request::post(format!("http://{server}/rpc")).header("content-type", "application/json").body(()).unwrap();
            let Ok((answer, mut sent)) = send.send_request(request, false) else { break };
            let _ = sent.send_data(body.clone(), false);
            streams.push((answer, sent));
        }
        kept.push((send, connection, streams));
    }
    std::future::pending::<()>().await;
    drop(kept);
}

/// What a fault adds to the memory of gnomon is bounded, and neighbours are measured meanwhile.
async fn unfinished_with_neighbours() -> ((), Endured) {
    /// Connections: what one user may have is more, and a tenth of a gibibyte less than would do without a bound.
    const CONNECTIONS: usize = 48;
    /// What docs/threat-model.md says of one user: its part of the room, its windows, the exchanges themselves.
    const BOUND: u64 = 256 << 20;
    let server = Lenient::start().await;
    let dir = home("");
    fs::write(dir.path().join("rules/forbidden.yml"), block(1, FORBIDDEN).text).unwrap();
    let gnomon = Watched::at(dir, &["proxy"]);
    let neighbours = Neighbours { proxy: gnomon.proxy, server: server.address };
    let before = resident(gnomon.pid());
    let fault = unfinished(gnomon.proxy, server.address, CONNECTIONS);
    let endured = neighbours.endure(Duration::from_millis(1_000), Duration::from_secs(8), fault).await;
    let grown = resident(gnomon.pid()).saturating_sub(before);
    println!("{} MiB more", grown >> 20);
    assert!(grown < BOUND, "{} MiB", grown >> 20);
    assert_eq!(server.calls(), endured.calls as u64, "each of theirs ran once, and none of those");
    ((), endured)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_end_on_many_connections_keep_within_their_bytes_and_neighbours_are_served() {
    best_of_three(unfinished_with_neighbours).await;
}

#[tokio::test]
async fn events_that_are_not_whole_share_the_bytes_too_and_others_have_theirs() {
    const STREAMS: usize = 8;
    let pieces = Arc::new(Mutex::new(Vec::new()));
    let feeds = pieces.clone();
    let upstream = Upstream::without_tls(move |received| {
        received.end?;
        let (answer, feed) = Answer::events();
        let text = "a".repeat(60_000);
        feed.send(format!(r#"data: {{"jsonrpc":"2.0","id":1,"result":{{"text":"{text}"#).into_bytes()).unwrap();
        feeds.lock().unwrap().push(feed);
        Some(answer)
    })
    .await;
    // Room for three or so of each.
    let gnomon = Gnomon::with().rules([block(1, "gnomon.tools: evil_tool")]).held_bytes(1 << 20).start().await;
    let server = upstream.address;
    let get = format!("GET http://{server}/sse HTTP/1.1\r\nhost: {server}\r\naccept: text/event-stream\r\n\r\n");
    let ended = Arc::new(Mutex::new(0));
    let mut reading = tokio::task::JoinSet::new();
    for _ in 0..STREAMS {
        let (mut stream, ended) = (said(0, gnomon.address, get.as_bytes()).await, ended.clone());
        reading.spawn(async move {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            *ended.lock().unwrap() += 1;
        });
    }
    let broken = || *ended.lock().unwrap();
    soon("those for which there is no room", async {
        while broken() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // Another's is held meanwhile, and comes whole.
    let mut other = said(1, gnomon.address, get.as_bytes()).await;
    let mut head = [0; 12];
    soon("a head", other.read_exact(&mut head)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!((3..STREAMS).contains(&broken()), "{}", broken());
    let last = pieces.lock().unwrap().pop().unwrap();
    last.send(b"\"}}\n\n".to_vec()).unwrap();
    let mut rest = Vec::new();
    soon("the event", async {
        while !rest.ends_with(b"\"}}\n\n\r\n") {
            assert!(other.read_buf(&mut rest).await.unwrap() > 0, "{}", rest.len());
        }
    })
    .await;
    assert!(rest.len() > 60_000, "{}", rest.len());
}

/// A server that reads so many bytes of each connection and answers nothing; and how many of them it has read all of.
async fn silent(bytes: usize) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, whole) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let counts = whole.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counts = counts.clone();
            tokio::spawn(async move {
                let (mut piece, mut left) = (vec![0; 64 << 10], bytes);
                while let Ok(read @ 1..) = stream.read(&mut piece).await {
                    left = left.saturating_sub(read);
                    if left == 0 {
                        counts.fetch_add(1, Ordering::Relaxed);
                        return std::future::pending::<()>().await;
                    }
                }
            });
        }
    });
    (address, whole)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_whose_answers_do_not_come_keep_within_the_bytes_too() {
    /// Of each exchange so many calls go on waiting once they were told of without their answers, after two seconds. With what a rule reads of
    /// their arguments these are 234 MiB, which would all be kept without the bound.
    const CLIENTS: usize = 256;
    const CALLS: usize = 16;
    /// The part of one user (48 MiB), what is on its way to the server, and the allocator's slack.
    const BOUND: u64 = 128 << 20;
    let argument = "a".repeat(60_000);
    let call =
        |id| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"kept","arguments":{{"p":"{argument}"}}}}}}"#);
    let batch = format!("[{}]", (0..CALLS).map(call).collect::<Vec<_>>().join(","));
    // What arrives there is no less than the body.
    let (server, whole) = silent(batch.len()).await;
    let dir = home("");
    let reads = rule(1, "Reads arguments", "gen_ai.tool.call.arguments.p: forbidden", "action: log");
    fs::write(dir.path().join("rules/reads.yml"), reads.text).unwrap();
    let gnomon = Watched::at(dir, &["proxy"]);
    let before = resident(gnomon.pid());
    let request = posted(server, batch.len(), batch.as_bytes());
    let mut kept = Vec::new();
    for _ in 0..CLIENTS {
        kept.push(said(0, gnomon.proxy, &request).await);
    }
    soon("all of them at the server", async {
        while whole.load(Ordering::Relaxed) < CLIENTS as u64 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let grown = resident(gnomon.pid()).saturating_sub(before);
    println!("{} MiB more", grown >> 20);
    assert!(grown < BOUND, "{} MiB", grown >> 20);
    drop(kept);
}

/// The same of small bodies whose decoders take much.
async fn decoders_with_neighbours() -> ((), Endured) {
    /// Each of these has a window of 16 MiB, of a few bytes.
    const REQUESTS: usize = 96;
    /// The part of one user, 48 MiB, and what each makes before it is charged, at most a mebibyte.
    const BOUND: u64 = 176 << 20;
    let server = Lenient::start().await;
    let dir = home("");
    fs::write(dir.path().join("rules/forbidden.yml"), block(1, FORBIDDEN).text).unwrap();
    let gnomon = Watched::at(dir, &["proxy"]);
    let mut plain = begun().to_vec();
    plain.resize(24 << 20, b'a');
    let coded = brotli_with_large_window(&plain);
    assert!(coded.len() < 64 << 10, "{}", coded.len());
    let (proxy, address) = (gnomon.proxy, server.address);
    let neighbours = Neighbours { proxy, server: address };
    let before = resident(gnomon.pid());
    let peak = Arc::new(AtomicU64::new(0));
    let (highest, pid) = (peak.clone(), gnomon.pid());
    let fault = async move {
        let head = format!(
            "POST http://{address}/rpc HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-encoding: br\r\ncontent-length: {}\r\n\r\n",
            coded.len() + 1
        );
        let request = [head.as_bytes(), &coded].concat();
        let mut kept = Vec::new();
        for _ in 0..REQUESTS {
            if let Ok(mut stream) = from(0, proxy).await {
                let _ = stream.write_all(&request).await;
                kept.push(stream);
            }
        }
        loop {
            let now = resident(pid);
            highest.fetch_max(now, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let endured = neighbours.endure(Duration::from_millis(1_000), Duration::from_secs(6), fault).await;
    let grown = peak.load(Ordering::Relaxed).saturating_sub(before);
    println!("{} MiB more", grown >> 20);
    assert!(grown > 16 << 20 && grown < BOUND, "{} MiB", grown >> 20);
    assert_eq!(server.calls(), endured.calls as u64, "each of theirs ran once, and none of those");
    ((), endured)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_decoders_of_small_bodies_take_keeps_within_the_bytes_too_and_neighbours_are_served() {
    best_of_three(decoders_with_neighbours).await;
}
