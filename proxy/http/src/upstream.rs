//! TLS towards upstreams: verified against the public roots, the system's, and extra ones.
//!
//! Verification cannot be turned off. A failure carries its reason in plain words, because the
//! client behind the proxy sees our certificate and cannot find out for itself. There is no key log.

use gnomon_roots::{BadRoots, Trust};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::{AlertDescription, CertificateError, ClientConfig, ConfigBuilder, WantsVerifier};
use rustls_pki_types::{ServerName, UnixTime};
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::asked::{Asked, NoCertificate, noting};
use crate::{Alpn, UpstreamStream, UpstreamTcp};
use gnomon_kit::unbracketed;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many upstreams' TLS sessions are kept for resumption.
const RESUMED_UPSTREAMS: usize = 1024;
/// How many of a certificate's names a reason mentions.
const NAMES_SHOWN: usize = 3;

/// Client configurations that share roots and resumption; one for each list of protocols offered.
///
/// They are made on first use: reading the system's roots takes milliseconds and some hundred files, which connections without TLS need not
/// wait for.
#[derive(Debug, Clone)]
pub struct UpstreamTls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    trusted: Trusted,
    configs: OnceLock<Configs>,
}

/// The authorities that are trusted.
#[derive(Debug)]
enum Trusted {
    /// The Mozilla roots, the system's, and these.
    Public(Trust),
    /// These only.
    Only(Trust),
}

#[derive(Debug)]
struct Configs {
    none: Arc<ClientConfig>,
    h1: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
    h2_then_h1: Arc<ClientConfig>,
    h1_then_h2: Arc<ClientConfig>,
}

/// An error of setting up upstream TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// An extra CA file could not be read.
    #[error("cannot read CA file {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        cause: String,
    },
    /// An extra CA file has no certificate in it.
    #[error("CA file {0} holds no PEM certificate")]
    Empty(PathBuf),
    /// A certificate in an extra CA file cannot serve as a root.
    #[error("CA file {path}: certificate {index} cannot be used as a root: {cause}")]
    NotARoot {
        /// The file.
        path: PathBuf,
        /// The position of the certificate in the file, from 1.
        index: usize,
        /// The error.
        cause: String,
    },
    /// The TLS library refuses its own defaults.
    #[error("TLS setup: {0}")]
    Library(#[from] rustls::Error),
}

/// An error of making a TLS connection. The texts are fit for a client's eyes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamTlsError {
    /// The name that was asked for cannot be in any certificate.
    #[error("`{0}` is not a valid server name")]
    InvalidName(String),
    /// The certificate does not prove that this is the server.
    #[error("upstream certificate not accepted: {reason}")]
    Certificate {
        /// The reason in plain words: "expired 2024-01-01", "unknown issuer", "not valid for name x".
        reason: String,
    },
    /// The upstream speaks none of the protocols offered, or another one than required.
    #[error("upstream does not speak the application protocol that was offered")]
    Protocol,
    /// The handshake did not end in time.
    #[error("TLS handshake with upstream took longer than {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
    /// The upstream asked for a certificate of the client, and refused to go on without one.
    #[error(
        "upstream asks for a client certificate, which gnomon does not have; name this server in proxy.bypass, so that its clients use their own"
    )]
    ClientCertificate,
    /// The upstream ended the handshake, or broke the protocol.
    #[error("TLS handshake with upstream failed: {0}")]
    Handshake(String),
}

impl UpstreamTls {
    /// Trusts the Mozilla roots (webpki-roots), what the system trusts, and the certificates in
    /// `extra_ca` (PEM bundles). System roots that cannot be read are left out: the Mozilla roots stay.
    ///
    /// # Errors
    /// When an extra file cannot be read, is empty, or holds something that is not a root.
    pub fn new(extra_ca: &[PathBuf]) -> Result<Self, TlsSetupError> {
        let mut extra = Trust::nobody();
        for path in extra_ca {
            extra.add(path).map_err(|error| TlsSetupError::of(error, path))?;
        }
        Self::trusting(Trusted::Public(extra))
    }

