//! The traffic of redirected programs is read and judged like that of clients that are configured to use the proxy.

use super::*;

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
    // HOST resolves to the upstream for port 80 only in this resolver, so its port is set too.
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
    // To the bypassed server itself: the client sees that server's own certificate.
    let stream = kernel.connect(&gnomon, upstream.address).await;
    let mut client = H1::over(handshake(stream, upstream.authority.certificate(), HOST, H1).await.unwrap());
    assert_eq!(client.send(&[h1_post("/rpc", b"{}")]).await.status, 202);
    // With the bypassed name to another server: that one is not reached.
    let stream = kernel.connect(&gnomon, other.address).await;
    let _ = handshake(stream, other.authority.certificate(), HOST, H1).await;
    gnomon.metrics_until("gnomon_flows_total{outcome=\"unreachable\"} 1").await;
    assert!(other.paths().is_empty());
}
