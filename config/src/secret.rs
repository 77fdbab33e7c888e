//! Secrets by reference: the configuration says where a secret is, never what it is.

use crate::error::{ConfigError, remedy};
use std::{
    env, fmt,
    io::{self, Read as _},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Longest secret, bytes.
const MAX_BYTES: usize = 4096;

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
    let mut text = Vec::new();
    // One more than a line of that length and its end have.
    gnomon_files::open(path)?.take(MAX_BYTES as u64 + 3).read_to_end(&mut text)?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("its first line is longer than {MAX_BYTES} bytes")));
    }
    let line = std::str::from_utf8(line).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))?;
    Ok(line.to_owned())
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[test]
    fn a_secret_is_whole_or_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let fetched = |text: &[u8]| {
            fs::write(&path, text).unwrap();
            SecretRef::File(path.clone()).fetch().map_err(|error| error.to_string())
        };
        let longest = "x".repeat(MAX_BYTES);
        for end in ["", "\n", "\r\n", "\nwhat follows\n"] {
            assert_eq!(fetched(format!("{longest}{end}").as_bytes()).unwrap(), longest);
        }
        for text in [format!("{longest}x"), format!("{longest}x\n"), "x".repeat(5000)] {
            let error = fetched(text.as_bytes()).unwrap_err();
            assert!(error.contains("longer than 4096 bytes"), "{error}");
        }
        assert!(fetched(&[0xff, 0xfe]).unwrap_err().contains("not UTF-8"));
        assert!(fetched(b"\n").unwrap_err().contains("empty"));
    }

    #[test]
    fn a_pipe_or_a_device_in_the_place_of_a_secret_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe, "/dev/zero".into(), dir.path().to_owned()] {
            let error = SecretRef::File(path).fetch().unwrap_err().to_string();
            assert!(error.contains("not a regular file"), "{error}");
        }
    }
}
