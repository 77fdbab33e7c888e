//! Which file a process runs, whether its path still leads there, and its digest.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::digest::{Digests, FileKey};
use super::held::is_gone;
use super::watch::Watch;
use super::{Backing, Digest, Executable, Held};

/// What the kernel appends to the path of a file that is no longer there (d_path).
const DELETED: &[u8] = b" (deleted)";
/// What it shows for memfd_create(2), followed by the name that the process gave.
const MEMFD: &[u8] = b"/memfd:";

/// `Ok(None)` if the process has no program: it is of the kernel, or no longer has memory.
pub(super) fn read(held: &Held, digests: &Digests, watch: &Watch) -> Result<Option<Executable>, Errno> {
    let link = match held.link("exe") {
        Ok(link) => link,
        Err(Errno::ACCESS | Errno::PERM) => return Ok(Some(Executable::Hidden)),
        Err(error) if is_gone(error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let status = held.status("exe");
    let (path, backing) = split(held, &link, status.as_ref().ok().map(FileKey::of));
    let digest = status.map_or(Digest::Unreadable, |status| digests.of(held, FileKey::of(&status), watch));
    Ok(Some(Executable::File { path, backing, digest }))
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
