//! The features of this kernel, found by trying.

use std::io;
use std::path::Path;

use aya::programs::ProgramError;
use gnomon_sensor_abi::Program;

use crate::SensorError;
use crate::loader::{Loader, Options};

/// The status of a feature here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It works.
    Ok,
    /// This kernel does not have it.
    Unsupported(String),
    /// The kernel has it, but it failed: mostly a missing capability.
    Broken(String),
    /// There is nothing to do, as what it builds upon is missing.
    NotApplicable,
}

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
        }
    }
}

/// The features that work here. What is missing is named and never fatal.
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
        let owners = loader.namespaced_owners();
        for program in Program::ALL {
            found.push((Feature::Program(program), loader.verify(program)));
        }
        found.push((Feature::NamespacedOwners, owners));
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

/// Tells what a kernel lacks from what it refuses.
pub(crate) fn status(error: &ProgramError) -> Status {
    let text = match error {
        // The verifier's log is for us, not for the reader; its last line says what it was about.
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            // Behind that come statistics.
            let statistics = ["processed ", "verification time ", "stack depth "];
            let telling = |line: &&str| !line.is_empty() && !statistics.iter().any(|begin| line.starts_with(begin));
            let said = log.lines().rev().find(telling).unwrap_or_default();
            let helper = ["unknown func ", "invalid func ", "cannot use helper "].iter().any(|refusal| log.contains(refusal));
            let lacking = helper || (log.trim().is_empty() && io_error.raw_os_error() == Some(libc::EINVAL));
            let text = format!("{io_error}: {said}");
            return if lacking { Status::Unsupported(text) } else { Status::Broken(text) };
        }
        other => other.to_string(),
    };
    match error {
        ProgramError::SyscallError(error) => system(&error.io_error, text),
        _ => Status::Broken(text),
    }
}

/// The same for a failed system call.
pub(crate) fn system(error: &io::Error, text: String) -> Status {
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::ENOENT | libc::EOPNOTSUPP | libc::ENOSYS) => Status::Unsupported(text),
        _ => Status::Broken(text),
    }
}

impl From<&SensorError> for Status {
    fn from(error: &SensorError) -> Self {
        Self::Broken(error.to_string())
    }
}
