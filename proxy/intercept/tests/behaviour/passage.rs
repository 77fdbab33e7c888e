//! What passes without being read, which servers cannot be reached, and who may use the proxy.

use gnomon_intercept::{ProxyError, ProxyOptions};
use gnomon_stage::{
    HOST,
    authority::{Authority, trusting},
    client::{self, H1, tunnel},
    gnomon::Gnomon,
    request::{call, h1_head, h1_post, h1_post_with},
    rules::{block, id, rule},
    soon,
    upstream::{Answer, Upstream},
};
use rustls::pki_types::ServerName;
use serde_json::json;
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const H1: &[&str] = &["http/1.1"];

#[tokio::test]
async fn a_protocol_in_which_the_server_speaks_first_passes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(b"SSH-2.0-Fake_1.0\r\n").await.unwrap();
        let mut said = [0; 18];
        server.read_exact(&mut said).await.unwrap();
        server.write_all(&said).await.unwrap();
    });
    let gnomon = Gnomon::with().rules([block(1, "gen_ai.tool.name: blocked_tool")]).start().await;
    let mut stream = tunnel(gnomon.address, &address.to_string()).await;
    let mut banner = [0; 18];
    soon("the banner", stream.read_exact(&mut banner)).await.unwrap();
    assert_eq!(&banner, b"SSH-2.0-Fake_1.0\r\n");
    stream.write_all(b"SSH-2.0-Mine_1.0\r\n").await.unwrap();
    soon("the echo", stream.read_exact(&mut banner)).await.unwrap();
    assert_eq!(&banner, b"SSH-2.0-Mine_1.0\r\n");
    gnomon.metrics_until("gnomon_flows_total{outcome=\"passthrough\"} 1").await;
}

#[tokio::test]
async fn requests_and_answers_with_many_header_fields_pass_whole() {
    const FIELDS: usize = 250;
    let many = || (0..FIELDS).map(|n| format!("x-field-{n}: {n}\r\n")).collect::<String>();
    let count = |text: &str| text.matches("x-field-").count();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut server, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && server.read_buf(&mut head).await.unwrap() > 0 {}
            let got = count(std::str::from_utf8(&head).unwrap()).to_string();
            let answer = format!("HTTP/1.1 200 OK\r\n{}content-length: {}\r\nconnection: close\r\n\r\n{got}", many(), got.len());
            server.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let gnomon = Gnomon::with().rules([block(1, "gen_ai.tool.name: blocked_tool")]).start().await;
    for inside in [true, false] {
        let (mut stream, target) = match inside {
            true => (tunnel(gnomon.address, &address.to_string()).await, "/".to_owned()),
            false => (TcpStream::connect(gnomon.address).await.unwrap(), format!("http://{address}/")),
        };
        let request = format!("GET {target} HTTP/1.1\r\nhost: {address}\r\n{}connection: close\r\n\r\n", many());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n250"), "inside: {inside}: {answer}");
        assert_eq!(count(&answer), FIELDS);
    }
}

#[tokio::test]
async fn a_rule_on_the_tls_library_counts_for_what_is_read() {
    let upstream = Upstream::start(H1).await;
    // The start of the JA4 fingerprint: TLS 1.3, with a server name, HTTP/1.1 offered first.
    let rules = [block(1, "tls.client.ja4|re: '^t13d[0-9]{4}h1_[0-9a-f]{12}_[0-9a-f]{12}$', gen_ai.tool.name: any_tool")];
    let gnomon = Gnomon::with().rules(rules).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let answer = client.send(&[h1_post("/rpc", call(1, "any_tool").to_string().as_bytes())]).await;
    assert_eq!(answer.json()["result"]["isError"], json!(true), "{answer:?}");
    assert!(upstream.paths().is_empty());
}

