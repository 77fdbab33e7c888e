//! Cgroups, created below the one that the tests run in, and removed again.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use gnomon_host::cgroup::{CgroupError, Hierarchy, LeftBehind, MAX_FOREIGN, MAX_MATCHES, Removal, Scope};
use gnomon_host::identity::{Answer, BootTime, Generation, Resolver};

use crate::support::{eventually, skipped, start};

/// `None`, reported as a skip, where cgroups cannot be created.
fn scope(name: &str) -> Option<(Hierarchy, Scope)> {
    let hierarchy = match Hierarchy::find() {
        Ok(hierarchy) => hierarchy,
        Err(error) => {
            skipped(name, &error.to_string());
            return None;
        }
    };
    match hierarchy.current().and_then(|cgroup| cgroup.scope()) {
        Ok(scope) => Some((hierarchy, scope)),
        Err(error) => {
            skipped(name, &error.to_string());
            None
        }
    }
}

#[test]
fn a_process_that_joined_is_in_the_scope_with_what_it_starts() {
    let Some((hierarchy, scope)) = scope("joining_a_scope") else { return };
    let mut child = start(Command::new("sh").args(["-c", "read line; exec 3<&0; cat <&3 & echo $!; wait"]));
    scope.join(child.id()).unwrap();
    assert_eq!(hierarchy.of(child.id()).unwrap().id(), scope.id());

    child.0.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.0.stdout.as_mut().unwrap()), &mut line).unwrap();
    assert_eq!(hierarchy.of(line.trim().parse().unwrap()).unwrap().path(), scope.cgroup().path());

    let Answer::Known(identity) = eventually(|| {
        let answer = Resolver::default().identify(child.id(), BootTime::now(), Generation::UNKNOWN);
        (answer != Answer::Stale).then_some(answer)
    }) else {
        panic!("not known")
    };
    assert_eq!(identity.place.cgroup, scope.cgroup().path());
    assert_eq!(scope.remove().unwrap(), Removal::InUse);
    // The other process reads the same pipe, and ends with it.
    drop(child.0.stdin.take());
    child.wait().unwrap();
    eventually(|| (scope.remove().unwrap() == Removal::Removed).then_some(()));
    assert!(matches!(hierarchy.at(scope.cgroup().path()), Err(CgroupError::Io { .. })));
}

#[test]
fn a_scope_lies_below_the_callers_cgroup_and_is_gone_when_dropped() {
    let Some((hierarchy, scope)) = scope("scope_below_caller") else { return };
    let current = hierarchy.current().unwrap();
    let path = scope.cgroup().path().to_owned();
    assert!(path.starts_with(current.path()) && path != current.path());
    assert_ne!(scope.id(), current.id());
    let directory = hierarchy.mount().join(path.trim_start_matches('/'));
    assert!(directory.is_dir());
    drop(scope);
    assert!(!directory.exists());
}

#[test]
fn a_cgroup_is_found_by_its_number() {
    let Some((hierarchy, scope)) = scope("cgroup_by_number") else { return };
    let nested = scope.cgroup().scope().unwrap();
    let found = hierarchy.find_id(nested.id()).unwrap().unwrap();
    assert_eq!(found.path(), nested.cgroup().path());
    let top = hierarchy.top().unwrap();
    assert_eq!(hierarchy.find_id(top.id()).unwrap().unwrap().path(), top.path());
    let id = nested.id();
    drop(nested);
    assert!(hierarchy.find_id(id).unwrap().is_none());
}

#[test]
fn empty_cgroups_that_a_program_made_below_go_with_the_scope() {
    let Some((hierarchy, scope)) = scope("nested_cgroups") else { return };
    let directory = hierarchy.mount().join(scope.cgroup().path().trim_start_matches('/'));
    fs::create_dir_all(directory.join("a/b/c")).unwrap();
    fs::create_dir(directory.join("d")).unwrap();
    assert_eq!(scope.remove().unwrap(), Removal::Removed);
    assert_eq!(scope.remove().unwrap(), Removal::Removed, "once more does no harm");
}

