//! Reading an identity, in an order that notices what changes meanwhile.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use rustix::io::Errno;

use super::accounts::Accounts;
use super::digest::{Digests, MAX_EXECUTABLE};
use super::executable::Found;
use super::held::{errno, is_gone};
use super::read_threads::{Late, ReadThreads};
use super::stat::Stat;
use super::status::{Ids, MAX_STATUS};
use super::{Answer, BootTime, CommandLine, ExecEvidence, Generation, Held, Identity, ancestry, executable};
use crate::workload::{MAX_CGROUP_PATH, Workload};

/// Most bytes of a command line that are kept.
pub const MAX_COMMAND_LINE: usize = 4096;
/// Most arguments that are kept.
pub const MAX_ARGUMENTS: usize = 64;
/// Threads that are looked at for one that lives when the first has ended.
const MAX_THREADS: usize = 64;
/// Sixteen lines at most (twelve v1 controllers, named ones, v2), each with a path.
const MAX_CGROUP: u64 = 16 * MAX_CGROUP_PATH as u64;

/// Bounds on reading a process.
#[derive(Debug, Clone)]
pub struct Options {
    /// Largest executable that is digested, in bytes.
    pub digest_up_to: u64,
    /// Longest that digesting may take.
    pub digest_within: Duration,
    /// Longest that reading a command line, or asking for names, may take.
    pub slow_read: Duration,
    /// Most threads that may be stuck in such reads.
    pub stuck_reads: usize,
}

impl Default for Options {
    /// 512 MiB, 2 s, 250 ms, 16.
    fn default() -> Self {
        Self { digest_up_to: MAX_EXECUTABLE, digest_within: Duration::from_secs(2), slow_read: Duration::from_millis(250), stuck_reads: 16 }
    }
}

/// Whether a file is read for its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    ForDigest,
    ForNone,
}

type Execs = dyn Fn(u32) -> Generation + Send + Sync;

/// Tells who processes are. Shared by reference between threads; a thread may wait for at most
/// the sum of the times in [`Options`].
pub struct Resolver {
    digests: Digests,
    accounts: Accounts,
    watch: ReadThreads,
    slow_read: Duration,
    execs: Option<Box<Execs>>,
    cgroups: Option<PathBuf>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("digests", &self.digests).field("accounts", &self.accounts).finish_non_exhaustive()
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(&Options::default())
    }
}

impl Resolver {
    /// A resolver that knows nothing yet.
    pub fn new(options: &Options) -> Self {
        Self {
            digests: Digests::new(options.digest_up_to, options.digest_within),
            accounts: Accounts::new(options.slow_read),
            watch: ReadThreads::new(options.stuck_reads),
            slow_read: options.slow_read,
            execs: None,
            cgroups: None,
        }
    }

    /// Asks `execs` when a process last called exec: the sensor's map of the kernel's exec
    /// tracepoint, read at the moment of the call.
    #[must_use]
    pub fn with_execs(mut self, execs: impl Fn(u32) -> Generation + Send + Sync + 'static) -> Self {
        self.execs = Some(Box::new(execs));
        self
    }

    /// Looks here, where the v2 hierarchy is mounted, for who owns the cgroups above a container's.
    #[must_use]
    pub fn with_cgroups(mut self, mount: Option<PathBuf>) -> Self {
        self.cgroups = mount;
        self
    }

    /// The user who owns a cgroup, and so makes those below it.
    fn cgroup_owner(&self, path: &str) -> Option<u32> {
        let mount = self.cgroups.as_ref()?;
        fs::metadata(mount.join(path.trim_start_matches('/'))).ok().map(|facts| facts.uid())
    }

    /// The identity of the process that had this number, and was this program, when it connected.
    ///
    /// A process that started after `connected_at` is another one with the same number. Start times
    /// have a resolution of 10 ms, so a number that is given out again within the very tick of the
    /// connect would go unnoticed; the kernel gives numbers out in turn, so all others (32,768 at
    /// least) would have to be used up in it.
    pub fn identify(&self, pid: u32, connected_at: BootTime, generation: Generation) -> Answer {
        self.identify_with(pid, connected_at, generation, Wait::ForDigest)
    }

    /// The same without a digest that its file would have to be read for.
    pub fn identify_soon(&self, pid: u32, connected_at: BootTime, generation: Generation) -> Answer {
        self.identify_with(pid, connected_at, generation, Wait::ForNone)
    }

    fn identify_with(&self, pid: u32, connected_at: BootTime, generation: Generation, wait: Wait) -> Answer {
        self.read(pid, connected_at, generation, wait).unwrap_or_else(|error| match refused(error) {
            None => Answer::Gone,
            Some(why) => Answer::Unreadable(why),
        })
    }

