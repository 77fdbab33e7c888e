//! The cgroups of a run: never the root, and gone at its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

/// One cgroup with two below it: one for the loads, which is observed, and one for us, which is not. Drop it after
/// everything that runs in it.
pub struct Cgroups {
    home: PathBuf,
    /// Where this process was before.
    before: PathBuf,
}

impl Cgroups {
    /// Makes them, and moves this process into its own.
    ///
    /// # Errors
    /// There is no cgroup2 hierarchy, or this is not root.
    pub fn enter() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let root = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (place, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(place))
        });
        let root = root.context("no cgroup2 hierarchy is mounted")?;
        // The line of the only hierarchy of version 2 begins with 0, cgroups(7).
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let cgroups = Self { home: root.join(format!("gnomon-bench-{}", std::process::id())), before: root.join(own) };
        for folder in [&cgroups.home, &cgroups.load(), &cgroups.own()] {
            fs::create_dir(folder).with_context(|| format!("making the cgroup {}: this bench needs root", folder.display()))?;
        }
        enter(&cgroups.own())?;
        Ok(cgroups)
    }

    /// Where programs are observed.
    #[must_use]
    pub fn load(&self) -> PathBuf {
        self.home.join("load")
    }

    /// Where gnomon's processes are, this one among them.
    #[must_use]
    pub fn own(&self) -> PathBuf {
        self.home.join("own")
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let _ = enter(&self.before);
        // Processes that have just ended may still count for a moment.
        for _ in 0..100 {
            for folder in [self.load(), self.own(), self.home.clone()] {
                let _ = fs::remove_dir(folder);
            }
            if !self.home.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("the cgroup {} could not be removed", self.home.display());
    }
}

fn enter(cgroup: &Path) -> Result<()> {
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string()).with_context(|| format!("entering {}", cgroup.display()))
}
