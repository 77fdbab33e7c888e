use gnomon_http::{Alpn, TlsSetupError, UpstreamTls, UpstreamTlsError};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use tokio::net::TcpListener;

use crate::support::{Echo, NAME, UpstreamCa, dialer};

async fn refusal(tls: &UpstreamTls, echo: &Echo, name: &str) -> String {
    let tcp = dialer(443, echo.address).tcp(NAME, 443).await.unwrap();
    tls.connect(tcp, name, &[Alpn::Http11]).await.unwrap_err().to_string()
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_its_date() {
    let ca = UpstreamCa::new();
    let echo = Echo::start(ca.server_valid_until(NAME, &[], datetime!(2024-01-01 12:00 UTC))).await;
    assert_eq!(refusal(&ca.trusted(), &echo, NAME).await, "upstream certificate not accepted: certificate expired 2024-01-01");
}

#[tokio::test]
async fn a_certificate_of_the_future_is_refused() {
    let ca = UpstreamCa::new();
    let echo = Echo::start(ca.server_valid_until(NAME, &[], OffsetDateTime::now_utc() + Duration::days(9))).await;
    let refusal = refusal(&ca.trusted(), &echo, NAME).await;
    assert!(refusal.starts_with("upstream certificate not accepted: certificate not valid before 20"), "{refusal}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_with_both_names() {
    let ca = UpstreamCa::new();
    let echo = Echo::start(ca.server("other.example", &[])).await;
    assert_eq!(
        refusal(&ca.trusted(), &echo, NAME).await,
        "upstream certificate not accepted: not valid for name mcp.example, only for other.example"
    );
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let echo = Echo::start(UpstreamCa::named("someone else").server(NAME, &[])).await;
    assert_eq!(refusal(&UpstreamCa::new().trusted(), &echo, NAME).await, "upstream certificate not accepted: unknown issuer");
}

#[tokio::test]
async fn a_certificate_of_an_authority_that_borrows_a_trusted_name_is_refused() {
    let echo = Echo::start(UpstreamCa::new().server(NAME, &[])).await;
    let refusal = refusal(&UpstreamCa::new().trusted(), &echo, NAME).await;
    assert!(refusal.ends_with("signature does not match the trusted authority of that name"), "{refusal}");
}

#[tokio::test]
async fn a_server_whose_own_certificate_is_listed_is_accepted_also_where_openssl_made_it_an_authority_s() {
    let ca = UpstreamCa::new();
    let echo = Echo::start(ca.server_itself()).await;
    let tcp = dialer(443, echo.address).tcp(NAME, 443).await.unwrap();
    ca.trusted().connect(tcp, NAME, &[Alpn::Http11]).await.unwrap();
    let refused = refusal(&ca.trusted(), &echo, "other.example").await;
    assert!(refused.contains("not valid for name other.example"), "{refused}");
    let refused = refusal(&UpstreamCa::new().trusted(), &echo, NAME).await;
    assert!(refused.contains("self-signed: "), "{refused}");
}

#[tokio::test]
async fn a_name_that_can_be_in_no_certificate_is_refused_without_panic() {
    let ca = UpstreamCa::new();
    let echo = Echo::start(ca.server(NAME, &[])).await;
    for name in ["", "a b", "a\0b", "-", "*.example", &"a".repeat(300)] {
        let tcp = dialer(443, echo.address).tcp(NAME, 443).await.unwrap();
        let refused = ca.trusted().connect(tcp, name, &[]).await;
        assert!(refused.is_err(), "{name:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_tls_fails_the_handshake() {
    use tokio::io::AsyncWriteExt;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let _ = tcp.write_all(b"220 mail.example ESMTP\r\n").await;
    });
    let tcp = dialer(443, address).tcp(NAME, 443).await.unwrap();
    let refused = UpstreamCa::new().trusted().connect(tcp, NAME, &[]).await;
    assert!(matches!(refused, Err(UpstreamTlsError::Handshake(_))), "{refused:?}");
}

#[tokio::test]
async fn a_second_connection_resumes_the_first_ones_session() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let ca = UpstreamCa::new();
    let address = crate::support::serve(ca.server(NAME, &[Alpn::Http11]), |mut tls| async move {
        let _ = tls.write_all(b"x").await;
        let _ = tls.read_u8().await;
    })
    .await;
    let tls = ca.trusted();
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let tcp = dialer(443, address).tcp(NAME, 443).await.unwrap();
        let mut stream = tls.connect(tcp, NAME, &[Alpn::Http11]).await.unwrap();
        // The session ticket arrives before the first byte.
        stream.read_u8().await.unwrap();
        let gnomon_http::UpstreamStream::Tls(stream) = stream else { panic!("no TLS") };
        kinds.push(stream.get_ref().1.handshake_kind());
    }
    assert_eq!(kinds, [Some(rustls::HandshakeKind::Full), Some(rustls::HandshakeKind::Resumed)]);
}

#[test]
fn a_ca_file_that_is_missing_or_empty_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.pem");
    let error = UpstreamTls::new(std::slice::from_ref(&missing)).unwrap_err();
    assert!(error.to_string().contains("missing.pem"), "{error}");
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "no certificate here\n").unwrap();
    assert!(matches!(UpstreamTls::new(&[empty]), Err(TlsSetupError::Empty(_))));
}

#[tokio::test]
async fn a_server_that_insists_on_a_client_certificate_is_told_from_others_that_refuse() {
    let ca = UpstreamCa::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ca.server_asking_for_certificates(NAME, version);
        let address = crate::support::serve(config, |_| async {}).await;
        let answer =
            crate::support::pools(ca.trusted(), address).send(&crate::support::dest(Alpn::Http11), crate::support::post("{}")).await;
        let error = answer.unwrap_err();
        assert_eq!(error, gnomon_http::SendError::Tls(UpstreamTlsError::ClientCertificate), "{version:?}");
        assert!(error.to_string().contains("proxy.bypass"));
    }
}
