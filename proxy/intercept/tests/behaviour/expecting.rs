//! `Expect: 100-continue`: a client that sends its body once its server asks for it.

use gnomon_stage::{
    HOST,
    client::{Ends, H1, H2, h2_answer},
    coding::Coding,
    gnomon::Gnomon,
    request::{call, h1_head, h1_post, h2_post, json_headers},
    rules::{MESSAGE, block},
    soon,
    upstream::{Answer, End, Received, Upstream},
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

const ONE: &[&str] = &["http/1.1"];

/// The head of a request whose body of this length waits to be asked for.
fn expecting(path: &str, length: usize) -> Vec<u8> {
    h1_head("POST", path, &format!("{}expect: 100-continue\r\ncontent-length: {length}\r\n", json_headers(Coding::Identity)))
}

/// Refuses whatever expects something, by its head.
fn refuses(received: &Received) -> Option<Answer> {
    received.headers.contains_key("expect").then(|| Answer::status(417))
}

#[tokio::test]
async fn a_server_that_refuses_by_the_head_is_heard_before_anything_of_the_body_is_sent() {
    let upstream = Upstream::answering(ONE, refuses).await;
    let gnomon = Gnomon::with().before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let body = call(1, "any_tool").to_string();
    client.write(&expecting("/upload", body.len())).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("x-gnomon")), (417, None), "no 100, and the server's own answer: {answer:?}");
    upstream.requests(|all| assert!(all[0].headers["expect"] == "100-continue" && all[0].raw.is_empty() && all[0].end.is_none()));
    // Who sends its body all the same keeps the connection, as at the server itself.
    client.write(body.as_bytes()).await;
    upstream.until("the body", |all| all[0].end == Some(End::Clean)).await;
    assert_eq!(client.send(&[h1_post("/rpc", body.as_bytes())]).await.status, 200);
    upstream.requests(|all| assert!(all[0].raw == body.as_bytes() && all[1].connection == all[0].connection));
}

#[tokio::test]
async fn over_http2_the_expectation_goes_on_too_and_a_refusal_comes_before_the_body() {
    let upstream = Upstream::answering(&["h2"], refuses).await;
    let gnomon = Gnomon::with().before(&upstream).await;
    let mut client = H2::connect(&gnomon).await;
    let mut post = h2_post("/upload", Coding::Identity);
    post.headers_mut().insert("expect", "100-continue".parse().unwrap());
    let (response, body) = client.begin(post, Ends::WithBody).await;
    assert_eq!(h2_answer(response).await.unwrap().status, 417);
    upstream.requests(|all| assert!(all[0].headers["expect"] == "100-continue" && all[0].raw.is_empty()));
    drop(body);
}

/// A server without TLS that does what the test says with each connection once it has the head of a request.
async fn server<F: Future<Output = ()> + Send + 'static>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// A client of the proxy whose requests `http://…` go to this server.
async fn client(gnomon: &Gnomon) -> H1<TcpStream> {
    H1::over(TcpStream::connect(gnomon.address).await.unwrap())
}

fn absolute(server: SocketAddr, head: Vec<u8>) -> Vec<u8> {
    let head = String::from_utf8(head).unwrap();
    head.replacen("POST /", &format!("POST http://{server}/"), 1).replace(HOST, &server.to_string()).into_bytes()
}

/// Whether nothing comes for a while.
async fn is_silent<S: AsyncRead + AsyncWrite + Unpin>(client: &mut H1<S>, time: Duration) -> bool {
    timeout(time, client.head()).await.is_err()
}

#[tokio::test]
async fn the_client_is_asked_when_its_server_asks_and_not_before() {
    let address = server(|mut stream| async move {
        tokio::time::sleep(Duration::from_millis(400)).await;
        // Other words of the same kind are no invitation.
        stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.unwrap();
        assert!(timeout(Duration::from_millis(200), stream.read_u8()).await.is_err(), "nothing of the body comes before");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n{}", str::from_utf8(&body).unwrap()).as_bytes())
            .await
            .unwrap();
    })
    .await;
    let gnomon = Gnomon::with().start().await;
    let mut client = client(&gnomon).await;
    client.write(&absolute(address, expecting("/", 4))).await;
    assert!(is_silent(&mut client, Duration::from_millis(300)).await);
    assert_eq!(client.head().await.unwrap().status, 100);
    assert_eq!(client.send(&[b"body".to_vec()]).await.text(), "body");
}

