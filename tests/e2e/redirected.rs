//! Connections that the kernel sent to the proxy. Who owns them is made up here; that it is true on a
//! real kernel is for the tests of the sensor.

use crate::support::{
    HOST,
    client::{H1, H2, handshake},
    gnomon::{Gnomon, Setup},
    request::{call, h1_head, h1_post, h2_post},
    rules::{block, id, rule, shipped},
    soon,
    upstream::{Answer, Upstream},
};
use gnomon_http::{IpFamily, NetNs, Sockets};
use gnomon_inspect::Enforcement;
use gnomon_intercept::{Namespace, Owned, Owners};
use gnomon_observe::{Field, Observation};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    io::ErrorKind,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

const H1: &[&str] = &["http/1.1"];
const BOTH: &[&str] = &["h2", "http/1.1"];

/// What the kernel half would know: each listener of the proxy stands for one address that a program
/// asked for.
#[derive(Default)]
struct Kernel {
    roads: Mutex<HashMap<SocketAddr, Owned>>,
    served: AtomicU64,
}

impl Owners for Kernel {
    fn owner<'a>(&'a self, stream: &'a TcpStream) -> Pin<Box<dyn Future<Output = Option<Owned>> + Send + 'a>> {
        let owned = stream.local_addr().ok().and_then(|address| self.roads.lock().unwrap().get(&address).cloned());
        Box::pin(std::future::ready(owned))
    }
    fn served(&self, _: u64) {
        self.served.fetch_add(1, Ordering::SeqCst);
    }
}

/// Opens sockets for other namespaces in ours, and remembers for which.
#[derive(Default)]
struct Opened(Mutex<Vec<(NetNs, IpFamily)>>);

impl Sockets for Opened {
    fn open(&self, netns: NetNs, family: IpFamily) -> Pin<Box<dyn Future<Output = std::io::Result<TcpSocket>> + Send + '_>> {
        self.0.lock().unwrap().push((netns, family));
        Box::pin(std::future::ready(if family == IpFamily::V4 { TcpSocket::new_v4() } else { TcpSocket::new_v6() }))
    }
}

/// The users of the tests.
const ADA: u32 = 1000;
const BOB: u32 = 1001;

fn owned(cookie: u64, original: SocketAddr, uid: u32) -> Owned {
    Owned { cookie, original, redirected: true, uid, cgroup: 1, enforcement: Enforcement::Enforce, seen: ada() }
}

fn ada() -> Observation {
    let mut seen = Observation::new();
    seen.set(Field::Pid, 4711_i64);
    seen.set(Field::Executable, "/usr/bin/node");
    seen.set(Field::UserId, "1000");
    seen.set(Field::UserName, "ada");
    seen.set(Field::ContainerId, "1f2d3c4b5a69");
    seen
}

impl Kernel {
    /// The address to connect to instead of `original`.
    fn road(&self, gnomon: &Gnomon, original: SocketAddr) -> SocketAddr {
        self.road_in(gnomon, original, Namespace::Own)
    }

    fn road_in(&self, gnomon: &Gnomon, original: SocketAddr, namespace: Namespace) -> SocketAddr {
        let address = listen(gnomon, namespace);
        self.roads.lock().unwrap().insert(address, owned(7, original, ADA));
        address
    }

    /// A connection of this user, who asked for `original`.
    async fn connect_as(&self, gnomon: &Gnomon, original: SocketAddr, uid: u32) -> TcpStream {
        let address = listen(gnomon, Namespace::Own);
        self.roads.lock().unwrap().insert(address, owned(7, original, uid));
        TcpStream::connect(address).await.unwrap()
    }

    async fn connect(&self, gnomon: &Gnomon, original: SocketAddr) -> TcpStream {
        TcpStream::connect(self.road(gnomon, original)).await.unwrap()
    }
}

/// A listener for redirected connections.
fn listen(gnomon: &Gnomon, namespace: Namespace) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    gnomon.redirected.add(listener, namespace).unwrap();
    address
}