    /// Trusts exactly these.
    ///
    /// # Errors
    /// When the TLS library refuses its own defaults.
    pub fn with_roots(trust: impl Into<Trust>) -> Result<Self, TlsSetupError> {
        Self::trusting(Trusted::Only(trust.into()))
    }

    fn trusting(trusted: Trusted) -> Result<Self, TlsSetupError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(Self(Arc::new(Shared { builder, trusted, configs: OnceLock::new() })))
    }

    /// Prepares the first handshake. It blocks for milliseconds, while the system's certificates are read.
    pub fn prepare(&self) {
        self.configs();
    }

    pub(crate) fn builder(&self) -> ConfigBuilder<ClientConfig, WantsVerifier> {
        self.0.builder.clone()
    }

    fn configs(&self) -> &Configs {
        let shared = &*self.0;
        shared.configs.get_or_init(|| Configs::new(shared.builder.clone(), shared.trusted.trust()))
    }

    /// The configuration that offers these protocols in this order. `Alpn::None` entries are skipped.
    async fn config(&self, alpn: &[Alpn]) -> Result<Arc<ClientConfig>, UpstreamTlsError> {
        if let Some(configs) = self.0.configs.get() {
            return Ok(configs.offering(alpn));
        }
        let (tls, alpn) = (self.clone(), alpn.to_vec());
        let made = tokio::task::spawn_blocking(move || tls.configs().offering(&alpn)).await;
        made.map_err(|_| UpstreamTlsError::Handshake("the trusted certificates could not be read".to_owned()))
    }

    /// Shakes hands over `tcp` with the server `name` (DNS name or IP address), offering `alpn`.
    ///
    /// # Errors
    /// [`UpstreamTlsError`]; a failed verification comes with its reason.
    pub async fn connect(&self, tcp: UpstreamTcp, name: &str, alpn: &[Alpn]) -> Result<UpstreamStream, UpstreamTlsError> {
        let name = unbracketed(name);
        let server = ServerName::try_from(name.to_owned()).map_err(|_| UpstreamTlsError::InvalidName(shortened(name)))?;
        let connector = TlsConnector::from(self.config(alpn).await?);
        let (shaken, asked) = noting(timeout(HANDSHAKE_TIMEOUT, connector.connect(server, tcp))).await;
        match shaken {
            Err(_) => Err(UpstreamTlsError::Timeout),
            Ok(Err(e)) => Err(handshake_error(&e, asked)),
            Ok(Ok(tls)) => Ok(UpstreamStream::Tls(Box::new(tls))),
        }
    }
}

impl Trusted {
    fn trust(&self) -> Trust {
        match self {
            Self::Only(trust) => trust.clone(),
            Self::Public(extra) => {
                let mut trust = Trust::public();
                trust.roots.extend(extra.roots.roots.iter().cloned());
                trust.servers.clone_from(&extra.servers);
                trust
            }
        }
    }
}

impl Configs {
    fn new(builder: ConfigBuilder<ClientConfig, WantsVerifier>, trust: Trust) -> Self {
        let mut base = gnomon_roots::verify_by(builder, trust).with_client_cert_resolver(Arc::new(NoCertificate));
        base.resumption = Resumption::in_memory_sessions(RESUMED_UPSTREAMS);
        // Clones share the resumption store: the verifier is the same in all of them.
        let offering = |alpn: &[Alpn]| {
            let mut config = base.clone();
            config.alpn_protocols = alpn.iter().filter_map(|a| a.wire()).map(<[u8]>::to_vec).collect();
            Arc::new(config)
        };
        Self {
            none: offering(&[]),
            h1: offering(&[Alpn::Http11]),
            h2: offering(&[Alpn::H2]),
            h2_then_h1: offering(&[Alpn::H2, Alpn::Http11]),
            h1_then_h2: offering(&[Alpn::Http11, Alpn::H2]),
        }
    }

