//! The cgroup v2 hierarchy: where it is mounted, which cgroup a process is in, and making one of our
//! own for a program to run in.
//!
//! A program that `gnomon exec` runs gets a cgroup *below* the one its caller is in, so that limits
//! and accounting stay what they were, and the kernel half can tell everything it starts by one
//! ancestor. No controller is switched on, which is why this also works where processes live in
//! inner cgroups, and on hybrid hosts, where v2 is mounted beside the controllers of v1.
//!
//! It does not delegate, limit or freeze, and never touches a cgroup it did not make: the cgroup
//! of one whose maker was killed is found by [`Hierarchy::left_behind`], by name, and removed only if empty.

mod below;
mod mount;
mod pattern;
mod scope;
mod user;
mod walk;

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, statx};
use serde::Serialize;

pub use below::{MAX_CGROUPS, MAX_DEPTH};
pub use mount::CgroupLayout;
pub use pattern::{BadPattern, CgroupPattern, MAX_MATCHES, Matching};
pub use scope::{MAX_NOTE, Maker, Note, Removal, Scope};
pub use user::{MAX_OF_USER, SYSTEM};
pub use walk::{LeftBehind, MAX_FOREIGN, MAX_LEFT, is_inside};

use crate::identity::{Held, errno, is_gone};
use crate::workload::{MAX_CGROUP_PATH, Workload};

/// Most bytes that are read of `cgroup.events`: a few short lines.
const MAX_EVENTS: u64 = 4096;
/// Most bytes that are read of `cgroup.procs`: a number of up to seven digits for each process.
const MAX_PROCS: u64 = 1 << 20;

/// The number by which the kernel knows a cgroup: what `bpf_get_current_cgroup_id` returns.
///
/// On 64-bit kernels this is the inode number of its directory (kernfs uses one number for both
/// since Linux 5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct CgroupId(pub u64);

/// An error of working with cgroups. Each text names the next step where there is one.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// cgroup v2 is not mounted.
    #[error("cgroup v2 is not mounted; boot with systemd.unified_cgroup_hierarchy=1, or: mount -t cgroup2 none DIRECTORY")]
    NotMounted,
    /// The process is in a cgroup that lies outside of what is mounted or visible here.
    #[error("cgroup {0} cannot be reached from here: the mount or the cgroup namespace does not include it")]
    OutOfReach(String),
    /// The process has ended.
    #[error("process {0} is gone")]
    ProcessGone(u32),
    /// The caller may not do it.
    #[error("{action} {path}: not permitted; this needs root, or a cgroup that was delegated to this user")]
    NotPermitted {
        /// The action that failed.
        action: &'static str,
        /// Below the mount.
        path: String,
    },
    /// Any other answer of the system.
    #[error("{action} {path}: {source}")]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl CgroupError {
    fn new(action: &'static str, path: impl Into<String>, error: impl Into<io::Error>) -> Self {
        let (path, source) = (path.into(), error.into());
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted { action, path },
            _ => Self::Io { action, path, source },
        }
    }
}

/// The cgroup v2 hierarchy of this host, or what this mount namespace shows of it.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    mount: PathBuf,
    /// The part of the hierarchy that is mounted there, as a path in it: `/` unless a container was given a part.
    root: String,
    layout: CgroupLayout,
    directory: Arc<OwnedFd>,
}

/// A cgroup, held open: a later one of the same name is another.
#[derive(Debug, Clone)]
pub struct Cgroup {
    path: String,
    id: CgroupId,
    /// The user id of whoever its directory belongs to.
    owner: u32,
    directory: Arc<OwnedFd>,
}

impl Hierarchy {
    /// Finds the mount to use. Where there are several, one that shows the whole hierarchy and can be
    /// written to is preferred.
    ///
    /// # Errors
    /// [`CgroupError::NotMounted`], or that `/proc/self/mountinfo` cannot be read.
    pub fn find() -> Result<Self, CgroupError> {
        mount::find()
    }

    /// True if this folder is that of a cgroup of v2, wherever that is mounted.
    ///
    /// # Errors
    /// There is no such folder, or it cannot be opened.
    pub fn is_cgroup(folder: &Path) -> io::Result<bool> {
        Ok(mount::is_cgroup(rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?.as_fd())?)
    }

    /// The mount point.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The mounted generations: v2 alone, or beside v1.
    pub fn layout(&self) -> CgroupLayout {
        self.layout
    }

