//! Client certificates: what they say, and who is known by them. TLS has verified them against the configured authorities
//! before they come here; nothing is verified again.

use super::{bearer::hash, facts::Facts};
use crate::{AuthMethod, Device, Names, glob::Glob};
use rustls_pki_types::CertificateDer;
use smol_str::{SmolStr, format_smolstr};
use x509_parser::{extensions::GeneralName, prelude::*};

/// The most alternative names of one certificate that are kept. One with more is not accepted.
const MAX_SANS: usize = 256;

/// Reads the client's own certificate.
pub(crate) fn device(certificate: &CertificateDer<'_>) -> Option<Device> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject().iter_common_name().find_map(|name| name.as_str().ok()).map(SmolStr::new);
    let mut names = Vec::new();
    if let Ok(Some(extension)) = parsed.subject_alternative_name() {
        for name in &extension.value.general_names {
            names.extend(match name {
                GeneralName::DNSName(name) => Some(SmolStr::new(name.to_ascii_lowercase())),
                GeneralName::RFC822Name(name) | GeneralName::URI(name) => Some(SmolStr::new(name)),
                _ => None,
            });
        }
    }
    (names.len() <= MAX_SANS).then(|| Device { sha256: hex::encode(hash(certificate)).into(), subject, names })
}

/// A client known by certificate. All given conditions must hold; of a list one suffices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateClient {
    /// The name in policy and audit.
    pub name: SmolStr,
    /// Groups.
    pub groups: Vec<SmolStr>,
    pub(crate) sha256: Option<Vec<SmolStr>>,
    pub(crate) subject: Option<Vec<Glob>>,
    pub(crate) san: Option<Vec<Glob>>,
}

impl CertificateClient {
    fn is(&self, device: &Device) -> bool {
        let hash = self.sha256.as_ref().is_none_or(|hashes| hashes.contains(&device.sha256));
        let subject = self
            .subject
            .as_ref()
            .is_none_or(|globs| device.subject.as_ref().is_some_and(|name| globs.iter().any(|glob| glob.matches(name))));
        let san = self.san.as_ref().is_none_or(|globs| device.names.iter().any(|name| globs.iter().any(|glob| glob.matches(name))));
        hash && subject && san
    }
}

/// The clients known by certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Certificates {
    /// Anybody whose certificate the authorities vouch for.
    Any,
    /// Only these.
    Listed(Vec<CertificateClient>),
}

impl Certificates {
    pub(crate) fn find(&self, device: &Device) -> Option<Facts> {
        let known = |name: SmolStr, groups| Facts {
            // The certificate, not the name: one that is stolen and replaced does not inherit sessions.
            subject: format_smolstr!("mtls:{}", device.sha256),
            user: Some(name.clone()),
            client: Some(name),
            groups,
            ..Facts::new(AuthMethod::Mtls)
        };
        match self {
            Certificates::Any => {
                let name = device.subject.clone().or_else(|| device.names.first().cloned())?;
                Some(known(name, Names::Unknown))
            }
            Certificates::Listed(clients) => clients
                .iter()
                .find(|client| client.is(device))
                .map(|client| known(client.name.clone(), Names::Known(client.groups.clone()))),
        }
    }
}
