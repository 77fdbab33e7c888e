//! An intermediate authority of a fleet, and what its name constraints keep it from: for rustls, and for OpenSSL as most programs
//! of a host use it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use gnomon_tls::{Alpn, CaCertificate, CaError, CertificateAuthority, LEAF_CAPACITY, LeafCache, LeafName, Present};
use rcgen::{BasicConstraints, CertificateParams, DnType, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The fleet's root, an authority between, and the key and certificate of one host, which may sign below `mcp.example` only.
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
        let permitted_subtrees = vec![GeneralSubtree::DnsName("mcp.example".into())];
        of_host.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
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
