//! The user who owns a connection decides how many there may be, and who receives its answers.

use super::*;

#[tokio::test]
async fn one_user_s_connections_leave_room_for_others() {
    // A server that accepts and sends nothing.
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with().per_user(2), &upstream).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let client = kernel.connect_as(&gnomon, address, ADA).await;
        held.push((client, soon("the connection", server.accept()).await.unwrap()));
    }
    assert_eq!(refused(kernel.road_as(&gnomon, address, ADA)).await, Err(ErrorKind::ConnectionReset));
    let other = kernel.connect_as(&gnomon, address, BOB).await;
    held.push((other, soon("another user's connection", server.accept()).await.unwrap()));
    gnomon.metrics_until("gnomon_flows_total{outcome=\"over_share\"} 1").await;
    let told = gnomon.events_until(1).await;
    assert_eq!((&told[0]["gnomon.flow.outcome"], &told[0]["user.name"]), (&json!("over_share"), &json!("ada")));
    // A place is free once a connection ends, and goes to the one that waits.
    let waits = kernel.connect_as(&gnomon, address, ADA).await;
    held.remove(0);
    held.push((waits, soon("the connection that waited", server.accept()).await.unwrap()));
}

#[tokio::test]
async fn where_nothing_is_enforced_whatever_is_above_the_share_passes() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with().per_user(2), &upstream).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        let road = listen(&gnomon, Namespace::Own);
        let owned = Owned { enforcement: Enforcement::Shadow, ..owned(7, address, ADA) };
        kernel.roads.lock().unwrap().insert(road, owned);
        let mut client = TcpStream::connect(road).await.unwrap();
        let (mut there, _) = soon("the connection", server.accept()).await.unwrap();
        there.write_all(b"hello").await.unwrap();
        let mut said = [0; 5];
        soon("what the server says", client.read_exact(&mut said)).await.unwrap();
        assert_eq!(&said, b"hello");
        held.push((client, there));
    }
    gnomon.metrics_until("gnomon_flows_total{outcome=\"beyond_share\"} 18").await;
}

#[tokio::test]
async fn clients_of_the_proxy_have_a_share_too_where_their_user_is_known_and_a_tunnel_keeps_its_place() {
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
    assert_eq!(refused(gnomon.address).await, Err(ErrorKind::ConnectionReset));
    let redirected = kernel.road_as(&gnomon, address, ADA);
    assert_eq!(refused(redirected).await, Err(ErrorKind::ConnectionReset), "redirected ones count alike");
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
    // Both streams have the same path, so only the user tells them apart.
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
