//! Destinations at a fixed address, as for transparent interception.

use gnomon_http::{Alpn, AlpnCache, DialOptions, Dialer, PoolOptions, Pools, SendError, UpstreamTlsError};
use http_body_util::Full;
use std::sync::Arc;

use crate::support::{Echo, NAME, UpstreamCa, dest, post, text};

const BOTH: &[Alpn] = &[Alpn::H2, Alpn::Http11];

/// Pools that resolve no name, as none should be needed.
fn unresolving(ca: &UpstreamCa) -> Pools<Full<bytes::Bytes>> {
    Pools::new(Dialer::new(DialOptions::default()), ca.trusted(), Arc::new(AlpnCache::default()), PoolOptions::default())
}

#[tokio::test]
async fn two_addresses_of_one_name_share_neither_connection_nor_protocol() {
    let ca = UpstreamCa::new();
    let (one, two) = (Echo::start(ca.server(NAME, BOTH)).await, Echo::start(ca.server(NAME, &[Alpn::Http11])).await);
    let pools = unresolving(&ca);
    for _ in 0..2 {
        for (echo, version) in [(&one, "HTTP/2.0"), (&two, "HTTP/1.1")] {
            let dest = pools.negotiate(dest(Alpn::None).at(echo.address), BOTH).await.unwrap();
            let said = text(pools.send(&dest, post("{}")).await.unwrap()).await;
            assert!(said.contains(version), "{said}");
        }
    }
    assert_eq!((one.connections(), two.connections()), (1, 1));
}

#[tokio::test]
async fn a_connection_that_was_open_already_carries_the_first_request() {
    let ca = UpstreamCa::new();
    let echo = Echo::start(ca.server(NAME, BOTH)).await;
    let pools = unresolving(&ca);
    let wanted = dest(Alpn::None).at(echo.address);
    for _ in 0..2 {
        for offered in [BOTH, &[Alpn::Http11]] {
            let tcp = Dialer::new(DialOptions::default()).address(echo.address).await.unwrap();
            let dest = pools.negotiate_over(wanted.clone(), offered, tcp).await.unwrap();
            text(pools.send(&dest, post("{}")).await.unwrap()).await;
        }
        // The second time both are reused, and the offered connection is left to close by itself.
        assert_eq!(echo.connections(), 2);
    }
}

#[tokio::test]
async fn the_name_is_what_the_server_at_a_fixed_address_is_verified_for() {
    let ca = UpstreamCa::new();
    let echo = Echo::start(ca.server("other.example", &[Alpn::Http11])).await;
    let error = unresolving(&ca).send(&dest(Alpn::Http11).at(echo.address), post("{}")).await.unwrap_err();
    assert!(matches!(error, SendError::Tls(UpstreamTlsError::Certificate { .. })), "{error:?}");
}
