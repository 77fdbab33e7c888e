//! gnomon's own requests, to servers that answer in any way.

use gnomon_http::client::{Answer, Bounds, Client, ClientError, get_blocking};
use gnomon_http::{DialError, DialOptions, Dialer, SendError, UpstreamTls};
use http::Request;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const BOUNDS: Bounds = Bounds { answer: 16, patience: Duration::from_secs(30) };

/// Gives the first request of each connection this answer, and keeps the connection open. Stops when dropped.
struct Server {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Server {
    async fn answering(answer: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
                open.push(stream);
            }
        });
        Self { address, _serving: serving }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

fn client(options: DialOptions) -> Client {
    Client::alone(Dialer::new(options), UpstreamTls::new(&[]).unwrap(), "test")
}

async fn send(url: &str, bounds: Bounds) -> Result<Answer, ClientError> {
    client(DialOptions::default()).send(Request::get(url).body(http_body_util::Full::default()).unwrap(), bounds).await
}

#[tokio::test]
async fn an_answer_is_read_to_its_bound_and_no_byte_further() {
    let fits = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n0123456789abcdef").await;
    assert_eq!(send(&fits.url(), BOUNDS).await.unwrap().whole().await.unwrap(), "0123456789abcdef");
    let larger = Server::answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n11\r\n0123456789abcdefg\r\n0\r\n\r\n").await;
    let refused = send(&larger.url(), BOUNDS).await.unwrap().whole().await;
    assert!(matches!(refused, Err(ClientError::TooLarge(16))), "{refused:?}");
}

#[tokio::test]
async fn the_time_of_a_request_holds_for_its_head_and_its_body_together() {
    let bounds = Bounds { patience: Duration::from_millis(300), ..BOUNDS };
    let begun = Instant::now();
    let silent = Server::answering("").await;
    assert!(matches!(send(&silent.url(), bounds).await, Err(ClientError::Late(_))));
    let halting = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
    assert!(matches!(send(&halting.url(), bounds).await.unwrap().whole().await, Err(ClientError::Late(_))));
    assert!(begun.elapsed() >= Duration::from_millis(600));
}

#[tokio::test]
async fn a_command_asks_without_a_runtime_of_its_own() {
    let server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
    let url = server.url();
    let read = tokio::task::spawn_blocking(move || get_blocking(&url, BOUNDS, async |answer: Answer| answer.whole().await));
    assert_eq!(read.await.unwrap().unwrap(), "hi");
    let read = tokio::task::spawn_blocking(|| get_blocking("http://127.0.0.1:1/", BOUNDS, async |_| Ok(())));
    let refused = read.await.unwrap();
    assert!(matches!(refused, Err(ClientError::Send(SendError::Dial(DialError::Refused(_))))), "{refused:?}");
}

#[tokio::test]
async fn a_redirection_is_returned_and_not_followed() {
    let elsewhere = Server::answering("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\t\r\ncontent-length: 0\r\n\r\n").await;
    let answer = send(&elsewhere.url(), BOUNDS).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.leads_to().as_deref()), (302, Some("http://127.0.0.1:9/")));
    let created = Server::answering("HTTP/1.1 201 Created\r\nlocation: /new\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(send(&created.url(), BOUNDS).await.unwrap().leads_to(), None);
}

#[tokio::test]
async fn a_server_that_wants_to_be_left_alone_says_for_how_many_seconds() {
    let busy = Server::answering("HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(send(&busy.url(), BOUNDS).await.unwrap().retry_after(), Some(Duration::from_secs(7)));
    let dated = Server::answering("HTTP/1.1 503 Busy\r\nretry-after: Fri, 31 Dec 1999 23:59:59 GMT\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(send(&dated.url(), BOUNDS).await.unwrap().retry_after(), None);
}

#[tokio::test]
async fn addresses_are_forbidden_unless_the_operator_alone_names_servers() {
    let server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let url = format!("http://0.0.0.0:{}/", server.address.port());
    let refused = send(&url, BOUNDS).await;
    assert!(matches!(refused, Err(ClientError::Send(SendError::Dial(DialError::Forbidden { .. })))), "{refused:?}");
    let any = client(DialOptions { forbidden: None, ..DialOptions::default() });
    let request = Request::get(&url).body(http_body_util::Full::default()).unwrap();
    assert_eq!(any.send(request, BOUNDS).await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn only_http_is_asked() {
    let refused = send("ftp://127.0.0.1/", BOUNDS).await;
    assert_eq!(refused.unwrap_err().to_string(), "neither http:// nor https://");
}
