use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gnomon_http::{Alpn, AlpnCache, Destination, DialError, PoolOptions, Pools, Scheme, SendError, UpstreamTlsError};
use http::{Request, StatusCode};
use http_body_util::{Empty, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpListener;

use crate::support::{Echo, NAME, UpstreamCa, dest, dialer, pools, post, text};

#[tokio::test]
async fn requests_over_http1_reuse_one_connection_and_get_a_host() {
    let ca = UpstreamCa::new();
    let echo = Echo::start(ca.server(NAME, &[Alpn::Http11])).await;
    let pools = pools(ca.trusted(), echo.address);
    for _ in 0..3 {
        let response = pools.send(&dest(Alpn::Http11), post("{}")).await.unwrap();
        assert_eq!(text(response).await, "POST /mcp HTTP/1.1 host=mcp.example authority=-");
    }
    assert_eq!(echo.connections(), 1);
}

#[tokio::test]
async fn requests_over_http2_reuse_one_connection_and_carry_no_host_header() {
    let ca = UpstreamCa::new();
    let echo = Echo::start(ca.server(NAME, &[Alpn::H2, Alpn::Http11])).await;
    let pools = pools(ca.trusted(), echo.address);
    for _ in 0..3 {
        let request = Request::post("/mcp").header("host", NAME).body(Full::from("{}")).unwrap();
        let response = pools.send(&dest(Alpn::H2), request).await.unwrap();
        assert_eq!(text(response).await, "POST /mcp HTTP/2.0 host=- authority=mcp.example");
    }
    assert_eq!(echo.connections(), 1);
}

#[tokio::test]
async fn principals_never_share_a_connection() {
    let ca = UpstreamCa::new();
    let echo = Echo::start(ca.server(NAME, &[Alpn::H2])).await;
    let pools = pools(ca.trusted(), echo.address);
    for principal in ["uid:1000", "uid:1001", "uid:1000"] {
        let dest = Destination::new(Scheme::Https, NAME, 443, Alpn::H2, Arc::from(principal)).unwrap();
        text(pools.send(&dest, post("{}")).await.unwrap()).await;
    }
    assert_eq!(echo.connections(), 2);
}

#[tokio::test]
async fn first_requests_at_the_same_time_share_one_http2_connection() {
    let ca = UpstreamCa::new();
    let echo = Echo::start(ca.server(NAME, &[Alpn::H2])).await;
    let pools = Arc::new(pools(ca.trusted(), echo.address));
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let pools = Arc::clone(&pools);
        requests.spawn(async move { text(pools.send(&dest(Alpn::H2), post("{}")).await.unwrap()).await });
    }
    assert_eq!(requests.join_all().await.len(), 32);
    assert_eq!(echo.connections(), 1);
}

#[tokio::test]
async fn the_connection_that_asked_for_the_protocol_carries_the_first_request() {
    let ca = UpstreamCa::new();
    for (speaks, chosen) in [(&[Alpn::H2, Alpn::Http11][..], Alpn::H2), (&[Alpn::Http11][..], Alpn::Http11), (&[][..], Alpn::None)] {
        let echo = Echo::start(ca.server(NAME, speaks)).await;
        let pools = pools(ca.trusted(), echo.address);
        let dest = pools.negotiate(dest(Alpn::None), &[Alpn::H2, Alpn::Http11]).await.unwrap();
        assert_eq!(dest.alpn(), chosen);
        text(pools.send(&dest, post("{}")).await.unwrap()).await;
        let again = pools.negotiate(dest.clone(), &[Alpn::H2, Alpn::Http11]).await.unwrap();
        assert_eq!(again, dest);
        text(pools.send(&again, post("{}")).await.unwrap()).await;
        assert_eq!(echo.connections(), 1, "{chosen:?}");
    }
}

#[tokio::test]
async fn an_offered_connection_that_the_upstream_closed_is_not_used() {
    let ca = UpstreamCa::new();
    let echo = Echo::start(ca.server(NAME, &[Alpn::Http11])).await;
    let closing = crate::support::serve(ca.server(NAME, &[Alpn::Http11]), |mut tls| async move {
        let _ = tls.shutdown().await;
    })
    .await;
    let tls = ca.trusted();
    let stale = tls.connect(dialer(443, closing).tcp(NAME, 443).await.unwrap(), NAME, &[Alpn::Http11]).await.unwrap();
    while !stale.tcp().ready(Interest::READABLE).await.unwrap().is_read_closed() {
        tokio::task::yield_now().await;
    }
    let pools = pools(tls, echo.address);
    pools.offer(&dest(Alpn::Http11), stale);
    text(pools.send(&dest(Alpn::Http11), post("{}")).await.unwrap()).await;
    assert_eq!(echo.connections(), 1);
}

