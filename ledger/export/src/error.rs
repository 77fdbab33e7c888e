//! Why a sink cannot be set up.

use std::path::PathBuf;
use thiserror::Error;

/// A sink that cannot be set up.
#[derive(Debug, Error)]
pub enum SetupError {
    /// Its authorities cannot be read.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A header's name or value is none.
    #[error("`{0}` is not a header's name, or its value cannot be sent in a header")]
    Header(String),
    /// TLS cannot verify a server of such a name.
    #[error("`{0}` is not a name that TLS can verify")]
    Name(String),
    /// TLS could not be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Authorities that cannot be used.
#[derive(Debug, Error)]
#[error("the authorities in {} cannot be used: {cause}", path.display())]
pub struct TrustError {
    /// The file.
    pub path: PathBuf,
    /// The reason.
    pub cause: String,
}
