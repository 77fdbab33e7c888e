//! The certificate that a listener of ours shows, for a few names that are known beforehand: from files, which are read
//! again when they change, or from our own authority, which makes a new one in time.
//!
//! Unlike a [`crate::LeafCache`] it issues no certificate for the name a client asks for: one that calls a portal by
//! another name is to see that it is another.

use gnomon_roots::BadRoots;
use parking_lot::Mutex;
use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use time::OffsetDateTime;

use crate::{Alpn, CaError, CertificateAuthority, LeafName, leaf::leaf_for};

/// How often it is looked whether the certificate is still the one to show.
const LOOK: Duration = Duration::from_secs(10);
/// Longest chain that is shown.
const MAX_CHAIN: usize = 16;
/// The most client sessions that can be resumed.
const SESSIONS: usize = 4096;

/// The source of the certificate.
#[derive(Clone, Debug)]
pub enum Shown {
    /// PEM files: the certificate with those above it, and its key.
    Files {
        /// The certificate first.
        certificate: PathBuf,
        /// The file of its key, which only we may be able to read.
        key: PathBuf,
    },
    /// Our own authority, for these names.
    Own {
        /// The authority.
        authority: Arc<CertificateAuthority>,
        /// The names that clients use for us.
        names: Vec<LeafName>,
    },
}

/// Whether clients show certificates.
#[derive(Clone, Debug)]
pub enum ClientCertificates {
    /// Clients are not asked for certificates.
    Unasked,
    /// Clients may show certificates of these authorities.
    Welcome(Arc<RootCertStore>),
    /// Clients must show certificates of these authorities, or there is no connection.
    Required(Arc<RootCertStore>),
}

/// An error of setting up a listener's TLS.
#[derive(Debug, thiserror::Error)]
pub enum ServedError {
    /// A file cannot be used.
    #[error("{path}: {why}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// Others can read the key.
    #[error("{path} can be read by everybody; chmod o-rwx it", path = path.display())]
    OpenKey {
        /// The file.
        path: PathBuf,
    },
    /// The authority cannot make one.
    #[error(transparent)]
    Authority(#[from] CaError),
    /// The parts do not fit.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// TLS for a listener: 1.2 and 1.3, HTTP/2 and HTTP/1.1, resumption, no 0-RTT (a request could be replayed).
///
/// # Errors
/// If a file is invalid, or a certificate cannot be issued.
pub fn served(shown: Shown, clients: &ClientCertificates) -> Result<Arc<ServerConfig>, ServedError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = |error: &dyn std::fmt::Display| ServedError::Tls(error.to_string());
    let verifier = |roots: &Arc<RootCertStore>| WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let verifier = match clients {
        ClientCertificates::Unasked => WebPkiClientVerifier::no_client_auth(),
        ClientCertificates::Welcome(roots) => verifier(roots).allow_unauthenticated().build().map_err(|error| tls(&error))?,
        ClientCertificates::Required(roots) => verifier(roots).build().map_err(|error| tls(&error))?,
    };
    let current = Current::of(&shown, &provider)?;
    let kept =
        Arc::new(Kept { shown, provider: provider.clone(), state: Mutex::new(CertificateState { current, looked: Instant::now() }) });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(&error))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(kept);
    config.alpn_protocols = [Alpn::H2, Alpn::Http11].into_iter().flat_map(Alpn::offer).collect();
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// The authorities of PEM files.
///
/// # Errors
/// A file cannot be read, or holds none.
pub fn authorities(files: &[PathBuf]) -> Result<RootCertStore, ServedError> {
    let mut roots = RootCertStore::empty();
    for path in files {
        gnomon_roots::add(&mut roots, path).map_err(|error| {
            let why = if error == BadRoots::Empty { "there is no certificate in it".to_owned() } else { error.to_string() };
            ServedError::File { path: path.clone(), why }
        })?;
    }
    Ok(roots)
}

#[derive(Debug)]
struct Current {
    certified: Arc<CertifiedKey>,
    until: Until,
}

/// The moment at which another certificate is to be shown.
#[derive(Debug, PartialEq, Eq)]
enum Until {
    /// The files are others: when they were changed, and their numbers.
    Changed([(Option<SystemTime>, u64); 2]),
    Time(OffsetDateTime),
}

#[derive(Debug)]
struct CertificateState {
    current: Current,
    looked: Instant,
}

#[derive(Debug)]
struct Kept {
    shown: Shown,
    provider: Arc<CryptoProvider>,
    state: Mutex<CertificateState>,
}

impl Current {
    fn of(shown: &Shown, provider: &CryptoProvider) -> Result<Self, ServedError> {
        match shown {
            Shown::Own { authority, names } => {
                let (certified, renew_at) = leaf_for(authority, names)?;
                Ok(Self { certified: Arc::new(certified), until: Until::Time(renew_at) })
            }
            Shown::Files { certificate, key } => {
                // Before they are read: what changes meanwhile is read once more.
                let stamps = [stamp(certificate), stamp(key)];
                let wrong = |path: &Path, why: &dyn std::fmt::Display| ServedError::File { path: path.to_owned(), why: why.to_string() };
                let found = fs::metadata(key).map_err(|error| wrong(key, &error))?;
                if found.mode() & 0o007 != 0 {
                    return Err(ServedError::OpenKey { path: key.clone() });
                }
                let text = gnomon_roots::read_pem(certificate).map_err(|error| wrong(certificate, &error))?;
                let chain = CertificateDer::pem_slice_iter(&text);
                let chain: Vec<_> = chain.take(MAX_CHAIN).collect::<Result<_, _>>().map_err(|error| wrong(certificate, &error))?;
                if chain.is_empty() {
                    return Err(wrong(certificate, &"there is no certificate in it"));
                }
                let der = gnomon_roots::read_pem(key).map_err(|error| wrong(key, &error))?;
                let der = PrivateKeyDer::from_pem_slice(&der).map_err(|error| wrong(key, &error))?;
                // Refuses a key that is another certificate's.
                let certified = CertifiedKey::from_der(chain, der, provider).map_err(|error| wrong(key, &error))?;
                Ok(Self { certified: Arc::new(certified), until: Until::Changed(stamps) })
            }
        }
    }

