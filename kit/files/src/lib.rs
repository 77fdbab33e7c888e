//! Files that others may replace, move or truncate.
//!
//! A crate of its own because configuration, TLS, the ledger and the audit all need it, and have nothing else in common. It knows no format but
//! the files of SQLite ([`sqlite`]), and no database driver; what a failure means to its user, callers say.
#![deny(missing_docs)]

pub mod sqlite;

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Which file it is, whatever its name: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file that this was read of.
    #[must_use]
    pub fn of(there: &Metadata) -> Self {
        Self { device: there.dev(), inode: there.ino() }
    }
}

/// Opens a file to read it. A named pipe or a device in its place is refused, and not waited for.
///
/// # Errors
/// It cannot be opened, or is not a regular file ([`io::ErrorKind::InvalidInput`]).
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(file)
}

/// Reads a file whole, of at most `longest` bytes, as [`open`] opens it.
///
/// # Errors
/// As [`open`]; also where it cannot be read, or is longer ([`io::ErrorKind::InvalidData`]).
pub fn read(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if open(path)?.take(longest.saturating_add(1)).read_to_end(&mut bytes)? as u64 > longest {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {longest} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[test]
    fn a_pipe_or_a_device_in_the_place_of_a_file_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe.as_path(), dir.path(), Path::new("/dev/zero")] {
            let error = read(path, 16).unwrap_err();
            assert!(error.to_string().contains("not a regular file"), "{error}");
        }
    }

    #[test]
    fn a_file_is_read_whole_or_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "12345678").unwrap();
        assert_eq!(read(&path, 8).unwrap(), b"12345678");
        assert_eq!(read(&path, 7).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(&dir.path().join("none"), 7).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
