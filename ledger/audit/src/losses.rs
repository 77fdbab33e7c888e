//! The number of lost records that the chain does not report yet, kept over restarts.
//!
//! A full disk takes no record, not even one of the loss. So the number has a file of its own that needs no room: its blocks are allocated
//! in advance and overwritten in place. (On copy-on-write file systems such as btrfs that may fail too: then the loss is reported by the
//! process that caused it, or not at all.)

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

/// The smallest piece that a disk writes whole, bytes.
const BLOCK: usize = 512;

/// The lost records that the chain does not tell of yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Untold {
    /// The number of records.
    pub(crate) records: u64,
    /// The head's number then. The next record of the chain is the one that tells of the loss.
    pub(crate) after: u64,
}

/// The file. One writer uses it.
#[derive(Clone, Debug)]
pub(crate) struct Losses {
    file: Arc<File>,
}

impl Losses {
    /// Opens it, or makes it (mode 0640); and what it says.
    ///
    /// # Errors
    /// If the file cannot be opened, read or created.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Untold)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(path)?;
        let mut text = [0; BLOCK];
        let known = match file.read_exact_at(&mut text, 0) {
            Ok(()) => {
                read(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it does not say how many records were lost"))?
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                write(&file, Untold::default())?;
                Untold::default()
            }
            Err(error) => return Err(error),
        };
        Ok((Self { file: Arc::new(file) }, known))
    }

    /// Keeps this, on the disk on return.
    ///
    /// # Errors
    /// If the write or the sync fails.
    pub(crate) async fn keep(&self, untold: Untold) -> io::Result<()> {
        let file = self.file.clone();
        tokio::task::spawn_blocking(move || write(&file, untold)).await.unwrap_or_else(|_| Err(io::Error::other("it was not written")))
    }
}

fn write(file: &File, untold: Untold) -> io::Result<()> {
    let mut text = [b' '; BLOCK];
    let numbers = format!("{} {}", untold.records, untold.after);
    text[..numbers.len()].copy_from_slice(numbers.as_bytes());
    text[BLOCK - 1] = b'\n';
    file.write_all_at(&text, 0)?;
    file.sync_data()
}

fn read(text: &[u8]) -> Option<Untold> {
    let (records, after) = std::str::from_utf8(text).ok()?.trim().split_once(' ')?;
    Some(Untold { records: records.parse().ok()?, after: after.parse().ok()? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_number_is_found_again_and_anything_else_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lost");
        let (losses, none) = Losses::open(&path).unwrap();
        assert_eq!(none, Untold::default());
        for (records, after) in [(7, 1), (u64::MAX, u64::MAX), (12, 0)] {
            let untold = Untold { records, after };
            losses.keep(untold).await.unwrap();
            assert_eq!(Losses::open(&path).unwrap().1, untold);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), BLOCK as u64, "it never grows");
        std::fs::write(&path, [b'x'; BLOCK]).unwrap();
        assert!(Losses::open(&path).is_err());
    }
}
