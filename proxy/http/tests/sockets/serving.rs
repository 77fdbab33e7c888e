//! An HTTP listener is bounded, whoever connects.

use bytes::Bytes;
use gnomon_http::server::{Plain, listen};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use prometheus::IntCounter;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, timeout},
};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);
/// More than all buffers of a loopback connection hold.
const MUCH: usize = 64 << 20;

const FEW: Plain = Plain {
    name: "tests",
    connections: 4,
    head: Duration::from_secs(600),
    unread: Duration::from_millis(300),
    drain: Duration::from_secs(600),
    turned_away: None,
};

struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Served {
    async fn start(plain: Plain) -> Self {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(plain.serve(listener, answer, async { _ = stopped.await }));
        Self { address, stop, ended }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(SOON, self.ended).await.expect("it ends").unwrap();
    }
}

fn answer(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let body = if request.uri().path() == "/much" { Bytes::from(vec![b'x'; MUCH]) } else { Bytes::from_static(b"ok") };
    Response::new(Full::new(body))
}

async fn ask(stream: &mut TcpStream, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
}

async fn is_answered(stream: &mut TcpStream) -> bool {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\nok") {
        match timeout(SOON, stream.read_buf(&mut read)).await.expect("something comes") {
            Ok(bytes) if bytes > 0 => {}
            _ => return false,
        }
    }
    true
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn connections_that_say_nothing_make_room_for_one_that_asks() {
    let served = Served::start(FEW).await;
    let mut silent = Vec::new();
    for _ in 0..FEW.connections {
        silent.push(served.connect().await);
    }
    // One of them has sent one request, and nothing since.
    ask(&mut silent[0], "/").await;
    assert!(is_answered(&mut silent[0]).await);
    let mut one = served.connect().await;
    ask(&mut one, "/").await;
    assert!(is_answered(&mut one).await);
    assert!(is_closed(&mut silent[1]).await, "the oldest that is silent");
    served.stop().await;
}

