//! TLS roots: Mozilla's, the system's, and PEM files of the organisation.

use crate::TrustError;
use gnomon_roots::Trust;
use rustls::ClientConfig;
use std::{path::PathBuf, sync::Arc};

/// The authorities that receivers are verified by: the public ones, and those in these PEM files.
///
/// # Errors
/// When a file cannot be read, or holds something that is not an authority.
pub fn roots(extra: &[PathBuf]) -> Result<Trust, TrustError> {
    let mut roots = Trust::public();
    for path in extra {
        roots.add(path).map_err(|error| TrustError { path: path.clone(), cause: error.to_string() })?;
    }
    Ok(roots)
}

/// A client's TLS that verifies servers.
pub(crate) fn client(extra: &[PathBuf]) -> Result<ClientConfig, crate::SetupError> {
    let roots = roots(extra)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(gnomon_roots::verify_by(builder, roots).with_no_client_auth())
}
