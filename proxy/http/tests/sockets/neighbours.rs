//! What one principal or one stream does must not delay another's.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use gnomon_http::{Alpn, AlpnCache, Destination, DialError, DialOptions, Dialer, PoolOptions, Pools, Scheme, SendError, UpstreamBudget};
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout;

use crate::support::{Echo, NAME, UpstreamCa, dest, pools, post, serve, text};

/// Longer than anything here takes, also on a busy machine.
const AT_LAST: Duration = Duration::from_secs(20);

/// An HTTP/2 server with this limit of concurrent streams: `/endless` gets an answer without an end, everything else is answered at once.
async fn server(ca: &UpstreamCa, streams: u32) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let address = serve(ca.server(NAME, &[Alpn::H2]), move |tls| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.max_concurrent_streams(streams);
            let _ = builder.serve_connection(TokioIo::new(tls), service_fn(answer)).await;
        }
    })
    .await;
    (address, connections)
}

type Answer = http_body_util::combinators::BoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let body: Answer = match request.uri().path() {
        "/endless" => Endless.boxed(),
        _ => Full::from("done").boxed(),
    };
    Ok(Response::new(body))
}

struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 16 << 10])))))
    }
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).body(Full::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_answers_stop_no_other_request_of_their_connection() {
    let ca = UpstreamCa::new();
    let (address, connections) = server(&ca, 100).await;
    let pools = pools(ca.trusted(), address);
    let mut unread = Vec::new();
    for _ in 0..8 {
        let mut response = timeout(AT_LAST, pools.send(&dest(Alpn::H2), get("/endless"))).await.unwrap().unwrap();
        // A part of the body is read: a flow-control window that grows only as it is read would still be small.
        for _ in 0..64 {
            assert!(response.body_mut().frame().await.unwrap().is_ok());
        }
        unread.push(response);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for number in 0..20 {
        let answered = timeout(AT_LAST, async { text(pools.send(&dest(Alpn::H2), get("/")).await.unwrap()).await }).await;
        assert_eq!(answered.ok().as_deref(), Some("done"), "request {number}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_server_s_streams_are_all_taken_the_next_request_has_another_connection() {
    let ca = UpstreamCa::new();
    let (address, connections) = server(&ca, 3).await;
    let pools = pools(ca.trusted(), address);
    let mut open = Vec::new();
    for _ in 0..7 {
        open.push(timeout(AT_LAST, pools.send(&dest(Alpn::H2), get("/endless"))).await.unwrap().unwrap());
    }
    let answered = timeout(AT_LAST, async { text(pools.send(&dest(Alpn::H2), get("/")).await.unwrap()).await }).await;
    assert_eq!(answered.ok().as_deref(), Some("done"));
    assert_eq!(connections.load(Ordering::SeqCst), 3);
    // Streams that end make room on the existing connections.
    open.clear();
    for _ in 0..7 {
        open.push(timeout(AT_LAST, pools.send(&dest(Alpn::H2), get("/endless"))).await.unwrap().unwrap());
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_requests_at_once_are_all_answered_by_a_server_that_takes_few_at_a_time() {
    let ca = UpstreamCa::new();
    let (address, _) = server(&ca, 2).await;
    let pools = Arc::new(pools(ca.trusted(), address));
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let pools = pools.clone();
        requests.spawn(async move { text(pools.send(&dest(Alpn::H2), get("/")).await.unwrap()).await });
    }
    let all = timeout(AT_LAST, requests.join_all()).await.unwrap();
    assert!(all.len() == 24 && all.iter().all(|text| text == "done"));
}

fn for_principal(name: &str, principal: &str, port: u16) -> Destination {
    Destination::new(Scheme::Http, name, port, Alpn::Http11, principal.into()).unwrap()
}

/// A server without TLS that keeps connections open. Returns its address and the count of connections.
async fn keeping() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = accepted.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service_fn(answer)));
        }
    });
    (address, accepted)
}

fn bounded<B: gnomon_http::RequestBody>(address: std::net::SocketAddr, names: usize, budget: &Arc<UpstreamBudget>) -> Pools<B> {
    let resolve = (0..names).map(|number| format!("n{number}.example:80:127.0.0.1:{}", address.port()).parse().unwrap()).collect();
    let dialer = Dialer::new(DialOptions { resolve, budget: budget.clone(), ..DialOptions::default() });
    Pools::new(dialer, UpstreamCa::new().trusted(), Arc::new(AlpnCache::default()), PoolOptions::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_to_many_names_are_closed_for_new_ones_and_a_neighbour_keeps_its_own() {
    let (address, accepted) = keeping().await;
    let budget = UpstreamBudget::new(64, 32);
    let pools: Pools<Full<Bytes>> = bounded(address, 500, &budget);
    let neighbour = for_principal("n0.example", "neighbour", 80);
    text(pools.send(&neighbour, get("/")).await.unwrap()).await;
    for number in 0..500 {
        let dest = for_principal(&format!("n{number}.example"), "greedy", 80);
        text(pools.send(&dest, get("/")).await.unwrap()).await;
        assert!(budget.counts().open <= 64);
    }
    // A connection is idle once its task has run.
    let settled = async {
        while budget.counts().idle > 32 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(AT_LAST, settled).await.unwrap();
    assert_eq!(budget.counts().refused, 0);
    let before = accepted.load(Ordering::SeqCst);
    text(pools.send(&neighbour, get("/")).await.unwrap()).await;
    assert_eq!(accepted.load(Ordering::SeqCst), before, "the neighbour's connection was kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_connections_are_busy_only_the_principal_with_most_is_refused() {
    let (address, _) = keeping().await;
    let budget = UpstreamBudget::new(16, 8);
    let pools: Pools<Full<Bytes>> = bounded(address, 100, &budget);
    let (mut open, mut refused) = (Vec::new(), 0);
    for number in 0..20 {
        let dest = for_principal(&format!("n{number}.example"), "greedy", 80);
        match pools.send(&dest, get("/endless")).await {
            Ok(response) => open.push(response),
            Err(SendError::Dial(DialError::Short { most: 16, .. })) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((open.len(), refused), (8, 12));
    for principal in ["a", "b", "c"] {
        text(pools.send(&for_principal("n1.example", principal, 80), get("/")).await.unwrap()).await;
    }
    assert_eq!(budget.counts().refused, 12);
    open.clear();
    text(timeout(AT_LAST, pools.send(&for_principal("n1.example", "greedy", 80), get("/"))).await.unwrap().unwrap()).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let ca = UpstreamCa::new();
    let echo = Echo::start(ca.server(NAME, &[Alpn::Http11])).await;
    let budget = UpstreamBudget::new(8, 8);
    let resolve = vec![format!("{NAME}:443:127.0.0.1:{}", echo.address.port()).parse().unwrap()];
    let dialer = Dialer::new(DialOptions { resolve, budget: budget.clone(), ..DialOptions::default() });
    let options = PoolOptions { idle_timeout: Duration::from_millis(100), ..PoolOptions::default() };
    let pools = Pools::new(dialer, ca.trusted(), Arc::new(AlpnCache::default()), options);
    text(pools.send(&dest(Alpn::Http11), post("{}")).await.unwrap()).await;
    let closed = async {
        while budget.counts().open > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(AT_LAST, closed).await.unwrap();
    assert_eq!(budget.counts().idle, 0);
    text(pools.send(&dest(Alpn::Http11), post("{}")).await.unwrap()).await;
}
