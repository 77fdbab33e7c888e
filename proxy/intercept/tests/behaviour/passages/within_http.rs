//! WebSocket, and what else HTTP may carry other than MCP messages.

use super::*;
use gnomon_stage::{
    client::{Ends, H1, H2, h2_answer},
    request::{h1_head, h1_post, h1_post_with},
    upstream::{Answer, Upstream},
};
use http::Request;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

const HERE: &str = "mcp.method.name: tools/call, server.address: tools.example";
const PATH: &str = "mcp.method.name: tools/call, url.path: /chat";
const ELSEWHERE: &str = "mcp.method.name: tools/call, server.address: other.example";

pub(super) fn websocket(path: &str, protocols: &str) -> Vec<u8> {
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n";
    h1_head("GET", path, &format!("connection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n{key}{protocols}"))
}

#[tokio::test]
async fn websocket_passes_unless_it_says_mcp_or_a_rule_means_its_server() {
    for (rule, path, protocols, passes) in [
        (CALLS, "/chat", "", true),
        (CALLS, "/chat", "sec-websocket-protocol: chat, graphql-ws\r\n", true),
        (ELSEWHERE, "/chat", "sec-websocket-protocol: mcp\r\n", true),
        (CALLS, "/chat", "sec-websocket-protocol: chat, MCP\r\n", false),
        (CALLS, "/chat", "mcp-protocol-version: 2025-11-25\r\n", false),
        (CALLS, "/mcp", "", false),
        (HERE, "/chat", "", false),
        (PATH, "/chat", "", false),
        (PATH, "/other", "", true),
    ] {
        let upstream = Upstream::answering(&["http/1.1"], |_| Some(Answer::Switch(""))).await;
        let gnomon = Gnomon::with().rules([block(1, rule)]).before(&upstream).await;
        let mut client = H1::connect(&gnomon).await;
        client.write(&websocket(path, protocols)).await;
        let head = client.head().await.unwrap();
        assert_eq!(head.status == 101, passes, "{rule} {path} {protocols}: {head:?}");
        assert_eq!(passed(&gnomon, Passage::WebSocket), u64::from(passes));
        if passes {
            client.write(b"\x81\x02hi").await;
            let mut echo = [0; 4];
            soon("the echo", client.stream.read_exact(&mut echo)).await.unwrap();
            assert_eq!(&echo, b"\x81\x02hi");
        } else {
            assert!(upstream.paths().is_empty());
            assert_eq!(told(&gnomon.events_until(1).await, Passage::WebSocket).len(), 1);
        }
    }
}

#[tokio::test]
async fn a_websocket_that_its_server_says_is_mcp_is_judged_as_that_whatever_its_client_asked_for() {
    for said in ["", "sec-websocket-protocol: chat\r\n", "sec-websocket-protocol: chat, \u{e9}, mcp\r\n"] {
        for (rule, passes) in [(CALLS, false), (ELSEWHERE, true)] {
            let upstream = Upstream::answering(&["http/1.1"], |_| Some(Answer::Switch("sec-websocket-protocol: mcp\r\n"))).await;
            let gnomon = Gnomon::with().rules([block(1, rule)]).before(&upstream).await;
            let mut client = H1::connect(&gnomon).await;
            client.write(&websocket("/chat", said)).await;
            let head = client.head().await.unwrap();
            assert_eq!(head.status == 101, passes, "{rule} {said}: {head:?}");
            let events = gnomon.events_until(1).await;
            assert_eq!(events[0]["gnomon.action"], if passes { "allow" } else { "block" }, "{events:#?}");
        }
    }
}

#[tokio::test]
async fn a_websocket_that_says_mcp_is_an_event_where_nothing_refuses_it() {
    let upstream = Upstream::answering(&["http/1.1"], |_| Some(Answer::Switch(""))).await;
    let gnomon = Gnomon::with().before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    client.write(&websocket("/chat", "sec-websocket-protocol: mcp\r\n")).await;
    assert_eq!(client.head().await.unwrap().status, 101);
    let events = gnomon.events_until(1).await;
    assert_eq!((&events[0]["gnomon.confidence"], &events[0]["gnomon.passage"]), (&json!("probable"), &json!("websocket")), "{events:#?}");
}

#[tokio::test]
async fn grpc_passes_unless_a_rule_means_its_server() {
    for (rule, passes) in [(CALLS, true), (ELSEWHERE, true), (HERE, false)] {
        let upstream = Upstream::answering(&["h2"], |received| {
            received.end?;
            Some(Answer::full("application/grpc", b"\0\0\0\0\x02ok".to_vec()))
        })
        .await;
        let gnomon = Gnomon::with().rules([block(1, rule)]).before(&upstream).await;
        let mut client = H2::connect(&gnomon).await;
        let post = Request::post(format!("https://{HOST}/greet.Greeter/Hello")).header("content-type", "application/grpc+proto");
        let (response, mut body) = client.begin(post.header("te", "trailers").body(()).unwrap(), Ends::WithBody).await;
        body.send_data(b"\0\0\0\0\x05\x0a\x03ada".to_vec().into(), true).unwrap();
        let answer = h2_answer(response).await.unwrap();
        assert_eq!(answer.body == b"\0\0\0\0\x02ok", passes, "{rule}: {answer:?}");
        assert_eq!((upstream.paths().len(), passed(&gnomon, Passage::Grpc)), (usize::from(passes), u64::from(passes)));
    }
}