/// No name leads anywhere but by the resolver: what is reached is reached by its address.
async fn gnomon(setup: Setup, upstream: &Upstream) -> (Gnomon, Arc<Kernel>) {
    let kernel = Arc::new(Kernel::default());
    (setup.trust(upstream.authority.pem_file()).owners(kernel.clone()).start().await, kernel)
}

/// How a connection ended whose other side says nothing.
async fn end(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    soon("the end of the connection", stream.read(&mut [0; 16])).await.map_err(|e| e.kind())
}

#[tokio::test]
async fn a_call_over_http1_and_http2_is_read_and_its_event_names_process_and_user() {
    for alpn in [H1, BOTH] {
        let upstream = Upstream::start(alpn).await;
        let (gnomon, kernel) = gnomon(Gnomon::with().rules(shipped()), &upstream).await;
        let stream = handshake(kernel.connect(&gnomon, upstream.address).await, &gnomon.root, HOST, alpn).await.unwrap();
        let message = call(1, "any_tool").to_string().into_bytes();
        let answer = if alpn == BOTH {
            let mut client = H2::over(stream).await;
            let answer = client.send(h2_post("/rpc", crate::support::coding::Coding::Identity), &[message]).await.unwrap();
            client.close().await;
            answer
        } else {
            let mut client = H1::over(stream);
            let answer = client.send(&[h1_post("/rpc", &message)]).await;
            client.close().await;
            answer
        };
        assert_eq!(answer.json()["result"]["content"][0]["text"], "done by the upstream");
        let connections = upstream.requests(|all| all.iter().map(|r| r.connection).max());
        assert_eq!(connections, Some(0), "the connection that was dialled eagerly carries the call");
        assert_eq!(kernel.served.load(Ordering::SeqCst), 1);
        let events = gnomon.finish().await;
        let event = &events[0];
        assert_eq!((&event["gnomon.correlation"], &event["process.pid"]), (&json!("owner"), &json!(4711)), "{event:#}");
        assert_eq!((&event["process.executable.path"], &event["user.name"]), (&json!("/usr/bin/node"), &json!("ada")));
        assert_eq!((&event["container.id"], &event["server.address"]), (&json!("1f2d3c4b5a69"), &json!(HOST)));
        assert_eq!(event["destination.address"], json!("127.0.0.1"));
        assert_eq!(event["destination.port"], json!(upstream.address.port()));
    }
}

#[tokio::test]
async fn a_blocked_call_never_reaches_the_server_that_was_dialled_eagerly() {
    let upstream = Upstream::start(H1).await;
    let rules = [block(1, "gen_ai.tool.name: blocked_tool, process.executable.path: /usr/bin/node")];
    let (gnomon, kernel) = gnomon(Gnomon::with().rules(rules), &upstream).await;
    let stream = handshake(kernel.connect(&gnomon, upstream.address).await, &gnomon.root, HOST, H1).await.unwrap();
    let mut client = H1::over(stream);
    let answer = client.send(&[h1_post("/rpc", call(1, "blocked_tool").to_string().as_bytes())]).await;
    assert_eq!(answer.json()["result"]["isError"], json!(true));
    assert!(upstream.paths().is_empty());
    client.close().await;
    assert_eq!(gnomon.finish().await[0]["rule.id"], json!(id(1)));
}

#[tokio::test]
async fn events_of_a_stream_come_as_they_are_sent() {
    let (answer, feed) = Answer::events();
    let answer = Mutex::new(Some(answer));
    let upstream = Upstream::answering(H1, move |received| received.end.and_then(|_| answer.lock().unwrap().take())).await;
    let (gnomon, kernel) = gnomon(Gnomon::with(), &upstream).await;
    let stream = handshake(kernel.connect(&gnomon, upstream.address).await, &gnomon.root, HOST, H1).await.unwrap();
    let mut client = H1::over(stream);
    client.write(&h1_head("GET", "/sse", "accept: text/event-stream\r\n")).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    for number in 0..3 {
        let event = format!("data: {number}\n\n").into_bytes();
        feed.send(event.clone()).unwrap();
        assert_eq!(client.chunk().await.unwrap(), Some(event));
    }
}

