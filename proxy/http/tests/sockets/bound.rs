//! Log-ins that hold for a connection (NTLM).

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use gnomon_http::{Alpn, AlpnCache, Binding, Destination, DialOptions, Dialer, PoolOptions, Pools, Scheme};
use http::{Request, StatusCode, header};
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::support::{UpstreamCa, text};

/// Remembers on each connection who logged in on it, and tells when one ends.
async fn server() -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, ends) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let ended = ended.clone();
            tokio::spawn(async move { ended.send(serve(stream).await) });
        }
    });
    (address, ends)
}

/// The name that was logged in when it ended.
async fn serve(mut stream: TcpStream) -> String {
    let (mut challenged, mut who) = (false, String::new());
    loop {
        let mut said = Vec::new();
        while !said.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut said).await.unwrap_or(0) == 0 {
                return who;
            }
        }
        let said = String::from_utf8(said).unwrap().to_lowercase();
        let token = said.split("authorization: ntlm ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let (status, body) = match token {
            Some("one") => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                challenged = true;
                ("401 Unauthorized\r\nWWW-Authenticate: NTLM two", "challenge".to_owned())
            }
            Some(_) if !challenged => ("401 Unauthorized", "handshake continued on another connection".to_owned()),
            Some(name) => {
                (challenged, who) = (false, name.to_owned());
                ("200 OK", "welcome".to_owned())
            }
            None if who.is_empty() => ("401 Unauthorized\r\nWWW-Authenticate: NTLM", "who are you".to_owned()),
            None => ("200 OK", format!("you are {who}")),
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn pools() -> Pools<Full<Bytes>> {
    let dialer = Dialer::new(DialOptions { forbidden: None, ..DialOptions::default() });
    Pools::new(dialer, UpstreamCa::new().trusted(), AlpnCache::default().into(), PoolOptions::default())
}

fn dest(address: SocketAddr) -> Destination {
    Destination::new(Scheme::Http, "127.0.0.1", address.port(), Alpn::Http11, "one".into()).unwrap()
}

async fn asks(pools: &Pools<Full<Bytes>>, dest: &Destination, token: Option<&str>) -> (StatusCode, String) {
    let mut request = Request::get("/");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("NTLM {token}"));
    }
    let response = pools.send(dest, request.body(Full::default()).unwrap()).await.unwrap();
    (response.status(), text(response).await)
}

async fn logs_in(pools: &Pools<Full<Bytes>>, dest: &Destination, name: &str) -> Binding {
    let binding = pools.binding();
    let own = dest.clone().bound_to(&binding);
    assert_eq!(asks(pools, &own, Some("one")).await, (StatusCode::UNAUTHORIZED, "challenge".to_owned()));
    assert_eq!(asks(pools, &own, Some(name)).await, (StatusCode::OK, "welcome".to_owned()));
    binding
}

#[tokio::test]
async fn who_logs_in_for_a_connection_has_it_alone_and_it_ends_with_the_client_s() {
    let (address, mut ends) = server().await;
    let (pools, dest) = (pools(), dest(address));
    let ada = logs_in(&pools, &dest, "ada").await;
    // The same principal, without credentials, and another log-in beside.
    assert_eq!(asks(&pools, &dest, None).await.0, StatusCode::UNAUTHORIZED);
    let bob = logs_in(&pools, &dest, "bob").await;
    assert_eq!(asks(&pools, &dest.clone().bound_to(&ada), None).await.1, "you are ada");
    assert_eq!(asks(&pools, &dest.clone().bound_to(&bob), None).await.1, "you are bob");
    // The connection on which a log-in was asked for is closed by now.
    assert_eq!(ends.recv().await.unwrap(), "");
    drop(ada);
    assert_eq!(ends.recv().await.unwrap(), "ada");
    assert_eq!(asks(&pools, &dest, None).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(asks(&pools, &dest.clone().bound_to(&bob), None).await.1, "you are bob");
}

#[tokio::test]
async fn handshakes_side_by_side_stay_on_their_connections() {
    let (address, _ends) = server().await;
    let (pools, dest) = (std::sync::Arc::new(pools()), dest(address));
    let names: Vec<String> = (0..10).map(|n| format!("user{n}")).collect();
    let mut all = tokio::task::JoinSet::new();
    for name in names {
        let (pools, dest) = (pools.clone(), dest.clone());
        all.spawn(async move {
            let binding = logs_in(&pools, &dest, &name).await;
            assert_eq!(asks(&pools, &dest.bound_to(&binding), None).await.1, format!("you are {name}"));
        });
    }
    while let Some(one) = all.join_next().await {
        one.unwrap();
    }
}
