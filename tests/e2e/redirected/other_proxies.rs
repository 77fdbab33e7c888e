//! Redirected programs that use a proxy: gnomon itself, or a corporate one.

use super::*;

#[tokio::test]
async fn an_answer_of_another_proxy_that_makes_no_sense_is_passed_on_as_it_is() {
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
    let request = "CONNECT tools.example:443 HTTP/1.1\r\nhost: tools.example:443\r\n\r\n";
    let mut stream = kernel.connect(&gnomon, address).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut echo = vec![0; request.len()];
    soon("the echo", stream.read_exact(&mut echo)).await.unwrap();
    assert_eq!(echo, request.as_bytes());
    gnomon.metrics_until("gnomon_flows_total{outcome=\"other_proxy\"} 1").await;
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

/// A corporate proxy that requires a password and connects every tunnel to this one server. Returns its address and how often it was asked
/// with the password.
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

/// Reads until `end` was received.
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

/// A server, not a proxy, that answers a CONNECT with a body and takes what follows for the next request.
#[tokio::test]
async fn what_follows_an_answer_to_a_request_for_a_tunnel_is_read_or_refused_where_a_rule_could_match() {
    for framing in ["Content-Length: 2\r\n\r\nok", "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"] {
        let upstream = Upstream::start(BOTH).await;
        let (gnomon, kernel) = gnomon(Gnomon::with().rules([block(1, "gen_ai.tool.name: blocked_tool")]), &upstream).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let ran = Arc::new(AtomicU64::new(0));
        let counted = ran.clone();
        tokio::spawn(async move {
            let Ok((mut client, _)) = listener.accept().await else { return };
            until_said(&mut client, "\r\n\r\n").await;
            client.write_all(format!("HTTP/1.1 200 OK\r\n{framing}").as_bytes()).await.unwrap();
            let mut next = Vec::new();
            let _ = client.read_to_end(&mut next).await;
            counted.fetch_add(u64::from(String::from_utf8_lossy(&next).contains("blocked_tool")), Ordering::SeqCst);
        });
        let mut stream = kernel.connect(&gnomon, server).await;
        stream.write_all(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n").as_bytes()).await.unwrap();
        let _ = tokio::time::timeout(Duration::from_millis(500), stream.read_u8()).await;
        let body = call(1, "blocked_tool").to_string();
        let head =
            format!("POST /rpc HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        let _ = stream.shutdown().await;
        let _ = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut Vec::new())).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(ran.load(Ordering::SeqCst), 0, "{framing:?}: the tool ran");
        let events = gnomon.finish().await;
        assert!(events.iter().any(|event| event["gnomon.action"] == "block"), "{framing:?}: {events:#?}");
    }
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
    // The name in the ClientHello is not the one of the CONNECT, so the connection is intercepted, and its server does not prove that name.
    assert!(handshake(stream, &gnomon.root, "bank.example", H1).await.is_err());
    gnomon.metrics_until("gnomon_flows_total{outcome=\"bypassed\"} 0").await;
    gnomon.metrics_until("gnomon_flows_total{outcome=\"upstream_unverified\"} 1").await;
}
