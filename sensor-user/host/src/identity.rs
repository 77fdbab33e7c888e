//! The identity of a process: its executable and that file's digest, command line, user, ancestors and workload.
//!
//! Everything is read through one descriptor of `/proc/PID`, which stays with that process: once it
//! is gone, reads fail, and a process that is given the same number later is never read by mistake.
//! `comm` and `argv[0]` are never used to say who a process is, as it can choose both; the command
//! line is reported as what it is, the process's own words.
//!
//! Three things that a process can do about being identified, and what happens then:
//! - **It ends**: [`Answer::Gone`].
//! - **It becomes another program** between connecting and being asked for: [`Answer::Stale`] where
//!   the kernel's record of execs is at hand ([`Resolver::with_execs`]); without it the identity is
//!   marked [`ExecEvidence::Unverified`], since `/proc` does not tell when a process last called exec.
//! - **It makes reads hang**, with a command line or an executable on a file system of its own: these
//!   are read by threads of their own and given up on ([`Options::slow_read`], [`Options::digest_within`]).
//!
//! The visible facts of a process of another user depend on privilege: its executable needs CAP_SYS_PTRACE (proc(5)), not
//! CAP_DAC_READ_SEARCH.

mod accounts;
mod ancestry;
mod digest;
mod executable;
mod held;
mod listens;
mod read_threads;
mod resolver;
mod start;
mod stat;
mod status;

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

pub use accounts::MAX_GROUP_NAMES;
pub use ancestry::MAX_ANCESTORS;
pub use digest::{MAX_EXECUTABLE, Sha256};
pub use listens::{ListensAnswer, MAX_LISTENS, listens};
pub use resolver::{MAX_ARGUMENTS, MAX_COMMAND_LINE, Options, Resolver};
pub use start::{Lineage, Parent, StartAnswer, Started};
pub use status::MAX_GROUPS;

use crate::workload::Workload;

pub(crate) use held::{Held, errno, is_gone};

/// The start time of the process with this number.
///
/// # Errors
/// If there is no such process, or only a zombie.
pub(crate) fn started(pid: u32) -> std::io::Result<BootTime> {
    let stat = stat::Stat::read(&Held::open(pid)?)?;
    if stat.is_dead() { Err(std::io::ErrorKind::NotFound.into()) } else { Ok(stat.started_at) }
}

/// A moment, in nanoseconds of CLOCK_BOOTTIME: since boot, suspension included. This is the clock of
/// `bpf_ktime_get_boot_ns` and of field 22 of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct BootTime(pub u64);

impl BootTime {
    /// Now.
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0)))
    }
}

/// The program of a process at some moment: the time of its last exec, as the kernel half recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Generation(pub u64);

impl Generation {
    /// No exec of this process was recorded: it happened before the probe was there, or the probe is missing.
    pub const UNKNOWN: Self = Self(0);
}

/// The answer to a request for an identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The process is still there and still the one that connected.
    Known(Box<Identity>),
    /// The process has ended. Its number may belong to another by now; that one was not read.
    Gone,
    /// The process is there but has called exec since: what could be read is not what connected.
    Stale,
    /// The system refused to say, for a reason that is not the process's end.
    Unreadable(&'static str),
}

/// A process, as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Its number in the reader's pid namespace.
    pub pid: u32,
    /// The time of its creation, rounded down to a clock tick (10 ms).
    pub started_at: BootTime,
    /// Evidence that it is the program that connected.
    pub exec: ExecEvidence,
    /// The program. For a script this is the interpreter; the script is in the command line.
    pub executable: Executable,
    /// The command line that it was started with, by its own word.
    pub command_line: CommandLine,
    /// Its credentials; `None` where they could not be read.
    pub credentials: Option<Credentials>,
    /// Parent first, at most [`MAX_ANCESTORS`]. These are today's: an orphan's parent is its reaper.
    pub ancestors: Vec<Ancestor>,
    /// Cgroup, container and pod.
    pub place: Workload,
}

/// Evidence that an identity is that of the program which connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecEvidence {
    /// The kernel's record shows no exec since.
    Confirmed,
    /// This process's execs were not recorded.
    Unverified,
}

/// The program that a process runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Executable {
    /// A file.
    File {
        /// Its path, as seen in the process's own mount namespace.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
        /// The relation of that path to it.
        backing: Backing,
        /// The digest of its content.
        digest: Digest,
    },
    /// A thread of the kernel.
    Kernel,
    /// Reading it was not permitted: the reader lacks CAP_SYS_PTRACE.
    Hidden,
}

/// The location of an executable's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Backing {
    /// At its path.
    Present,
    /// The file was removed or replaced since: updates do this, and so do programs that hide.
    Deleted,
    /// In memory only (memfd_create(2)); the path is `/memfd:` and a name that the process chose.
    Memory,
}

/// The SHA-256 of an executable, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Digest {
    /// The digest of the file that runs, wherever its path leads by now.
    Sha256(Sha256),
    /// The file has more than [`Options::digest_up_to`] bytes: this many.
    TooLarge(u64),
    /// Reading it took longer than [`Options::digest_within`].
    TimedOut,
    /// The limit of concurrent reads of files is reached.
    Busy,
    /// The file changed while it was read.
    Changed,
    /// The file could not be read.
    Unreadable,
    /// It was not waited for.
    NotYet,
}

/// The arguments of a process, as they are in its memory: it can write there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandLine {
    /// All of them. Bytes that are not UTF-8 are replaced by U+FFFD.
    Whole(Vec<String>),
    /// The first of them, up to [`MAX_COMMAND_LINE`] bytes and [`MAX_ARGUMENTS`].
    Cut(Vec<String>),
    /// Reading them took too long: the process keeps them where reads block.
    TimedOut,
    /// The arguments could not be read.
    Unreadable,
}

impl CommandLine {
    /// The arguments that were read.
    pub fn arguments(&self) -> &[String] {
        match self {
            Self::Whole(arguments) | Self::Cut(arguments) => arguments,
            Self::TimedOut | Self::Unreadable => &[],
        }
    }
}

/// Users and groups of a process, by the numbers of the reader's user namespace.
///
/// Names are the host's: a container may know the same number by another name, to the kernel it is
/// the same user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Credentials {
    /// The real user: who started it.
    pub uid: u32,
    /// The user whose rights it has.
    pub effective_uid: u32,
    /// The name of the real user; `None` if the host knows none, or did not say in time.
    pub user: Option<String>,
    /// The real group.
    pub gid: u32,
    /// The supplementary groups, at most [`MAX_GROUPS`].
    pub groups: Vec<u32>,
    /// Names of the real group and of the supplementary ones, at most [`MAX_GROUP_NAMES`]; groups
    /// without a name are left out.
    pub group_names: Vec<String>,
}

/// A process above another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ancestor {
    /// Its number.
    pub pid: u32,
    /// Its executable; `None` for the kernel's threads and where it is not permitted.
    #[serde(serialize_with = "lossy_option")]
    pub executable: Option<PathBuf>,
    /// The time of its creation.
    pub started_at: BootTime,
}

/// A path may hold any bytes, and a process must not become invisible by having one that is not UTF-8.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

fn lossy_option<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => lossy(path, serializer),
        None => serializer.serialize_none(),
    }
}
