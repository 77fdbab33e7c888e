//! Secrets by reference: the configuration says where a secret is, never what it is.

use crate::error::{ConfigError, remedy};
use std::{
    env, fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Longest secret, bytes.
const MAX_BYTES: u64 = 4096;

/// A reference to a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// The first line of a file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A systemd credential: a file below `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// Text that does not say where a secret is. It is not quoted: it may be the secret.
#[derive(Debug, Error)]
#[error("write where the secret is (`file:/path`, `env:NAME` or `credential:NAME`), not the secret itself")]
pub struct NotAReference;

impl SecretRef {
    /// Reads a reference; a file's path is relative to `dir`.
    ///
    /// # Errors
    /// When the text is not a reference.
    pub fn parse(text: &str, dir: &Path) -> Result<Self, NotAReference> {
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(dir.join(path))),
            Some(("env", name)) if !name.is_empty() && !name.contains('=') => Ok(Self::Env(name.to_owned())),
            Some(("credential", name)) if !name.is_empty() && !name.contains('/') && name != ".." => Ok(Self::Credential(name.to_owned())),
            _ => Err(NotAReference),
        }
    }

    /// Fetches the secret.
    ///
    /// # Errors
    /// When it is not there, is empty, or cannot be read.
    pub fn fetch(&self) -> Result<String, ConfigError> {
        let secret = match self {
            Self::File(path) => first_line(path).map_err(|error| match remedy(path, &error) {
                Some(command) => format!("{error}; {command}"),
                None => error.to_string(),
            }),
            Self::Env(name) => env::var(name).map_err(|_| "the variable is not set, or not UTF-8".to_owned()),
            Self::Credential(name) => match env::var_os("CREDENTIALS_DIRECTORY") {
                Some(dir) => first_line(&Path::new(&dir).join(name)).map_err(|error| error.to_string()),
                None => Err("there is no $CREDENTIALS_DIRECTORY; is this a systemd service with LoadCredential=?".to_owned()),
            },
        };
        match secret {
            Ok(secret) if !secret.is_empty() => Ok(secret),
            Ok(_) => Err(ConfigError::new(format!("the secret {self} is empty"))),
            Err(cause) => Err(ConfigError::new(format!("the secret {self} cannot be read: {cause}"))),
        }
    }
}

fn first_line(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Credential(name) => write!(f, "credential:{name}"),
        }
    }
}
