//! A rule that blocks a host blocks it in every protocol, and by whichever of its names or addresses it is requested.

use super::*;
use gnomon_stage::{
    authority::Authority,
    client::{H1, H2, handshake},
    coding::Coding,
    request::{h1_post, h2_post},
    upstream::{Answer, Upstream},
};
use serde_json::json;
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_by_address_does_not_go_round_a_rule_for_the_name() {
    let said: [(&str, Vec<u8>); 5] = [
        ("its name in Host", request("POST /mcp HTTP/1.1\r\n")),
        (
            "another name in Host",
            String::from_utf8(request("POST /mcp HTTP/1.1\r\n")).unwrap().replace(HOST, "harmless.example").into_bytes(),
        ),
        ("no Host", String::from_utf8(request("POST /mcp HTTP/1.1\r\n")).unwrap().replace(&format!("host: {HOST}\r\n"), "").into_bytes()),
        ("a request line that is not read", request("POST /mcp HTTP/1.2\r\n")),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
    ];
    for road in ROADS {
        for rule in [format!("server.address: {HOST}"), format!("server.address: {HOST}, mcp.method.name: tools/call")] {
            for (what, bytes) in &said {
                if rule.contains("method") && bytes.starts_with(b"SSH") {
                    // This is not a tool call, and the rule is about calls.
                    continue;
                }
                let server = Lenient::start().await;
                let setup = Gnomon::with().rules([block(1, &rule)]).resolve_port(HOST, server.address);
                let (gnomon, mut stream) = reach(setup, road, server.address).await;
                let answer = exchange(&mut stream, bytes).await;
                assert_eq!(server.calls(), 0, "{road:?}, {rule}, {what}: {answer:?}");
                assert!(server.got().is_empty(), "{road:?}, {rule}, {what}: {answer:?}");
                let events = gnomon.events_until(1).await;
                assert!(events.iter().any(|event| event["gnomon.action"] == "block"), "{road:?}, {rule}, {what}: {events:#?}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_to_the_proxy_by_address_does_not_go_round_it_either() {
    for rule in [format!("server.address: {HOST}"), format!("server.address: {HOST}, mcp.method.name: tools/call")] {
        let server = Lenient::start().await;
        let gnomon = Gnomon::with().rules([block(1, &rule)]).resolve_port(HOST, server.address).start().await;
        for said in [HOST.to_owned(), "harmless.example".to_owned(), server.address.to_string()] {
            let line = format!("POST http://{}/mcp HTTP/1.1\r\n", server.address);
            let bytes = String::from_utf8(request(&line)).unwrap().replace(&format!("host: {HOST}"), &format!("host: {said}"));
            let mut stream = TcpStream::connect(gnomon.address).await.unwrap();
            let answer = exchange(&mut stream, bytes.as_bytes()).await;
            assert_eq!(server.calls(), 0, "{rule}, {said}: {answer:?}");
        }
        let events = gnomon.events_until(3).await;
        assert!(events.iter().filter(|event| event["gnomon.action"] == "block").count() == 3, "{rule}: {events:#?}");
        // A client that requests an address and puts the same into Host contradicts nothing.
        assert!(events.iter().all(|event| event.get("gnomon.mismatch").is_none()), "{rule}: {events:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_an_address_is_spelled_it_is_that_address_to_rules_and_to_whoever_denied_it() {
    let spellings =
        |port: u16| ["127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "0177.0x1", "[::ffff:127.0.0.1]"].map(|ip| format!("{ip}:{port}"));
    for rule in
        ["server.address: 127.0.0.1", "server.address: '0x7f.1'", "destination.address: 127.0.0.1", "server.address|cidr: 127.0.0.0/8"]
    {
        let server = Lenient::start().await;
        let gnomon = Gnomon::with().rules([block(1, rule)]).start().await;
        for spelled in spellings(server.address.port()) {
            let bytes = String::from_utf8(request("POST /mcp HTTP/1.1\r\n")).unwrap().replace(HOST, &spelled);
            let mut stream = tunnel(gnomon.address, &spelled).await;
            let answer = exchange(&mut stream, bytes.as_bytes()).await;
            assert_eq!(server.calls(), 0, "{rule}, CONNECT {spelled}: {answer:?}");
            let line = format!("POST http://{spelled}/mcp HTTP/1.1\r\n");
            let bytes = String::from_utf8(request(&line)).unwrap().replace(HOST, &spelled);
            let mut stream = TcpStream::connect(gnomon.address).await.unwrap();
            let answer = exchange(&mut stream, bytes.as_bytes()).await;
            assert_eq!(server.calls(), 0, "{rule}, {line}: {answer:?}");
        }
        let events = gnomon.events_until(2 * spellings(1).len()).await;
        // A client that requests an address and puts the same into Host contradicts nothing.
        assert!(events.iter().all(|event| event.get("gnomon.mismatch").is_none()), "{rule}: {events:#?}");
        assert!(events.iter().all(|event| event["server.address"] == "127.0.0.1"), "{rule}: {events:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_written_down_to_lead_to_another_port_is_a_name_of_what_is_there() {
    for road in ROADS {
        for rule in [format!("server.address: {HOST}"), format!("server.address: {HOST}, server.port: 443")] {
            let server = Lenient::start().await;
            let setup = Gnomon::with().rules([block(1, &rule)]).resolve(HOST, server.address);
            let (gnomon, mut stream) = reach(setup, road, server.address).await;
            let bytes = String::from_utf8(request("POST /mcp HTTP/1.1\r\n")).unwrap().replace(HOST, "harmless.example");
            let answer = exchange(&mut stream, bytes.as_bytes()).await;
            assert_eq!(server.calls(), 0, "{road:?}, {rule}: {answer:?}");
            let events = gnomon.events_until(1).await;
            assert!(events.iter().any(|event| event["gnomon.action"] == "block"), "{road:?}, {rule}: {events:#?}");
        }
    }
}

#[tokio::test]
async fn another_name_of_the_same_server_does_not_go_round_it_by_host_and_other_servers_are_served() {
    let server = Lenient::start().await;
    let setup = Gnomon::with().rules([block(1, &format!("server.address: {HOST}"))]).resolve_port(HOST, server.address);
    let gnomon = setup.resolve_port("alias.example", server.address).start().await;
    let mut stream = tunnel(gnomon.address, &format!("alias.example:{}", server.address.port())).await;
    let answer = exchange(&mut stream, &request("POST /mcp HTTP/1.1\r\n")).await.unwrap();
    assert!(!answer.ends_with("ran"), "{answer}");
    assert_eq!(server.calls(), 0);
    // The rule does not concern another server, requested by its address.
    let other = Lenient::start().await;
    let mut stream = tunnel(gnomon.address, &other.address.to_string()).await;
    let harmless = String::from_utf8(request("POST /mcp HTTP/1.1\r\n")).unwrap().replace(HOST, "harmless.example");
    assert!(exchange(&mut stream, harmless.as_bytes()).await.unwrap().ends_with("ran"));
}

#[tokio::test]
async fn a_request_that_names_no_one_host_is_refused_in_both_versions() {
    let upstream = Upstream::start(&["http/1.1"]).await;
    let gnomon = Gnomon::with().before(&upstream).await;
    let body = call(1, "any_tool").to_string();
    for lines in [
        format!("host: {HOST}\r\nhost: other.example\r\n"),
        format!("host: {HOST}\r\nhost: {HOST}\r\n"),
        "host: t\u{f6}\u{f6}ls.example\r\n".to_owned(),
        format!("host: {HOST} other.example\r\n"),
        format!("host: {HOST},other.example\r\n"),
        format!("host: other.example@{HOST}\r\n"),
        format!("host: {HOST}/x\r\n"),
    ] {
        let mut client = H1::connect(&gnomon).await;
        let post = format!("POST /mcp HTTP/1.1\r\n{lines}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let answer = client.send(&[post.into_bytes()]).await;
        assert_eq!(answer.status, 400, "{lines:?}: {answer:?}");
    }
    assert!(upstream.paths().is_empty());

    let upstream = Upstream::start(&["h2"]).await;
    let gnomon = Gnomon::with().before(&upstream).await;
    for host in ["other.example", "t\u{f6}\u{f6}ls.example", "a b"] {
        let mut client = H2::connect(&gnomon).await;
        let mut post = h2_post("/mcp", Coding::Identity);
        post.headers_mut().insert("host", http::HeaderValue::from_bytes(host.as_bytes()).unwrap());
        let answer = client.send(post, &[body.clone().into_bytes()]).await.unwrap();
        assert_eq!(answer.status, 400, "{host}: {answer:?}");
    }
    assert!(upstream.paths().is_empty());
}

/// Another proxy, which opens every tunnel to this one server.
pub(super) async fn second_proxy(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = client.read_u8().await else { return };
                    head.push(byte);
                }
                assert!(head.starts_with(format!("CONNECT {HOST}:443 ").as_bytes()), "{}", String::from_utf8_lossy(&head));
                client.write_all(b"HTTP/1.1 200 Go ahead\r\n\r\n").await.unwrap();
                let Ok(mut server) = TcpStream::connect(server).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_second_proxy_behind_gnomon_works_and_what_it_opens_is_judged() {
    let upstream = Upstream::start(&["http/1.1"]).await;
    let proxy = second_proxy(upstream.address).await;
    let connect = format!("CONNECT {HOST}:443 HTTP/1.1\r\nhost: {HOST}:443\r\n\r\n");
    for road in ROADS {
        let before = upstream.executed().len();
        let setup = Gnomon::with().rules([block(1, "gen_ai.tool.name: blocked_tool")]).trust(upstream.authority.pem_file());
        let (gnomon, mut stream) = reach(setup, road, proxy).await;
        assert!(exchange(&mut stream, connect.as_bytes()).await.unwrap().starts_with("HTTP/1.1 200 Go ahead"));
        let mut client = H1::over(handshake(stream, &gnomon.root, HOST, &["http/1.1"]).await.unwrap());
        for (tool, runs) in [("blocked_tool", false), ("any_tool", true)] {
            let answer = client.send(&[h1_post("/rpc", call(1, tool).to_string().as_bytes())]).await;
            assert_eq!(answer.json()["result"]["isError"] == json!(true), !runs, "{road:?}: {answer:?}");
        }
        assert_eq!(upstream.executed().len(), before + 1);
        assert_eq!(passed(&gnomon, Passage::ConnectWithin), 1);
    }
    // A rule may also block the other proxy itself.
    for road in ROADS {
        let setup = Gnomon::with().rules([block(1, &format!("server.port: {}", proxy.port()))]);
        let (gnomon, mut stream) = reach(setup, road, proxy).await;
        assert!(exchange(&mut stream, connect.as_bytes()).await.unwrap().starts_with("HTTP/1.1 403 "));
        assert_eq!(told(&gnomon.events_until(1).await, Passage::ConnectWithin).len(), 1);
    }
}

#[tokio::test]
async fn what_another_proxy_is_to_fetch_is_read_and_reaches_it_as_it_was_asked() {
    // A client that sends no password is asked for one, as proxies do.
    let proxy = Upstream::without_tls(|received| {
        let challenge = vec![("proxy-authenticate", "Basic realm=\"out\"".to_owned())];
        let asks = received.end.is_some() && !received.headers.contains_key("proxy-authorization");
        asks.then(|| Answer::Full { status: 407, headers: challenge, body: Vec::new() })
    })
    .await;
    let post = |host: &str, tool: &str, more: &str| {
        let body = call(1, tool).to_string();
        let head = format!("POST http://{host}/mcp HTTP/1.1\r\nhost: {host}\r\n{more}content-type: application/json\r\n");
        format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let known = "proxy-authorization: Basic YTpi\r\n";
    for road in ROADS {
        let before = proxy.executed().len();
        let rules = [block(1, "gen_ai.tool.name: blocked_tool"), block(2, "server.address: blocked.example")];
        let (gnomon, stream) = reach(Gnomon::with().rules(rules), road, proxy.address).await;
        let mut client = H1::over(stream);
        let asked = client.send(&[post(HOST, "any_tool", "")]).await;
        assert_eq!((asked.status, asked.header("proxy-authenticate")), (407, Some("Basic realm=\"out\"")), "{road:?}");
        let answer = client.send(&[post(HOST, "any_tool", known)]).await;
        assert_eq!(answer.status, 200, "{road:?}: {answer:?}");
        let reached = proxy.executed().len();
        for (host, tool) in [(HOST, "blocked_tool"), ("blocked.example", "any_tool")] {
            let refused = client.send(&[post(host, tool, known)]).await;
            assert_eq!(refused.json()["result"]["isError"], json!(true), "{road:?}: {refused:?}");
        }
        assert_eq!((proxy.executed().len(), reached), (reached, before + 2), "{road:?}");
        assert!(proxy.paths().iter().all(|path| *path == format!("http://{HOST}/mcp")), "{:?}", proxy.paths());
        let events = gnomon.events_until(2).await;
        assert!(events.iter().any(|event| event["gnomon.action"] == "block"), "{events:#?}");
    }
}

#[tokio::test]
async fn what_may_ask_another_proxy_for_a_blocked_host_does_not_reach_it() {
    // A proxy that accepts requests in any form, and acts on them.
    let server = Lenient::start().await;
    let after_a_pause = "POST http://blocked.example/mcp HTTP/1.1\r\n";
    for road in ROADS {
        for line in [
            "POST http://blocked.example/mcp HTTP/1.2\r\n",
            "CONNECT blocked.example HTTP/1.1\r\n",
            "CONNECT  blocked.example:80 HTTP/1.1\r\n",
            "CONNECT http://blocked.example:80 HTTP/1.1\r\n",
            "CONNECT blocked.example:80 HTTP/1.2\r\n",
            after_a_pause,
        ] {
            let rules = [block(1, "server.address: blocked.example")];
            let (_gnomon, mut stream) = reach(Gnomon::with().rules(rules), road, server.address).await;
            let bytes = request(line);
            let begun = if line == after_a_pause { 12 } else { 0 };
            stream.write_all(&bytes[..begun]).await.unwrap();
            if begun > 0 {
                tokio::time::sleep(Duration::from_millis(1500)).await;
            }
            let answer = exchange(&mut stream, &bytes[begun..]).await;
            assert_eq!(server.calls(), 0, "{road:?} {line}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn what_is_asked_of_another_proxy_runs_no_tool_that_a_rule_blocks() {
    // The rule holds for a proxy, and for a server that accepts the request form meant for proxies.
    let server = Lenient::start().await;
    let line = format!("POST http://{HOST}/mcp HTTP/1.1\r\n");
    for road in ROADS {
        let (_gnomon, mut stream) = reach(Gnomon::with().rules([block(1, CALLS)]), road, server.address).await;
        let answer = exchange(&mut stream, &request(&line)).await;
        assert_eq!(server.calls(), 0, "{road:?}: {answer:?}");
    }
}

#[tokio::test]
async fn what_another_proxy_is_to_fetch_by_another_scheme_reaches_it_as_it_came_and_contradicts_nothing() {
    let proxy = Upstream::without_tls(|_| None).await;
    let post = |target: &str, host: &str| {
        let body = call(1, "any_tool").to_string();
        let head = format!("POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n");
        format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    for road in ROADS {
        for first in [None, Some("/mcp")] {
            let before = proxy.paths().len();
            let (gnomon, stream) = reach(Gnomon::with().rules([block(1, "server.address: blocked.example")]), road, proxy.address).await;
            let mut client = H1::over(stream);
            if let Some(path) = first {
                assert_eq!(client.send(&[post(path, &proxy.address.to_string())]).await.status, 200);
            }
            for scheme in ["ftp", "svn+ssh"] {
                let answer = client.send(&[post(&format!("{scheme}://{HOST}/mcp"), HOST)]).await;
                assert_eq!(answer.status, 200, "{road:?} {first:?}: {answer:?}");
                let refused = client.send(&[post(&format!("{scheme}://blocked.example/mcp"), "blocked.example")]).await;
                assert_eq!(refused.json()["result"]["isError"], json!(true), "{road:?} {first:?}: {refused:?}");
            }
            client.close().await;
            let asked: Vec<_> =
                first.map(str::to_owned).into_iter().chain(["ftp", "svn+ssh"].map(|s| format!("{s}://{HOST}/mcp"))).collect();
            assert_eq!(proxy.paths()[before..], asked, "{road:?}");
            let events = gnomon.finish().await;
            assert_eq!(events.len(), asked.len() + 2, "{events:#?}");
            assert!(events.iter().all(|event| event.get("gnomon.mismatch").is_none()), "{road:?}: {events:#?}");
        }
    }
}

#[tokio::test]
async fn what_may_ask_another_proxy_behind_a_header_of_the_proxy_protocol_is_told_with_the_server_that_it_reached() {
    for road in ROADS {
        let server = Lenient::start().await;
        let (gnomon, mut stream) = reach(Gnomon::with().rules([block(1, CALLS)]), road, server.address).await;
        let said = [&b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n"[..], &request("POST /mcp HTTP/1.1\r\n")].concat();
        let _ = exchange(&mut stream, &said).await;
        assert_eq!(server.calls(), 0);
        let events = gnomon.events_until(1).await;
        let event = told(&events, Passage::OtherProxyOdd)[0];
        assert_eq!((&event["server.address"], &event["server.port"]), (&json!("127.0.0.1"), &json!(server.address.port())), "{road:?}");
    }
}

/// Neither the name within TLS nor a `Host` takes back for whom a client asked the proxy.
#[tokio::test]
async fn what_a_client_asked_the_proxy_for_stays_known_beside_the_name_that_it_says_within() {
    const OTHER: &str = "other.example";
    let authority = Authority::new("theirs");
    let (encrypted, plain) = (Lenient::with_tls(&authority, OTHER, &["http/1.1"], b"").await, Lenient::start().await);
    let body = call(1, "any_tool").to_string();
    let request =
        format!("POST /mcp HTTP/1.1\r\nhost: {OTHER}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    for (rule, asked, runs) in [
        (format!("server.address: {HOST}"), HOST, 0),
        (format!("server.address: {HOST}"), "127.0.0.1", 0),
        ("server.address: 127.0.0.1, mcp.method.name: tools/call".to_owned(), "127.0.0.1", 0),
        // Who uses another name throughout is judged by that one.
        (format!("server.address: {HOST}"), OTHER, 1),
    ] {
        let mut setup = Gnomon::with().rules([block(1, &rule)]).trust(authority.pem_file());
        for server in [&encrypted, &plain] {
            setup = setup.resolve_port(HOST, server.address).resolve_port(OTHER, server.address);
        }
        let gnomon = setup.start().await;
        let before = (encrypted.calls(), plain.calls());
        let stream = tunnel(gnomon.address, &format!("{asked}:{}", encrypted.address.port())).await;
        if let Ok(mut stream) = handshake(stream, &gnomon.root, OTHER, &["http/1.1"]).await {
            let _ = stream.write_all(request.as_bytes()).await;
            let mut answer = [0; 1024];
            let _ = soon("an answer", stream.read(&mut answer)).await;
        }
        let mut stream = tunnel(gnomon.address, &format!("{asked}:{}", plain.address.port())).await;
        let _ = exchange(&mut stream, request.as_bytes()).await;
        assert_eq!((encrypted.calls() - before.0, plain.calls() - before.1), (runs, runs), "{rule}, asked for {asked}");
    }
}

#[tokio::test]
async fn whoever_contradicts_the_name_that_was_asked_for_meets_a_rule_for_any_name_of_the_server() {
    const OTHER: &str = "other.example";
    let by_name = format!("server.address: {HOST}");
    let with_method = format!("{by_name}, mcp.method.name: tools/call");
    let body = call(1, "any_tool").to_string();
    for (rule, said, runs) in [
        (by_name.as_str(), "127.0.0.1", 0),
        (&by_name, "third.example", 0),
        (&with_method, "127.0.0.1", 0),
        (&with_method, "third.example", 0),
        // Who is consistent is judged by the name that is used: one address has many.
        (&by_name, OTHER, 1),
        ("server.address: 192.0.2.1", "third.example", 1),
    ] {
        let server = Lenient::start().await;
        let setup = Gnomon::with().rules([block(1, rule)]).resolve_port(HOST, server.address).resolve_port(OTHER, server.address);
        let gnomon = setup.start().await;
        let port = server.address.port();
        let request =
            format!("POST /mcp HTTP/1.1\r\nhost: {said}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let mut stream = tunnel(gnomon.address, &format!("{OTHER}:{port}")).await;
        let answer = exchange(&mut stream, request.as_bytes()).await;
        assert_eq!(server.calls(), runs, "{rule}, {said}: {answer:?}");
        if said == OTHER {
            let absolute = request.replace("POST /mcp", &format!("POST http://{OTHER}:{port}/mcp"));
            let mut stream = TcpStream::connect(gnomon.address).await.unwrap();
            let answer = exchange(&mut stream, absolute.as_bytes()).await;
            assert_eq!(server.calls(), 2 * runs, "{rule}, asked of the proxy: {answer:?}");
        }
    }
}
