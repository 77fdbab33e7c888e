//! Redirections of gnomon's own requests: which are followed, and what is sent on.

use crate::support::{NAME, UpstreamCa, serve};
use gnomon_http::client::{Bounds, Client, ClientError, Redirects};
use gnomon_http::{Alpn, DialOptions, Dialer, ResolveOverride};
use http::Request;
use http_body_util::Full;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

const OTHER: &str = "other.example";
const BOUNDS: Bounds = Bounds { answer: 64, patience: Duration::from_secs(30) };
const FOUND: &str = "200 OK";

/// Two servers, [`NAME`] and [`OTHER`], that answer by the path alone, and the heads of what they were asked.
struct Servers {
    ca: UpstreamCa,
    resolve: Vec<ResolveOverride>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Servers {
    async fn answering(answer: fn(&str) -> &'static str) -> Self {
        let (ca, heads) = (UpstreamCa::new(), Arc::new(Mutex::new(Vec::new())));
        let mut resolve = Vec::new();
        for name in [NAME, OTHER] {
            let heads = heads.clone();
            let address = serve(ca.server(name, &[Alpn::Http11]), move |stream| asked(stream, answer, heads.clone())).await;
            resolve.push(format!("{name}:443:{}:{}", address.ip(), address.port()).parse::<ResolveOverride>().unwrap());
        }
        Self { ca, resolve, heads }
    }

    fn client(&self, redirects: Redirects) -> Client {
        let dialer = Dialer::new(DialOptions { resolve: self.resolve.clone(), ..DialOptions::default() });
        Client::alone(dialer, self.ca.trusted(), "test").following(redirects)
    }

    /// The status of what is answered in the end.
    async fn get(&self, redirects: Redirects, path: &str) -> Result<u16, ClientError> {
        let request = Request::get(format!("https://{NAME}{path}")).body(Full::default()).unwrap();
        Ok(self.client(redirects).send(request, BOUNDS).await?.status().as_u16())
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().clone()
    }
}

/// Answers one request: with a status, and a header after it.
async fn asked(mut stream: TlsStream<TcpStream>, answer: fn(&str) -> &'static str, heads: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let answer = answer(head.split(' ').nth(1).unwrap());
    heads.lock().push(head.to_lowercase());
    stream.write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn redirections_to_https_are_followed_as_often_as_is_said_and_not_once_more() {
    let servers = Servers::answering(|path| match path {
        "/a" => "302 Found\r\nlocation: https://other.example/b",
        "/b" => "308 Permanent Redirect\r\nlocation: /c#part",
        _ => FOUND,
    })
    .await;
    assert_eq!(servers.get(Redirects::Https(2), "/a").await.unwrap(), 200);
    let heads = servers.heads();
    assert!(heads.len() == 3 && heads[2].starts_with("get /c http/1.1") && heads[2].contains("host: other.example\r\n"), "{heads:?}");
    let refused = servers.get(Redirects::Https(1), "/a").await.unwrap_err();
    assert_eq!(refused.to_string(), "it redirects more than 1 times");
    assert_eq!(servers.heads().len(), 3 + 2);
    assert_eq!(servers.get(Redirects::Reported, "/a").await.unwrap(), 302);
}

#[tokio::test]
async fn nothing_leads_out_of_https_nor_to_where_no_url_does() {
    let servers = Servers::answering(|path| match path {
        "/plain" => "301 Moved Permanently\r\nlocation: http://mcp.example/x",
        "/file" => "301 Moved Permanently\r\nlocation: file:///etc/passwd",
        "/folder" => "301 Moved Permanently\r\nlocation: x/y",
        "/choice" => "300 Multiple Choices\r\nlocation: https://other.example/",
        _ => "302 Found",
    })
    .await;
    for (path, place) in [("/plain", "http://mcp.example/x"), ("/file", "file:///etc/passwd"), ("/folder", "x/y")] {
        let refused = servers.get(Redirects::Https(3), path).await.unwrap_err();
        assert_eq!(refused.to_string(), format!("it redirects to what is not an https:// URL ({place})"));
    }
    assert_eq!(servers.heads().len(), 3, "none of them was asked");
    assert_eq!(servers.get(Redirects::Https(3), "/choice").await.unwrap(), 300);
    assert_eq!(servers.get(Redirects::Https(3), "/nowhere").await.unwrap(), 302);
}

#[tokio::test]
async fn credentials_stay_with_the_server_that_they_are_for() {
    let servers = Servers::answering(|path| match path {
        "/a" => "307 Temporary Redirect\r\nlocation: https://MCP.example:443/b",
        "/b" => "302 Found\r\nlocation: //other.example/c",
        "/c" => "302 Found\r\nlocation: https://mcp.example/d",
        _ => FOUND,
    })
    .await;
    let request = Request::get(format!("https://{NAME}/a"))
        .header("authorization", "Bearer secret")
        .header("cookie", "a=secret")
        .header("x-api-key", "secret")
        .header("accept", "text/plain")
        .body(Full::default())
        .unwrap();
    let answer = servers.client(Redirects::Https(3)).send(request, BOUNDS).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let secrets: Vec<_> = servers.heads().iter().map(|head| head.matches("secret").count()).collect();
    assert_eq!(secrets, [3, 3, 0, 0], "nor do they come back from there");
    assert!(servers.heads().iter().all(|head| head.contains("accept: text/plain\r\n")), "{:?}", servers.heads());
}

#[tokio::test]
async fn what_may_not_arrive_twice_is_not_sent_on() {
    let servers = Servers::answering(|_| "307 Temporary Redirect\r\nlocation: https://other.example/").await;
    let request = Request::post(format!("https://{NAME}/")).body(Full::from("pay")).unwrap();
    let answer = servers.client(Redirects::Https(3)).send(request, BOUNDS).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.leads_to().as_deref()), (307, Some("https://other.example/")));
    assert_eq!(servers.heads().len(), 1);
}
