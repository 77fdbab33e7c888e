use std::time::Duration;

use gnomon_http::{DialError, DialOptions, Dialer, ForbiddenAddresses, ForbiddenReason};
use tokio::net::TcpListener;

fn forbidden(result: Result<gnomon_http::UpstreamTcp, DialError>) -> Option<ForbiddenReason> {
    match result {
        Err(DialError::Forbidden { reason, .. }) => Some(reason),
        _ => None,
    }
}

#[tokio::test]
async fn cloud_metadata_is_not_dialled_by_address_or_by_name() {
    let resolve = vec!["metadata.example:80:169.254.169.254".parse().unwrap()];
    let dialer = Dialer::new(DialOptions { resolve, ..DialOptions::default() });
    for host in ["169.254.169.254", "[::ffff:169.254.169.254]", "metadata.example", "METADATA.example"] {
        assert_eq!(forbidden(dialer.tcp(host, 80).await), Some(ForbiddenReason::LinkLocal), "{host}");
    }
}

#[tokio::test]
async fn an_own_listener_is_not_dialled_by_address_or_by_name() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let own = listener.local_addr().unwrap();
    let resolve = vec![format!("loop.example:443:127.0.0.1:{}", own.port()).parse().unwrap()];
    let forbid = ForbiddenAddresses { own_listeners: vec![own] };
    let dialer = Dialer::new(DialOptions { resolve, forbidden: Some(forbid), ..DialOptions::default() });
    for (host, port) in [("127.0.0.1", own.port()), ("localhost", own.port()), ("loop.example", 443)] {
        let result = dialer.tcp(host, port).await;
        assert_eq!(forbidden(result), Some(ForbiddenReason::OwnListener), "{host}");
    }
}

#[tokio::test]
async fn a_connection_has_no_nagle_delay() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = Dialer::new(DialOptions::default()).tcp("127.0.0.1", port).await.unwrap();
    assert!(stream.nodelay().unwrap());
}

#[tokio::test]
async fn a_refused_address_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let refused = Dialer::new(DialOptions::default()).address(address).await;
    assert_eq!(refused.err(), Some(DialError::Refused(address)));
}

#[tokio::test]
async fn a_name_with_a_dead_address_connects_to_the_live_one() {
    // `localhost` mostly has ::1 before 127.0.0.1; only the latter listens.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(Dialer::new(DialOptions::default()).tcp("localhost", port).await.is_ok());
}

#[tokio::test]
async fn names_that_are_none_fail_to_resolve_without_panic() {
    let dialer = Dialer::new(DialOptions::default());
    for host in ["", " ", "a b", "a\0b", "a\nb", "[", "]", "[]", &"a".repeat(5000)] {
        let result = dialer.tcp(host, 80).await;
        assert!(matches!(result, Err(DialError::Resolve { .. })), "{host:?}: {result:?}");
    }
}

#[tokio::test]
async fn the_time_limit_holds() {
    // The listener's queue is full, so the kernel drops further SYNs.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let dialer = Dialer::new(DialOptions { connect_timeout: Duration::from_millis(200), ..DialOptions::default() });
    let mut waiting = Vec::new();
    for _ in 0..8 {
        match dialer.address(address).await {
            Ok(stream) => waiting.push(stream),
            Err(e) => {
                assert!(matches!(e, DialError::Timeout { .. }), "{e:?}");
                return;
            }
        }
    }
    panic!("a listener that accepts nothing took {} connections", waiting.len());
}
