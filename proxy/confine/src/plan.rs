//! What to run, and how tightly. It travels as JSON in one argument, so it holds no secret: those are in the environment.

use crate::pin::Digest;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// Everything that is to hold for a program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Whole path and arguments. The path is also the first argument that the program sees.
    pub command: Vec<String>,
    /// What must be as it was when somebody looked at it.
    pub pins: Pins,
    /// The one folder that is the program's own: `$HOME`, writable, made when it is missing.
    pub home: PathBuf,
    /// Where it starts; its home unless given. It may be read.
    pub cwd: Option<PathBuf>,
    /// What it may read, besides the system's libraries and what its command names.
    pub read: Vec<PathBuf>,
    /// What it may read and change.
    pub write: Vec<PathBuf>,
    /// What it must not be able to read: a grant that covers one of these is refused.
    pub hidden: Vec<PathBuf>,
    /// Whom it may talk to.
    pub network: Network,
    /// Whom it becomes. Nobody else without it.
    pub account: Option<Account>,
    /// What it may use up.
    pub limits: Limits,
    /// The cgroup below which each instance has one of its own, as [`crate::settle`] made it ready. None has without it.
    #[serde(default)]
    pub group: Option<PathBuf>,
    /// Whether it is run where the kernel cannot confine it.
    pub demand: Demand,
    /// How long it may take to end when it is asked to, milliseconds.
    pub grace_ms: u64,
}

/// What must be as it was when somebody looked at it. Looked at again before each start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// The executable file.
    pub program: Option<Digest>,
    /// Further files by their whole path: a script, a module.
    pub files: BTreeMap<PathBuf, Digest>,
    /// A package that a launcher runs.
    pub package: Option<Package>,
}

impl Pins {
    /// Whether nothing is pinned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.program.is_none() && self.files.is_empty() && self.package.is_none()
    }
}

/// A package of a registry, as a lock file names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// With its scope, if it has one.
    pub name: String,
    /// Exactly.
    pub version: String,
    /// The lock file.
    pub lockfile: PathBuf,
}

/// Whom the program may talk to, besides what it was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Nobody: no socket can be made but pairs of its own.
    None,
    /// Anybody over IPv4 and IPv6, this host included.
    Internet,
    /// The local sockets of this host as well, as those of a container engine or a display.
    Host,
}

/// A user and its group, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The user.
    pub uid: u32,
    /// Its only group.
    pub gid: u32,
}

/// What one run of the program may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, bytes: what each of its processes may write to (`RLIMIT_DATA`), and in a control group what all of them use
    /// together (`memory.max`).
    pub memory: u64,
    /// Processes and threads: on top of those that its user has when it starts (`RLIMIT_NPROC`), and in a control group all of
    /// them (`pids.max`).
    pub tasks: u64,
}

/// Whether the program is run where the kernel cannot confine it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Demand {
    /// It is not, unless files and system calls are restricted.
    Enforced,
    /// It is, with whatever this kernel offers.
    BestEffort,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A plan that asks for nothing.
    pub(crate) fn plan(command: &[&str]) -> Plan {
        Plan {
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            pins: Pins::default(),
            home: "/home-of-it".into(),
            cwd: None,
            read: Vec::new(),
            write: Vec::new(),
            hidden: Vec::new(),
            network: Network::None,
            account: None,
            limits: Limits { memory: 1 << 30, tasks: 64 },
            group: None,
            demand: Demand::Enforced,
            grace_ms: 1000,
        }
    }
}
