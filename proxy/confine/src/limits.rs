//! The resource limits of one run.

use crate::plan::Limits;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::{fs, os::unix::fs::MetadataExt as _};

/// Open files.
const FILES: u64 = 4096;
/// The longest file that it may write, bytes.
const LONGEST_FILE: u64 = 4 << 30;
/// Memory that it may keep from being swapped, bytes.
const LOCKED: u64 = 64 << 10;
/// Signals that wait.
const SIGNALS: u64 = 4096;
/// Messages that wait in POSIX queues, bytes.
const MESSAGES: u64 = 64 << 10;

/// Sets all of them. `uid` is the user that the program will run as: processes are counted by user.
///
/// # Errors
/// The first that the system refused; the others are set.
pub(crate) fn apply(limits: Limits, uid: u32) -> Result<(), String> {
    let tasks = running(uid).saturating_add(limits.tasks);
    let wanted = [
        (Resource::Core, 0),
        (Resource::Data, limits.memory),
        (Resource::Nproc, tasks),
        (Resource::Nofile, FILES),
        (Resource::Fsize, LONGEST_FILE),
        (Resource::Memlock, LOCKED),
        (Resource::Sigpending, SIGNALS),
        (Resource::Msgqueue, MESSAGES),
    ];
    let mut first = Ok(());
    for (resource, most) in wanted {
        // A lower limit may be set already.
        let most = rustix::process::getrlimit(resource).maximum.map_or(most, |old| old.min(most));
        if let Err(error) = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            && first.is_ok()
        {
            first = Err(format!("{resource:?}: {error}"));
        }
    }
    first
}

/// The number of threads of a user now, as far as can be seen.
fn running(uid: u32) -> u64 {
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let numbered = processes.flatten().filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    let theirs = numbered.filter(|entry| entry.metadata().is_ok_and(|found| found.uid() == uid));
    theirs
        .filter_map(|entry| {
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse::<u64>().ok()
        })
        .sum()
}
