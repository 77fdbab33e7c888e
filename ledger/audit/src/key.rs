//! The key that signs checkpoints: Ed25519, generated here, never shown. The public half belongs on another machine: a verifier must not
//! get it from the host under verification.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// An error of reading or making the key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("the audit's key {path} cannot be used: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Other users can read the file.
    #[error("the audit's key {path} can be read by others; `chmod 600` it, and if they did read it, begin another chain (docs/audit.md)", path = .0.display())]
    Open(PathBuf),
    /// There is an audit, and no key.
    #[error(
        "the audit's key {path} is missing, and the audit beside it has records: put the key back, or move the database (audit.sqlite, audit.sqlite-wal and audit.sqlite-shm together) into another folder, and another chain begins with a new key",
        path = .0.display()
    )]
    Missing(PathBuf),
    /// The audit's last checkpoint is signed by another key.
    #[error(
        "the audit's key {path} is not the one that signed the audit beside it: put that key back, or move the database (audit.sqlite, audit.sqlite-wal and audit.sqlite-shm together) into another folder, and another chain begins with this key",
        path = .0.display()
    )]
    Another(PathBuf),
    /// The file is not an audit key.
    #[error("{path} is not a key of gnomon's audit", path = .0.display())]
    Malformed(PathBuf),
    /// No key could be made.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// Signs checkpoints.
pub struct SigningKey(Ed25519KeyPair);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public()).finish()
    }
}

impl SigningKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        // The kernel's: the library's own source takes 20 ms to begin.
        getrandom::fill(&mut seed).map_err(|_| KeyError::NoRandomness)?;
        Ed25519KeyPair::from_seed_unchecked(&seed).map(Self).map_err(|_| KeyError::NoRandomness)
    }

    /// Reads the key from this file, which is created (mode 0600) if it does not exist.
    ///
    /// # Errors
    /// When the file cannot be used, can be read by others, or is something else.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(mut file) => {
                let key = Self::generate()?;
                let der = key.0.to_pkcs8v1().map_err(|_| KeyError::NoRandomness)?;
                let written = file.write_all(der.as_ref()).and_then(|()| file.sync_all());
                if written.is_err() {
                    // A part of a key would be taken for another program's file.
                    let _ = fs::remove_file(path);
                }
                written.map(|()| key).map_err(io)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::read(path),
            Err(error) => Err(io(error)),
        }
    }

    /// Reads the key from this file.
    ///
    /// # Errors
    /// When there is none, it cannot be used, can be read by others, or is something else.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).open(path).map_err(io)?;
        if file.metadata().map_err(io)?.mode() & 0o077 != 0 {
            return Err(KeyError::Open(path.to_owned()));
        }
        let mut der = Vec::new();
        file.take(4096).read_to_end(&mut der).map_err(io)?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map(Self).map_err(|_| KeyError::Malformed(path.to_owned()))
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(key)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

/// Verifies checkpoints. Displays as base64, 44 characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Parses base64, as it displays.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        STANDARD.decode(text.trim()).ok()?.try_into().ok().map(PublicKey)
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
