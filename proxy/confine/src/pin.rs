//! Files whose content must match a digest taken earlier.

use crate::{LaunchError, lockfile::Package};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    str::FromStr,
};

/// Bytes that are hashed at a time.
const CHUNK: usize = 64 << 10;

/// A SHA-256, as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// A text that is no digest.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 has 64 hexadecimal digits")]
pub struct NoDigest;

impl Digest {
    /// The digest of all bytes that are left to read.
    ///
    /// # Errors
    /// An error of the reader.
    pub fn of(reader: &mut impl Read) -> io::Result<Self> {
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(Self(hash.finalize().into())),
                Ok(read) => hash.update(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NoDigest)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = NoDigest;

    fn try_from(text: String) -> Result<Self, NoDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The digests that must match. Verified anew before each start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// The executable file.
    pub program: Option<Digest>,
    /// Further files by their whole path: a script, a module.
    pub files: BTreeMap<PathBuf, Digest>,
    /// A package that a launcher runs.
    pub package: Option<Package>,
}

impl Pins {
    /// True if nothing is pinned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.program.is_none() && self.files.is_empty() && self.package.is_none()
    }
}

/// An error of verifying a pinned file.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The content has another digest.
    #[error("{path} is not the pinned file: expected sha256 {expected}, found {found}", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The pinned digest.
        expected: Digest,
        /// The digest found.
        found: Digest,
    },
    /// The file can be changed between the check and its use.
    #[error("{path} is pinned, but its group or everybody may write to it; chmod go-w it", path = path.display())]
    Writable {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("{path} is pinned and cannot be read: {cause}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
}

impl From<PinError> for LaunchError {
    fn from(error: PinError) -> Self {
        let told = match &error {
            PinError::Changed { .. } => "its program is not the one that is pinned",
            PinError::Writable { .. } | PinError::Unreadable { .. } => "its program cannot be compared with its pin",
        };
        LaunchError::new(told, error)
    }
}

/// Opens a file once and holds what is in it against a digest: what is executed later by this descriptor is what was read.
pub(crate) fn open_pinned(path: &Path, expected: Digest) -> Result<File, PinError> {
    let unreadable = |cause| PinError::Unreadable { path: path.to_owned(), cause };
    // A name that stands for a pipe or a device must not make this wait.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    if !found.is_file() {
        return Err(unreadable(io::Error::other("it is not a regular file")));
    }
    // The descriptor leads to one file, but others may write to that between this look and its execution.
    if found.mode() & 0o022 != 0 {
        return Err(PinError::Writable { path: path.to_owned() });
    }
    let found = Digest::of(&mut file).map_err(unreadable)?;
    if found != expected {
        return Err(PinError::Changed { path: path.to_owned(), expected, found });
    }
    Ok(file)
}

/// Verifies all pins. Returns the program's open file, if it is pinned.
pub(crate) fn check(program: &Path, pins: &Pins) -> Result<Option<File>, LaunchError> {
    for (path, digest) in &pins.files {
        open_pinned(path, *digest)?;
    }
    if let Some(package) = &pins.package {
        crate::lockfile::locked(package).map_err(|error| LaunchError::new("its package is not the one that is pinned", error))?;
    }
    Ok(pins.program.map(|digest| open_pinned(program, digest)).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_is_64_hexadecimal_digits_and_nothing_else() {
        assert_eq!(EMPTY.to_uppercase().parse::<Digest>().unwrap().to_string(), EMPTY);
        for bad in ["", "e3b0", &format!("{EMPTY}0"), &EMPTY.replace('e', "g"), &format!("+{}", &EMPTY[1..])] {
            assert_eq!(bad.parse::<Digest>(), Err(NoDigest), "{bad}");
        }
    }

    #[test]
    fn a_file_that_changed_is_named_with_what_was_expected_and_what_was_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server");
        fs::write(&path, "").unwrap();
        let pinned: Digest = EMPTY.parse().unwrap();
        open_pinned(&path, pinned).unwrap();
        fs::write(&path, "other").unwrap();
        let error = open_pinned(&path, pinned).unwrap_err().to_string();
        assert!(error.contains(&format!("expected sha256 {EMPTY}, found d9298a10")), "{error}");
    }

    #[test]
    fn a_file_that_others_may_write_to_is_not_pinned_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(open_pinned(&path, EMPTY.parse().unwrap()), Err(PinError::Writable { .. })));
        assert!(matches!(open_pinned(folder.path(), EMPTY.parse().unwrap()), Err(PinError::Unreadable { .. })));
    }
}
