//! A cgroup of our own, for as long as a program runs in it.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, XattrFlags, fgetxattr, fsetxattr, fstat, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Cgroup, CgroupError, CgroupId, below};
use crate::identity::started;

/// The prefix of a scope's name; the process id of its maker and a counter follow.
const PREFIX: &str = "gnomon-exec-";
/// A name may be taken by a scope of an earlier process with the same id, if that scope is still in use.
const TRIES: usize = 1000;

/// The attribute that a note is kept in: one that only `CAP_SYS_ADMIN` reads and writes, else (without that capability) one for those who
/// may write to the folder, which is its owner alone. The second needs Linux 5.7 (xattr(7), kernfs).
const NOTES: [&str; 2] = ["trusted.gnomon.scope", "user.gnomon.scope"];
/// Longest note, bytes.
pub const MAX_NOTE: usize = 4096;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A cgroup that we made, or [took over](Scope::keep). Dropping it then removes it if nothing runs in it any more.
#[derive(Debug)]
pub struct Scope {
    cgroup: Cgroup,
    parent: Cgroup,
    name: String,
    owner: Owner,
}

/// The owner of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// This process's, to be removed with it.
    Us,
    /// Another process's, which may be about to move a process in.
    Another,
}

/// The process that made a scope, or took it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// Its number.
    pub pid: u32,
    /// The time of its creation, in ns since boot: with its number this tells it from later ones.
    pub started_ns: u64,
}

impl Maker {
    /// The maker that is this process.
    pub fn this() -> Self {
        let pid = std::process::id();
        Self { pid, started_ns: started(pid).map_or(0, |at| at.0) }
    }

    fn lives(self) -> bool {
        started(self.pid).is_ok_and(|at| at.0 == self.started_ns)
    }
}

/// The note on a scope's cgroup: its owner, and data of its maker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note<T> {
    /// The process that keeps the scope.
    pub maker: Maker,
    /// The rest.
    pub kept: T,
}

/// The result of removing a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The cgroup was removed.
    Removed,
    /// Something still runs in it, or below it.
    InUse,
}