#[test]
fn a_process_moves_itself_by_a_file_that_it_was_given() {
    let Some((hierarchy, scope)) = scope("joining_by_file") else { return };
    let file = scope.joining().unwrap();
    let mut child = crate::support::Kept(
        Command::new("sh").args(["-c", "echo 0 && read line"]).stdin(std::process::Stdio::piped()).stdout(file).spawn().unwrap(),
    );
    eventually(|| (hierarchy.of(child.id()).unwrap().id() == scope.id()).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_process_that_is_gone_cannot_join() {
    let Some((_, scope)) = scope("gone_cannot_join") else { return };
    let mut child = start(&mut Command::new("true"));
    child.wait().unwrap();
    assert!(matches!(scope.join(child.id()), Err(CgroupError::ProcessGone(pid)) if pid == child.id()));
}

#[test]
fn what_a_killed_maker_left_is_removed_if_empty_and_found_if_not_and_what_others_keep_is_left_alone() {
    let Some((hierarchy, scope)) = scope("sweeping") else { return };
    let directory = hierarchy.mount().join(scope.cgroup().path().trim_start_matches('/'));
    // Above the highest process id: pid_max is at most 2^22.
    let [empty, used, kept, other] =
        ["gnomon-exec-4194305-0", "gnomon-exec-4194305-1", "gnomon-exec-4194305-2", "somebody"].map(|name| directory.join(name));
    for made in [&empty, &used, &kept, &other] {
        fs::create_dir(made).unwrap();
    }
    let mut children = [&used, &kept].map(|cgroup| {
        let child = start(Command::new("sh").args(["-c", "read line"]));
        fs::write(cgroup.join("cgroup.procs"), child.id().to_string()).unwrap();
        child
    });
    let left = hierarchy.left_behind(scope.cgroup().path()).unwrap();
    let paths =
        |left: &LeftBehind| left.populated.iter().map(|found| hierarchy.mount().join(&found.cgroup().path()[1..])).collect::<Vec<_>>();
    assert!(left.removed >= 1 && !empty.exists() && other.exists() && directory.exists());
    let mut found = paths(&left);
    found.sort();
    assert_eq!(found, [used.clone(), kept.clone()]);
    assert!(left.populated.iter().all(|found| found.owner().unwrap() == rustix::process::geteuid().as_raw()));
    // This process takes one of them over and writes its note, to be read again.
    let mut ours = left.populated.into_iter().find(|found| found.cgroup().path().ends_with("-2")).unwrap();
    assert_eq!(ours.note::<String>().unwrap(), None);
    match ours.keep(&"what it is for") {
        Err(error) => skipped("a note on a cgroup", &error.to_string()),
        Ok(()) => {
            assert_eq!(ours.note::<String>().unwrap().unwrap().kept, "what it is for");
            assert_eq!(paths(&hierarchy.left_behind(scope.cgroup().path()).unwrap()), [used]);
        }
    }
    assert_eq!(ours.cgroup().processes(10), [children[1].id()]);
    assert_eq!(scope.cgroup().processes(10).len(), 2);
    assert_eq!(scope.cgroup().processes(1).len(), 1);
    assert_eq!(hierarchy.left_behind("/not/there").unwrap().populated.len(), 0, "what lies elsewhere is another's");
    for child in &mut children {
        drop(child.0.stdin.take());
        child.wait().unwrap();
    }
}

/// A cgroup below this one that belongs to that user; `None`, reported as a skip, where it cannot be given away.
fn delegated(name: &str, below: &Path, user: u32) -> Option<PathBuf> {
    let made = below.join(format!("of-{user}"));
    fs::create_dir(&made).unwrap();
    match std::os::unix::fs::chown(&made, Some(user), None) {
        Ok(()) => Some(made),
        Err(error) => {
            skipped(name, &error.to_string());
            None
        }
    }
}

#[test]
fn of_one_user_s_cgroups_a_pattern_matches_the_oldest_and_keeps_no_other_user_s_out() {
    let test = "of_one_user_s_cgroups_a_pattern_matches_the_oldest_and_keeps_no_other_user_s_out";
    let Some((hierarchy, scope)) = scope(test) else { return };
    let directory = hierarchy.mount().join(scope.cgroup().path().trim_start_matches('/'));
    let (Some(many), Some(few)) = (delegated(test, &directory, 4_000_001), delegated(test, &directory, 4_000_002)) else { return };
    for number in 0..MAX_MATCHES + 5 {
        fs::create_dir(many.join(format!("app-{number}"))).unwrap();
    }
    fs::create_dir(few.join("app-0")).unwrap();
    // What a user gives to another one within stays theirs.
    std::os::unix::fs::chown(many.join("app-0"), Some(4_000_003), None).unwrap();
    let found = hierarchy.matching(&format!("{}/*/app-*", scope.cgroup().path()).parse().unwrap()).unwrap();
    assert_eq!(
        found.of_users.iter().map(|(user, of_user)| (*user, of_user.len())).collect::<Vec<_>>(),
        [(4_000_001, MAX_MATCHES), (4_000_002, 1)]
    );
    assert_eq!((found.len(), found.beyond), (MAX_MATCHES + 1, [4_000_001].into()));
    let ids = |folder: &str| hierarchy.at(&format!("{}/of-4000001/{folder}", scope.cgroup().path())).unwrap().id();
    assert!(
        found.of_users[&4_000_001].contains(&ids("app-0"))
            && !found.of_users[&4_000_001].contains(&ids(&format!("app-{}", MAX_MATCHES + 4)))
    );
}

#[test]
fn cgroups_that_a_user_calls_like_scopes_hide_no_scope_and_hold_no_descriptor() {
    let test = "cgroups_that_a_user_calls_like_scopes_hide_no_scope_and_hold_no_descriptor";
    let Some((hierarchy, scope)) = scope(test) else { return };
    let directory = hierarchy.mount().join(scope.cgroup().path().trim_start_matches('/'));
    let Some(theirs) = delegated(test, &directory, 4_000_001) else { return };
    let mut child = start(Command::new("sh").args(["-c", "read line"]));
    // Populated is what has a process below it: one process is in all of them.
    let mut folder = theirs.clone();
    for number in 0..MAX_FOREIGN + 3 {
        folder.push(format!("gnomon-exec-4194305-{number}"));
        fs::create_dir(&folder).unwrap();
        std::os::unix::fs::chown(&folder, Some(4_000_001), None).unwrap();
    }
    let real = folder.join("gnomon-exec-4194305-99");
    fs::create_dir(&real).unwrap();
    fs::write(real.join("cgroup.procs"), child.id().to_string()).unwrap();
    let left = hierarchy.left_behind(scope.cgroup().path()).unwrap();
    assert_eq!(
        left.populated.iter().map(|scope| scope.cgroup().path().rsplit('/').next().unwrap()).collect::<Vec<_>>(),
        ["gnomon-exec-4194305-99"]
    );
    assert!(left.foreign.len() == MAX_FOREIGN && left.foreign.iter().all(|(_, owner)| *owner == 4_000_001));
    assert!(left.beyond[&4_000_001].ends_with(&format!("gnomon-exec-4194305-{MAX_FOREIGN}")), "{:?}", left.beyond);
    drop(child.0.stdin.take());
    child.wait().unwrap();
}
