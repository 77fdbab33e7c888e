//! The file that a process runs, the validity of its path, and its digest.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::digest::{Digests, FileKey, Opened};
use super::held::is_gone;
use super::read_threads::ReadThreads;
use super::{Backing, Digest, Executable, Held};

/// The suffix that the kernel appends to the path of a file that is no longer there (d_path).
const DELETED: &[u8] = b" (deleted)";
/// The prefix it shows for memfd_create(2), followed by the name that the process gave.
const MEMFD: &[u8] = b"/memfd:";

/// The executable of a process, before its digest is made.
#[derive(Debug)]
pub(super) enum Found {
    File {
        path: PathBuf,
        backing: Backing,
        opened: Opened,
    },
    /// The process has no program: it is of the kernel, or no longer has memory.
    None,
    Hidden,
}

impl Found {
    /// The executable with its digest.
    pub(super) fn digested(self, digests: &Digests, watch: &ReadThreads) -> Executable {
        match self {
            Self::File { path, backing, opened } => Executable::File { path, backing, digest: digests.of(opened, watch) },
            Self::None => Executable::Kernel,
            Self::Hidden => Executable::Hidden,
        }
    }

    /// The executable, with its digest if that is known.
    pub(super) fn undigested(self) -> Executable {
        match self {
            Self::File { path, backing, opened: Opened::Known(digest) } => Executable::File { path, backing, digest },
            Self::File { path, backing, opened: Opened::File(..) } => Executable::File { path, backing, digest: Digest::NotYet },
            Self::None => Executable::Kernel,
            Self::Hidden => Executable::Hidden,
        }
    }
}

pub(super) fn find(held: &Held, digests: &Digests, watch: &ReadThreads) -> Result<Found, Errno> {
    let link = match held.link("exe") {
        Ok(link) => link,
        Err(Errno::ACCESS | Errno::PERM) => return Ok(Found::Hidden),
        Err(error) if is_gone(error) => return Ok(Found::None),
        Err(error) => return Err(error),
    };
    let status = held.status("exe");
    let (path, backing) = split(held, &link, status.as_ref().ok().map(FileKey::of));
    let opened = status.map_or(Opened::Known(Digest::Unreadable), |status| digests.open(held, FileKey::of(&status), watch));
    Ok(Found::File { path, backing, opened })
}

/// The path alone, for ancestors.
pub(super) fn path(held: &Held) -> Option<PathBuf> {
    let link = held.link("exe").ok()?;
    let key = held.status("exe").ok().map(|status| FileKey::of(&status));
    Some(split(held, &link, key).0)
}

/// A file may really be called `x (deleted)`: then the whole text leads to it.
fn split(held: &Held, link: &Path, key: Option<FileKey>) -> (PathBuf, Backing) {
    let Some(before) = link.as_os_str().as_bytes().strip_suffix(DELETED) else {
        return (link.to_owned(), Backing::Present);
    };
    let literal = link.to_str().and_then(|text| held.status(&format!("root{text}")).ok());
    if key.is_some() && literal.is_some_and(|status| Some(FileKey::of(&status)) == key) {
        return (link.to_owned(), Backing::Present);
    }
    let backing = if before.starts_with(MEMFD) { Backing::Memory } else { Backing::Deleted };
    (PathBuf::from(OsStr::from_bytes(before)), backing)
}
