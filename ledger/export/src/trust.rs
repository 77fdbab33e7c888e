//! Whom TLS trusts: the Mozilla roots, the system's, and PEM files of the organisation.

use rustls::ClientConfig;
use std::{path::PathBuf, sync::Arc};
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
    let mut roots = gnomon_roots::public();
    for path in extra {
        gnomon_roots::add(&mut roots, path).map_err(|error| TrustError { path: path.clone(), cause: error.to_string() })?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