#[tokio::test]
async fn an_upstream_that_changed_its_protocol_is_reported_and_forgotten() {
    let ca = UpstreamCa::new();
    for (speaks, remembered) in [(&[Alpn::Http11][..], Alpn::H2), (&[Alpn::H2][..], Alpn::Http11), (&[][..], Alpn::H2)] {
        let echo = Echo::start(ca.server(NAME, speaks)).await;
        let cache = Arc::new(AlpnCache::default());
        cache.learn(NAME, 443, remembered);
        let pools = Pools::new(dialer(443, echo.address), ca.trusted(), Arc::clone(&cache), PoolOptions::default());
        let dest = pools.negotiate(dest(Alpn::None), &[Alpn::H2, Alpn::Http11]).await.unwrap();
        assert_eq!(pools.send(&dest, post("{}")).await.err(), Some(SendError::ProtocolChanged));
        assert_eq!(cache.get(NAME, 443), None);
        let dest = pools.negotiate(dest, &[Alpn::H2, Alpn::Http11]).await.unwrap();
        assert_eq!(pools.send(&dest, post("{}")).await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_websocket_upgrade_reaches_through_the_pool() {
    let ca = UpstreamCa::new();
    let echo = Echo::start(ca.server(NAME, &[Alpn::Http11])).await;
    let pools = pools(ca.trusted(), echo.address);
    let request = Request::get("/ws").header("connection", "upgrade").header("upgrade", "websocket");
    let mut response = pools.send(&dest(Alpn::Http11), request.body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut socket = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    socket.write_all(b"ping").await.unwrap();
    let mut answer = [0u8; 4];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"ping");
}

#[tokio::test]
async fn failures_are_told_apart() {
    let ca = UpstreamCa::new();
    let echo = Echo::start(ca.server("other.example", &[Alpn::Http11])).await;
    let untrusted = pools(ca.trusted(), echo.address);
    let error = untrusted.send(&dest(Alpn::Http11), post("{}")).await.unwrap_err();
    assert!(matches!(error, SendError::Tls(UpstreamTlsError::Certificate { .. })), "{error:?}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let error = pools(ca.trusted(), nobody).send(&dest(Alpn::Http11), post("{}")).await.unwrap_err();
    assert_eq!(error, SendError::Dial(DialError::Refused(nobody)));
}

#[tokio::test]
async fn an_upstream_that_hangs_up_without_answering_is_reported_as_closed() {
    let ca = UpstreamCa::new();
    for alpn in [Alpn::Http11, Alpn::H2] {
        let address = crate::support::serve(ca.server(NAME, &[alpn]), |mut tls| async move {
            let mut some = [0u8; 64];
            let _ = tls.read(&mut some).await;
        })
        .await;
        let error = pools(ca.trusted(), address).send(&dest(alpn), post("{}")).await.unwrap_err();
        assert_eq!(error, SendError::Closed, "{alpn:?}");
    }
}

#[tokio::test]
async fn plain_http_goes_through_the_pool_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut head = vec![0u8; 1024];
        let n = tcp.read(&mut head).await.unwrap();
        tcp.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&head[..n]).to_ascii_lowercase()
    });
    let pools = Pools::new(
        dialer(8080, address),
        UpstreamCa::new().trusted(),
        Arc::new(AlpnCache::default()),
        PoolOptions { idle_timeout: Duration::from_secs(1), ..PoolOptions::default() },
    );
    let dest = Destination::new(Scheme::Http, NAME, 8080, Alpn::None, Arc::from("")).unwrap();
    assert_eq!(pools.send(&dest, post("{}")).await.unwrap().status(), StatusCode::NO_CONTENT);
    assert!(server.await.unwrap().contains("host: mcp.example:8080"));
}

#[tokio::test]
async fn hosts_that_fit_in_no_uri_are_refused_without_panic() {
    for host in ["", " ", "a b", "a/b", "a@b", "a:1:2:3", "[::1", "a\r\nb", "é.example", "a?b", "a#b"] {
        let made = Destination::new(Scheme::Https, host, 443, Alpn::None, Arc::from(""));
        assert!(made.is_err(), "{host:?} became {:?}", made.map(|d| d.authority().to_owned()));
    }
    let shown = |host, port| {
        let made = Destination::new(Scheme::Https, host, port, Alpn::None, Arc::from("")).unwrap();
        (made.host().to_owned(), made.authority().to_owned())
    };
    assert_eq!(shown("MCP.example", 443), ("mcp.example".to_owned(), "mcp.example".to_owned()));
    assert_eq!(shown("mcp.example", 8443), ("mcp.example".to_owned(), "mcp.example:8443".to_owned()));
    assert_eq!(shown("[::1]", 443), ("::1".to_owned(), "[::1]".to_owned()));
    assert_eq!(shown("::1", 8443), ("::1".to_owned(), "[::1]:8443".to_owned()));
}

/// Answers each request with a head and a body in separate writes, without `TCP_NODELAY`. Returns its address and the count of connections.
fn in_parts(exchanges: usize) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = connections.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut reader = BufReader::new(&stream);
            for _ in 0..exchanges {
                let head = reader.by_ref().lines().map_while(Result::ok);
                if head.take_while(|line| !line.is_empty()).count() == 0 {
                    break;
                }
                let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
                let _ = (&stream).write_all(b"done");
            }
        }
    });
    (address, connections)
}

#[tokio::test]
async fn a_server_that_writes_its_answers_in_parts_is_not_held_up_by_late_acknowledgements() {
    const EXCHANGES: usize = 20;
    // The shortest time for which the kernel delays acknowledgements.
    const HELD_BACK: Duration = Duration::from_millis(40);
    let (address, connections) = in_parts(EXCHANGES);
    let pools = pools(UpstreamCa::new().trusted(), address);
    let dest = Destination::new(Scheme::Http, &address.ip().to_string(), address.port(), Alpn::Http11, Arc::from("")).unwrap();
    let mut took = Vec::new();
    for _ in 0..EXCHANGES {
        let start = Instant::now();
        let request = Request::get("/").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(text(pools.send(&dest, request).await.unwrap()).await, "done");
        took.push(start.elapsed());
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    took.sort_unstable();
    assert!(took[EXCHANGES / 2] < HELD_BACK * 3 / 4, "{took:?}");
}
