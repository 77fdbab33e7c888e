//! Requests and answers in flight have a bound, in bytes and in connections, which leaves room for others. The bound in bytes is shared by
//! the process, and so by all tests here: each uses callers of its own.

use crate::{
    Running, Setup,
    admission::tokens_of,
    client::Client,
    server::{Server, Speaks},
    soon,
};
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::{net::Ipv4Addr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

#[tokio::test]
async fn waiting_calls_have_a_bound_in_bytes_and_other_callers_go_on() {
    let server = Server::start("one", Speaks::Both).await;
    let (auth, [large, small]) = tokens_of(["fay", "gus"]);
    let portal = Setup::of([("one", server.url())]).auth(auth).max_request(4 << 20).start().await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let mut client = Client::modern(portal.address).holding(&large);
        waiting.spawn(async move { client.call("one_wait", json!({"text": "x".repeat(4_000_000)})).await.status });
    }
    // Half of the room holds ten such calls with their copies; a call without room is refused.
    let refused = soon("those above the share", async {
        let mut refused = 0;
        while refused < 12 {
            refused += usize::from(waiting.join_next().await.unwrap().unwrap() == 503);
        }
        refused
    });
    assert_eq!(refused.await, 12);
    assert!(turned_away(&portal, "room") >= 12);
    assert!(server.got("tools/call").len() <= 12, "{}", server.got("tools/call").len());
    let mut other = Client::modern(portal.address).holding(&small);
    for size in [1, 100_000, 900_000] {
        assert_eq!(other.call("one_echo", json!({"text": "y".repeat(size)})).await.text().len(), "one: ".len() + size);
    }
    // A waiting call ends with its client, and gives its room back.
    waiting.shutdown().await;
    let mut again = Client::modern(portal.address).holding(&large);
    soon("room", async {
        while again.call("one_echo", json!({"text": "z".repeat(900_000)})).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn unread_answers_have_a_bound_in_bytes_and_other_callers_get_theirs() {
    let large = "x".repeat(15 << 20);
    let server = Server::scripted("one", Speaks::Both, move |method, params| {
        let wanted = method == "tools/call" && params["arguments"]["text"] == "large";
        wanted.then(|| json!({"content": [{"type": "text", "text": large}]}))
    })
    .await;
    let (auth, [unread, other]) = tokens_of(["jon", "kim"]);
    let mut setup = Setup::of([("one", server.url())]).auth(auth);
    setup.limits.message = 16 << 20;
    let portal = setup.start().await;
    // Each on a connection of its own; half of the room for large answers holds seven.
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..10 {
        let mut client = Client::modern(portal.address).holding(&unread);
        let (headers, body) = client.message("tools/call", json!({"name": "one_echo", "arguments": {"text": "large"}}));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut answer = client.open(&headers, body).await;
        let first = soon("the beginning", answer.frame()).await.unwrap().unwrap().into_data().unwrap();
        refused += usize::from(String::from_utf8_lossy(&first).contains("unread answers use all the memory"));
        held.push((client, answer));
    }
    assert!((3..10).contains(&refused), "{refused}");
    assert!(turned_away(&portal, "room") >= 3);
    let mut others = Client::modern(portal.address).holding(&other);
    assert_eq!(others.call("one_echo", json!({"text": "small"})).await.text(), "one: small");
    assert_eq!(others.call("one_echo", json!({"text": "large"})).await.text().len(), 15 << 20);
    // An answer that is no longer wanted gives its room back.
    drop(held);
    let mut again = Client::modern(portal.address).holding(&unread);
    soon("room", async {
        while again.call("one_echo", json!({"text": "large"})).await.last()["error"].is_object() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// A server whose list of tools has 7.6 MB.
async fn long_list() -> Server {
    Server::scripted("one", Speaks::Both, |method, _| {
        let tool = |n: usize| json!({"name": format!("t{n}"), "description": "d".repeat(200_000), "inputSchema": {"type": "object"}});
        (method == "tools/list").then(|| json!({"tools": (0..38).map(tool).collect::<Vec<_>>()}))
    })
    .await
}

/// Requests a list on a connection of its own, and reads nothing of the answer.
async fn unread_list(portal: &Running, bearer: &str, method: &str) -> (Client, http::Response<hyper::body::Incoming>) {
    let mut client = Client::modern(portal.address).holding(bearer);
    let (headers, body) = client.message(method, json!({}));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = client.open(&headers, body).await;
    (client, answer)
}

#[tokio::test]
async fn unread_lists_have_a_bound_in_bytes_and_a_list_that_many_wait_for_counts_once() {
    let server = long_list().await;
    let (auth, [unread, other]) = tokens_of(["nia", "oto"]);
    // More than the kernel buffers of one answer.
    let mut setup = Setup::of(["one", "two", "three"].map(|id| (id, server.url()))).auth(auth);
    setup.limits.message = 16 << 20;
    let portal = setup.start().await;
    let mut others = Client::modern(portal.address).holding(&other);
    soon("all lists", async {
        while others.names("tools/list", "tools", "name").await.len() != 3 * 38 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..15 {
        let (client, answer) = unread_list(&portal, &unread, "tools/list").await;
        assert_eq!(answer.status(), 200, "all wait for the same bytes");
        held.push((client, answer));
    }
    // A different view of the same list is another copy.
    let mut refused = 0;
    let mut copies = 1;
    while refused < 2 {
        portal.regulate("[{allow: {servers: ['*']}}]");
        let (client, answer) = unread_list(&portal, &unread, "tools/list").await;
        match answer.status().as_u16() {
            200 => copies += 1,
            503 => refused += 1,
            status => panic!("{status}"),
        }
        held.push((client, answer));
    }
    assert!((2..=5).contains(&copies), "{copies} copies of 23 MB, and half of all room is 112 MiB");
    assert!(turned_away(&portal, "room") >= 2);
    assert_eq!(others.names("tools/list", "tools", "name").await.len(), 3 * 38);
    drop(held);
    let mut again = Client::modern(portal.address).holding(&unread);
    soon("room", async {
        while again.names("tools/list", "tools", "name").await.len() != 3 * 38 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn each_answer_of_a_batch_takes_room_and_one_without_room_is_an_error() {
    let large = "x".repeat(15 << 20);
    let server = Server::scripted("one", Speaks::Legacy, move |method, _| {
        (method == "tools/call").then(|| json!({"content": [{"type": "text", "text": large}]}))
    })
    .await;
    let (auth, [caller, _]) = tokens_of(["pam", "quy"]);
    let mut setup = Setup::of([("one", server.url())]).auth(auth);
    setup.limits.message = 16 << 20;
    let portal = setup.start().await;
    let client = Client::modern(portal.address).holding(&caller);
    let params = json!({"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}});
    let begun = client.post(&[], json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})).await;
    let session = begun.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let call =
        |id: usize| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "one_echo", "arguments": {"text": "x"}}});
    let batch: Vec<_> = (0..9).map(call).collect();
    let answer = client.post(&[("mcp-session-id", &session)], batch.into()).await;
    let answers = answer.last().as_array().unwrap();
    let whole = answers.iter().filter(|answer| answer["result"]["content"][0]["text"].as_str().is_some_and(|text| text.len() == 15 << 20));
    let refused = answers
        .iter()
        .filter(|answer| answer["error"]["message"].as_str().is_some_and(|text| text.contains("unread answers use all the memory")));
    let (whole, refused) = (whole.count(), refused.count());
    assert!(whole + refused == 9 && (1..=7).contains(&whole), "{whole} {refused}");
}

#[tokio::test]
async fn unread_messages_end_their_stream_and_other_streams_get_all_messages() {
    const MESSAGES: usize = 100;
    let server = Server::scripted("one", Speaks::Legacy, |_, _| None).await;
    let (auth, [unread, other]) = tokens_of(["lea", "max"]);
    let mut setup = Setup::of([("one", server.url())]).auth(auth);
    setup.limits.message = 4 << 20;
    let portal = setup.start().await;
    let mut streams = Vec::new();
    for bearer in [&unread, &unread, &other] {
        let mut client = Client::modern(portal.address).holding(bearer).begun().await;
        client.call("one_echo", json!({"text": "x"})).await;
        let stream = client.stand().await;
        streams.push((client, stream));
    }
    // The portal's own stream, and one for each session.
    server.heard_by(4).await;
    let (_reader, mut read) = streams.pop().unwrap();
    for number in 0..MESSAGES {
        server.say("notifications/message", json!({"level": "info", "data": {"number": number, "text": "x".repeat(3 << 19)}}));
        let mut text = Vec::new();
        while !text.ends_with(b"\n\n") {
            let frame = soon("a message", read.frame()).await.unwrap().unwrap();
            text.extend_from_slice(&frame.into_data().unwrap());
        }
        assert!(String::from_utf8_lossy(&text[..300]).contains(&format!("\"number\":{number}")), "{number}");
    }
    // A request waits for room before it is refused.
    soon("a refusal for each, before either gives its room back", async {
        while turned_away(&portal, "room") < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for (_client, mut stream) in streams {
        let rest = async { while let Some(Ok(_)) = stream.frame().await {} };
        soon("the end of a stream that nobody read", rest).await;
    }
}

#[tokio::test]
async fn bodies_that_come_slowly_have_a_share_as_well() {
    let server = Server::start("one", Speaks::Both).await;
    let (auth, [other, slow_one]) = tokens_of(["hal", "ivy"]);
    let portal = Setup::of([("one", server.url())]).auth(auth).max_request(4 << 20).start().await;
    let head = |framing: &str| {
        format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: {slow_one}\r\nContent-Type: application/json\r\n{framing}\r\n\r\n")
    };
    let mut slow = Vec::new();
    for number in 0..30 {
        let mut stream = TcpStream::connect(portal.address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(head("Content-Length: 4000000").as_bytes()).await.unwrap();
            stream.write_all(&vec![b' '; 1_000_000]).await.unwrap();
        } else {
            stream.write_all(head("Transfer-Encoding: chunked").as_bytes()).await.unwrap();
            stream.write_all(b"3D0900\r\n").await.unwrap();
            stream.write_all(&vec![b' '; 3_900_000]).await.unwrap();
        }
        slow.push(stream);
    }
    let mut refused = 0;
    for stream in &mut slow {
        let mut head = [0; 12];
        if tokio::time::timeout(Duration::from_secs(3), stream.read_exact(&mut head)).await.is_ok_and(|read| read.is_ok()) {
            assert_eq!(&head, b"HTTP/1.1 503");
            refused += 1;
        }
    }
    assert!(refused >= 18, "{refused} of 30");
    let mut other = Client::modern(portal.address).holding(&other);
    assert_eq!(other.call("one_echo", json!({"text": "y".repeat(900_000)})).await.text().len(), "one: ".len() + 900_000);
}

/// The count of requests turned away for want of this, from the metrics.
fn turned_away(portal: &Running, lacking: &str) -> u64 {
    let (metrics, series) = (portal.metrics(), format!("gnomon_portal_refused_total{{lacking=\"{lacking}\"}} "));
    metrics.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_address_whose_requests_fill_its_seats_is_turned_away_and_counted_and_others_are_let_in() {
    let server = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", server.url())]).seats(8).start().await;
    let address = portal.address;
    let (headers, body) = Client::modern(address).message("tools/call", json!({"name": "one_wait", "arguments": {"text": "x"}}));
    let named: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let kinds = "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n";
    let length = body.to_string().len();
    let request = format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\n{kinds}{named}Content-Length: {length}\r\n\r\n{body}");
    let connect = |last: u8| async move {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 9, last), 0).into()).unwrap();
        socket.connect(address).await.unwrap()
    };
    let mut busy = Vec::new();
    for _ in 0..6 {
        let mut connection = connect(1).await;
        connection.write_all(request.as_bytes()).await.unwrap();
        busy.push(connection);
    }
    soon("the calls at the server", async {
        while server.got("tools/call").len() < 6 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(turned_away(&portal, "connections"), 0);
    let mut seventh = connect(1).await;
    assert!(matches!(soon("its end", seventh.read(&mut [0])).await, Ok(0) | Err(_)));
    assert_eq!(turned_away(&portal, "connections"), 1);
    let mut other = connect(2).await;
    other.write_all(b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut head = [0; 9];
    soon("an answer", other.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 ");
}

#[tokio::test]
async fn what_takes_a_hundred_times_its_bytes_once_it_is_read_is_not_read() {
    let server = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", server.url())]).max_request(4 << 20).start().await;
    let mut client = Client::modern(portal.address);
    for (piece, status) in [(r#"{"a":1}"#, 413), ("[]", 413), ("1", 413), (r#""{[,{[,{[,{[,{[,{[,{[,{[,{[,{[,""#, 200)] {
        let (headers, body) = client.message("tools/call", json!({"name": "one_echo", "arguments": {"text": "x", "more": "HERE"}}));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let many = format!("[{}]", vec![piece; 3_900_000 / (piece.len() + 1)].join(","));
        let answer = client.send(Method::POST, &headers, body.to_string().replace(r#""HERE""#, &many)).await;
        assert_eq!(answer.status, status, "{piece}");
    }
}

#[tokio::test]
async fn idle_connections_give_their_seat_to_new_ones_and_those_with_a_request_keep_it() {
    let server = Server::scripted("one", Speaks::Both, |_, _| None).await;
    let portal = Setup::of([("one", server.url())]).seats(8).start().await;
    // An open stream, and a call in flight.
    let mut listener = Client::modern(portal.address);
    let (headers, body) = listener.message("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut stream = listener.open(&headers, body).await.into_body();
    assert_eq!(crate::client::next_event(&mut stream).await["method"], "notifications/subscriptions/acknowledged");
    let mut silent = Vec::new();
    for number in 0..40 {
        let mut connection = TcpStream::connect(portal.address).await.unwrap();
        if number % 2 == 0 {
            connection.write_all(b"POST /mcp HTTP/1.1\r\nHost: loc").await.unwrap();
        }
        silent.push(connection);
    }
    for _ in 0..3 {
        let mut client = Client::modern(portal.address);
        assert_eq!(client.call("one_echo", json!({"text": "x"})).await.text(), "one: x");
    }
    server.say("notifications/tools/list_changed", json!({}));
    let told: Value = crate::client::next_event(&mut stream).await;
    assert_eq!(told["method"], "notifications/tools/list_changed", "who has a request under way is not asked to go");
}
