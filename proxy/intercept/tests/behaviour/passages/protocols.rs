//! Protocols other than HTTP, which no server could take for a tool call.

use super::*;
use gnomon_stage::{client::H1, request::h1_post, rules::rule, upstream::Upstream};
use serde_json::json;

/// First bytes of clients, none of which is a line of HTTP.
const CLIENTS: &[(&str, &[u8])] = &[
    ("ssh", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
    ("git", b"0032git-upload-pack /project.git\0host=git.example\0"),
    ("postgres SSLRequest", b"\0\0\0\x08\x04\xd2\x16\x2f"),
    ("postgres startup", b"\0\0\0\x14\0\x03\0\0user\0ada\0\0"),
    ("redis", b"*1\r\n$4\r\nPING\r\n"),
    ("redis inline", b"SET greeting hello\r\n"),
    ("memcached", b"get greeting\r\n"),
    ("mqtt", b"\x10\x0e\0\x04MQTT\x04\x02\0\x3c\0\x02id"),
    ("ldap", b"0\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0"),
    ("ldap whose length is a blank", b"0\x20\x02\x01\x01\x60\x1b\x02\x01\x03\x04\x0dcn=me,dc=here\x80\x07secret7"),
    ("nats", b"CONNECT {\"verbose\":false}\r\nPING\r\n"),
    ("smtp", b"EHLO me.example\r\n"),
    ("bittorrent", b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05"),
    ("amqp", b"AMQP\0\0\x09\x01"),
];

const SERVERS: &[&[u8]] = &[b"SSH-2.0-OpenSSH_9.2\r\n", b"220 mail.example ESMTP\r\n", b"\x4a\0\0\0\x0a8.0.36\0"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_protocols_pass_under_a_rule_without_a_host_and_not_under_one_for_theirs() {
    for road in ROADS {
        for (name, said) in CLIENTS {
            let server = Lenient::start().await;
            let (gnomon, mut stream) = reach(Gnomon::with().rules([block(1, CALLS)]), road, server.address).await;
            stream.write_all(said).await.unwrap();
            soon(name, async {
                while server.got() != *said {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
            .await;
            assert_eq!(passed(&gnomon, Passage::Foreign), 1, "{road:?} {name}");
            assert!(gnomon.events().await.is_empty(), "{name} is an event");
        }
        let (name, said) = CLIENTS[0];
        let server = Lenient::start().await;
        let here = format!("server.address: 127.0.0.1, server.port: {}", server.address.port());
        let (gnomon, mut stream) = reach(Gnomon::with().rules([block(1, &here)]), road, server.address).await;
        let answer = exchange(&mut stream, said).await;
        assert!(answer.as_ref().map_or(true, String::is_empty), "{name}: {answer:?}");
        assert!(server.got().is_empty());
        assert_eq!(told(&gnomon.events_until(1).await, Passage::Foreign).len(), 1);
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_under_a_rule_without_a_host() {
    for road in ROADS {
        for greeting in SERVERS {
            let server = Lenient::greeting(greeting).await;
            let (gnomon, mut stream) = reach(Gnomon::with().rules([block(1, CALLS)]), road, server.address).await;
            let mut heard = vec![0; greeting.len()];
            soon("the greeting", stream.read_exact(&mut heard)).await.unwrap();
            assert_eq!(heard, *greeting);
            stream.write_all(b"QUIT\r\n").await.unwrap();
            soon("the goodbye", async {
                while server.got() != b"QUIT\r\n" {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
            .await;
            assert_eq!(passed(&gnomon, Passage::ServerFirst), 1);
        }
    }
}

#[tokio::test]
async fn a_server_that_speaks_http_first_is_not_taken_for_another_protocol() {
    for road in ROADS {
        // An answer to no request.
        let server = Lenient::greeting(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let (gnomon, mut stream) = reach(Gnomon::with().rules([block(1, CALLS)]), road, server.address).await;
        // Closed without a refusal in words, which the client would take for the server's.
        let end = soon("the end", stream.read(&mut [0; 16])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        let _ = stream.write_all(&request("POST /mcp HTTP/1.1\r\n")).await;
        assert_eq!(server.calls(), 0);
        assert_eq!(told(&gnomon.events_until(1).await, Passage::ServerFirstHttp).len(), 1);
    }
}

/// The SETTINGS frame that HTTP/2 servers send at once (RFC 9113, 3.4).
const SETTINGS: &[u8] = b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\0\xff\xff\0\x05\0\0\x40\0";

#[tokio::test]
async fn settings_of_http2_that_a_server_sends_unasked_open_no_way_past_the_rules() {
    for road in ROADS {
        for line in ["POST /mcp HTTP/1.1\r\n", "POST /mcp HTTP/1.2\r\n"] {
            let server = Lenient::greeting(SETTINGS).await;
            let (gnomon, mut stream) = reach(Gnomon::with().rules([block(1, CALLS)]), road, server.address).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let _ = stream.write_all(&request(line)).await;
            let _ = soon("an answer or the end", stream.read(&mut [0; 16])).await;
            assert_eq!(server.calls(), 0, "{road:?} {line}");
            let events = gnomon.events_until(1).await;
            assert!(events.iter().any(|event| event["gnomon.action"] == "block"), "{road:?} {line}: {events:#?}");
        }
    }
}

#[tokio::test]
async fn bytes_that_are_not_a_request_behind_an_answer_are_refused_with_the_reason_they_have_at_the_start() {
    for road in ROADS {
        for (said, passage) in [
            (&b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"[..], Passage::Foreign),
            (b"\x16\x03\x01\x02\0\x01\0\x01\xfc", Passage::HelloUnreadable),
            (b"POST /mcp HTTP/1.2\r\n\r\n", Passage::RequestLineOdd),
        ] {
            let upstream = Upstream::without_tls(|_| None).await;
            let (gnomon, stream) = reach(Gnomon::with(), road, upstream.address).await;
            let mut client = H1::over(stream);
            assert_eq!(client.send(&[h1_post("/mcp", call(1, "any_tool").to_string().as_bytes())]).await.status, 200);
            client.write(said).await;
            assert_eq!(client.answer().await.status, 400, "{road:?} {passage:?}");
            let events = gnomon.events_until(2).await;
            let [event] = told(&events, passage)[..] else { panic!("{road:?} {passage:?}: {events:#?}") };
            assert_eq!((&event["gnomon.action"], &event["gnomon.flow.outcome"]), (&json!("block"), &json!("refused")));
            assert!(event.get("rule.id").is_none() && event["message"].is_string(), "{event:#?}");
        }
    }
}

#[tokio::test]
async fn a_tunnel_that_ends_before_anything_is_said_is_told_where_a_rule_asks_for_it() {
    for road in ROADS {
        let asks = rule(1, "Says nothing", "gnomon.passage: nothing_said", "action: log");
        let server = Lenient::start().await;
        let (gnomon, mut stream) = reach(Gnomon::with().rules([asks]), road, server.address).await;
        stream.shutdown().await.unwrap();
        let events = gnomon.events_until(1).await;
        let [event] = told(&events, Passage::NothingSaid)[..] else { panic!("{road:?}: {events:#?}") };
        assert_eq!((&event["gnomon.action"], &event["server.address"]), (&json!("log"), &json!("127.0.0.1")));
        assert_eq!(server.connections(), u64::from(road == Road::Redirected), "nothing is connected for that");
    }
}
