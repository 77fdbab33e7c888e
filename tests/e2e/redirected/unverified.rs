//! Servers with whom no TLS comes about: what the program sees is a failure of TLS or an end, and nothing that could be taken for content.

use super::*;
use crate::support::authority::Authority;
use rustls::{
    AlertDescription, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// The alert that ended this handshake, if one did.
fn alert(error: &std::io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

#[tokio::test]
async fn a_program_s_handshake_fails_where_that_of_its_server_does_and_an_event_says_why() {
    for alpn in [BOTH, H1, &["h2"], &[]] {
        let (good, stranger) = (Upstream::start(alpn).await, Upstream::start(alpn).await);
        let misnamed = Upstream::at("127.0.0.1:0", "other.example", alpn, |_| None).await;
        for (upstream, reason) in [(&stranger, "upstream certificate not accepted: "), (&misnamed, "not valid for name tools.example")] {
            let setup = if reason.contains("name") { Gnomon::with().trust(misnamed.authority.pem_file()) } else { Gnomon::with() };
            let (gnomon, kernel) = gnomon(setup, &good).await;
            let error = handshake(kernel.connect(&gnomon, upstream.address).await, &gnomon.root, HOST, alpn).await.unwrap_err();
            assert_eq!(alert(&error), Some(AlertDescription::CertificateUnknown), "{alpn:?} {reason}: {error}");
            assert!(upstream.paths().is_empty());
            gnomon.metrics_until("gnomon_flows_total{outcome=\"upstream_unverified\"} 1").await;
            let events = gnomon.events_until(1).await;
            let event = &events[0];
            assert_eq!((&event["gnomon.flow.outcome"], &event["process.pid"]), (&json!("upstream_unverified"), &json!(4711)), "{event:#}");
            assert!(event["message"].as_str().unwrap().contains(reason), "{event:#}");
            // Its neighbour is served as ever.
            let stream = handshake(kernel.connect(&gnomon, good.address).await, &gnomon.root, HOST, alpn).await.unwrap();
            drop(stream);
        }
    }
}

/// With TLS 1.3 a server says after the handshake that it wanted a certificate.
#[tokio::test]
async fn where_it_comes_out_later_the_connection_ends_without_an_answer() {
    let authority = Authority::new("the upstream's authority");
    let (certificate, key) = authority.issue(HOST);
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(acceptor.clone().accept(stream));
        }
    });
    let kernel = Arc::new(Kernel::default());
    let gnomon = Gnomon::with().trust(authority.pem_file()).owners(kernel.clone()).start().await;
    let stream = handshake(kernel.connect(&gnomon, address).await, &gnomon.root, HOST, H1).await.unwrap();
    let mut client = H1::over(stream);
    client.write(&h1_post("/rpc", b"{}")).await;
    let nothing = client.try_answer().await;
    assert!(nothing.is_err() && client.buffer.is_empty(), "{nothing:?}");
    let events = gnomon.events_until(1).await;
    assert!(events.iter().any(|event| event["message"].as_str().is_some_and(|text| text.contains("proxy.bypass"))), "{events:#?}");
}

/// Who asks a proxy is told by the proxy.
#[tokio::test]
async fn a_program_that_asked_for_the_proxy_gets_a_502_that_says_why() {
    let (good, stranger) = (Upstream::start(H1).await, Upstream::start(H1).await);
    let (gnomon, kernel) = gnomon(Gnomon::with().resolve(HOST, stranger.address), &good).await;
    let tunnel = crate::support::client::tunnel(kernel.road(&gnomon, gnomon.address), &format!("{HOST}:443")).await;
    let mut client = H1::over(handshake(tunnel, &gnomon.root, HOST, H1).await.unwrap());
    let answer = client.send(&[h1_head("GET", "/", "")]).await;
    assert_eq!((answer.status, answer.header("x-gnomon")), (502, Some("error")), "{answer:?}");
    assert!(answer.text().contains("certificate"), "{answer:?}");
}