pub(super) fn make(parent: &Cgroup) -> Result<Scope, CgroupError> {
    for _ in 0..TRIES {
        let name = format!("{PREFIX}{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let path = format!("{}/{name}", parent.path.trim_end_matches('/'));
        match mkdirat(&*parent.directory, &name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let cgroup = Cgroup::open(parent.directory(), &name, path)?;
                return Ok(Scope { cgroup, parent: parent.clone(), name, owner: Owner::Us });
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(CgroupError::new("making", path, error)),
        }
    }
    Err(CgroupError::new("making", &parent.path, Errno::EXIST))
}

/// The process that made a scope of this name.
pub(super) fn maker(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

impl Scope {
    /// The scope of this name below a cgroup. `None` if the name is none of a scope, or there is no such cgroup any more.
    pub(super) fn found(parent: &Cgroup, name: &str, path: String) -> Option<Self> {
        maker(name)?;
        let cgroup = Cgroup::open(parent.directory(), name, path).ok()?;
        Some(Self { cgroup, parent: parent.clone(), name: name.to_owned(), owner: Owner::Another })
    }

    /// True if the process that keeps it lives.
    pub(super) fn maker_lives(&self) -> bool {
        match self.note::<serde::de::IgnoredAny>() {
            Ok(Some(note)) => note.maker.lives(),
            Ok(None) | Err(_) => maker(&self.name).is_some_and(|pid| started(pid).is_ok()),
        }
    }

    /// The owner of its folder: only they, and those who may write everywhere, can have made it or written its note.
    ///
    /// # Errors
    /// If its metadata cannot be read.
    pub fn owner(&self) -> Result<u32, CgroupError> {
        let found = fstat(&*self.cgroup.directory).map_err(|error| CgroupError::new("looking at", &self.cgroup.path, error))?;
        Ok(found.st_uid)
    }

    /// The note that [`Scope::keep`] wrote. `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or has another format.
    pub fn note<T: serde::de::DeserializeOwned>(&self) -> Result<Option<Note<T>>, CgroupError> {
        let failed = |error: io::Error| CgroupError::new("reading the note on", &self.cgroup.path, error);
        for name in NOTES {
            let mut bytes = [0; MAX_NOTE];
            match fgetxattr(&*self.cgroup.directory, name, &mut bytes) {
                Ok(length) => {
                    let read = serde_json::from_slice(bytes.get(..length).unwrap_or_default());
                    return read.map(Some).map_err(|error| failed(error.into()));
                }
                Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        Ok(None)
    }

    /// Stores a note on the cgroup, in place of the one before, for the process that takes over when this one is gone. The scope is this
    /// process's from then on.
    ///
    /// # Errors
    /// Not permitted, too long, or the kernel keeps no attributes of cgroups.
    pub fn keep<T: Serialize>(&mut self, kept: &T) -> Result<(), CgroupError> {
        let failed = |error: io::Error| CgroupError::new("keeping a note on", &self.cgroup.path, error);
        let note = serde_json::to_vec(&Note { maker: Maker::this(), kept }).map_err(|error| failed(error.into()))?;
        if note.len() > MAX_NOTE {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        let mut tried = Ok(());
        for name in NOTES {
            tried = fsetxattr(&*self.cgroup.directory, name, &note, XattrFlags::empty());
            if tried.is_ok() {
                break;
            }
        }
        tried.map_err(|error| failed(error.into()))?;
        self.owner = Owner::Us;
        Ok(())
    }

    /// The cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The kernel's number of it.
    pub fn id(&self) -> CgroupId {
        self.cgroup.id
    }

    /// Moves a process here, with all its threads; children that it starts from then on follow.
    ///
    /// The number must be one that cannot be given to another meanwhile: the caller's child that was
    /// not waited for, or a process whose pidfd the caller holds and has seen alive afterwards.
    ///
    /// # Errors
    /// The process is gone, not permitted, or (EOPNOTSUPP) the caller's cgroup is a threaded one.
    pub fn join(&self, pid: u32) -> Result<(), CgroupError> {
        let mut file = self.joining()?;
        match file.write_all(pid.to_string().as_bytes()) {
            Ok(()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Err(CgroupError::ProcessGone(pid)),
            Err(error) => Err(CgroupError::new("joining", &self.cgroup.path, error)),
        }
    }

    /// A file to which a process writes `0` to move itself here. It can be given to one that may not
    /// open it: the kernel judges by who opened it (since Linux 5.16 and in the stable kernels of
    /// that time).
    ///
    /// # Errors
    /// Not permitted.
    pub fn joining(&self) -> Result<File, CgroupError> {
        openat(&*self.cgroup.directory, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map(File::from)
            .map_err(|error| CgroupError::new("opening", format!("{}/cgroup.procs", self.cgroup.path), error))
    }

    /// Removes it, and the empty cgroups that its programs left below it.
    ///
    /// # Errors
    /// Not permitted.
    pub fn remove(&self) -> Result<Removal, CgroupError> {
        remove(&self.parent, &self.name).map_err(|error| CgroupError::new("removing", &self.cgroup.path, error))
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        // A scope that is still in use then is left to the next sweep, with the cgroups that its programs made in it.
        if self.owner == Owner::Us && !self.cgroup.is_populated().is_ok_and(|populated| populated) {
            drop(remove(&self.parent, &self.name));
        }
    }
}

pub(super) fn remove(parent: &Cgroup, name: &str) -> io::Result<Removal> {
    match unlinkat(&*parent.directory, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(Removal::Removed),
        Err(Errno::BUSY) => {}
        Err(error) => return Err(error.into()),
    }
    // Busy with processes, or with cgroups below it.
    below::remove_empty_below(parent.directory(), name);
    match unlinkat(&*parent.directory, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(Removal::Removed),
        Err(Errno::BUSY) => Ok(Removal::InUse),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maker_is_read_from_the_name_of_a_scope_only() {
        assert_eq!(maker("gnomon-exec-12-0"), Some(12));
        for name in ["gnomon-exec-12", "gnomon-exec--0", "gnomon-exec-x-0", "gnomon-12-0", "init.scope"] {
            assert_eq!(maker(name), None, "{name}");
        }
    }
}
