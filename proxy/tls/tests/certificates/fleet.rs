//! An intermediate authority of a fleet, and what its name constraints keep it from: for rustls, and for OpenSSL as most programs
//! of a host use it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use gnomon_tls::{Alpn, CaCertificate, CaError, CertificateAuthority, LEAF_CAPACITY, LeafCache, LeafName, Present};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints, SanType,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{ServerName, UnixTime};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The fleet's root, an authority between, and the key and certificate of one host, which may sign for servers below `mcp.example` only,
/// as docs/fleet.md has it made.
struct Fleet {
    root: rcgen::Certificate,
    between: rcgen::Certificate,
    host: rcgen::Certificate,
    key: KeyPair,
}

impl Fleet {
    fn new() -> Self {
        let params = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params
        };
        let (root_key, between_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = params("the fleet").self_signed(&root_key).unwrap();
        let issuer = Issuer::from_ca_cert_der(root.der(), root_key).unwrap();
        let between = params("the workstations").signed_by(&between_key, &issuer).unwrap();
        let issuer = Issuer::from_ca_cert_der(between.der(), between_key).unwrap();
        let mut of_host = params("one host");
        of_host.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        of_host.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let permitted_subtrees = vec![GeneralSubtree::DnsName("mcp.example".into())];
        let any = [CidrSubnet::from_v4_prefix([0; 4], 0), CidrSubnet::from_v6_prefix([0; 16], 0)];
        of_host.name_constraints =
            Some(NameConstraints { permitted_subtrees, excluded_subtrees: any.map(GeneralSubtree::IpAddress).to_vec() });
        let host = of_host.signed_by(&key, &issuer).unwrap();
        Self { root, between, host, key }
    }

    fn chain(&self) -> String {
        self.host.pem() + &self.between.pem() + &self.root.pem()
    }

    fn import(&self, dir: &Path, present: Present) -> Result<CaCertificate, CaError> {
        import(dir, &self.chain(), &self.key.serialize_pem(), present)
    }
}

fn import(dir: &Path, chain: &str, key: &str, present: Present) -> Result<CaCertificate, CaError> {
    let from = tempfile::tempdir().unwrap();
    let (chain_file, key_file) = (from.path().join("chain.pem"), from.path().join("key.pem"));
    std::fs::write(&chain_file, chain).unwrap();
    std::fs::write(&key_file, key).unwrap();
    CertificateAuthority::import(dir, &chain_file, &key_file, present)
}

#[tokio::test]
async fn clients_that_trust_the_fleets_root_believe_the_host_within_its_names_and_nowhere_else() {
    let (fleet, dir) = (Fleet::new(), tempfile::tempdir().unwrap());
    assert!(fleet.import(dir.path(), Present::Keep).unwrap().is_intermediate());
    let ca = Arc::new(CertificateAuthority::load_or_create(dir.path()).unwrap().0);
    let leaves = LeafCache::new(ca, LEAF_CAPACITY);
    let root = dir.path().join("root.pem");
    std::fs::write(&root, fleet.root.pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(fleet.root.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = TlsConnector::from(Arc::new(client.with_root_certificates(roots).with_no_client_auth()));

    for (name, within) in [("mcp.example", true), ("tools.mcp.example", true), ("bank.example", false), ("notmcp.example", false)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(leaves.server_config(&LeafName::parse(name).unwrap(), Alpn::None).unwrap());
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(acceptor.accept(stream));
            }
        });
        let server = ServerName::try_from(name).unwrap();
        match client.connect(server, TcpStream::connect(address).await.unwrap()).await {
            Ok(tls) => {
                assert!(within, "{name}");
                // The root is not sent: whoever does not have it does not trust it either.
                assert_eq!(tls.get_ref().1.peer_certificates().unwrap().len(), 3);
            }
            Err(error) => assert!(!within && error.to_string().contains("NameConstraint"), "{name}: {error}"),
        }
        let said = tokio::task::spawn_blocking({
            let root = root.clone();
            move || openssl(&root, name, address.port())
        });
        match said.await.unwrap() {
            None => {
                _ = gnomon_testkit::has(
                    "clients_that_trust_the_fleets_root_believe_the_host_within_its_names_and_nowhere_else",
                    &["openssl"],
                )
            }
            Some(said) if within => assert!(said.contains("Verification: OK"), "{said}"),
            Some(said) => assert!(said.contains("permitted subtree violation"), "{said}"),
        }
        serving.abort();
    }
}

/// What a stolen key of a host would sign: a leaf for this name or address, for this use.
fn stolen(fleet: &Fleet, name: SanType, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![name];
    params.extended_key_usages = vec![usage];
    let signer = KeyPair::from_pem(&fleet.key.serialize_pem()).unwrap();
    let leaf = params.signed_by(&key, &Issuer::from_ca_cert_der(fleet.host.der(), signer).unwrap()).unwrap();
    (leaf, key)
}