    fn is_over(&self, shown: &Shown) -> bool {
        match (&self.until, shown) {
            (Until::Time(renew_at), _) => OffsetDateTime::now_utc() >= *renew_at,
            (Until::Changed(stamps), Shown::Files { certificate, key }) => *stamps != [stamp(certificate), stamp(key)],
            (Until::Changed(_), Shown::Own { .. }) => false,
        }
    }
}

fn stamp(path: &Path) -> (Option<SystemTime>, u64) {
    let found: io::Result<fs::Metadata> = fs::metadata(path);
    found.map_or((None, 0), |found| (found.modified().ok(), found.ino()))
}

impl ResolvesServerCert for Kept {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut state = self.state.lock();
        if state.looked.elapsed() >= LOOK {
            state.looked = Instant::now();
            if state.current.is_over(&self.shown) {
                match Current::of(&self.shown, &self.provider) {
                    Ok(current) => state.current = current,
                    // The old one is better than none, until it expires.
                    Err(error) => tracing::warn!("the listener's certificate is not renewed: {error}"),
                }
            }
        }
        Some(state.current.certified.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn pair(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        (certificate, key)
    }

    #[test]
    fn files_that_do_not_belong_together_or_that_everybody_can_read_are_refused() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ((certificate, key), (_, other)) = (pair(one.path(), "a.example"), pair(two.path(), "b.example"));
        let show = |certificate: &Path, key: &Path| {
            served(Shown::Files { certificate: certificate.into(), key: key.into() }, &ClientCertificates::Unasked)
        };
        show(&certificate, &key).unwrap();
        assert!(matches!(show(&certificate, &other), Err(ServedError::File { path, .. }) if path == other));
        assert!(matches!(show(&key, &key), Err(ServedError::File { .. })), "no certificate");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(show(&certificate, &key), Err(ServedError::OpenKey { .. })));
    }

    #[test]
    fn files_that_change_are_read_again_and_broken_ones_leave_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(folder.path(), "a.example");
        let shown = Shown::Files { certificate: certificate.clone(), key };
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let current = Current::of(&shown, &provider).unwrap();
        assert!(!current.is_over(&shown));
        fs::remove_file(&certificate).unwrap();
        assert!(current.is_over(&shown) && Current::of(&shown, &provider).is_err());
        pair(folder.path(), "a.example");
        let renewed = Current::of(&shown, &provider).unwrap();
        assert!(current.is_over(&shown) && !renewed.is_over(&shown));
        assert_ne!(renewed.certified.cert, current.certified.cert);
    }

    #[test]
    fn our_own_authority_makes_one_certificate_for_all_names() {
        let folder = tempfile::tempdir().unwrap();
        let (authority, _) = CertificateAuthority::load_or_create(folder.path()).unwrap();
        let names = ["mcp.corp.example", "127.0.0.1"].map(|name| LeafName::parse(name).unwrap()).to_vec();
        let (certified, renew_at) = leaf_for(&authority, &names).unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&certified.cert[0]).unwrap();
        assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 2);
        assert!(renew_at > OffsetDateTime::now_utc());
    }
}
