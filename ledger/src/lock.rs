//! One writer per state folder, by an advisory lock (flock) that the kernel releases however the
//! process ends. The file says who holds it; it is never deleted, for deleting it would race.

use crate::LedgerError;
use gnomon_files::FileId;
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

const NAME: &str = "ledger.lock";

/// True if a process writes the ledger of this state folder at this moment. Only for waiting until it no longer does: a gnomon that
/// starts in the moment of the question is turned away.
///
/// # Errors
/// When the lock cannot be looked at. A folder without one is not written to.
pub fn is_written(dir: &Path) -> io::Result<bool> {
    let file = match File::open(dir.join(NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The lock, held as long as this lives.
pub(crate) struct WriterLock {
    file: File,
    path: PathBuf,
}

impl WriterLock {
    /// Locks `dir/ledger.lock`.
    pub(crate) fn acquire(dir: &Path) -> Result<Self, LedgerError> {
        let path = dir.join(NAME);
        let not_writable = |source| LedgerError::NotWritable { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(&path).map_err(not_writable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::Busy { dir: dir.to_owned(), pid: holder(&file) }),
            Err(TryLockError::Error(source)) => return Err(not_writable(source)),
        }
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        match written {
            // The lock holds without that, too.
            Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {}
            written => written.map_err(not_writable)?,
        }
        Ok(Self { file, path })
    }
}

impl WriterLock {
    /// True if the lock file was neither moved nor removed, so that it keeps others from the folder.
    pub(crate) fn is_in_place(&self) -> bool {
        let (held, there) = (self.file.metadata(), fs::metadata(&self.path));
        held.ok().zip(there.ok()).is_some_and(|(held, there)| FileId::of(&held) == FileId::of(&there))
    }
}

impl Drop for WriterLock {
    /// Closing alone would leave the lock to a process that was forked a moment ago and has not executed its program yet.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

fn holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_let_go_is_free_though_a_forked_process_still_has_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let held = WriterLock::acquire(dir.path()).unwrap();
        let inherited = held.file.try_clone().unwrap();
        assert!(is_written(dir.path()).unwrap());
        drop(held);
        assert!(!is_written(dir.path()).unwrap());
        WriterLock::acquire(dir.path()).unwrap();
        drop(inherited);
    }
}
