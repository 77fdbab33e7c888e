//! What an HTTP/1.1 connection turns into behind an `Upgrade` that is no WebSocket.

use super::*;
use gnomon_stage::{
    client::H1,
    request::h1_head,
    rules::{id, rule},
    upstream::{Answer, Upstream},
};
use serde_json::json;
use tokio::net::TcpListener;

const HERE: &str = "server.address: tools.example";

#[tokio::test]
async fn no_connection_is_upgraded_to_a_protocol_that_is_neither_read_nor_reported() {
    // A server that would switch to HTTP/2 if the client asked for the upgrade.
    let upstream = Upstream::answering(&["http/1.1"], |received| {
        Some(if received.headers.contains_key("upgrade") { Answer::Switch("") } else { Answer::json("{}") })
    })
    .await;
    let gnomon = Gnomon::with().rules([block(1, CALLS)]).before(&upstream).await;
    for (upgrade, settings) in [("h2c", "http2-settings: AAMAAABkAAQAAP__\r\n"), ("TLS/1.2", ""), ("mcp", ""), ("h2c, HTTP/2.0", "")] {
        let mut client = H1::connect(&gnomon).await;
        let lines = format!("connection: Upgrade\r\nupgrade: {upgrade}\r\n{settings}");
        let answer = client.send(&[h1_head("GET", "/", &lines)]).await;
        // HTTP in another version is not asked for on, and what is not read is refused, as a rule could match there.
        let expected = if upgrade.starts_with("h2c") { 200 } else { 403 };
        assert_eq!(answer.status, expected, "{upgrade}: {answer:?}");
    }
    assert_eq!(told(&gnomon.events_until(2).await, Passage::Upgraded).len(), 2);
    upstream.requests(|all| {
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|r| !["upgrade", "http2-settings"].iter().any(|name| r.headers.contains_key(*name))));
    });
}

/// A server that turns any connection into one that echoes, its own words first, as `docker exec` does: behind the head of the 101, in one write.
async fn echoes(protocol: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap().to_lowercase();
                assert!(head.contains(&format!("upgrade: {protocol}\r\n")) && head.contains("connection: upgrade\r\n"), "{head}");
                let switched =
                    format!("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\nX-Its-Own: yes\r\n\r\nwelcome");
                stream.write_all(switched.as_bytes()).await.unwrap();
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.unwrap();
                to.write_all(b"bye").await.unwrap();
            });
        }
    });
    address
}

fn asks(protocol: &str) -> Vec<u8> {
    h1_head("POST", "/containers/1/exec", &format!("connection: Upgrade\r\nupgrade: {protocol}\r\ncontent-length: 0\r\n"))
}

/// With the opening handshake of WebSocket (RFC 6455 section 4.1), whatever the protocol.
pub(super) fn opens(protocol: &str) -> Vec<u8> {
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n";
    h1_head("GET", "/containers/1/exec", &format!("connection: Upgrade\r\nupgrade: {protocol}\r\n{key}"))
}