#[tokio::test]
async fn a_bypassed_server_shows_its_own_certificate_and_is_still_reported() {
    let upstream = Upstream::start(H1).await;
    let rules =
        [rule(1, "Notes the name", &format!("tls.client.server_name: {HOST}"), "action: log"), block(2, "gen_ai.tool.name: blocked_tool")];
    let gnomon = Gnomon::with().rules(rules).bypass(HOST).before(&upstream).await;
    let stream = tunnel(gnomon.address, &format!("{HOST}:443")).await;
    // This client trusts only the server's own authority, not gnomon's.
    let stream = client::handshake(stream, upstream.authority.certificate(), HOST, H1).await.unwrap();
    let mut client = H1::over(stream);
    let answer = client.send(&[h1_post("/rpc", call(1, "blocked_tool").to_string().as_bytes())]).await;
    assert_eq!(answer.json()["result"]["content"][0]["text"], "done by the upstream");
    client.close().await;
    gnomon.metrics_until("gnomon_flows_total{outcome=\"bypassed\"} 1").await;
    let events = gnomon.finish().await;
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!((&events[0]["gnomon.flow.outcome"], &events[0]["tls.client.server_name"]), (&json!("bypassed"), &json!(HOST)));
    assert!(events[0].get("mcp.method.name").is_none());
}

#[tokio::test]
async fn without_tls_a_server_on_the_bypass_list_is_read_as_any_other() {
    let upstream = Upstream::without_tls(|_| None).await;
    let gnomon =
        Gnomon::with().rules([block(1, "gen_ai.tool.name: blocked_tool")]).bypass(HOST).resolve(HOST, upstream.address).start().await;
    let post = String::from_utf8(h1_post("/rpc", call(1, "blocked_tool").to_string().as_bytes())).unwrap();
    let absolute = post.replacen("POST /rpc", &format!("POST http://{HOST}/rpc"), 1);
    let mut asked = H1::over(TcpStream::connect(gnomon.address).await.unwrap());
    let mut inside = H1::over(tunnel(gnomon.address, &format!("{HOST}:80")).await);
    for answer in [asked.send(&[absolute.into_bytes()]).await, inside.send(&[post.into_bytes()]).await] {
        assert_eq!(answer.header("x-gnomon"), Some("block"), "{answer:?}");
    }
    assert!(upstream.paths().is_empty());
}

#[tokio::test]
async fn a_name_on_the_bypass_list_cannot_be_borrowed_for_another_server() {
    let upstream = Upstream::start(H1).await;
    let other = Upstream::start(H1).await;
    let gnomon = Gnomon::with().bypass("free.example").resolve("free.example", other.address).before(&upstream).await;
    // The tunnel is requested for one server; the ClientHello names the bypassed one.
    let stream = tunnel(gnomon.address, &format!("{HOST}:443")).await;
    let name = ServerName::try_from("free.example").unwrap();
    let config = trusting(other.authority.certificate(), H1);
    let _ = soon("the handshake", tokio_rustls::TlsConnector::from(config).connect(name, stream)).await;
    assert_eq!(upstream.log.bytes.load(std::sync::atomic::Ordering::SeqCst), 0);
    gnomon.metrics_until("gnomon_flows_total{outcome=\"bypassed\"} 1").await;
    upstream.requests(|all| assert!(all.is_empty()));
}

#[tokio::test]
async fn a_client_that_refuses_our_authority_is_counted_and_reported() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().before(&upstream).await;
    let stream = tunnel(gnomon.address, &format!("{HOST}:443")).await;
    let refused = client::handshake(stream, upstream.authority.certificate(), HOST, H1).await;
    assert!(refused.is_err());
    gnomon.metrics_until("gnomon_flows_total{outcome=\"ca_rejected\"} 1").await;
    let events = gnomon.events_until(1).await;
    assert_eq!((&events[0]["gnomon.flow.outcome"], &events[0]["server.address"]), (&json!("ca_rejected"), &json!(HOST)));
    assert_eq!(events[0]["gnomon.detection.class"], "health");
}

