//! Listeners that are added and removed, and those of other network namespaces.

use super::*;

#[tokio::test]
async fn what_comes_from_another_network_namespace_goes_on_from_there() {
    let (upstream, opened) = (Upstream::start(BOTH).await, Arc::new(Opened::default()));
    let (gnomon, kernel) = gnomon(Gnomon::with().sockets(opened.clone()), &upstream).await;
    let there = Namespace::Other(NetNs(9));
    // Both namespaces: what was learnt of a server in one of them must not be used in the other.
    for namespace in [there, Namespace::Own] {
        let stream = TcpStream::connect(kernel.road_in(&gnomon, upstream.address, namespace)).await.unwrap();
        let mut client = H2::over(handshake(stream, &gnomon.root, HOST, BOTH).await.unwrap()).await;
        let message = call(1, "any_tool").to_string().into_bytes();
        assert!(client.send(h2_post("/rpc", crate::support::coding::Coding::Identity), &[message]).await.is_ok());
        client.close().await;
    }
    assert_eq!(upstream.requests(|all| all.iter().map(|request| request.connection).max()), Some(1), "each has its own connection");
    let user = Some(HostUser { uid: ADA, gid: ADA });
    let near = |netns| NearEnd { netns, user };
    assert_eq!(*opened.0.lock().unwrap(), [(near(Some(NetNs(9))), IpFamily::V4), (near(None), IpFamily::V4)], "as the user, wherever");
    // A server there that refuses is a reset, as it is in our own namespace.
    let nobody = gnomon_testkit::free_port();
    assert_eq!(refused(kernel.road_in(&gnomon, nobody, there)).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(opened.0.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn without_sockets_for_it_another_network_namespace_is_refused_and_reported() {
    let upstream = Upstream::start(H1).await;
    let (gnomon, kernel) = gnomon(Gnomon::with(), &upstream).await;
    let road = kernel.road_in(&gnomon, upstream.address, Namespace::Other(NetNs(9)));
    assert_eq!(refused(road).await, Err(ErrorKind::ConnectionReset));
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
