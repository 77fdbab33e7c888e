//! Servers that close connections after an answer, and servers that keep them open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gnomon_http::{Alpn, AlpnCache, ClientEnd, Destination, DialOptions, Dialer, PoolOptions, Pools, Scheme, SendError, UpstreamBudget};
use http::Request;
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{UpstreamCa, text};

#[derive(Clone, Default)]
struct Counts {
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

/// Answers POSTs. With `closes`, it closes the connection that long after an answer, without announcing it.
async fn server(closes: Option<Duration>) -> (SocketAddr, Counts) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, counts) = (listener.local_addr().unwrap(), Counts::default());
    let counted = counts.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream, counted.requests.clone(), closes));
        }
    });
    (address, counts)
}

async fn serve(mut stream: TcpStream, requests: Arc<AtomicUsize>, closes: Option<Duration>) {
    loop {
        let mut said = Vec::new();
        while !said.ends_with(b"END") {
            if stream.read_buf(&mut said).await.unwrap_or(0) == 0 {
                return;
            }
        }
        requests.fetch_add(1, Ordering::SeqCst);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await.unwrap();
        if let Some(closes) = closes {
            return tokio::time::sleep(closes).await;
        }
    }
}

struct Stage {
    pools: Pools<Full<Bytes>>,
    budget: Arc<UpstreamBudget>,
    dest: Destination,
}

impl Stage {
    fn new(address: SocketAddr) -> Self {
        let budget = UpstreamBudget::new(1000, 500);
        let dialer = Dialer::new(DialOptions { budget: budget.clone(), ..DialOptions::default() });
        let pools = Pools::new(dialer, UpstreamCa::new().trusted(), Arc::new(AlpnCache::default()), PoolOptions::default());
        let dest = Destination::new(Scheme::Http, &address.ip().to_string(), address.port(), Alpn::Http11, Arc::from("")).unwrap();
        Self { pools, budget, dest }
    }

    /// Sends a POST for a client.
    async fn post(&self, client: &Arc<ClientEnd>) -> Result<String, SendError> {
        let request = Request::post("/").extension(client.clone()).body(Full::from("END")).unwrap();
        Ok(text(self.pools.send(&self.dest, request).await?).await)
    }
}

#[tokio::test]
async fn posts_of_new_clients_never_meet_the_end_of_a_connection_that_its_server_does_not_keep() {
    const POSTS: usize = 200;
    let (address, counts) = server(Some(Duration::from_millis(2))).await;
    let stage = Stage::new(address);
    for sent in 0..POSTS {
        assert_eq!(stage.post(&Arc::default()).await.as_deref(), Ok("done"), "after {sent}");
        // However slow the machine is, the server closes a connection before the second request.
        while sent == 0 && stage.budget.counts().idle > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(counts.requests.load(Ordering::SeqCst), POSTS, "each was sent once");
}

#[tokio::test]
async fn a_server_that_has_kept_a_connection_for_a_moment_has_those_of_new_clients_over_it() {
    let (address, counts) = server(None).await;
    let stage = Stage::new(address);
    assert_eq!(stage.post(&Arc::default()).await.as_deref(), Ok("done"));
    // Longer than it takes to see whether the server closes.
    tokio::time::sleep(Duration::from_millis(40)).await;
    for _ in 0..20 {
        assert_eq!(stage.post(&Arc::default()).await.as_deref(), Ok("done"));
    }
    assert_eq!(counts.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_second_request_of_a_client_goes_over_the_connection_of_the_first() {
    let (address, counts) = server(None).await;
    let (stage, client) = (Stage::new(address), Arc::default());
    for _ in 0..3 {
        assert_eq!(stage.post(&client).await.as_deref(), Ok("done"));
    }
    assert_eq!(counts.connections.load(Ordering::SeqCst), 1);
}
