//! The portal's own TLS: the certificate that it presents, and what clients prove with theirs.

use crate::{
    Setup,
    server::{Server, Speaks},
    soon,
};
use gnomon_tls::{CertificateAuthority, ClientCertificates, LeafName, Shown, served};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::json;
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// An authority that issues certificates to clients.
struct Office {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

type Credentials = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Office {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    fn issues(&self, name: &str) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        Arc::new(roots)
    }
}

/// The portal's certificate, and the root that clients must trust.
fn own(names: &[&str]) -> (Shown, RootCertStore) {
    let folder = tempfile::tempdir().unwrap();
    let (authority, _) = CertificateAuthority::load_or_create(folder.path()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().der().clone()).unwrap();
    let names = names.iter().map(|name| LeafName::parse(name).unwrap()).collect();
    (Shown::Own { authority: Arc::new(authority), names }, roots)
}

fn client(roots: RootCertStore, credentials: Option<Credentials>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    match credentials {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
    }
}

/// The answer to a call of `one_echo`; `None` without a connection.
async fn call(address: SocketAddr, name: &str, config: ClientConfig) -> Option<String> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "one_echo", "arguments": {"text": "hi"}, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }}});
    let body = body.to_string();
    let request = format!(
        "POST /mcp HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n\
         mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: one_echo\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    // With TLS 1.3 a client learns only now that its certificate was refused.
    soon("the answer", stream.read_to_string(&mut answer)).await.ok()?;
    Some(answer)
}

#[tokio::test]
async fn clients_that_trust_our_authority_reach_the_portal_by_its_names_and_by_no_other() {
    let server = Server::start("one", Speaks::Modern).await;
    let (shown, roots) = own(&["mcp.corp.example", "localhost", "127.0.0.1"]);
    let tls = served(shown, &ClientCertificates::Unasked).unwrap();
    let portal = Setup::of([("one", server.url())]).tls(tls).start().await;
    for name in ["mcp.corp.example", "localhost", "127.0.0.1"] {
        let answer = call(portal.address, name, client(roots.clone(), None)).await.unwrap();
        assert!(answer.contains("one: hi"), "{name}: {answer}");
    }
    assert_eq!(call(portal.address, "other.example", client(roots, None)).await, None, "another name");
    let nobody = RootCertStore::empty();
    assert_eq!(call(portal.address, "localhost", client(nobody, None)).await, None, "whoever does not trust it");
    let mut plain = TcpStream::connect(portal.address).await.unwrap();
    plain.write_all(b"GET /mcp HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = soon("the end", plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "nothing is answered without TLS");
}

#[tokio::test]
async fn a_client_certificate_is_the_log_in_and_only_of_the_authorities_that_count() {
    let server = Server::start("one", Speaks::Modern).await;
    let (office, other) = (Office::new(), Office::new());
    let (shown, roots) = own(&["localhost"]);
    let tls = served(shown, &ClientCertificates::Required(office.roots())).unwrap();
    let portal = Setup::of([("one", server.url())])
        .auth("{mode: mtls, clients: [{name: robot, subject: ['robot-*'], groups: [robots]}]}".to_owned())
        .policy("[{allow: {servers: ['*'], groups: [robots]}}]")
        .tls(tls)
        .start()
        .await;
    let with = |credentials| call(portal.address, "localhost", client(roots.clone(), credentials));
    let known = with(Some(office.issues("robot-7"))).await.unwrap();
    assert!(known.contains("one: hi"), "{known}");
    let unknown = with(Some(office.issues("somebody"))).await.unwrap();
    assert!(unknown.contains("is not one of a known client") && !unknown.contains("one: hi"), "{unknown}");
    assert_eq!(with(None).await.filter(|answer| !answer.is_empty()), None, "no certificate, no connection");
    assert_eq!(with(Some(other.issues("robot-7"))).await.filter(|answer| !answer.is_empty()), None, "another authority's");
}

#[tokio::test]
async fn where_certificates_are_welcome_those_without_one_are_not_shut_out() {
    let server = Server::start("one", Speaks::Modern).await;
    let (office, other) = (Office::new(), Office::new());
    let (shown, roots) = own(&["localhost"]);
    let tls = served(shown, &ClientCertificates::Welcome(office.roots())).unwrap();
    let portal =
        Setup::of([("one", server.url())]).policy("[{allow: {servers: ['*'], device: {certificate: any}}}]").tls(tls).start().await;
    let with = |credentials| call(portal.address, "localhost", client(roots.clone(), credentials));
    let managed = with(Some(office.issues("laptop"))).await.unwrap();
    assert!(managed.contains("one: hi"), "{managed}");
    let without = with(None).await.unwrap();
    assert!(without.contains("Unknown tool"), "policy sees no device: {without}");
    assert_eq!(
        with(Some(other.issues("laptop"))).await.filter(|answer| !answer.is_empty()),
        None,
        "a certificate that does not count is worse"
    );
}
