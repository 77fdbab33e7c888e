//! What is not intercepted: servers that refuse or speak first, other protocols, and clients that are not redirected.

use super::*;

#[tokio::test]
async fn a_server_that_refuses_is_a_reset_before_any_byte() {
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with(), &upstream).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(refused(kernel.road(&gnomon, nobody)).await, Err(ErrorKind::ConnectionReset));
    gnomon.metrics_until("gnomon_flows_total{outcome=\"unreachable\"} 1").await;
    assert_eq!(*kernel.failed.lock().unwrap(), [(nobody, ADA, 30)], "so that its next connections are refused at once");
}

/// What the proxy would say in its stead would be taken for the server's words.
#[tokio::test]
async fn a_server_that_ends_a_connection_instead_of_answering_is_an_end_without_an_answer() {
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with(), &upstream).await;
    for resets in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let mut stream = kernel.connect(&gnomon, server).await;
        stream.write_all(&get("any.example", server.port())).await.unwrap();
        let (mut reached, _) = soon("the connection", listener.accept()).await.unwrap();
        soon("the request", reached.read(&mut [0; 1024])).await.unwrap();
        if resets {
            reached.set_zero_linger().unwrap();
        }
        drop(reached);
        assert!(matches!(end(&mut stream).await, Ok(0) | Err(ErrorKind::ConnectionReset)), "{resets}");
    }
}

#[tokio::test]
async fn a_server_that_was_there_is_asked_again_a_second_after_it_refused() {
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with(), &upstream).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let mut stream = kernel.connect(&gnomon, server).await;
    stream.write_all(&get("any.example", server.port())).await.unwrap();
    let (reached, _) = soon("the connection", listener.accept()).await.unwrap();
    drop((reached, listener));
    let _ = end(&mut stream).await;
    // The server is restarted.
    assert_eq!(refused(kernel.road(&gnomon, server)).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(*kernel.failed.lock().unwrap(), [(server, ADA, 1)]);
}

/// A name with two addresses; nobody listens on the first.
const BOTH_WAYS: &str = "both.example";

/// A server on the second address, the first address, and the setup that resolves the name to both.
async fn half_dead(setup: Setup) -> (TcpListener, SocketAddr, Setup) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let alive = server.local_addr().unwrap();
    let dead = SocketAddr::from(([127, 0, 0, 9], alive.port()));
    (server, dead, setup.resolve_port(BOTH_WAYS, dead).resolve_port(BOTH_WAYS, alive))
}

fn get(host: &str, port: u16) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn a_program_that_names_its_server_reaches_it_at_the_name_s_other_address() {
    let upstream = Upstream::start(H1).await;
    let (server, dead, setup) = half_dead(Gnomon::with()).await;
    let (gnomon, kernel) = gnomon(setup, &upstream).await;
    let mut stream = kernel.connect(&gnomon, dead).await;
    stream.write_all(&get(BOTH_WAYS, dead.port())).await.unwrap();
    let (mut reached, _) = soon("the connection", server.accept()).await.unwrap();
    let mut request = [0; 1024];
    let read = soon("the request", reached.read(&mut request)).await.unwrap();
    assert!(request[..read].starts_with(b"GET / HTTP/1.1\r\n"));
    reached.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    soon("the answer", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 204");
    assert_eq!(*kernel.failed.lock().unwrap(), [(dead, ADA, 30)]);
    // The same with TLS: the server's certificate is verified for the name as always.
    let _stream = handshake_begun(kernel.connect(&gnomon, dead).await).await;
    let (mut reached, _) = soon("the connection", server.accept()).await.unwrap();
    let mut hello = [0; 1];
    soon("a hello", reached.read_exact(&mut hello)).await.unwrap();
    assert_eq!(hello, [22]);
}

#[tokio::test]
async fn an_address_that_does_not_answer_is_given_up_for_the_name_s_next_one() {
    let upstream = Upstream::start(H1).await;
    // The listener's queue is full, so it answers no SYN.
    let full = TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.9:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let silent = full.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(silent)).await {
        filling.push(stream);
    }
    let server = TcpListener::bind(("127.0.0.1", silent.port())).await.unwrap();
    let alive = server.local_addr().unwrap();
    let setup = Gnomon::with().resolve_port(BOTH_WAYS, silent).resolve_port(BOTH_WAYS, alive);
    let (gnomon, kernel) = gnomon(setup, &upstream).await;
    let mut stream = kernel.connect(&gnomon, silent).await;
    stream.write_all(&get(BOTH_WAYS, silent.port())).await.unwrap();
    let begun = Instant::now();
    soon("the connection", server.accept()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "long before the connection to the first would be given up");
}

/// Sends a ClientHello for that name.
async fn handshake_begun(mut stream: TcpStream) -> TcpStream {
    let mut config = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    // With two protocols to choose from, so that gnomon asks the server at once.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut client = rustls::ClientConnection::new(Arc::new(config), BOTH_WAYS.try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    stream.write_all(&hello).await.unwrap();
    stream
}

#[tokio::test]
async fn a_name_that_does_not_lead_to_a_dead_address_opens_no_way_to_another_server() {
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with(), &upstream).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = SocketAddr::from(([127, 0, 0, 9], server.local_addr().unwrap().port()));
    let mut stream = kernel.connect(&gnomon, dead).await;
    stream.write_all(&get("localhost", dead.port())).await.unwrap();
    assert_eq!(end(&mut stream).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(*kernel.failed.lock().unwrap(), [(dead, ADA, 30)]);
}

/// A sensor that hangs.
struct Hangs;

impl Sockets for Hangs {
    fn open(&self, _: NearEnd, _: IpFamily) -> Pin<Box<dyn Future<Output = std::io::Result<TcpSocket>> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn no_server_is_held_to_be_dead_because_nobody_opened_a_socket_for_it() {
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with().sockets(Arc::new(Hangs)), &upstream).await;
    let mut stream = kernel.connect(&gnomon, upstream.address).await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    // Longer than the time after which an address that is silent counts as failed.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    stream.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(kernel.failed.lock().unwrap().is_empty(), "{:?}", kernel.failed.lock().unwrap());
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
    // The best of five, as the machine may be busy. The proxy itself waits for no timer here.
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
        // The answer comes after the client's FIN, while the other direction is still open.
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
async fn a_listener_of_redirected_connections_is_no_open_relay_and_tells_of_whoever_it_refuses_once_in_a_while() {
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with(), &upstream).await;
    // The owner of the first is unknown; the second connected to the listener itself.
    let unknown = listen(&gnomon, Namespace::Own);
    let direct = listen(&gnomon, Namespace::Own);
    kernel.roads.lock().unwrap().insert(direct, Owned { redirected: false, ..owned(8, upstream.address, ADA) });
    for (number, address) in [unknown, unknown, direct, direct].into_iter().enumerate() {
        assert_eq!(refused(address).await, Err(ErrorKind::ConnectionReset));
        gnomon.metrics_until(&format!("gnomon_flows_total{{outcome=\"unowned\"}} {}", number + 1)).await;
    }
    assert_eq!(kernel.served.load(Ordering::SeqCst), 0);
    let told = gnomon.finish().await;
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told.iter().all(|event| event["gnomon.action"] == "block"), "{told:#?}");
    assert_eq!((&told[0]["gnomon.process.identity"], told[0].get("process.pid")), (&json!("late"), None));
    assert_eq!((&told[1]["user.name"], &told[1]["process.pid"]), (&json!("ada"), &json!(4711)));
}