    fn read(&self, pid: u32, connected_at: BootTime, generation: Generation, wait: Wait) -> Result<Answer, Errno> {
        let process = Held::open(pid)?;
        let before = Stat::read(&process).map_err(|error| errno(&error))?;
        if before.started_at > connected_at {
            return Ok(Answer::Gone);
        }
        let held = if before.is_dead() { process.through_thread(living_thread(&process).ok_or(Errno::SRCH)?) } else { process.clone() };
        // The leader's memory is gone when only other threads live.
        let image = Stat::read(&held).map_err(|error| errno(&error))?.image;

        let found = executable::find(&held, &self.digests, &self.watch)?;
        if matches!(found, Found::File { .. }) && image.is_being_replaced() {
            return Ok(Answer::Stale);
        }
        let command_line = self.command_line(&held);
        let ids = held.read("status", MAX_STATUS).ok().and_then(|bytes| Ids::parse(&bytes));
        let cgroup = held.read("cgroup", MAX_CGROUP).unwrap_or_default();
        let ancestors = ancestry::read(&process, before);

        // Read last, so that a change during the reads is noticed.
        let after = Stat::read(&held).map_err(|error| errno(&error))?;
        if after.is_dead() {
            return Ok(Answer::Gone);
        }
        if after.image != image {
            return Ok(Answer::Stale);
        }
        let Some(exec) = self.exec_evidence(pid, connected_at, generation) else { return Ok(Answer::Stale) };

        // Slow reads come last, when the process may have ended: a program that makes one request ends within milliseconds.
        Ok(Answer::Known(Box::new(Identity {
            pid,
            started_at: before.started_at,
            exec,
            executable: match wait {
                Wait::ForDigest => found.digested(&self.digests, &self.watch),
                Wait::ForNone => found.undigested(),
            },
            command_line,
            credentials: ids.map(|ids| self.accounts.name(ids, &self.watch)),
            ancestors,
            place: Workload::parse_with(&String::from_utf8_lossy(&cgroup), |path| self.cgroup_owner(path)),
        })))
    }

    /// `None` if the process has called exec since it connected.
    pub(super) fn exec_evidence(&self, pid: u32, connected_at: BootTime, then: Generation) -> Option<ExecEvidence> {
        let now = self.execs.as_ref().map_or(Generation::UNKNOWN, |execs| execs(pid));
        if now == Generation::UNKNOWN {
            // It was never recorded, or other entries have displaced it from the kernel's table.
            return Some(ExecEvidence::Unverified);
        }
        let same = then == Generation::UNKNOWN || then == now;
        (same && now.0 <= connected_at.0).then_some(ExecEvidence::Confirmed)
    }

    pub(super) fn command_line(&self, held: &Held) -> CommandLine {
        let held = held.clone();
        match self.watch.run(self.slow_read, move || held.read("cmdline", MAX_COMMAND_LINE as u64 + 1)) {
            Ok(Ok(bytes)) => arguments(bytes),
            Ok(Err(_)) => CommandLine::Unreadable,
            Err(Late::TimedOut | Late::Busy) => CommandLine::TimedOut,
        }
    }
}

/// Why a process could not be read; none where it is gone.
pub(super) fn refused(error: Errno) -> Option<&'static str> {
    match error {
        error if is_gone(error) => None,
        Errno::ACCESS | Errno::PERM => Some("not permitted"),
        Errno::MFILE | Errno::NFILE => Some("too many open files"),
        Errno::NOMEM => Some("out of memory"),
        _ => Some("unexpected answer of /proc"),
    }
}

fn living_thread(process: &Held) -> Option<u32> {
    let living = |thread: &u32| Stat::read(&process.through_thread(*thread)).is_ok_and(|stat| !stat.is_dead());
    process.threads(MAX_THREADS).into_iter().find(living)
}

/// Each argument ends with a NUL, unless the process wrote something else over them.
fn arguments(mut bytes: Vec<u8>) -> CommandLine {
    let mut cut = bytes.len() > MAX_COMMAND_LINE;
    bytes.truncate(MAX_COMMAND_LINE);
    if !cut && bytes.last() == Some(&0) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return CommandLine::Whole(Vec::new());
    }
    let mut parts = bytes.split(|byte| *byte == 0);
    let list: Vec<String> = parts.by_ref().take(MAX_ARGUMENTS).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    cut |= parts.next().is_some();
    if cut { CommandLine::Cut(list) } else { CommandLine::Whole(list) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_split_and_bounded() {
        let whole = |list: &[&str]| CommandLine::Whole(list.iter().map(|text| (*text).to_owned()).collect());
        assert_eq!(arguments(b"a\0b c\0\0".to_vec()), whole(&["a", "b c", ""]));
        assert_eq!(arguments(b"nginx: master".to_vec()), whole(&["nginx: master"]));
        assert_eq!(arguments(Vec::new()), whole(&[]));
        assert_eq!(arguments(b"\xff\0".to_vec()), whole(&["\u{fffd}"]));
        let CommandLine::Cut(list) = arguments(b"x\0".repeat(MAX_ARGUMENTS + 1)) else { panic!("not cut") };
        assert_eq!(list.len(), MAX_ARGUMENTS);
        let CommandLine::Cut(list) = arguments(vec![b'x'; MAX_COMMAND_LINE + 1]) else { panic!("not cut") };
        assert_eq!(list[0].len(), MAX_COMMAND_LINE);
        assert!(matches!(arguments(vec![b'x'; MAX_COMMAND_LINE]), CommandLine::Whole(_)));
    }

    #[test]
    fn an_exec_after_the_connect_is_told_whatever_was_known_then() {
        let evidence = |now: u64, then: u64| {
            let resolver = Resolver::default().with_execs(move |_| Generation(now));
            resolver.exec_evidence(1, BootTime(100), Generation(then))
        };
        assert_eq!(evidence(50, 50), Some(ExecEvidence::Confirmed));
        assert_eq!(evidence(50, 0), Some(ExecEvidence::Confirmed), "the exec came before the connect");
        assert_eq!(evidence(120, 50), None);
        assert_eq!(evidence(120, 0), None);
        assert_eq!(evidence(60, 50), None, "another exec than the one recorded");
        assert_eq!(evidence(0, 50), Some(ExecEvidence::Unverified), "pushed out of the table");
        assert_eq!(evidence(0, 0), Some(ExecEvidence::Unverified));
        assert_eq!(Resolver::default().exec_evidence(1, BootTime(100), Generation(50)), Some(ExecEvidence::Unverified));
    }
}
