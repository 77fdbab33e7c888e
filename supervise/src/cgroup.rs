//! A cgroup for gnomon's own processes: what is in it is neither tagged nor redirected, or the proxy's connections would
//! come back to it.

use anyhow::{Context, Result};
use gnomon_host::cgroup::{Cgroup, Hierarchy, Scope};
use rustix::fs::{Mode, OFlags, openat};
use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

/// The cgroup, and the one we were in before. Left and removed when dropped.
pub struct Own {
    scope: Scope,
    before: Cgroup,
    path: PathBuf,
}

impl Own {
    /// Makes one below the cgroup that we are in, and moves there. Children follow.
    pub fn enter() -> Result<Self> {
        let hierarchy = Hierarchy::find()?;
        let before = hierarchy.current()?;
        let scope = before.scope()?;
        // By descriptor, as the name may mean something else in another mount or namespace of cgroups.
        let path = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&scope.cgroup().directory())));
        let own = Self { path: path.context("looking for the folder of a cgroup")?, before, scope };
        move_to(own.scope.cgroup())?;
        Ok(own)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // If this fails the cgroup stays, and the next gnomon sweeps it.
        let _ = move_to(&self.before);
    }
}

/// Moves this process.
fn move_to(cgroup: &Cgroup) -> Result<()> {
    let file = openat(cgroup.directory(), "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    let moved = file.map_err(Into::into).and_then(|file| File::from(file).write_all(b"0"));
    moved.with_context(|| format!("moving to the cgroup {}", cgroup.path()))
}
