//! Small bodies that decode to a lot, a hundred at a time from one client: its neighbours are served as before, and nothing more is decoded
//! of what nobody waits for.

use crate::{
    alerts::prometheus::{Watched, home},
    support::{
        coding::Coding,
        neighbours::{Endured, Neighbours, TOOL, from},
        rules::block,
        soon,
    },
};
use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// The connections of the client that floods.
const CONNECTIONS: usize = 100;
/// A rule that must see a whole call, one that must see a whole answer, and one that must see what a server asks.
const HOLDS: &str = "gen_ai.tool.name: forbidden";
const HOLDS_ANSWERS: &str = "gen_ai.tool.call.result|contains: forbidden";
const READS_EVENTS: &str = "mcp.method.name: sampling/createMessage";

/// So many bytes of text in a message, and of blanks before it, in a thousandth of that.
fn coded(before: &str, after: &str, size: usize) -> Vec<u8> {
    Coding::Gzip.encode(format!("{}{before}{}{after}", " ".repeat(size / 2), "a".repeat(size / 2)).as_bytes())
}

/// A call that decodes to so much.
fn call(size: usize) -> Vec<u8> {
    coded(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"flood","arguments":{"p":""#, r#""}}}"#, size)
}

/// A tool server that decodes nothing: it counts the bodies that came whole, those of neighbours and others, and gives `/json` and `/events`
/// an answer that decodes to a lot.
struct Server {
    address: SocketAddr,
    calls: Arc<[AtomicUsize; 2]>,
}

impl Server {
    async fn giving(json: Vec<u8>, events: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, calls) = (listener.local_addr().unwrap(), Arc::new([const { AtomicUsize::new(0) }; 2]));
        let (counted, answers) = (calls.clone(), Arc::new([json, events]));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, counted.clone(), answers.clone()));
            }
        });
        Self { address, calls }
    }

    fn neighbours_calls(&self) -> usize {
        self.calls[0].load(Ordering::SeqCst)
    }

    fn others_calls(&self) -> usize {
        self.calls[1].load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, calls: Arc<[AtomicUsize; 2]>, answers: Arc<[Vec<u8>; 2]>) {
    let mut seen = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut seen).await {
        while let Some(end) = seen.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&seen[..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok()).unwrap_or(0);
            if seen.len() < end + 4 + length {
                break;
            }
            let body: Vec<u8> = seen.drain(..end + 4 + length).skip(end + 4).collect();
            calls[usize::from(!String::from_utf8_lossy(&body).contains(TOOL))].fetch_add(1, Ordering::SeqCst);
            let (kind, coding, answer) = match head.split(' ').nth(1) {
                Some("/json") => ("application/json", "content-encoding: gzip\r\n", &answers[0][..]),
                Some("/events") => ("text/event-stream", "content-encoding: gzip\r\n", &answers[1][..]),
                _ => ("application/json", "", &br#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#[..]),
            };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{coding}content-length: {}\r\n\r\n", answer.len());
            if stream.write_all(&[head.as_bytes(), answer].concat()).await.is_err() {
                return;
            }
        }
    }
}

/// A POST to the proxy whose head promises `length` bytes, and these of them.
fn posted(server: SocketAddr, path: &str, (length, body): (usize, &[u8]), coding: &str) -> Vec<u8> {
    let lines = format!("content-type: application/json\r\nconnection: close\r\n{coding}content-length: {length}");
    [format!("POST http://{server}{path} HTTP/1.1\r\nhost: {server}\r\n{lines}\r\n\r\n").as_bytes(), body].concat()
}

/// A way that bodies go, and the rule because of which they go so.
#[derive(Clone, Copy, Debug)]
enum Way {
    HeldRequest,
    StreamingRequest,
    HeldAnswer,
    StreamingAnswer,
    Events,
}

impl Way {
    const fn rule(self) -> Option<&'static str> {
        match self {
            Self::HeldRequest => Some(HOLDS),
            Self::HeldAnswer => Some(HOLDS_ANSWERS),
            Self::Events => Some(READS_EVENTS),
            Self::StreamingRequest | Self::StreamingAnswer => None,
        }
    }

    fn request(self, server: SocketAddr, size: usize) -> Vec<u8> {
        let plain = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"flood"}}"#;
        match self {
            Self::HeldRequest | Self::StreamingRequest => {
                let body = call(size);
                posted(server, "/rpc", (body.len(), &body), "content-encoding: gzip\r\n")
            }
            Self::HeldAnswer | Self::StreamingAnswer => posted(server, "/json", (plain.len(), plain), ""),
            Self::Events => posted(server, "/events", (plain.len(), plain), ""),
        }
    }
}

