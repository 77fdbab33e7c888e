//! A process held by a descriptor of its `/proc` directory, and bounded reads below it.
//!
//! The descriptor belongs to the process, not to its number: after the process is reaped every read
//! fails with ESRCH or ENOENT, also when the number is in use again (proc(5); `get_proc_task`).

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxFlags, openat, readlinkat, statx};
use rustix::io::Errno;

/// A process, for reading about.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    directory: Arc<OwnedFd>,
    /// `task/TID/` when the first thread has ended and others live on: then only these still have
    /// an executable and arguments.
    through: String,
}

impl Held {
    /// Holds the process with this number now.
    pub(crate) fn open(pid: u32) -> Result<Self, Errno> {
        let directory = rustix::fs::open(format!("/proc/{pid}"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { directory: Arc::new(directory), through: String::new() })
    }

    /// The same process, read through one of its other threads.
    pub(crate) fn through_thread(&self, thread: u32) -> Self {
        Self { directory: Arc::clone(&self.directory), through: format!("task/{thread}/") }
    }

    /// Reads at most `limit` bytes from the beginning of a file, and nothing beyond.
    pub(crate) fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::from(self.open_file(name)?).take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Opens a file for reading, without ever waiting for a writer.
    pub(crate) fn open_file(&self, name: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        openat(&*self.directory, self.path(name), flags, Mode::empty())
    }

    /// The target of a link; the kernel bounds it to a page.
    pub(crate) fn link(&self, name: &str) -> Result<PathBuf, Errno> {
        use std::os::unix::ffi::OsStringExt as _;
        let text = readlinkat(&*self.directory, self.path(name), Vec::with_capacity(256))?;
        Ok(PathBuf::from(std::ffi::OsString::from_vec(text.into_bytes())))
    }

    /// The status of what a name leads to, from memory: no file system is asked, as a network one,
    /// or one that the process itself serves, may not answer.
    pub(crate) fn status(&self, name: &str) -> Result<Statx, Errno> {
        statx(&*self.directory, self.path(name), AtFlags::STATX_DONT_SYNC, StatxFlags::BASIC_STATS)
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.through)
    }

    /// The threads, at most `limit`.
    pub(crate) fn threads(&self, limit: usize) -> Vec<u32> {
        let Ok(tasks) = openat(&*self.directory, "task", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) else {
            return Vec::new();
        };
        let Ok(entries) = rustix::fs::Dir::new(tasks) else { return Vec::new() };
        entries.filter_map(|entry| entry.ok()?.file_name().to_str().ok()?.parse().ok()).take(limit).collect()
    }
}

/// True if an error means that the process is gone.
pub(crate) fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::SRCH)
}

/// The error number of a read.
pub(crate) fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
