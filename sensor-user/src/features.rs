//! The features of this kernel, found by trying them.

use std::path::Path;

use gnomon_sensor_abi::Program;

use crate::loader::{Loader, Options};
use crate::status::Status;

/// A feature that the sensor can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// A cgroup2 hierarchy at the place given.
    Cgroup2,
    /// The maps: ring buffer, shared memory, tables.
    Maps,
    /// One of the programs.
    Program(Program),
    /// Owners told apart by network namespace for sure (Linux 5.15).
    NamespacedOwners,
    /// Starts of programs told apart by the cgroups above their process (Linux 5.15). Without it they are reported of the whole host, or of
    /// no cgroup below another.
    TaskLineage,
}

impl Feature {
    /// The name in metrics and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup2 => "cgroup2",
            Self::Maps => "maps",
            Self::Program(program) => program.name(),
            Self::NamespacedOwners => "namespaced_owners",
            Self::TaskLineage => "task_lineage",
        }
    }
}

/// The features that work here. A missing one is named, and never fatal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features(Vec<(Feature, Status)>);

impl Features {
    /// Tries everything on this kernel, without attaching anything.
    #[must_use]
    pub fn probe(cgroup: &Path) -> Self {
        let mut found = vec![(Feature::Cgroup2, cgroup2(cgroup))];
        let options = Options { ring_bytes: 1 << 16, flows: 1024, owners: 1024, ..Options::new(cgroup, cgroup) };
        let mut loader = match Loader::new(&options) {
            Ok(loader) => loader,
            Err(error) => {
                found.push((Feature::Maps, Status::Broken(error.to_string())));
                found.extend(Program::ALL.map(|program| (Feature::Program(program), Status::NotApplicable)));
                return Self(found);
            }
        };
        found.push((Feature::Maps, Status::Ok));
        let (owners, lineage) = (loader.namespaced_owners(), loader.task_lineage());
        for program in Program::ALL {
            found.push((Feature::Program(program), loader.verify(program)));
        }
        found.push((Feature::NamespacedOwners, owners));
        found.push((Feature::TaskLineage, lineage));
        Self(found)
    }

    /// Each feature and its status.
    pub fn iter(&self) -> impl Iterator<Item = &(Feature, Status)> {
        self.0.iter()
    }

    /// The status of one.
    #[must_use]
    pub fn status(&self, feature: Feature) -> &Status {
        self.0.iter().find(|(found, _)| *found == feature).map_or(&Status::NotApplicable, |(_, status)| status)
    }
}

/// Checks that cgroup2 is mounted there.
fn cgroup2(path: &Path) -> Status {
    if path.join("cgroup.procs").exists() {
        Status::Ok
    } else {
        Status::Unsupported(format!("{} is not a cgroup of a cgroup2 hierarchy", path.display()))
    }
}
