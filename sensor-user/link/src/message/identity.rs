//! Who a process is, as the sensor read it.

use serde::{Deserialize, Serialize};

use crate::bounds::{List, Long, Name};

/// What there is to say of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// This is who connected.
    Identity(Box<Identity>),
    /// It had ended before it could be read.
    Gone,
    /// It runs another program by now, or the number is another process's.
    Stale,
}

/// A process. What was longer than its bound is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number, in the sensor's process namespace.
    pub pid: u32,
    /// When it started, in ns since boot.
    pub started_boot_ns: u64,
    /// The program that it runs.
    pub executable: Executable,
    /// Its arguments, separated by spaces.
    pub command_line: Long,
    /// Its parent, the parent of that, and so on.
    pub ancestors: List<Ancestor, 8>,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// The name of the user, where it has one.
    pub user: Option<Name>,
    /// Supplementary groups.
    pub groups: List<Group, 64>,
    /// Path of its cgroup below the cgroup2 mount.
    pub cgroup: Long,
    /// The container that the cgroup's path names.
    pub container: Option<Name>,
    /// The Kubernetes pod (its uid) that the cgroup's path names.
    pub pod: Option<Name>,
}

/// The file that a process runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executable {
    /// Its path, as the process's namespace has it.
    pub path: Long,
    /// Whether that path still names it.
    pub image: Image,
    /// SHA-256 of its content; `None` where it could not be read within bounds.
    pub sha256: Option<[u8; 32]>,
}

/// Where an executable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Image {
    /// At its path.
    OnDisk,
    /// Deleted or replaced while it runs.
    Deleted,
    /// Never was in a file system (memfd).
    Memory,
}

/// A process above another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Its number.
    pub pid: u32,
    /// Path of what it runs; empty where it could not be read.
    pub executable: Long,
}

/// A group that a process is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its number.
    pub gid: u32,
    /// Its name, where it has one.
    pub name: Option<Name>,
}