#[tokio::test]
async fn a_server_that_refuses_is_a_reset_before_any_byte() {
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with(), &upstream).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let mut stream = kernel.connect(&gnomon, nobody).await;
    assert_eq!(end(&mut stream).await, Err(ErrorKind::ConnectionReset));
    gnomon.metrics_until("gnomon_flows_total{outcome=\"unreachable\"} 1").await;
}

#[tokio::test]
async fn servers_that_speak_first_are_heard_within_50_ms() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut server, _)) = listener.accept().await {
            server.write_all(b"220 mail.example ESMTP\r\n").await.unwrap();
            let mut said = [0; 6];
            server.read_exact(&mut said).await.unwrap();
            server.write_all(&said).await.unwrap();
        }
    });
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with(), &upstream).await;
    let road = kernel.road(&gnomon, address);
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(road).await.unwrap();
        let mut banner = [0; 24];
        soon("the banner", stream.read_exact(&mut banner)).await.unwrap();
        fastest = fastest.min(begun.elapsed());
        stream.write_all(b"QUIT\r\n").await.unwrap();
        soon("the echo", stream.read_exact(&mut banner[..6])).await.unwrap();
        assert_eq!(&banner[..6], b"QUIT\r\n");
    }
    // The fastest of five, as the machine may be busy; nothing in the proxy waits for the clock.
    assert!(fastest < Duration::from_millis(50), "{fastest:?}");
}

#[tokio::test]
async fn a_client_that_speaks_another_protocol_first_is_passed_on_byte_for_byte() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut server, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        server.read_exact(&mut request).await.unwrap();
        server.write_all(b"N").await.unwrap();
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        // The answer comes after the client's end: half of the connection is still open.
        server.write_all(&(rest.len() as u64).to_be_bytes()).await.unwrap();
        (request, rest)
    });
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with(), &upstream).await;
    let mut stream = kernel.connect(&gnomon, address).await;
    // PostgreSQL's SSLRequest.
    let request = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    stream.write_all(&request).await.unwrap();
    assert_eq!(soon("the answer", stream.read_u8()).await.unwrap(), b'N');
    let large: Vec<u8> = (0..4_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    soon("the upload", stream.write_all(&large)).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(soon("the answer after the end", stream.read_u64()).await.unwrap(), large.len() as u64);
    let (got, rest) = server.await.unwrap();
    assert!(got == request && rest == large);
    gnomon.metrics_until("gnomon_flows_total{outcome=\"passthrough\"} 1").await;
}

#[tokio::test]
async fn a_client_that_only_listens_hears_what_the_server_says_after_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut server, _) = listener.accept().await.unwrap();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
        server.write_all(b"12:00:00\n").await.unwrap();
    });
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with(), &upstream).await;
    let mut stream = kernel.connect(&gnomon, address).await;
    stream.shutdown().await.unwrap();
    let mut said = Vec::new();
    soon("the time", stream.read_to_end(&mut said)).await.unwrap();
    assert_eq!(said, b"12:00:00\n");
}

