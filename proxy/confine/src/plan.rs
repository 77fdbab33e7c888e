//! The command to run, and its confinement. It travels as JSON in one argument, so it holds no secret: those are in the environment.

use crate::pin::Pins;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The plan of a run: command, digests, access, limits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Whole path and arguments. The path is also the first argument that the program sees.
    pub command: Vec<String>,
    /// The digests that must match before each start.
    pub pins: Pins,
    /// The one folder that is the program's own: `$HOME`, writable, made when it is missing.
    pub home: PathBuf,
    /// The working directory; its home unless given. It may be read.
    pub cwd: Option<PathBuf>,
    /// The paths it may read, besides the system's libraries and what its command names.
    pub read: Vec<PathBuf>,
    /// The paths it may read and change.
    pub write: Vec<PathBuf>,
    /// The paths it must not be able to read: a grant that covers one of these is refused.
    pub hidden: Vec<PathBuf>,
    /// The network it may use.
    pub network: Network,
    /// The account it becomes; without it, it stays the same user.
    pub account: Option<Account>,
    /// The resource limits.
    pub limits: Limits,
    /// The cgroup below which each instance has one of its own, as [`crate::settle`] made it ready. None has without it.
    #[serde(default)]
    pub group: Option<PathBuf>,
    /// The confinement without which it is not run.
    pub demand: Demand,
    /// The time it may take to end when asked to, in milliseconds.
    pub grace_ms: u64,
}

/// The network that the program may use, besides the descriptors that it was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// No network: no sockets but socket pairs.
    None,
    /// Any address over IPv4 and IPv6, this host included.
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

/// The resource limits of one run of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, bytes: what each of its processes may write to (`RLIMIT_DATA`), and in a control group what all of them use
    /// together (`memory.max`).
    pub memory: u64,
    /// Processes and threads: on top of those that its user has when it starts (`RLIMIT_NPROC`), and in a control group all of
    /// them (`pids.max`).
    pub tasks: u64,
}

/// The confinement without which the program is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Demand {
    /// Run only where files and system calls are restricted.
    Enforced,
    /// Run with whatever this kernel offers.
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
