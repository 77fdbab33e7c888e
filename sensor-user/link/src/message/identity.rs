//! The identity of a process, as the sensor read it.
//!
//! Unreadable is kept apart from absent: a rule that interferes must not confuse the two.

use serde::{Deserialize, Serialize};

use crate::bounds::{Label, List, Long, Name};

/// The facts of a process, or the reason there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityAnswer {
    /// The process that connected.
    Identity(Box<Identity>),
    /// The process had ended before it could be read.
    Gone,
    /// The process has called exec since it connected: the program that was read is not the one that connected.
    Stale,
    /// The system would not say, for this reason.
    Unreadable(Name),
}

/// A process. What was longer than its bound is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number, in the sensor's process namespace.
    pub pid: u32,
    /// The start time, in ns since boot.
    pub started_boot_ns: u64,
    /// Evidence that it is the program that connected.
    pub generation: GenerationEvidence,
    /// The program that it runs.
    pub executable: Executable,
    /// Its arguments.
    pub command_line: CommandLine,
    /// Its credentials; `None` where they could not be read.
    pub credentials: Option<Credentials>,
    /// Its parent, the parent of that, and so on.
    pub ancestors: List<Ancestor, 8>,
    /// Path of its cgroup below the cgroup2 mount; empty where it has none.
    pub cgroup: Long,
    /// The containers that the cgroup's path names, outermost first.
    pub containers: List<Container, 4>,
    /// The Kubernetes pod (its uid) that the cgroup's path names.
    pub pod: Option<Name>,
}

/// Evidence that a process has not called exec since it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GenerationEvidence {
    /// The kernel half saw none.
    Confirmed,
    /// The kernel half cannot tell.
    Unverified,
}

/// The executable of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Executable {
    /// A file.
    File {
        /// Its path, as the process's namespace has it.
        path: Long,
        /// The relation of that path to it.
        image: Image,
        /// SHA-256 of its content; `None` where it could not be read within bounds.
        sha256: Option<[u8; 32]>,
    },
    /// A thread of the kernel.
    Kernel,
    /// The sensor may not read it.
    Hidden,
}

/// The location of an executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Image {
    /// At its path.
    OnDisk,
    /// Deleted or replaced while it runs.
    Deleted,
    /// Never was in a file system (memfd).
    Memory,
}

/// The arguments of a process, separated by spaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandLine {
    /// All arguments.
    Whole(Long),
    /// Their beginning.
    Cut(Long),
    /// The arguments could not be read.
    Unreadable,
}

/// Users and groups of a process, as the host numbers and names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The real user: who started it.
    pub uid: u32,
    /// The user whose rights it has.
    pub effective_uid: u32,
    /// Name of the real user, where it has one.
    pub user: Option<Name>,
    /// The real group.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: List<u32, 64>,
    /// Names of the groups that have one, the real one among them.
    pub group_names: List<Name, 64>,
}

/// A process above another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Its number.
    pub pid: u32,
    /// Path of its executable; `None` for threads of the kernel and where it could not be read.
    pub executable: Option<Long>,
}

/// A container, as a cgroup's path names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its id, or its name where the runtime has no ids.
    pub id: Name,
    /// The runtime that names cgroups like this.
    pub runtime: Label,
    /// The origin of that name.
    pub standing: NameOrigin,
}

/// The origin of a cgroup's name: who could have made a cgroup of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NameOrigin {
    /// Root, or a service that root gave a subtree to.
    System,
    /// The user of this number: it is that user's claim.
    Claimed(u32),
}
