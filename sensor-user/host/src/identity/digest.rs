//! SHA-256 of executables, read once per file and not once per process.
//!
//! A file is known by device, inode, size, and the times of its last change of content and of inode.
//! The latter cannot be set by the file's owner, so content cannot be exchanged behind a time
//! that was put back.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use quick_cache::sync::{Cache, GuardResult};
use rustix::fs::{AtFlags, Statx, StatxFlags, statx};
use serde::{Serialize, Serializer};
use sha2::Digest as _;

use super::read_threads::{Late, ReadThreads};
use super::{Digest, Held};

/// Most bytes of an executable that are digested unless configured otherwise: 512 MiB. The largest
/// agents that are shipped as one file have 300 MB.
pub const MAX_EXECUTABLE: u64 = 512 << 20;
/// Digests that are remembered; about 150 bytes each.
const REMEMBERED: usize = 4096;

/// A SHA-256 digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256(pub [u8; 32]);

impl std::fmt::Display for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A file and its content, as far as the inode tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileKey {
    device: (u32, u32),
    inode: u64,
    size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl FileKey {
    pub(super) fn of(status: &Statx) -> Self {
        Self {
            device: (status.stx_dev_major, status.stx_dev_minor),
            inode: status.stx_ino,
            size: status.stx_size,
            modified: (status.stx_mtime.tv_sec, status.stx_mtime.tv_nsec),
            changed: (status.stx_ctime.tv_sec, status.stx_ctime.tv_nsec),
        }
    }
}

/// An executable whose digest may still have to be made, which a process need not live to see.
#[derive(Debug)]
pub(super) enum Opened {
    Known(Digest),
    File(FileKey, File),
}

/// Digests, and the bounds within which they are made.
#[derive(Debug)]
pub(super) struct Digests {
    cache: Cache<FileKey, Sha256>,
    up_to: u64,
    within: Duration,
}

impl Digests {
    pub(super) fn new(up_to: u64, within: Duration) -> Self {
        Self { cache: Cache::new(REMEMBERED), up_to, within }
    }

    /// Holds the executable of a process, which is this file, where it has to be read.
    pub(super) fn open(&self, held: &Held, key: FileKey, watch: &ReadThreads) -> Opened {
        if key.size > self.up_to {
            return Opened::Known(Digest::TooLarge(key.size));
        }
        if let Some(digest) = self.cache.get(&key) {
            return Opened::Known(Digest::Sha256(digest));
        }
        let held = held.clone();
        // Opened through /proc/PID/exe, so that it is the file that runs, not what its path names now.
        match watch.run(self.within, move || held.open_file("exe")) {
            Ok(Ok(file)) => Opened::File(key, File::from(file)),
            Ok(Err(_)) => Opened::Known(Digest::Unreadable),
            Err(Late::TimedOut) => Opened::Known(Digest::TimedOut),
            Err(Late::Busy) => Opened::Known(Digest::Busy),
        }
    }

    /// The digest of the held file, even if the process has ended.
    pub(super) fn of(&self, opened: Opened, watch: &ReadThreads) -> Digest {
        let (key, file) = match opened {
            Opened::Known(digest) => return digest,
            Opened::File(key, file) => (key, file),
        };
        // One reader per file: a program that is started a hundred times at once is read once.
        let guard = match self.cache.get_value_or_guard(&key, Some(self.within)) {
            GuardResult::Value(digest) => return Digest::Sha256(digest),
            GuardResult::Timeout => return Digest::TimedOut,
            GuardResult::Guard(guard) => guard,
        };
        let deadline = Instant::now() + self.within;
        let outcome = match watch.run(self.within, move || read(file, key, deadline)) {
            Ok(outcome) => outcome,
            Err(Late::TimedOut) => Digest::TimedOut,
            Err(Late::Busy) => Digest::Busy,
        };
        // Failures are not cached: the next read finds more of the file in the page cache.
        if let Digest::Sha256(digest) = outcome {
            // The insertion fails only if the entry was removed meanwhile, which never happens.
            let _ = guard.insert(digest);
        }
        outcome
    }
}

fn read(mut file: File, key: FileKey, deadline: Instant) -> Digest {
    let unchanged = |file: &File| {
        statx(file, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::BASIC_STATS).is_ok_and(|now| FileKey::of(&now) == key)
    };
    if !unchanged(&file) {
        return Digest::Changed;
    }
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        if Instant::now() > deadline {
            return Digest::TimedOut;
        }
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                total += count as u64;
                if total > key.size {
                    return Digest::Changed;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Digest::Unreadable,
        }
    }
    if total == key.size && unchanged(&file) { Digest::Sha256(Sha256(hasher.finalize().into())) } else { Digest::Changed }
}