#[tokio::test]
async fn a_request_with_two_framings_is_refused() {
    let upstream = Upstream::start(&["http/1.1"]).await;
    let gnomon = Gnomon::with().before(&upstream).await;
    let body = call(1, "any_tool").to_string();
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for lines in ["content-length: 4096\r\ntransfer-encoding: chunked\r\n", "transfer-encoding: chunked\r\ncontent-length: 4\r\n"] {
        let mut client = H1::connect(&gnomon).await;
        let lines = format!("content-type: application/json\r\n{lines}");
        let answer = client.send(&[h1_head("POST", "/rpc", &lines), chunks.clone().into_bytes()]).await;
        assert_eq!(answer.status, 400, "{lines:?}: {answer:?}");
    }
    assert!(upstream.paths().is_empty());
    // Either one alone is accepted, on one connection.
    let mut client = H1::connect(&gnomon).await;
    assert_eq!(client.send(&[h1_post("/rpc", body.as_bytes())]).await.status, 200);
    let lines = "content-type: application/json\r\ntransfer-encoding: chunked\r\n";
    assert_eq!(client.send(&[h1_head("POST", "/rpc", lines), chunks.into_bytes()]).await.status, 200);
}

#[tokio::test]
async fn an_answer_with_two_framings_is_refused_and_not_cut_short() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut server, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = server.read(&mut request).await;
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n";
            let _ = server.write_all(format!("{head}5\r\nhello\r\n0\r\n\r\n").as_bytes()).await;
        }
    });
    let (_gnomon, stream) = reach(Gnomon::with(), Road::Asked, address).await;
    let answer = H1::over(stream).send(&[h1_head("GET", "/", "")]).await;
    assert_eq!((answer.status, answer.header("x-gnomon")), (502, Some("error")), "{answer:?}");
}

#[tokio::test]
async fn a_method_in_lower_case_is_the_same_method_to_its_server() {
    let server = Lenient::start().await;
    for road in ROADS {
        let (_gnomon, mut stream) = reach(Gnomon::with().rules([block(1, CALLS)]), road, server.address).await;
        let body = call(1, "any_tool").to_string();
        let post = String::from_utf8(h1_post_with("/mcp", "", body.as_bytes())).unwrap().replacen("POST", "post", 1);
        let post = post.replace("content-type: application/json\r\n", "");
        let answer = exchange(&mut stream, post.as_bytes()).await;
        assert_eq!(server.calls(), 0, "{road:?}: {answer:?}");
    }
}

/// A server that answers every request without reading its body, keeps the connection, and acts on what it takes for the next one. Returns
/// its address and how often its tool ran.
async fn reads_no_body() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, ran) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let acts = ran.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let acts = acts.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Ok(1..) = stream.read_buf(&mut seen).await {
                    while let Some(end) = seen.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                        let head: Vec<u8> = seen.drain(..end + 4).collect();
                        if head.starts_with(b"POST /act") {
                            acts.fetch_add(1, Ordering::SeqCst);
                        }
                        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    (address, ran)
}

#[tokio::test]
async fn a_request_within_a_body_that_its_server_does_not_read_is_no_way_past_a_rule() {
    let within = String::from_utf8(request("POST /act HTTP/1.1\r\n")).unwrap();
    for (method, kind) in
        [("GET", ""), ("OPTIONS", ""), ("DELETE", ""), ("PUT", ""), ("POST", "content-type: text/plain\r\n"), ("POST", "")]
    {
        for cut in [within.len(), 3, 9] {
            for blocks in [true, false] {
                let (address, ran) = reads_no_body().await;
                let rules = if blocks { vec![block(1, CALLS)] } else { Vec::new() };
                let gnomon = Gnomon::with().rules(rules).resolve_port(HOST, address).start().await;
                let mut stream = TcpStream::connect(gnomon.address).await.unwrap();
                let head = format!("{method} http://{HOST}:{}/ HTTP/1.1\r\nhost: {HOST}\r\n{kind}", address.port());
                stream.write_all(format!("{head}content-length: {}\r\n\r\n{}", within.len(), &within[..cut]).as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(if cut < within.len() { 50 } else { 0 })).await;
                // It may have been refused.
                let _ = stream.write_all(&within.as_bytes()[cut..]).await;
                let mut answer = [0; 12];
                let _ = soon("an answer or an end", stream.read(&mut answer)).await;
                let events = gnomon.events_until(1).await;
                let what = format!("{method} {kind:?} {cut} {blocks}: {events:#?}");
                assert_eq!(told(&events, Passage::RequestWithin).len(), 1, "{what}");
                assert_eq!(events[0]["gnomon.action"] == "block", blocks, "{what}");
                tokio::time::sleep(Duration::from_millis(20)).await;
                assert!(!blocks || ran.load(Ordering::SeqCst) == 0, "the tool ran: {what}");
            }
        }
    }
}
