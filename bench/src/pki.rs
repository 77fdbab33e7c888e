//! Throw-away certificates: one CA for the proxies, one for the upstream.
//!
//! Keys live in the run's temporary directory and go with it. Nothing here is fit for anything
//! but a bench: leaves are cached without bound, because a run asks for one host only.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct PemPair {
    /// The certificate (for a CA) or the chain (for a leaf).
    pub cert: PathBuf,
    /// Its private key, PKCS#8.
    pub key: PathBuf,
}

/// Everything one run needs, written below `dir`.
///
/// # Errors
/// When a key cannot be made or a file cannot be written.
pub fn write_bench_pki(dir: &Path) -> Result<BenchPki> {
    let proxy_ca = authority("bench proxy CA")?;
    let upstream_ca = authority("bench upstream CA")?;
    let leaf_key = KeyPair::generate()?;
    let leaf = leaf_params("localhost")?.signed_by(&leaf_key, &upstream_ca)?;
    let save = |name: &str, cert: String, key: String| -> Result<PemPair> {
        let pair = PemPair { cert: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) };
        std::fs::write(&pair.cert, cert)?;
        std::fs::write(&pair.key, key)?;
        Ok(pair)
    };
    Ok(BenchPki {
        proxy_ca: save("proxy-ca", proxy_ca.pem(), proxy_ca.key().serialize_pem())?,
        upstream_ca: save("upstream-ca", upstream_ca.pem(), upstream_ca.key().serialize_pem())?,
        upstream_leaf: save("upstream", leaf.pem(), leaf_key.serialize_pem())?,
    })
}

/// The certificates of one run.
#[derive(Debug)]
pub struct BenchPki {
    /// Signs what floor and peer show to the client.
    pub proxy_ca: PemPair,
    /// Signs the upstream's leaf; every proxy is told to trust it.
    pub upstream_ca: PemPair,
    /// The upstream's own certificate, for `localhost`.
    pub upstream_leaf: PemPair,
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn leaf_params(host: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, host);
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// All certificates in a PEM file.
///
/// # Errors
/// When the file cannot be read or is not PEM.
pub fn read_certs(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).with_context(|| format!("reading certificates from {}", path.display()))
}

/// The private key in a PEM file.
///
/// # Errors
/// When the file cannot be read or holds no key.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).with_context(|| format!("reading key {}", path.display()))
}

/// A client configuration that trusts exactly the given CA files and offers no ALPN.
///
/// # Errors
/// When a file cannot be read or holds a certificate rustls refuses.
pub fn client_config(ca_files: &[&Path]) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for file in ca_files {
        for cert in read_certs(file)? {
            roots.add(cert)?;
        }
    }
    Ok(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// Makes one leaf certificate per host name and keeps its server configuration, so that TLS
/// resumption works across connections as it would in a real proxy.
pub struct Mint {
    issuer: Issuer<'static, KeyPair>,
    leaf_key: KeyPair,
    configs: Mutex<HashMap<String, Arc<rustls::ServerConfig>>>,
}

impl Mint {
    /// A mint that signs with the given CA.
    ///
    /// # Errors
    /// When the CA's files cannot be read or parsed.
    pub fn open(ca: &PemPair) -> Result<Self> {
        Ok(Self { issuer: read_issuer(ca)?, leaf_key: KeyPair::generate()?, configs: Mutex::default() })
    }

    /// The TLS server side to show for `host`, offering h2 and http/1.1.
    ///
    /// # Errors
    /// When `host` is no valid DNS name or signing fails.
    pub fn config(&self, host: &str) -> Result<Arc<rustls::ServerConfig>> {
        let mut configs = self.configs.lock();
        if let Some(config) = configs.get(host) {
            return Ok(Arc::clone(config));
        }
        let cert = leaf_params(host)?.signed_by(&self.leaf_key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(self.leaf_key.serialize_der()).map_err(|reason| anyhow::anyhow!("leaf key: {reason}"))?;
        let mut config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = Arc::new(config);
        configs.insert(host.to_owned(), Arc::clone(&config));
        Ok(config)
    }
}

/// The signing half of a CA on disk.
///
/// # Errors
/// When its files cannot be read or parsed.
pub fn read_issuer(ca: &PemPair) -> Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::from_pem(&std::fs::read_to_string(&ca.key)?)?;
    Ok(Issuer::from_ca_cert_pem(&std::fs::read_to_string(&ca.cert)?, key)?)
}

/// Makes aws-lc-rs the process's TLS provider; harmless when it already is.
pub fn install_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