/// Sends a head one byte at a time, and reconnects when closed.
async fn drips(address: SocketAddr) {
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        let mut byte = [0];
        for sent in b"GET / HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'x')) {
            if stream.write_all(&[*sent]).await.is_err() || timeout(Duration::from_millis(100), stream.read(&mut byte)).await.is_ok() {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_drip_heads_and_reconnect_take_no_place_from_others() {
    let served = Served::start(Plain { connections: 32, ..FEW }).await;
    let mut dripping = tokio::task::JoinSet::new();
    (0..300).for_each(|_| _ = dripping.spawn(drips(served.address)));
    tokio::time::sleep(Duration::from_millis(500)).await;
    for number in 0..10 {
        let asked = async {
            let mut one = served.connect().await;
            ask(&mut one, "/").await;
            is_answered(&mut one).await
        };
        assert_eq!(timeout(Duration::from_secs(1), asked).await, Ok(true), "{number}");
    }
    dripping.shutdown().await;
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_loses_its_connection_and_takes_no_place_from_others() {
    let served = Served::start(FEW).await;
    let mut deaf = Vec::new();
    for _ in 0..FEW.connections {
        let mut one = served.connect().await;
        ask(&mut one, "/much").await;
        deaf.push(one);
    }
    let mut one = served.connect().await;
    ask(&mut one, "/").await;
    assert!(is_answered(&mut one).await);
    let mut rest = Vec::new();
    let read = timeout(SOON, deaf[0].read_to_end(&mut rest)).await.expect("it was closed");
    assert!(read.is_err() || rest.len() < MUCH, "not all of it came");
    served.stop().await;
}

#[tokio::test]
async fn a_head_that_does_not_come_in_its_time_ends_the_connection() {
    let served = Served::start(Plain { head: Duration::from_millis(200), ..FEW }).await;
    let mut slow = served.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    assert!(is_closed(&mut slow).await);
    served.stop().await;
}

#[tokio::test]
async fn a_stop_lets_an_answer_finish_ends_what_is_idle_and_leaves_nothing_behind() {
    let served = Served::start(Plain { unread: Duration::from_secs(600), ..FEW }).await;
    let mut idle = served.connect().await;
    ask(&mut idle, "/").await;
    assert!(is_answered(&mut idle).await);
    let mut slow = served.connect().await;
    ask(&mut slow, "/much").await;
    let mut first = [0; 64];
    let _ = slow.read_exact(&mut first).await.unwrap();
    let address = served.address;
    let stopping = tokio::spawn(served.stop());
    assert!(is_closed(&mut idle).await);
    assert!(!stopping.is_finished(), "an answer is under way");
    let mut read = first.to_vec();
    timeout(SOON, slow.read_to_end(&mut read)).await.unwrap().unwrap();
    assert!(read.len() > MUCH, "{}", read.len());
    stopping.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn what_is_under_way_when_the_drain_is_over_is_cut_off() {
    let served = Served::start(Plain { unread: Duration::from_secs(600), drain: Duration::from_millis(200), ..FEW }).await;
    let mut deaf = served.connect().await;
    ask(&mut deaf, "/much").await;
    let mut first = [0; 64];
    let _ = deaf.read_exact(&mut first).await.unwrap();
    let began = Instant::now();
    served.stop().await;
    assert!(began.elapsed() >= Duration::from_millis(200));
    let mut rest = Vec::new();
    let read = timeout(SOON, deaf.read_to_end(&mut rest)).await.expect("it was closed");
    assert!(read.is_err() || rest.len() < MUCH);
}

#[tokio::test]
async fn an_address_that_has_its_share_is_turned_away_and_counted_and_others_are_served() {
    let counter = IntCounter::new("turned_away", "Connections.").unwrap();
    let patient = Plain { unread: Duration::from_secs(600), drain: Duration::from_millis(200), ..FEW };
    let served = Served::start(Plain { turned_away: Some(counter.clone()), ..patient }).await;
    let elsewhere = async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
        socket.connect(served.address).await.unwrap()
    };
    let mut busy = Vec::new();
    for _ in 0..FEW.connections - 1 {
        let mut one = elsewhere().await;
        ask(&mut one, "/much").await;
        let mut first = [0; 64];
        let _ = one.read_exact(&mut first).await.unwrap();
        busy.push(one);
    }
    assert_eq!(counter.get(), 0);
    assert!(is_closed(&mut elsewhere().await).await);
    assert_eq!(counter.get(), 1);
    let mut another = served.connect().await;
    ask(&mut another, "/").await;
    assert!(is_answered(&mut another).await);
    assert_eq!(counter.get(), 1);
    served.stop().await;
}

/// Connects and sends nothing until closed, as often as it can.
async fn floods(address: SocketAddr) {
    let mut held = std::collections::VecDeque::new();
    loop {
        if let Ok(stream) = TcpStream::connect(address).await {
            held.push_back(stream);
        }
        if held.len() > 64 {
            held.pop_front();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_takes_no_seat_from_a_client_that_has_sent_something_or_is_served() {
    let served = Served::start(Plain { connections: 64, ..FEW }).await;
    let mut seated = served.connect().await;
    ask(&mut seated, "/").await;
    assert!(is_answered(&mut seated).await);
    let mut flood = tokio::task::JoinSet::new();
    (0..32).for_each(|_| _ = flood.spawn(floods(served.address)));
    let until = Instant::now() + Duration::from_secs(3);
    let mut calls = 0;
    while calls < 20 || Instant::now() < until {
        // The flood may fill the kernel's queue; clients then retry. Those that are accepted are served.
        let mut one = timeout(SOON, served.connect()).await.unwrap();
        one.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        one.write_all(b"host: a\r\n\r\n").await.unwrap();
        assert!(is_answered(&mut one).await, "call {calls}");
        ask(&mut seated, "/").await;
        assert!(is_answered(&mut seated).await, "who rests a moment between two, at call {calls}");
        calls += 1;
    }
    flood.shutdown().await;
    served.stop().await;
}