/// What `openssl verify` says of a leaf for this use, and the end of its name.
fn verified(fleet: &Fleet, leaf: &rcgen::Certificate, purpose: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (root, chain) = (file("root.pem", fleet.root.pem()), file("chain.pem", fleet.host.pem() + &fleet.between.pem()));
    let mut command = Command::new("openssl");
    command.args(["verify", "-purpose", purpose, "-CAfile"]).arg(root).arg("-untrusted").arg(chain);
    let output = command.args(["-no-CApath", "-no-CAstore"]).arg(file("leaf.pem", leaf.pem())).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_hosts_key_poses_neither_as_a_server_by_its_address_nor_as_a_client() {
    let fleet = Fleet::new();
    let mut roots = RootCertStore::empty();
    roots.add(fleet.root.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = Arc::new(roots);
    let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build().unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
    let chain = [fleet.host.der().clone(), fleet.between.der().clone()];
    let name = || SanType::DnsName("tools.mcp.example".try_into().unwrap());
    let (by_name, by_v4, by_v6) = ("tools.mcp.example", "192.0.2.1", "2001:db8::1");
    let server = |san: SanType, called: &'static str| {
        let (leaf, _) = stolen(&fleet, san, ExtendedKeyUsagePurpose::ServerAuth);
        let called = ServerName::try_from(called).unwrap();
        let by_rustls = servers.verify_server_cert(leaf.der(), &chain, &called, &[], UnixTime::now()).map(drop);
        (by_rustls, verified(&fleet, &leaf, "sslserver"))
    };
    let client = {
        let (leaf, _) = stolen(&fleet, name(), ExtendedKeyUsagePurpose::ClientAuth);
        (clients.verify_client_cert(leaf.der(), &chain, UnixTime::now()).map(drop), verified(&fleet, &leaf, "sslclient"))
    };
    let (fits, says) = server(name(), by_name);
    assert!(fits.is_ok(), "{fits:?}");
    assert!(says.is_none_or(|says| says.contains("leaf.pem: OK")));
    for (what, (by_rustls, says)) in [
        ("an address", server(SanType::IpAddress(by_v4.parse().unwrap()), by_v4)),
        ("an address of IPv6", server(SanType::IpAddress(by_v6.parse().unwrap()), by_v6)),
        ("a client", client),
    ] {
        assert!(by_rustls.is_err(), "{what}");
        match says {
            None => _ = gnomon_testkit::has("a_hosts_key_poses_neither_as_a_server_by_its_address_nor_as_a_client", &["openssl"]),
            Some(says) if what == "a client" => assert!(says.contains("certificate purpose"), "{says}"),
            Some(says) => assert!(says.contains("excluded subtree violation"), "{what}: {says}"),
        }
    }
}

/// What `openssl s_client` says of the server, which must be this name.
fn openssl(root: &Path, name: &str, port: u16) -> Option<String> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-verify_return_error", "-verify_hostname", name, "-servername", name, "-connect"]);
    command.arg(format!("127.0.0.1:{port}")).arg("-CAfile").arg(root).args(["-no-CApath", "-no-CAstore"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()?;
    child.stdin.take()?.write_all(b"Q\n").ok()?;
    let output = child.wait_with_output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn an_authority_that_this_host_cannot_use_is_refused_and_leaves_nothing() {
    let (fleet, other, dir) = (Fleet::new(), Fleet::new(), tempfile::tempdir().unwrap());
    let (chain, key) = (fleet.chain(), fleet.key.serialize_pem());
    let leaf = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    for (chain, key, words) in [
        (&chain, &other.key.serialize_pem(), "is not the key of"),
        (&chain, &"nonsense".to_owned(), "not a private key"),
        (
            &(fleet.host.pem() + &fleet.root.pem() + &fleet.between.pem()),
            &key,
            "certificate 2 (CN=the fleet) did not issue the one before it",
        ),
        (&(fleet.host.pem() + &other.between.pem().repeat(9)), &key, "more than 8 certificates"),
        (&leaf.cert.pem(), &leaf.signing_key.serialize_pem(), "not a certificate authority's"),
        (&String::new(), &key, "the file has none"),
    ] {
        let said = import(dir.path(), chain, key, Present::Keep).unwrap_err().to_string();
        assert!(said.contains(words), "expected `{words}` in: {said}");
        assert!(!dir.path().join("ca.pem").exists() && !dir.path().join("ca.key").exists());
    }
}

#[test]
fn an_authority_that_is_there_is_replaced_only_where_that_is_said() {
    let (fleet, dir) = (Fleet::new(), tempfile::tempdir().unwrap());
    let (before, _) = CertificateAuthority::load_or_create(dir.path()).unwrap();
    assert!(fleet.import(dir.path(), Present::Keep).unwrap_err().to_string().contains("--replace"));
    assert_eq!(CaCertificate::load(dir.path()).unwrap().unwrap().fingerprint_sha256(), before.fingerprint_sha256());
    fleet.import(dir.path(), Present::Replace).unwrap();
    let (after, _) = CertificateAuthority::load_or_create(dir.path()).unwrap();
    assert_eq!(after.subject(), "CN=one host");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(dir.path().join("ca.key")).unwrap());
    assert_eq!(mode & 0o7777, 0o600);
}
