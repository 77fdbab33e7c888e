use std::num::NonZeroUsize;
use std::sync::Arc;

use gnomon_tls::{Alpn, CertificateAuthority, LEAF_CAPACITY, LeafCache, LeafName};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

struct Fixture {
    ca: Arc<CertificateAuthority>,
    leaves: LeafCache,
    _dir: tempfile::TempDir,
}

fn fixture(capacity: NonZeroUsize) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let ca = Arc::new(CertificateAuthority::load_or_create(dir.path()).unwrap().0);
    Fixture { leaves: LeafCache::new(Arc::clone(&ca), capacity), ca, _dir: dir }
}

impl Fixture {
    /// A client that trusts our authority and nothing else.
    fn client(&self, versions: &[&'static SupportedProtocolVersion], alpn: Alpn) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.certificate().der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.offer();
        config.enable_early_data = true;
        Arc::new(config)
    }

    async fn connect(
        &self,
        client: &Arc<ClientConfig>,
        name: &str,
        alpn: Alpn,
    ) -> tokio_rustls::client::TlsStream<tokio::io::DuplexStream> {
        let (near, far) = tokio::io::duplex(64 << 10);
        let config = self.leaves.server_config(&LeafName::parse(name).unwrap(), alpn).unwrap();
        tokio::spawn(async move {
            let mut tls = tokio_rustls::TlsAcceptor::from(config).accept(near).await.unwrap();
            tls.write_all(b"x").await.unwrap();
            let _ = tls.read_u8().await;
        });
        let server = ServerName::try_from(name.to_owned()).unwrap();
        let mut tls = TlsConnector::from(Arc::clone(client)).connect(server, far).await.unwrap();
        assert_eq!(tls.read_u8().await.unwrap(), b'x');
        tls
    }
}

#[tokio::test]
async fn a_client_that_trusts_only_our_authority_accepts_every_kind_of_name() {
    let f = fixture(LEAF_CAPACITY);
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let client = f.client(versions, Alpn::H2);
        let long = format!("{}.{}.example", "a".repeat(63), "b".repeat(63));
        for name in ["mcp.example", "localhost", "127.0.0.1", "2001:db8::1", "under_score.example", &long] {
            let tls = f.connect(&client, name, Alpn::H2).await;
            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "{name}");
        }
    }
}

#[tokio::test]
async fn later_connections_resume_but_send_no_early_data() {
    let f = fixture(LEAF_CAPACITY);
    for (versions, protocol) in
        [(&[&rustls::version::TLS13], ProtocolVersion::TLSv1_3), (&[&rustls::version::TLS12], ProtocolVersion::TLSv1_2)]
    {
        let client = f.client(versions, Alpn::Http11);
        let first = f.connect(&client, "mcp.example", Alpn::Http11).await;
        assert_eq!(first.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        let second = f.connect(&client, "mcp.example", Alpn::Http11).await;
        assert_eq!(second.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(second.get_ref().1.protocol_version(), Some(protocol));
        assert!(!second.get_ref().1.is_early_data_accepted());
    }
}

#[tokio::test]
async fn a_leaf_is_for_one_name_short_lived_and_points_to_its_authority() {
    let f = fixture(LEAF_CAPACITY);
    let tls = f.connect(&f.client(rustls::ALL_VERSIONS, Alpn::None), "mcp.example", Alpn::None).await;
    let chain = tls.get_ref().1.peer_certificates().unwrap();
    assert_eq!(chain.len(), 1);
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.as_slice(), [GeneralName::DNSName("mcp.example")]);
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth && !usage.any);
    let validity = leaf.validity();
    assert!(validity.not_after.timestamp() - validity.not_before.timestamp() <= 47 * 86_400);
    let age = x509_parser::time::ASN1Time::now().timestamp() - validity.not_before.timestamp();
    assert!((3590..=3660).contains(&age), "{age}");
    assert!(!leaf.is_ca());
    assert!(leaf.raw_serial().len() >= 12, "the serial is random");
    let (_, ca) = X509Certificate::from_der(f.ca.certificate().der()).unwrap();
    assert_eq!(key_id(&leaf), key_id(&ca));
}

/// The authority key identifier of a leaf, the subject key identifier of an authority.
fn key_id<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    use x509_parser::extensions::ParsedExtension::{AuthorityKeyIdentifier, SubjectKeyIdentifier};
    certificate.iter_extensions().find_map(|e| match e.parsed_extension() {
        AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|k| k.0),
        SubjectKeyIdentifier(id) if certificate.is_ca() => Some(id.0),
        _ => None,
    })
}

#[test]
fn a_cached_configuration_is_given_again_and_the_cache_stays_bounded() {
    let capacity = NonZeroUsize::new(32).unwrap();
    let f = fixture(capacity);
    let name = LeafName::parse("mcp.example").unwrap();
    let first = f.leaves.server_config(&name, Alpn::H2).unwrap();
    assert!(Arc::ptr_eq(&first, &f.leaves.server_config(&name, Alpn::H2).unwrap()));
    assert!(!Arc::ptr_eq(&first, &f.leaves.server_config(&name, Alpn::Http11).unwrap()));
    for n in 0..300 {
        f.leaves.server_config(&LeafName::parse(&format!("h{n}.example")).unwrap(), Alpn::H2).unwrap();
    }
    assert!(f.leaves.len() <= capacity.get(), "{}", f.leaves.len());
}

#[test]
fn names_are_read_as_clients_write_them_and_nonsense_is_refused() {
    let dns = |name: &str| Ok(LeafName::Dns(name.into()));
    assert_eq!(LeafName::parse("MCP.Example."), dns("mcp.example"));
    assert_eq!(LeafName::parse("[::1]"), Ok(LeafName::Ip("::1".parse().unwrap())));
    assert_eq!(LeafName::parse("::ffff:10.0.0.1"), Ok(LeafName::Ip("10.0.0.1".parse().unwrap())));
    for name in ["", ".", "a b", "a\0b", "*.example", "é.example", "a..b", &"a".repeat(64), &"a.".repeat(200)] {
        assert!(LeafName::parse(name).is_err(), "{name:?}");
    }
}