fn gnomon_with(rule: Option<&str>) -> Watched {
    let dir = home("");
    if let Some(rule) = rule {
        fs::write(dir.path().join("rules/rule.yml"), block(1, rule).text).unwrap();
    }
    Watched::at(dir, &["proxy"])
}

/// The time between the beginnings of two connections.
const APART: Duration = Duration::from_millis(5);
/// What each body of a flood decodes to that goes on while neighbours are measured.
const SIZE: usize = 16 << 20;

async fn flooded(way: Way) -> Endured {
    let json = coded(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":""#, r#""}]}}"#, SIZE);
    let event = coded(r#"data: {"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":""#, "\"}]}}\n\n", SIZE);
    let server = Server::giving(json, event).await;
    let gnomon = gnomon_with(way.rule());
    let (proxy, request) = (gnomon.proxy, Arc::new(way.request(server.address, SIZE)));
    let neighbours = Neighbours { proxy, server: server.address };
    let mut flood = JoinSet::new();
    let begun = async {
        for number in 0..CONNECTIONS {
            let request = request.clone();
            flood.spawn(async move {
                // What is looked at is what bodies cost, not a hundred connections that come in one moment.
                tokio::time::sleep(APART * number as u32).await;
                let mut stream = from(0, proxy).await?;
                stream.write_all(&request).await?;
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await?;
                std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200 "))
            });
        }
    };
    let endured = neighbours.endure(Duration::from_millis(1_000), Duration::from_millis(1_500), begun).await;
    let mut answered = 0;
    soon("the answers of the flood", async {
        while let Some(one) = flood.join_next().await {
            answered += usize::from(one.unwrap().unwrap_or(false));
        }
    })
    .await;
    println!("{way:?}: {endured:?}");
    assert_eq!((answered, server.others_calls()), (CONNECTIONS, CONNECTIONS), "{way:?}: its own calls ran once each");
    assert_eq!(server.neighbours_calls(), endured.calls, "{way:?}: and so did theirs");
    endured
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_bodies_that_decode_to_a_lot_slow_no_neighbour_whichever_way_they_go() {
    for way in [Way::HeldRequest, Way::StreamingRequest, Way::HeldAnswer, Way::StreamingAnswer, Way::Events] {
        let mut slowed = Vec::new();
        loop {
            let endured = flooded(way).await;
            if endured.unslowed() {
                break;
            }
            slowed.push(endured);
            // Other load on the machine slows the neighbours too, so the best of three runs counts.
            assert!(slowed.len() < 3, "{way:?}: neighbours wait for whom they do not know: {slowed:?}");
        }
    }
}

/// The processor time that a process has taken.
fn taken(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let ticks = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
    Duration::from_millis(ticks.sum::<u64>() * 1_000 / rustix::param::clock_ticks_per_second())
}

/// How clients leave.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// In the middle of a body.
    BeforeItsEnd,
    /// By a reset, with all of the body sent.
    ByReset,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_more_is_decoded_of_bodies_whose_clients_have_gone() {
    /// What these decode to takes several seconds.
    const LARGE: usize = 48 << 20;
    let body = call(LARGE);
    for (way, leaves) in [
        (Way::HeldRequest, Leaves::BeforeItsEnd),
        (Way::HeldRequest, Leaves::ByReset),
        (Way::StreamingRequest, Leaves::BeforeItsEnd),
        (Way::StreamingRequest, Leaves::ByReset),
    ] {
        let server = Server::giving(Vec::new(), Vec::new()).await;
        let gnomon = gnomon_with(way.rule());
        let length = body.len() + usize::from(matches!(leaves, Leaves::BeforeItsEnd));
        let request = posted(server.address, "/rpc", (length, &body), "content-encoding: gzip\r\n");
        let before = taken(gnomon.pid());
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut client = from(0, gnomon.proxy).await.unwrap();
            client.write_all(&request).await.unwrap();
            if let Leaves::ByReset = leaves {
                client.set_zero_linger().unwrap();
            }
            clients.push(client);
        }
        soon("the decoding", async {
            while taken(gnomon.pid()) < before + Duration::from_millis(500) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        drop(clients);
        // What has begun by then ends, and what ended is told.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let then = taken(gnomon.pid());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let more = taken(gnomon.pid()) - then;
        println!("{way:?}, {leaves:?}: {:?} while they were there, {more:?} after", then - before);
        assert!(more < Duration::from_millis(200), "{way:?}, {leaves:?}: {more:?} of processor in a second");
        assert_eq!(server.others_calls(), 0, "{way:?}, {leaves:?}: none of them came whole");
    }
}