#[tokio::test]
async fn a_client_that_refuses_our_authority_at_a_server_that_a_rule_blocks_is_that_rules_detection() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().rules([block(1, &format!("server.address: {HOST}"))]).before(&upstream).await;
    let stream = tunnel(gnomon.address, &format!("{HOST}:443")).await;
    assert!(client::handshake(stream, upstream.authority.certificate(), HOST, H1).await.is_err());
    let event = &gnomon.events_until(1).await[0];
    assert_eq!((&event["gnomon.action"], &event["event.kind"]), (&json!("block"), &json!("alert")), "{event:#}");
    assert_eq!((&event["gnomon.flow.outcome"], &event["rule.id"]), (&json!("ca_rejected"), &json!(id(1))), "{event:#}");
    upstream.requests(|all| assert!(all.is_empty()));
}

#[tokio::test]
async fn an_upstream_whose_certificate_is_not_trusted_is_a_502_that_says_why() {
    let upstream = Upstream::start(H1).await;
    let stranger = Authority::new("somebody else");
    let gnomon =
        Gnomon::with().rules(gnomon_stage::rules::shipped()).resolve(HOST, upstream.address).trust(stranger.pem_file()).start().await;
    let mut client = H1::over(client::tls(&gnomon, HOST, &["h2", "http/1.1"]).await);
    let answer = client.send(&[h1_post("/rpc", call(1, "any_tool").to_string().as_bytes())]).await;
    assert_eq!((answer.status, answer.header("x-gnomon")), (502, Some("error")));
    assert!(answer.text().contains("certificate"), "{}", answer.text());
    assert!(upstream.paths().is_empty());
    gnomon.metrics_until("gnomon_flows_total{outcome=\"upstream_unverified\"} 1").await;
    client.close().await;
    let events = gnomon.finish().await;
    assert_eq!((&events[0]["error.type"], &events[0]["gen_ai.tool.name"]), (&json!("upstream_unverified"), &json!("any_tool")));
}

#[tokio::test]
async fn metadata_addresses_and_our_own_listeners_are_out_of_reach() {
    let gnomon = Gnomon::with().resolve("rebound.example", SocketAddr::from(([169, 254, 169, 254], 80))).start().await;
    let own = [gnomon.address, gnomon.metrics_address];
    let targets =
        ["169.254.169.254:80".to_owned(), own[0].to_string(), own[1].to_string(), "rebound.example:80".to_owned(), "0.0.0.0:80".to_owned()];
    for target in targets {
        let mut client = H1::over(TcpStream::connect(gnomon.address).await.unwrap());
        let plain = format!("GET http://{target}/metrics HTTP/1.1\r\nhost: {target}\r\n\r\n").into_bytes();
        let answer = client.send(&[plain]).await;
        assert_eq!(answer.status, 403, "{target}: {answer:?}");
        assert!(answer.text().starts_with("gnomon: "), "{answer:?}");
        // The same inside a tunnel.
        let mut client = H1::over(tunnel(gnomon.address, &target).await);
        let inside = format!("GET /metrics HTTP/1.1\r\nhost: {target}\r\n\r\n").into_bytes();
        let answer = client.send(&[inside]).await;
        assert_eq!(answer.status, 403, "{target}: {answer:?}");
    }
    let mut stream =
        client::handshake(tunnel(gnomon.address, "169.254.169.254:443").await, &gnomon.root, "169.254.169.254", H1).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: 169.254.169.254\r\n\r\n").await.unwrap();
    assert_eq!(H1::over(stream).answer().await.status, 403);
}

#[tokio::test]
async fn the_proxy_does_not_open_itself_to_the_network_without_users() {
    let gnomon = Gnomon::with().start().await;
    let options = ProxyOptions { listen: SocketAddr::from(([0, 0, 0, 0], 0)), ..ProxyOptions::default() };
    let dir = tempfile::tempdir().unwrap();
    let (ca, _) = gnomon_tls::CertificateAuthority::load_or_create(dir.path()).unwrap();
    let bound = gnomon_intercept::Proxy::bind(options, gnomon.inspector.clone(), gnomon.recorder(), Arc::new(ca)).await;
    assert!(matches!(bound, Err(ProxyError::OpenProxy(_))));
}

