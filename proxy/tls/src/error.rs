//! Errors of the authority and of the certificates that it issues.

use std::{io, path::PathBuf};
use time::Date;

/// The step that helps against an answer of the system's, as the end of a sentence.
pub(crate) fn next_of(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => "; run the same command with sudo, or as the user whose it is",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on that disk",
        io::ErrorKind::ReadOnlyFilesystem => "; that file system is mounted read-only",
        _ => "",
    }
}

/// An error of the certificate authority. Each text names the next step where there is one.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file operation failed.
    #[error("{action} {path}: {cause}{next}", path = .path.display(), next = next_of(.cause))]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer. It is no source of this error, whose text has it.
        cause: io::Error,
    },
    /// Others can read the key.
    #[error("{path} can be read by others (mode {mode:04o}); if nobody has, run: chmod 600 {path}", path = .path.display())]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// The file's permission bits.
        mode: u32,
    },
    /// A certificate exists, but no key.
    #[error("{certificate} exists but {key} does not; restore the key, or remove the certificate to make a new authority", certificate = .certificate.display(), key = .key.display())]
    KeyMissing {
        /// The certificate file.
        certificate: PathBuf,
        /// The path where the key should be.
        key: PathBuf,
    },
    /// A key exists, but no certificate.
    #[error("{key} exists but {certificate} does not; put the certificate back, which clients that trust it have in their trust store, or move the key away to make a new authority", certificate = .certificate.display(), key = .key.display())]
    CertificateMissing {
        /// The path where the certificate should be.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// Certificate and key are not a pair.
    #[error("{key} is not the key of {certificate}; restore the pair, or remove both to make a new authority", certificate = .certificate.display(), key = .key.display())]
    Mismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// An authority exists, and replacing it was not requested.
    #[error("{certificate} exists; --replace replaces it, and clients that trust only the old one stop working", certificate = .certificate.display())]
    Present {
        /// The certificate file.
        certificate: PathBuf,
    },
    /// The authority is past its end.
    #[error("{path} expired {on}; remove it and ca.key beside it to make a new authority", path = .path.display())]
    Expired {
        /// The certificate file.
        path: PathBuf,
        /// The last day of its validity.
        on: Date,
    },
    /// A file's content is not what it should be.
    #[error("{path}: {cause}", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The error.
        cause: String,
    },
    /// A certificate could not be made.
    #[error("making a certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// The TLS library refuses what we made.
    #[error("TLS setup: {0}")]
    Tls(#[from] rustls::Error),
    /// The system has no random numbers.
    #[error("no random numbers from the system")]
    Random,
}
