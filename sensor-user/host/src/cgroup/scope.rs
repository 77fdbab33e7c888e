//! A cgroup of our own, for as long as a program runs in it.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use super::{Cgroup, CgroupError, CgroupId, walk};

/// Followed by the number of the process that made it, and a counter.
const PREFIX: &str = "gnomon-exec-";
/// A name may be taken by a scope of an earlier process with our number that is still in use.
const TRIES: usize = 1000;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A cgroup that we made. Dropping it removes it if nothing runs in it any more.
#[derive(Debug)]
pub struct Scope {
    cgroup: Cgroup,
    parent: Cgroup,
    name: String,
}

/// Whether a cgroup could be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is no more.
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
                return Ok(Scope { cgroup, parent: parent.clone(), name });
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
        // What is still in use then is left to whoever sweeps next.
        drop(remove(&self.parent, &self.name));
    }
}

pub(super) fn remove(parent: &Cgroup, name: &str) -> io::Result<Removal> {
    match unlinkat(&*parent.directory, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(Removal::Removed),
        Err(Errno::BUSY) => {}
        Err(error) => return Err(error.into()),
    }
    // Busy with processes, or with cgroups below it.
    walk::remove_empty_below(parent.directory(), name);
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
