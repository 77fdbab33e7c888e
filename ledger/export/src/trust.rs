//! Whom TLS trusts: the Mozilla roots, the system's, and PEM files of the organisation.

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use thiserror::Error;

/// Authorities that cannot be used.
#[derive(Debug, Error)]
#[error("the authorities in {} cannot be used: {cause}", path.display())]
pub struct TrustError {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub cause: String,
}

/// A client's TLS that verifies servers.
pub(crate) fn client(extra: &[PathBuf]) -> Result<ClientConfig, crate::SetupError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for path in extra {
        add(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), TrustError> {
    let wrong = |cause: String| TrustError { path: path.to_owned(), cause };
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut found = 0;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        found += 1;
        roots.add(certificate.map_err(|error| wrong(error.to_string()))?).map_err(|error| wrong(error.to_string()))?;
    }
    if found == 0 { Err(wrong("it holds no PEM certificate".to_owned())) } else { Ok(()) }
}