    /// The root of the mounted hierarchy.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn top(&self) -> Result<Cgroup, CgroupError> {
        Cgroup::open(self.directory.as_fd(), ".", self.root.clone())
    }

    /// The cgroup of a process, by its number in this pid namespace.
    ///
    /// # Errors
    /// The process is gone, or its cgroup out of reach.
    pub fn of(&self, pid: u32) -> Result<Cgroup, CgroupError> {
        let text = Held::open(pid)
            .map_err(io::Error::from)
            .and_then(|held| held.read("cgroup", 16 * MAX_CGROUP_PATH as u64))
            .map_err(|error| read_error(pid, error))?;
        self.at(&Workload::parse(&String::from_utf8_lossy(&text)).cgroup)
    }

    /// The cgroup of the calling process.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub fn current(&self) -> Result<Cgroup, CgroupError> {
        self.of(std::process::id())
    }

    /// The cgroup with this path, as `/proc/PID/cgroup` writes it: it begins with `/` and is relative
    /// to the reader's cgroup namespace.
    ///
    /// # Errors
    /// If it does not exist, or cannot be reached.
    pub fn at(&self, path: &str) -> Result<Cgroup, CgroupError> {
        let out_of_reach = || CgroupError::OutOfReach(path.to_owned());
        let below = if self.root == "/" { path } else { path.strip_prefix(&self.root).ok_or_else(out_of_reach)? };
        if !path.starts_with('/') || !(below.is_empty() || below.starts_with('/')) || below.split('/').any(|part| part == "..") {
            return Err(out_of_reach());
        }
        let below = below.trim_start_matches('/');
        Cgroup::open(self.directory.as_fd(), if below.is_empty() { "." } else { below }, path.to_owned())
    }
}

impl Cgroup {
    fn open(directory: BorrowedFd<'_>, below: &str, path: String) -> Result<Self, CgroupError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let opened =
            rustix::fs::openat(directory, below, flags, Mode::empty()).map_err(|error| CgroupError::new("opening", &path, error))?;
        let status = statx(&opened, "", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::UID)
            .map_err(|error| CgroupError::new("looking at", &path, error))?;
        Ok(Self { path, id: CgroupId(status.stx_ino), owner: status.stx_uid, directory: Arc::new(opened) })
    }

    /// Its path in the hierarchy, beginning with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The kernel's number of it.
    pub fn id(&self) -> CgroupId {
        self.id
    }

    /// Its directory, which programs are attached to.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// True if a process is in it, or in one below it (`cgroup.events`, cgroups(7)).
    ///
    /// # Errors
    /// If it was removed, or is the root cgroup, which has no `cgroup.events`.
    pub fn is_populated(&self) -> Result<bool, CgroupError> {
        let text = self.read("cgroup.events", MAX_EVENTS)?;
        Ok(text.lines().any(|line| line == "populated 1"))
    }

    /// The processes in it and in those below it, by their numbers in this pid namespace; no more than `most` of them. What cannot
    /// be read is left out.
    pub fn processes(&self, most: usize) -> Vec<u32> {
        let mut found = Vec::new();
        walk::below(self, &mut |cgroup| {
            let text = cgroup.read("cgroup.procs", MAX_PROCS).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0).take(most - found.len()));
            found.len() < most
        });
        found
    }

    fn read(&self, name: &str, most: u64) -> Result<String, CgroupError> {
        let failed = |error: io::Error| CgroupError::new("reading", format!("{}/{name}", self.path), error);
        let file = rustix::fs::openat(self.directory(), name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed(error.into()))?;
        let mut text = String::new();
        std::fs::File::from(file).take(most).read_to_string(&mut text).map_err(failed)?;
        Ok(text)
    }

    /// Creates a cgroup of our own below this one.
    ///
    /// # Errors
    /// Not permitted, or the kernel's limits on depth and number are reached.
    pub fn scope(&self) -> Result<Scope, CgroupError> {
        scope::make(self)
    }
}

fn read_error(pid: u32, error: io::Error) -> CgroupError {
    if is_gone(errno(&error)) {
        return CgroupError::ProcessGone(pid);
    }
    CgroupError::new("reading", format!("/proc/{pid}/cgroup"), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_outside_of_the_mount_or_the_namespace_is_out_of_reach() {
        let Ok(directory) = rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) else { panic!("no root") };
        let hierarchy = |root: &str| Hierarchy {
            mount: "/".into(),
            root: root.into(),
            layout: CgroupLayout::Pure,
            directory: Arc::new(directory.try_clone().unwrap()),
        };
        for (root, path) in
            [("/", "/../x"), ("/", "relative"), ("/", ""), ("/docker/x", "/docker/xy"), ("/docker/x", "/"), ("/docker/x", "/docker/x/../y")]
        {
            assert!(matches!(hierarchy(root).at(path), Err(CgroupError::OutOfReach(_))), "{root} {path}");
        }
        let top = hierarchy("/docker/x").at("/docker/x").unwrap();
        assert_eq!((top.path(), top.id()), ("/docker/x", hierarchy("/").at("/").unwrap().id()));
        assert!(hierarchy("/docker/x").at("/docker/x/proc").is_ok());
    }
}