#[tokio::test]
async fn a_listener_of_redirected_connections_is_no_open_relay() {
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with(), &upstream).await;
    // Nobody knows whose the first is; the second went to the listener by itself.
    let unknown = listen(&gnomon, Namespace::Own);
    let direct = listen(&gnomon, Namespace::Own);
    kernel.roads.lock().unwrap().insert(direct, Owned { redirected: false, ..owned(8, upstream.address, ADA) });
    for (number, address) in [unknown, direct].into_iter().enumerate() {
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(end(&mut stream).await, Err(ErrorKind::ConnectionReset));
        gnomon.metrics_until(&format!("gnomon_flows_total{{outcome=\"unowned\"}} {}", number + 1)).await;
    }
    assert_eq!(kernel.served.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn two_addresses_of_one_name_are_not_mixed() {
    let servers = [Upstream::start(BOTH).await, Upstream::start(H1).await];
    let (gnomon, kernel) = gnomon(Gnomon::with().trust(servers[1].authority.pem_file()), &servers[0]).await;
    for round in 1..=2 {
        for upstream in &servers {
            let stream = handshake(kernel.connect(&gnomon, upstream.address).await, &gnomon.root, HOST, H1).await.unwrap();
            let mut client = H1::over(stream);
            client.send(&[h1_post("/rpc", b"{}")]).await;
            client.close().await;
            assert_eq!(upstream.paths().len(), round);
        }
    }
}

#[tokio::test]
async fn http_without_tls_is_judged_by_its_host_only_if_that_leads_to_the_same_address() {
    let upstream = Upstream::without_tls(|_| None).await;
    let rules = [rule(1, "Notes each call", "mcp.method.name: tools/call", "action: log")];
    // HOST leads to the upstream on port 80 only in the resolver's eyes, so the port is told as well.
    let setup = Gnomon::with().rules(rules).resolve_port(HOST, upstream.address);
    let (gnomon, kernel) = gnomon(setup, &upstream).await;
    for host in [HOST, "sanctioned.invalid"] {
        let mut client = H1::over(kernel.connect(&gnomon, upstream.address).await);
        let request = String::from_utf8(h1_post("/rpc", call(1, "any_tool").to_string().as_bytes())).unwrap();
        let answer = client.send(&[request.replace(HOST, host).into_bytes()]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        client.close().await;
    }
    let hosts: Vec<_> = upstream.requests(|all| all.iter().map(|r| r.headers["host"].to_str().unwrap().to_owned()).collect());
    assert_eq!(hosts, [HOST, "sanctioned.invalid"], "Host goes upstream as it came");
    let events = gnomon.finish().await;
    let servers: Vec<&Value> = events.iter().map(|e| &e["server.address"]).collect();
    assert_eq!(servers, [&json!(HOST), &json!("127.0.0.1")]);
}

#[tokio::test]
async fn a_bypassed_name_does_not_buy_the_way_to_another_address() {
    let upstream = Upstream::start(H1).await;
    let other = Upstream::start(H1).await;
    let setup = Gnomon::with().bypass(HOST).resolve_port(HOST, upstream.address);
    let (gnomon, kernel) = gnomon(setup, &upstream).await;
    // To the bypassed server itself: its own certificate is seen.
    let stream = kernel.connect(&gnomon, upstream.address).await;
    let mut client = H1::over(handshake(stream, upstream.authority.certificate(), HOST, H1).await.unwrap());
    assert_eq!(client.send(&[h1_post("/rpc", b"{}")]).await.status, 202);
    // With its name to another: that one is not reached.
    let stream = kernel.connect(&gnomon, other.address).await;
    let _ = handshake(stream, other.authority.certificate(), HOST, H1).await;
    gnomon.metrics_until("gnomon_flows_total{outcome=\"unreachable\"} 1").await;
    assert!(other.paths().is_empty());
}

#[tokio::test]
async fn what_is_meant_for_another_proxy_is_passed_on_as_it_is() {
    let upstream = Upstream::start(H1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut server, _)) = listener.accept().await {
            let mut request = vec![0; 1024];
            let read = server.read(&mut request).await.unwrap();
            server.write_all(&request[..read]).await.unwrap();
        }
    });
    let (gnomon, kernel) = gnomon(Gnomon::with(), &upstream).await;
    for request in ["CONNECT tools.example:443 HTTP/1.1\r\nhost: tools.example:443\r\n\r\n", "GET http://tools.example/ HTTP/1.1\r\n\r\n"] {
        let mut stream = kernel.connect(&gnomon, address).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut echo = vec![0; request.len()];
        soon("the echo", stream.read_exact(&mut echo)).await.unwrap();
        assert_eq!(echo, request.as_bytes());
    }
    gnomon.metrics_until("gnomon_flows_total{outcome=\"other_proxy\"} 2").await;
}

