//! All descendants of this process, those that were reparented included.

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

/// The time within which all of them must have ended. Processes that wait for a disk that is gone end when it is back.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

/// The processes that descend from this one and have not ended, by number.
pub(crate) fn descendants() -> BTreeSet<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if let Some(parent) = fs::read_to_string(entry.path().join("stat")).ok().as_deref().and_then(parent) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = BTreeSet::new();
    let mut next = vec![std::process::id().cast_signed()];
    while let Some(parent) = next.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if found.insert(*child) {
                next.push(*child);
            }
        }
    }
    found
}

/// The parent that `/proc/PID/stat` names, unless the process has ended and only waits to be asked how. Names may hold
/// anything, so what counts stands after the last parenthesis (proc_pid_stat(5)).
fn parent(stat: &str) -> Option<i32> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    fields.next()?.parse().ok().filter(|_| !matches!(state, "Z" | "X"))
}

/// Sends a signal to all of them.
pub(crate) fn signal(signal: Signal) {
    descendants().into_iter().for_each(|pid| send(pid, signal));
}

fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended just now. Its number is not reused before it is reaped.
        let _ = kill_process(pid, signal);
    }
}

/// Ends all of them. Those that make new ones as fast as they can are stopped first, until no new one is found.
pub(crate) fn end() {
    let begun = Instant::now();
    let mut known = BTreeSet::new();
    while begun.elapsed() < PATIENCE {
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        let now = descendants();
        if now.is_empty() {
            return;
        }
        let new: Vec<i32> = now.difference(&known).copied().collect();
        if new.is_empty() {
            now.iter().for_each(|pid| send(*pid, Signal::KILL));
            std::thread::sleep(PAUSE);
        } else {
            new.iter().for_each(|pid| send(*pid, Signal::STOP));
            known.extend(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_read_whatever_the_process_calls_itself() {
        assert_eq!(parent("7 (a) b) (c) S 5 7 7 0"), Some(5));
        assert_eq!(parent("7 (gone) Z 5 7 7 0"), None);
        assert_eq!(parent("nothing"), None);
    }
}
