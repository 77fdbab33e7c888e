//! Taking up a cgroup that is gnomon's to divide, so that each instance of a program can have one of its own.
//!
//! A service manager says so by an extended attribute (systemd: `Delegate=`, "Control Group APIs and Delegation"), and
//! where it does not, nothing is touched. A cgroup that has processes cannot hand controllers on to those below it (the
//! kernel's "no internal processes"), so what is gnomon's moves to a leaf first.

use crate::{
    group::{Group, processes, write},
    tree,
};
use rustix::{fs::getxattr, io::Errno};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The name of gnomon's own cgroup below its service's.
const LEAF: &str = "gnomon";
/// The extended attributes that mark a cgroup as delegated. Everybody can read the first, which systemd 252 sets; root the second, which
/// older ones set alone.
const DELEGATED: [&str; 2] = ["user.delegate", "trusted.delegate"];
/// The controllers that bound each instance.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
/// The most rounds in which processes started meanwhile are moved as well.
const ROUNDS: usize = 16;
/// The time within which processes of an earlier gnomon must have ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// The reason that programs have no control group of their own.
#[derive(Debug, thiserror::Error)]
pub enum Unsettled {
    /// The cgroup is not delegated to gnomon.
    #[error("the cgroup {} is not delegated to gnomon (systemd: Delegate=memory pids)", .0.display())]
    NotDelegated(PathBuf),
    /// The kernel bounds nothing there.
    #[error("the cgroup {} lacks the controller {lacking}", path.display())]
    Controller {
        /// The cgroup.
        path: PathBuf,
        /// The first of [`CONTROLLERS`] that is missing.
        lacking: &'static str,
    },
    /// Other processes are in it, and would be bounded or in the way.
    #[error("the process {process} is in the cgroup {} as well, and gnomon has not started it", path.display())]
    Shared {
        /// The cgroup.
        path: PathBuf,
        /// Its number, 0 where it is outside of this pid namespace.
        process: i32,
    },
    /// Any other answer of the system.
    #[error("{action} {}: {cause}", path.display())]
    System {
        /// The action that failed.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's answer.
        cause: io::Error,
    },
}

/// Makes a cgroup ready to be the parent of instances' groups ([`crate::Plan::group`]), if it is this process's to divide:
/// the answer. `own` is the folder of the cgroup that this process is in. It moves to a leaf of that, which is as good an
/// `own` the next time.
///
/// Ends what an earlier gnomon left there, so this belongs before the start of the first program.
///
/// # Errors
/// The reason that it cannot be the parent. Nothing was changed unless the system refused in the middle of it.
pub fn settle(own: &Path) -> Result<PathBuf, Unsettled> {
    let parent = delegated(own)?;
    let controllers = read(&parent.join("cgroup.controllers"))?;
    if let Some(lacking) = CONTROLLERS.into_iter().find(|wanted| !controllers.split_whitespace().any(|there| there == *wanted)) {
        return Err(Unsettled::Controller { path: parent, lacking });
    }
    let leaf = parent.join(LEAF);
    move_in(&parent, &leaf)?;
    for controller in CONTROLLERS {
        let control = parent.join("cgroup.subtree_control");
        write(&control, &format!("+{controller}")).map_err(system("writing", &control))?;
    }
    let until = Instant::now() + PATIENCE;
    // A keeper that lives sees to its own.
    let keepers = processes(&leaf);
    let left = Group::all(&parent).into_iter().filter(|(_, keeper)| !keepers.iter().any(|there| there.cast_unsigned() == *keeper));
    left.for_each(|(group, _)| group.end(until));
    Ok(parent)
}

fn system(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Unsettled {
    let path = path.to_owned();
    move |cause| Unsettled::System { action, path, cause }
}

fn read(path: &Path) -> Result<String, Unsettled> {
    fs::read_to_string(path).map_err(system("reading", path))
}

/// The cgroup that was delegated: where this process is, or above its leaf.
fn delegated(own: &Path) -> Result<PathBuf, Unsettled> {
    let above = own.parent().filter(|_| own.file_name().is_some_and(|name| name == LEAF));
    let found = [Some(own), above].into_iter().flatten().find(|cgroup| is_delegated(cgroup));
    found.map(Path::to_owned).ok_or_else(|| Unsettled::NotDelegated(own.to_owned()))
}

fn is_delegated(cgroup: &Path) -> bool {
    DELEGATED.into_iter().any(|attribute| {
        let mut value = [0; 8];
        getxattr(cgroup, attribute, &mut value).is_ok_and(|length: usize| value.get(..length) == Some(b"1"))
    })
}

/// Moves this process and what it has started from the cgroup to its leaf.
fn move_in(parent: &Path, leaf: &Path) -> Result<(), Unsettled> {
    for _ in 0..ROUNDS {
        let there = processes(parent);
        let mut ours = tree::descendants();
        ours.insert(std::process::id().cast_signed());
        if let Some(process) = there.iter().find(|process| !ours.contains(process)) {
            // A cgroup of ours that ended meanwhile is gone when it is asked again.
            if processes(parent).contains(process) {
                return Err(Unsettled::Shared { path: parent.to_owned(), process: *process });
            }
            continue;
        }
        match fs::create_dir(leaf) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(system("making", leaf)(error)),
            _ => {}
        }
        if there.is_empty() {
            return Ok(());
        }
        let joined = leaf.join("cgroup.procs");
        for process in there {
            match write(&joined, &process.to_string()) {
                Err(error) if error.raw_os_error() != Some(Errno::SRCH.raw_os_error()) => return Err(system("joining", leaf)(error)),
                _ => {}
            }
        }
    }
    Err(system("emptying", parent)(io::Error::from(io::ErrorKind::ResourceBusy)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_touched_where_nothing_says_that_it_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let leaf = folder.path().join(LEAF);
        fs::create_dir(&leaf).unwrap();
        fs::write(folder.path().join("cgroup.controllers"), "memory pids\n").unwrap();
        for own in [folder.path(), &leaf] {
            assert!(matches!(settle(own), Err(Unsettled::NotDelegated(path)) if path == own));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
