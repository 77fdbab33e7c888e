//! A control group (cgroup v2) for each instance of a program: bounds on all of its processes together, and an end that
//! none of them gets around.
//!
//! The process that becomes the program makes it and goes in; its keeper stays outside, so that it lives to tell what
//! happened inside, and removes it. Where it is made is said by the plan: below a cgroup that is gnomon's to divide
//! ([`crate::settle`]).

use crate::plan::{Limits, Plan};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The prefix of each name. The server's name follows, and the number of its keeper.
const PREFIX: &str = "server-";
/// Longest part of a server's name in it, bytes. The kernel takes 255 in all.
const NAME: usize = 100;
/// Deepest nesting below one that is removed: a confined program makes no cgroups, one that is not may.
const DEPTH: usize = 16;
/// The time within which all of its processes must have ended.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);
/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// The control group of one instance, which may not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group(PathBuf);

impl Group {
    /// The group of a plan's instance with this keeper, if it is to have one.
    pub(crate) fn of(plan: &Plan, keeper: u32) -> Option<Self> {
        let fits = |letter: char| if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_') { letter } else { '_' };
        let name: String = plan.home.file_name().unwrap_or_default().to_string_lossy().chars().map(fits).take(NAME).collect();
        plan.group.as_ref().map(|parent| Self(parent.join(format!("{PREFIX}{name}-{keeper}"))))
    }

    /// The groups below a cgroup, with the numbers of their keepers.
    pub(crate) fn all(parent: &Path) -> Vec<(Self, u32)> {
        let there = fs::read_dir(parent).into_iter().flatten().flatten();
        let kept = there.filter_map(|entry| {
            let keeper = entry.file_name().to_str()?.strip_prefix(PREFIX)?.rsplit_once('-')?.1.parse().ok()?;
            Some((Self(entry.path()), keeper))
        });
        kept.collect()
    }

    /// Creates it with its bounds, and moves this process in.
    ///
    /// # Errors
    /// The system refused a part of it. It may be there, and this process is not in it.
    pub(crate) fn enter(&self, limits: Limits) -> Result<(), String> {
        let failed = |what: &str, error: io::Error| format!("{what}: {error}");
        match fs::create_dir(&self.0) {
            // Left by an earlier keeper with the same number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.end(Instant::now() + PATIENCE);
                fs::create_dir(&self.0)
            }
            made => made,
        }
        .map_err(|error| failed("making one", error))?;
        let bounds = [
            ("memory.max", limits.memory.to_string()),
            // All or none: a server of which a part is gone is worse than one that is started again.
            ("memory.oom.group", "1".to_owned()),
            ("pids.max", limits.tasks.to_string()),
        ];
        for (file, bound) in &bounds {
            self.write(file, bound).map_err(|error| failed(file, error))?;
        }
        match self.write("memory.swap.max", "0") {
            // Kernels that do not account for swap.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("memory.swap.max", error)),
            _ => {}
        }
        self.write("cgroup.procs", "0").map_err(|error| failed("moving there", error))
    }

    /// Asks the kernel to end everything in it. From now on no process can be started there.
    pub(crate) fn kill(&self) {
        let _ = self.write("pids.max", "0");
        // Linux 5.14.
        if self.write("cgroup.kill", "1").is_err() {
            self.signal();
        }
    }

    /// Sends `SIGKILL` to each of its processes.
    fn signal(&self) {
        let held = processes(&self.0).into_iter().filter_map(Pid::from_raw);
        let held: Vec<_> = held.filter_map(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?))).collect();
        // One that ended meanwhile may have given its number to another, which is not in here.
        let still = processes(&self.0);
        for (_, process) in held.iter().filter(|(pid, _)| still.contains(&pid.as_raw_nonzero().get())) {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }

    /// Ends everything in it and removes it, if it is there; until then at most. What could not be removed stays for the
    /// next [`crate::settle`].
    pub(crate) fn end(&self, until: Instant) {
        while self.0.exists() {
            self.kill();
            if remove(&self.0, DEPTH).is_ok() || Instant::now() >= until {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// [`Group::end`], with as much patience as its processes may need.
    pub(crate) fn end_patiently(&self) {
        self.end(Instant::now() + PATIENCE);
    }

    /// The text on an end by the kernel for want of memory, if it was one.
    pub(crate) fn spent(&self, limits: Limits) -> Option<String> {
        let events = fs::read_to_string(self.0.join("memory.events")).ok()?;
        match (count(&events, "oom_kill"), count(&events, "oom")) {
            (0, _) => None,
            // Its own bound was not met.
            (_, 0) => Some("the kernel ended it, as memory ran out outside of it".to_owned()),
            _ => Some(format!("the kernel ended it, as its processes used more than {} MiB together", limits.memory / MIB)),
        }
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        write(&self.0.join(file), text)
    }
}

/// Writes to a file of a cgroup, which is never made.
pub(crate) fn write(file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(text.as_bytes())
}

/// The processes in a cgroup. One outside of this pid namespace is 0.
pub(crate) fn processes(cgroup: &Path) -> Vec<i32> {
    let listed = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    listed.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Removes a cgroup and those below it, if nothing is in them.
fn remove(cgroup: &Path, depth: usize) -> io::Result<()> {
    match fs::remove_dir(cgroup) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) if depth > 0 => {}
        removed => return removed,
    }
    for entry in fs::read_dir(cgroup)?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove(&entry.path(), depth - 1)?;
    }
    fs::remove_dir(cgroup)
}

/// A number of `memory.events`.
fn count(events: &str, of: &str) -> u64 {
    let counts = events.lines().filter_map(|line| line.split_once(' '));
    counts.filter(|(name, _)| *name == of).find_map(|(_, count)| count.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { memory: 64 << 20, tasks: 7 };

    #[test]
    fn what_the_kernel_ended_is_told_by_whose_bound_it_met() {
        let folder = tempfile::tempdir().unwrap();
        let group = Group(folder.path().to_owned());
        assert_eq!(group.spent(LIMITS), None, "it is gone");
        let told = |oom, kill| {
            fs::write(folder.path().join("memory.events"), format!("low 0\nmax 9\noom {oom}\noom_kill {kill}\noom_group_kill 1\n"))
                .unwrap();
            group.spent(LIMITS)
        };
        assert_eq!(told(3, 0), None);
        assert!(told(3, 2).unwrap().contains("more than 64 MiB together"));
        assert!(told(0, 2).unwrap().contains("outside of it"));
    }

    #[test]
    fn a_name_of_a_server_is_a_name_of_a_cgroup_and_nothing_more() {
        let mut plan = crate::plan::tests::plan(&["/bin/true"]);
        assert_eq!(Group::of(&plan, 7), None);
        plan.group = Some("/cgroup".into());
        let long = "x".repeat(300);
        for (home, name) in [("/state/servers/files", "files"), ("/a/..", ""), ("/a/b.c d\n", "b_c_d_"), (&*long, &long[..NAME])] {
            plan.home = home.into();
            assert_eq!(Group::of(&plan, 7), Some(Group(format!("/cgroup/server-{name}-7").into())), "{home}");
        }
    }

    #[test]
    fn those_that_are_there_are_known_by_the_numbers_of_their_keepers() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["server-a-b-12", "server-c", "server-c-x", "gnomon", "service-a-1"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(Group::all(folder.path()), [(Group(folder.path().join("server-a-b-12")), 12)]);
    }
}