#[tokio::test]
async fn users_are_asked_for_their_password_and_named_in_events() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().user("ada", "s3cr:et").before(&upstream).await;
    // Base64 of `ada:s3cr:et`, `ada:wrong` and `nobody:s3cr:et`.
    for (credentials, status) in
        [(Some("YWRhOnMzY3I6ZXQ="), 200), (Some("YWRhOndyb25n"), 407), (Some("bm9ib2R5OnMzY3I6ZXQ="), 407), (None, 407)]
    {
        let mut client = H1::over(TcpStream::connect(gnomon.address).await.unwrap());
        let line = credentials.map(|c| format!("proxy-authorization: Basic {c}\r\n")).unwrap_or_default();
        client.write(format!("CONNECT {HOST}:443 HTTP/1.1\r\nhost: {HOST}:443\r\n{line}\r\n").as_bytes()).await;
        let answer = client.head().await.unwrap();
        assert_eq!(answer.status, status);
        if status == 407 {
            assert!(answer.header("proxy-authenticate").unwrap().starts_with("Basic "));
            continue;
        }
        let mut client = H1::over(client::handshake(client.stream, &gnomon.root, HOST, H1).await.unwrap());
        assert_eq!(client.send(&[h1_post("/rpc", call(1, "any_tool").to_string().as_bytes())]).await.status, 200);
        client.close().await;
    }
    let mut client = H1::over(TcpStream::connect(gnomon.address).await.unwrap());
    let answer = client.send(&[format!("GET http://{HOST}/ HTTP/1.1\r\nhost: {HOST}\r\n\r\n").into_bytes()]).await;
    assert_eq!(answer.status, 407);
    client.close().await;
    let events = gnomon.finish().await;
    assert_eq!((events.len(), &events[0]["user.name"]), (1, &json!("ada")));
    assert!(!events[0].to_string().contains("s3cr"));
}

#[tokio::test]
async fn credentials_for_the_proxy_do_not_travel_on() {
    let upstream = Upstream::start(H1).await;
    let gnomon = Gnomon::with().before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let further = "proxy-authorization: Basic YWRhOnMzY3JldA==\r\nconnection: x-private\r\nx-private: 1\r\nauthorization: Bearer mine\r\n";
    client.send(&[h1_post_with("/rpc", further, call(1, "any_tool").to_string().as_bytes())]).await;
    upstream.requests(|all| {
        let headers = &all[0].headers;
        assert!(!headers.contains_key("proxy-authorization") && !headers.contains_key("x-private"));
        assert_eq!(headers.get("authorization").unwrap(), "Bearer mine");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_stream_both_ways_unchanged() {
    const SIZE: usize = 64 << 20;
    let body: Arc<Vec<u8>> = Arc::new((0..SIZE).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect());
    let back = body.clone();
    let upstream = Upstream::answering(H1, move |received| {
        received.end?;
        Some(Answer::full("application/octet-stream", back.to_vec()))
    })
    .await;
    let gnomon = Gnomon::with().rules([block(1, "gen_ai.tool.name: blocked_tool")]).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    client.write(&h1_head("POST", "/upload", &format!("content-type: application/octet-stream\r\ncontent-length: {SIZE}\r\n"))).await;
    client.write(&body[..1 << 20]).await;
    upstream.until("the first bytes", |all| all.first().is_some_and(|r| !r.raw.is_empty())).await;
    client.write(&body[1 << 20..]).await;
    let answer = client.answer().await;
    assert!(answer.body == **body);
    upstream.requests(|all| assert!(all[0].raw == **body));
}