/// Sends all of this over the connection that it has become, ends its side, and returns what came to the server's end.
async fn says(client: H1<TcpStream>, sent: &[u8]) -> Vec<u8> {
    let (mut from, mut to) = tokio::io::split(client.stream);
    let writing = async {
        to.write_all(sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut heard = client.buffer;
    let (read, ()) = soon("the echo", async { tokio::join!(from.read_to_end(&mut heard), writing) }).await;
    read.unwrap();
    heard
}

#[tokio::test]
async fn an_upgrade_that_no_rule_could_refuse_is_joined_to_its_server_and_told() {
    let notes = || rule(1, "Notes each WebSocket", "gnomon.passage: websocket", "action: log");
    for road in ROADS {
        // WebSocket is a message of a connection that is read; any other protocol is the end of that.
        for (protocol, passage, outcome) in
            [("tcp", Passage::Upgraded, json!("passthrough")), ("websocket", Passage::WebSocket, json!(null))]
        {
            let (gnomon, stream) = reach(Gnomon::with().rules([notes()]), road, echoes(protocol).await).await;
            let mut client = H1::over(stream);
            // HTTP in another version is not asked for on beside it.
            client.write(&opens(&format!("h2c, {protocol}"))).await;
            let head = client.head().await.unwrap();
            assert_eq!((head.status, head.header("upgrade"), head.header("x-its-own")), (101, Some(protocol), Some("yes")), "{road:?}");
            // Bytes that look like a request are none any more.
            let sent = [b"POST /mcp HTTP/1.1\r\n\r\n\x00\xff".repeat(3_000), call(1, "any_tool").to_string().into_bytes()].concat();
            let heard = says(client, &sent).await;
            assert!(heard == [b"welcome", &sent[..], b"bye"].concat(), "{road:?} {protocol}: {} of {} bytes", heard.len(), sent.len());
            assert_eq!(passed(&gnomon, passage), 1);
            let events = gnomon.events_until(1).await;
            let told = told(&events, passage);
            assert_eq!(told.len(), 1, "{events:#?}");
            assert_eq!(told[0]["gnomon.flow.outcome"], outcome, "{road:?} {:#}", told[0]);
            assert!(["allow", "log"].contains(&told[0]["gnomon.action"].as_str().unwrap()), "{:#}", told[0]);
            if passage == Passage::Upgraded {
                assert!(told[0]["message"].as_str().unwrap().contains("(Upgrade: tcp)"), "{:#}", told[0]);
            }
        }
    }
}

#[tokio::test]
async fn what_a_connection_has_become_is_reset_on_both_sides_where_gnomon_stops() {
    for protocol in ["tcp", "websocket"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let setup = Gnomon::with().drain(Duration::from_millis(100));
        let (gnomon, stream) = reach(setup, Road::Redirected, listener.local_addr().unwrap()).await;
        let mut client = H1::over(stream);
        client.write(&opens(protocol)).await;
        let (mut server, _) = soon("the connection", listener.accept()).await.unwrap();
        assert!(soon("the request", server.read(&mut [0; 1024])).await.unwrap() > 0);
        let head = format!("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n");
        server.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(client.head().await.unwrap().status, 101);
        client.write(b"half").await;
        soon("the bytes", server.read_exact(&mut [0; 4])).await.unwrap();
        gnomon.finish().await;
        for side in [&mut server, &mut client.stream] {
            let ended = soon("the end", side.read(&mut [0; 1])).await;
            assert_eq!(ended.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset), "{protocol}");
        }
    }
}

#[tokio::test]
async fn an_upgrade_at_a_server_that_a_rule_names_is_refused_with_an_event_and_reaches_nobody() {
    for forbidden in [HERE, "server.address: tools.example, gnomon.passage: upgraded", "gnomon.passage: upgraded", CALLS] {
        let upstream = Upstream::answering(&["http/1.1"], |received| {
            Some(if received.headers.contains_key("upgrade") { Answer::Switch("") } else { Answer::json("{}") })
        })
        .await;
        let gnomon = Gnomon::with().rules([block(1, forbidden)]).before(&upstream).await;
        let mut client = H1::connect(&gnomon).await;
        if forbidden.ends_with("gnomon.passage: upgraded") {
            assert_eq!(client.send(&[h1_head("GET", "/", "")]).await.status, 200, "{forbidden}: what is read is not refused");
        }
        // WebSocket without its key is one more protocol that is not read.
        for protocol in ["tcp", "websocket"] {
            let before = upstream.paths().len();
            let answer = client.send(&[asks(protocol)]).await;
            assert_eq!((answer.status, answer.header("x-gnomon")), (403, Some("block")), "{forbidden} {protocol}: {answer:?}");
            assert_eq!(upstream.paths().len(), before, "{forbidden} {protocol}");
        }
        let events = gnomon.events_until(1).await;
        let refused = events.iter().find(|event| event["gnomon.action"] == "block").unwrap_or_else(|| panic!("{forbidden}: {events:#?}"));
        assert_eq!(refused["rule.id"], id(1), "{forbidden}: {refused:#}");
        assert_eq!(passed(&gnomon, Passage::Upgraded), 0);
    }
}