#[tokio::test]
async fn a_redirected_program_that_asks_for_the_proxy_is_served_by_it() {
    let upstream = Upstream::start(H1).await;
    let setup = Gnomon::with().rules(shipped()).resolve(HOST, upstream.address);
    let (gnomon, kernel) = gnomon(setup, &upstream).await;
    let road = kernel.road(&gnomon, gnomon.address);
    let tunnel = crate::support::client::tunnel(road, &format!("{HOST}:443")).await;
    let mut client = H1::over(handshake(tunnel, &gnomon.root, HOST, H1).await.unwrap());
    assert_eq!(client.send(&[h1_post("/rpc", call(1, "any_tool").to_string().as_bytes())]).await.status, 200);
    client.close().await;
    let events = gnomon.finish().await;
    assert_eq!((&events[0]["gnomon.correlation"], &events[0]["user.name"]), (&json!("owner"), &json!("ada")));
    assert!(events[0].get("destination.address").is_none());
}

#[tokio::test]
async fn what_comes_from_another_network_namespace_goes_on_from_there() {
    let (upstream, opened) = (Upstream::start(BOTH).await, Arc::new(Opened::default()));
    let (gnomon, kernel) = gnomon(Gnomon::with().sockets(opened.clone()), &upstream).await;
    let there = Namespace::Other(NetNs(9));
    // Twice, as what was learnt of a server in one namespace says nothing of another.
    for namespace in [there, Namespace::Own] {
        let stream = TcpStream::connect(kernel.road_in(&gnomon, upstream.address, namespace)).await.unwrap();
        let mut client = H2::over(handshake(stream, &gnomon.root, HOST, BOTH).await.unwrap()).await;
        let message = call(1, "any_tool").to_string().into_bytes();
        assert!(client.send(h2_post("/rpc", crate::support::coding::Coding::Identity), &[message]).await.is_ok());
        client.close().await;
    }
    assert_eq!(upstream.requests(|all| all.iter().map(|request| request.connection).max()), Some(1), "each has its own connection");
    assert_eq!(*opened.0.lock().unwrap(), [(NetNs(9), IpFamily::V4)]);
    // A server that refuses there is a reset, as it is here.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut stream = TcpStream::connect(kernel.road_in(&gnomon, nobody, there)).await.unwrap();
    assert_eq!(end(&mut stream).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(opened.0.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn where_nobody_opens_sockets_another_network_namespace_is_refused_and_told_of() {
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with(), &upstream).await;
    let road = kernel.road_in(&gnomon, upstream.address, Namespace::Other(NetNs(9)));
    let mut stream = TcpStream::connect(road).await.unwrap();
    assert_eq!(end(&mut stream).await, Err(ErrorKind::ConnectionReset));
    let events = gnomon.events_until(1).await;
    assert_eq!((&events[0]["gnomon.flow.outcome"], &events[0]["process.pid"]), (&json!("out_of_reach"), &json!(4711)));
}

#[tokio::test]
async fn a_listener_that_was_removed_is_closed_and_its_connections_go_on() {
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with(), &upstream).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    kernel.roads.lock().unwrap().insert(address, owned(9, upstream.address, ADA));
    let key = gnomon.redirected.add(listener, Namespace::Own).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let mut client = H1::over(handshake(stream, &gnomon.root, HOST, H1).await.unwrap());
    gnomon.redirected.remove(key);
    soon("the listener to close", async { while TcpStream::connect(address).await.is_ok() {} }).await;
    assert_eq!(client.send(&[h1_post("/rpc", b"{}")]).await.status, 202);
}

#[tokio::test]
async fn one_user_s_connections_leave_room_for_others() {
    // It accepts, and says nothing.
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with().per_user(2), &upstream).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let client = kernel.connect_as(&gnomon, address, ADA).await;
        held.push((client, soon("the connection", server.accept()).await.unwrap()));
    }
    let mut refused = kernel.connect_as(&gnomon, address, ADA).await;
    assert_eq!(end(&mut refused).await, Err(ErrorKind::ConnectionReset));
    let other = kernel.connect_as(&gnomon, address, BOB).await;
    held.push((other, soon("another user's connection", server.accept()).await.unwrap()));
    gnomon.metrics_until("gnomon_flows_total{outcome=\"over_share\"} 1").await;
    // A place comes back with the end of a connection.
    held.remove(0);
    soon("a place", async {
        loop {
            let (mut again, mut byte) = (kernel.connect_as(&gnomon, address, ADA).await, [0]);
            tokio::select! {
                accepted = server.accept() => return accepted.unwrap(),
                end = again.read(&mut byte) => assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn who_asks_the_proxy_has_a_share_too_where_the_user_is_known_and_a_tunnel_keeps_its_place() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with().per_user(1), &upstream).await;
    kernel.roads.lock().unwrap().insert(gnomon.address, Owned { redirected: false, ..owned(8, gnomon.address, ADA) });
    let mut tunnel = TcpStream::connect(gnomon.address).await.unwrap();
    tunnel.write_all(format!("CONNECT {address} HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = [0; 12];
    soon("an answer", tunnel.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let mut second = TcpStream::connect(gnomon.address).await.unwrap();
    assert_eq!(end(&mut second).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(
        end(&mut kernel.connect_as(&gnomon, address, ADA).await).await,
        Err(ErrorKind::ConnectionReset),
        "redirected ones count alike"
    );
    gnomon.metrics_until("gnomon_flows_total{outcome=\"over_share\"} 2").await;
    kernel.roads.lock().unwrap().clear();
    let mut unknown = TcpStream::connect(gnomon.address).await.unwrap();
    unknown.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    soon("an answer", unknown.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 400", "whose it is nobody knows, so there is no share to be above");
}

#[tokio::test]
async fn a_refused_post_is_answered_on_the_event_stream_of_its_own_user_and_on_no_other() {
    let (feeds, answers): (Vec<_>, Vec<_>) = (0..2).map(|_| Answer::events()).map(|(answer, feed)| (feed, answer)).unzip();
    let answers = Mutex::new(answers);
    let upstream = Upstream::answering(H1, move |received| {
        received.end?;
        if received.path == "/sse" { Some(answers.lock().unwrap().remove(0)) } else { Some(Answer::status(202)) }
    })
    .await;
    let rules = [block(1, "gen_ai.tool.name: blocked_tool")];
    let (gnomon, kernel) = gnomon(Gnomon::with().rules(rules), &upstream).await;
    // The server gives both the same path, which is all that a stream is known by but for whose it is.
    let endpoint = b"event: endpoint\ndata: /messages?sessionId=0123456789abcdef\n\n".to_vec();
    let mut listeners = Vec::new();
    for (user, feed) in [ADA, BOB].into_iter().zip(&feeds) {
        let stream = handshake(kernel.connect_as(&gnomon, upstream.address, user).await, &gnomon.root, HOST, H1).await.unwrap();
        let mut listener = H1::over(stream);
        listener.write(&h1_head("GET", "/sse", "accept: text/event-stream\r\n")).await;
        assert_eq!(listener.head().await.unwrap().status, 200);
        feed.send(endpoint.clone()).unwrap();
        assert_eq!(listener.chunk().await.unwrap(), Some(endpoint.clone()));
        listeners.push(listener);
    }
    let stream = handshake(kernel.connect_as(&gnomon, upstream.address, ADA).await, &gnomon.root, HOST, H1).await.unwrap();
    let message = call(7, "blocked_tool").to_string();
    let mut poster = H1::over(stream);
    assert_eq!(poster.send(&[h1_post("/messages?sessionId=0123456789abcdef", message.as_bytes())]).await.status, 202);
    let told = listeners[0].chunk().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&told).contains("\"id\":7"), "{}", String::from_utf8_lossy(&told));
    let others = b"data: for Bob\n\n".to_vec();
    feeds[1].send(others.clone()).unwrap();
    assert_eq!(listeners[1].chunk().await.unwrap(), Some(others), "nothing came before it");
}

/// A corporate proxy: it wants a password, and connects all to one server. How often it was asked with the password.
async fn corporate_proxy(server: SocketAddr) -> (SocketAddr, Arc<AtomicU64>) {
    let (listener, asked) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::new(AtomicU64::new(0)));
    let (address, counted) = (listener.local_addr().unwrap(), asked.clone());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                loop {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = client.read_u8().await else { return };
                        head.push(byte);
                    }
                    let head = String::from_utf8(head).unwrap();
                    assert!(head.starts_with(&format!("CONNECT {HOST}:443 HTTP/1.1\r\n")), "{head}");
                    if head.contains("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n") {
                        break;
                    }
                    let page = "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\nContent-Length: 4\r\n\r\nno!\n";
                    client.write_all(page.as_bytes()).await.unwrap();
                }
                counted.fetch_add(1, Ordering::SeqCst);
                client.write_all(b"HTTP/1.1 200 Go ahead\r\nVia: corporate\r\n\r\n").await.unwrap();
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, asked)
}

/// Reads up to what is given.
async fn until_said(stream: &mut TcpStream, end: &str) -> String {
    let mut said = Vec::new();
    while !said.ends_with(end.as_bytes()) {
        said.push(soon("what the other proxy says", stream.read_u8()).await.unwrap());
    }
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn what_goes_through_a_corporate_proxy_is_read_and_its_answers_come_as_they_are() {
    let upstream = Upstream::start(BOTH).await;
    let (corporate, asked) = corporate_proxy(upstream.address).await;
    let (gnomon, kernel) = gnomon(Gnomon::with().rules([block(1, "gen_ai.tool.name: blocked_tool")]), &upstream).await;
    let mut stream = kernel.connect(&gnomon, corporate).await;
    let request = |further: &str| format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{further}\r\n");
    stream.write_all(request("").as_bytes()).await.unwrap();
    assert!(until_said(&mut stream, "no!\n").await.starts_with("HTTP/1.1 407 Who are you\r\n"));
    stream.write_all(request("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n").as_bytes()).await.unwrap();
    assert_eq!(until_said(&mut stream, "\r\n\r\n").await, "HTTP/1.1 200 Go ahead\r\nVia: corporate\r\n\r\n");
    let mut client = H2::over(handshake(stream, &gnomon.root, HOST, BOTH).await.unwrap()).await;
    for (tool, passes) in [("blocked_tool", false), ("any_tool", true)] {
        let message = call(1, tool).to_string().into_bytes();
        let answer = client.send(h2_post("/rpc", crate::support::coding::Coding::Identity), &[message]).await.unwrap();
        assert_eq!(answer.json()["result"]["isError"] == json!(true), !passes, "{}", answer.text());
    }
    client.close().await;
    assert!(matches!(&upstream.executed()[..], [only] if only.contains("any_tool")), "{:?}", upstream.executed());
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the tunnel that the program opened is used");
    let events = gnomon.finish().await;
    let blocked = events.iter().find(|event| event["gnomon.action"] == "block").unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!((&blocked["server.address"], &blocked["destination.port"]), (&json!(HOST), &json!(corporate.port())));
}

#[tokio::test]
async fn a_name_on_the_bypass_list_behind_a_corporate_proxy_is_passed_on_only_if_it_was_asked_for() {
    let upstream = Upstream::start(H1).await;
    let (corporate, _) = corporate_proxy(upstream.address).await;
    let (gnomon, kernel) = gnomon(Gnomon::with().bypass("bank.example"), &upstream).await;
    let mut stream = kernel.connect(&gnomon, corporate).await;
    let request = format!("CONNECT {HOST}:443 HTTP/1.1\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    until_said(&mut stream, "\r\n\r\n").await;
    // The name is borrowed: it is intercepted, so the certificate is ours.
    assert!(handshake(stream, &gnomon.root, "bank.example", H1).await.is_ok());
    gnomon.metrics_until("gnomon_flows_total{outcome=\"bypassed\"} 0").await;
}
