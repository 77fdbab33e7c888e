//! What is not to be read: servers that refuse or speak first, other protocols, and listeners that are no relay.

use super::*;

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
