//! The cgroups of a run: never the root, and gone at its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

/// Where the loads make their sockets. A socket stays of the cgroup in which it was made, wherever its process goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the cgroup that is observed.
    Observed,
    /// Beside it, where nothing is.
    Apart,
    /// The same once more: what is compared with [`Place::Apart`] is nothing with nothing.
    Aside,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Observed, Self::Apart, Self::Aside];

    /// As its cgroup is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Apart => "apart",
            Self::Aside => "aside",
        }
    }

    /// The one with this name.
    pub(super) fn read(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name).with_context(|| format!("no such place: {name}"))
    }

    /// Moves this process there, with all its threads.
    ///
    /// # Errors
    /// The cgroups of `home` are not there, or this is not root.
    pub fn enter(self, home: &Path) -> Result<()> {
        enter(&home.join(self.name()))
    }
}

/// One cgroup with those below it in which the loads are, and one for us, which is not observed. Drop it after everything
/// that runs in it.
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
        for folder in cgroups.all().iter().rev() {
            fs::create_dir(folder).with_context(|| format!("making the cgroup {}: this bench needs root", folder.display()))?;
        }
        enter(&cgroups.own())?;
        Ok(cgroups)
    }

    /// The one above the others.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// One of those in which the loads are.
    #[must_use]
    pub fn at(&self, place: Place) -> PathBuf {
        self.home.join(place.name())
    }

    /// Where gnomon's processes are, this one among them.
    #[must_use]
    pub fn own(&self) -> PathBuf {
        self.home.join("own")
    }

    /// Those below others first.
    fn all(&self) -> [PathBuf; 5] {
        let [observed, apart, aside] = Place::ALL.map(|place| self.at(place));
        [observed, apart, aside, self.own(), self.home.clone()]
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let _ = enter(&self.before);
        // Processes that have just ended may still count for a moment.
        for _ in 0..100 {
            for folder in self.all() {
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