#[tokio::test]
async fn a_server_that_says_nothing_of_it_gets_the_body_after_a_second() {
    let address = server(|mut stream| async move {
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let gnomon = Gnomon::with().start().await;
    let mut client = client(&gnomon).await;
    let began = Instant::now();
    client.write(&absolute(address, expecting("/", 4))).await;
    assert_eq!(client.head().await.unwrap().status, 100);
    assert!((900..3_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(client.send(&[b"body".to_vec()]).await.text(), "ok");
    // It may send its body before it is asked, and it arrives all the same.
    let mut client = self::client(&gnomon).await;
    client.write(&[absolute(address, expecting("/", 4)), b"body".to_vec()].concat()).await;
    assert_eq!(client.head().await.unwrap().status, 100);
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn a_server_that_refuses_and_closes_is_one_that_closes_to_its_client_too() {
    let address = server(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 413 No\r\ncontent-length: 9\r\nconnection: close\r\n\r\ntoo large").await.unwrap();
    })
    .await;
    let gnomon = Gnomon::with().start().await;
    let mut client = client(&gnomon).await;
    client.write(&absolute(address, expecting("/", 1 << 30))).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection"), answer.text()), (413, Some("close"), "too large".to_owned()));
    assert_eq!(soon("the end", client.stream.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_request_that_is_refused_by_its_head_is_refused_before_its_body_is_sent() {
    let upstream = Upstream::start(ONE).await;
    let gnomon = Gnomon::with().rules([block(1, &format!("server.address: {HOST}"))]).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    client.write(&h1_head("PUT", "/upload", "content-type: image/png\r\nexpect: 100-continue\r\ncontent-length: 1048576\r\n")).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(answer.text().contains(MESSAGE), "{answer:?}");
    assert!(upstream.paths().is_empty());
}

#[tokio::test]
async fn a_rule_that_has_to_see_the_body_asks_for_it_and_its_server_may_still_refuse_it() {
    let seen = |received: &Received| (received.path == "/refused").then(|| Answer::status(417));
    let upstream = Upstream::answering(ONE, seen).await;
    let gnomon = Gnomon::with().rules([block(1, "gen_ai.tool.name: blocked_tool")]).before(&upstream).await;
    for (path, tool, status) in [("/rpc", "blocked_tool", 200), ("/rpc", "allowed_tool", 200), ("/refused", "allowed_tool", 417)] {
        let mut client = H1::connect(&gnomon).await;
        let body = call(1, tool).to_string();
        client.write(&expecting(path, body.len())).await;
        assert_eq!(client.head().await.unwrap().status, 100);
        let answer = client.send(&[body.into_bytes()]).await;
        assert_eq!((answer.status, answer.header("x-gnomon").is_some()), (status, tool == "blocked_tool"));
    }
    upstream.requests(|all| {
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|request| request.headers["expect"] == "100-continue"));
        assert!(!all[0].raw.is_empty());
    });
}

/// Of HTTP/1.0 it is to be ignored.
#[tokio::test]
async fn an_expectation_of_http_1_0_goes_nowhere_and_nobody_waits_for_it() {
    let upstream = Upstream::start(ONE).await;
    let gnomon = Gnomon::with().before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    let body = call(1, "any_tool").to_string();
    let head = String::from_utf8(expecting("/rpc", body.len())).unwrap().replacen("HTTP/1.1", "HTTP/1.0", 1);
    assert_eq!(client.send(&[head.into_bytes(), body.into_bytes()]).await.status, 200);
    upstream.requests(|all| assert!(!all[0].headers.contains_key("expect")));
}