    fn offering(&self, alpn: &[Alpn]) -> Arc<ClientConfig> {
        let place = |wanted: Alpn| alpn.iter().position(|&a| a == wanted);
        Arc::clone(match (place(Alpn::H2), place(Alpn::Http11)) {
            (None, None) => &self.none,
            (None, Some(_)) => &self.h1,
            (Some(_), None) => &self.h2,
            (Some(h2), Some(h1)) if h2 < h1 => &self.h2_then_h1,
            (Some(_), Some(_)) => &self.h1_then_h2,
        })
    }
}

impl TlsSetupError {
    fn of(error: BadRoots, path: &Path) -> Self {
        let path = path.to_owned();
        match error {
            BadRoots::Read(cause) => Self::Read { path, cause },
            BadRoots::NotARoot { index, cause } => Self::NotARoot { path, index, cause },
            BadRoots::Empty => Self::Empty(path),
        }
    }
}

fn handshake_error(error: &io::Error, asked: Asked) -> UpstreamTlsError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        // Up to TLS 1.2 it may just as well close.
        Some(rustls::Error::AlertReceived(_)) | None if asked == Asked::ForCertificate => UpstreamTlsError::ClientCertificate,
        Some(rustls::Error::InvalidCertificate(why)) => UpstreamTlsError::Certificate { reason: reason(why) },
        Some(rustls::Error::NoApplicationProtocol | rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            UpstreamTlsError::Protocol
        }
        Some(other) => UpstreamTlsError::Handshake(other.to_string()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            UpstreamTlsError::Handshake("connection closed during the handshake".to_owned())
        }
        None => UpstreamTlsError::Handshake(error.to_string()),
    }
}

/// The reason in an operator's words; certificate names come from a stranger, so few and short.
fn reason(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired => "certificate expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => format!("certificate expired {}", date(*not_after)),
        CertificateError::NotValidYet => "certificate not valid yet".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => format!("certificate not valid before {}", date(*not_before)),
        CertificateError::UnknownIssuer => "unknown issuer".to_owned(),
        CertificateError::Revoked => "certificate revoked".to_owned(),
        // Also what an authority that was made anew under its old name looks like.
        CertificateError::BadSignature => "signature does not match the trusted authority of that name".to_owned(),
        CertificateError::BadEncoding => "certificate is malformed".to_owned(),
        CertificateError::NotValidForName => "not valid for this name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let mut text = format!("not valid for name {}", expected.to_str());
            for (i, name) in presented.iter().take(NAMES_SHOWN).enumerate() {
                let name = name.strip_prefix("DnsName(\"").and_then(|n| n.strip_suffix("\")")).unwrap_or(name);
                // Writing to a String cannot fail.
                let _ = write!(text, "{}{}", if i == 0 { ", only for " } else { ", " }, shortened(name));
            }
            text
        }
        CertificateError::Other(other) => match &*other.0.to_string() {
            "CaUsedAsEndEntity" => {
                "self-signed: an authority's certificate (CA:TRUE) in place of a server's, and not one that is trusted itself".to_owned()
            }
            other => shortened(&format!("not valid: {other}")),
        },
        other => shortened(&other.to_string()),
    }
}

fn date(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok())
        .map_or_else(|| "at an unknown date".to_owned(), |t| t.date().to_string())
}

/// Text from a stranger, cut to 120 characters and without control characters.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_s_certificate_in_place_of_a_server_s_is_told_in_words() {
        // As the verifier of rustls hands it on.
        let error = CertificateError::Other(rustls::OtherError(Arc::new(io::Error::other("CaUsedAsEndEntity"))));
        assert!(reason(&error).starts_with("self-signed: "), "{}", reason(&error));
        let error = CertificateError::Other(rustls::OtherError(Arc::new(io::Error::other("PathLenConstraintViolated"))));
        assert_eq!(reason(&error), "not valid: PathLenConstraintViolated");
    }
}
