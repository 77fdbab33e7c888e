//! Programs of `gnomon exec`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::sync::atomic::Ordering;
use std::time::Instant;

use gnomon_link::{Fail, List, Mode, Ports, Quic, Redirect, ScopeChange, ScopeSettings, ToProxy, ToSensor};
use gnomon_sensord::status::Status;

use crate::program::Program;
use crate::stage::{Stage, until};

const NOBODY: u32 = 65534;

#[test]
fn a_user_joins_from_a_cgroup_of_its_own_and_its_scope_goes_when_it_ends() {
    let Some(stage) = Stage::new("joining from a delegated cgroup") else { return };
    stage.beat();
    let handed = stage.accept_listeners();
    let socket = stage.folder.path().join("exec.sock");
    // As a user's service manager sets it up: the folder and its files belong to the user.
    let delegated = stage.cgroup.join("delegated");
    fs::create_dir(&delegated).unwrap();
    for path in [delegated.clone(), delegated.join("cgroup.procs")] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let program = Program::join(&socket, &delegated, NOBODY, Redirect::On);
    let path = program.said.strip_prefix("joined ").unwrap_or_else(|| panic!("{}", program.said)).split(' ').next().unwrap();
    assert_eq!(program.cgroup(), path);
    assert!(path.contains("/delegated/gnomon-exec-"), "{path}");
    let bundle = stage.folder.path().join("ca-bundle.pem");
    assert!(program.said.contains(bundle.to_str().unwrap()), "{}", program.said);
    assert_eq!(fs::metadata(&bundle).unwrap().permissions().mode() & 0o777, 0o644);
    assert!(
        fs::read_to_string(&bundle)
            .unwrap()
            .contains(fs::read_to_string(stage.folder.path().join("ca.pem")).unwrap().trim().lines().nth(1).unwrap())
    );

    let another = Program::join(&socket, &delegated, NOBODY, Redirect::On);
    assert!(another.said.starts_with("joined"), "{}", another.said);
    assert_eq!(handed.load(Ordering::Relaxed), 1, "both are in one network namespace");
    let scope = stage.mount.join(path.trim_start_matches('/'));
    assert!(scope.exists());
    drop(program);
    until("the scope to go", || (!scope.exists()).then_some(()));
}

#[test]
fn a_program_outside_of_the_cgroup_that_the_sensor_sees_is_refused_and_does_not_run_unread() {
    let Some(stage) = Stage::new("outside of the sensor's cgroup") else { return };
    stage.beat();
    let _handed = stage.accept_listeners();
    let outside = stage.cgroup.with_extension("outside");
    fs::create_dir(&outside).unwrap();
    let socket = stage.folder.path().join("exec.sock");
    let program = Program::join(&socket, &outside, NOBODY, Redirect::On);
    assert!(program.said.starts_with("denied NoSensor: ") && program.said.contains("looks at"), "{}", program.said);
    drop(program);
    until("the cgroup to go", || fs::remove_dir(&outside).ok());
}

#[test]
fn a_scope_within_a_scope_is_below_it() {
    let Some(stage) = Stage::new("a scope within a scope") else { return };
    let socket = stage.folder.path().join("exec.sock");
    let outer = Program::join(&socket, &stage.cgroup, 0, Redirect::Off);
    assert!(outer.said.ends_with(" None"), "it needs neither proxy nor certificates: {}", outer.said);
    let inner = Program::join(&socket, &stage.mount.join(outer.cgroup().trim_start_matches('/')), 0, Redirect::Off);
    assert!(inner.cgroup().starts_with(&format!("{}/gnomon-exec-", outer.cgroup())), "{}", inner.cgroup());
}

#[test]
fn what_the_configuration_redirects_is_redirected_also_where_the_program_asks_to_be_left_alone() {
    let Some(stage) = Stage::new("a scope that governs") else { return };
    let governed = stage.cgroup.join("governed");
    fs::create_dir(&governed).unwrap();
    let cgroup = fs::metadata(&governed).unwrap().ino();
    let ports = Ports::Listed(List::cut([443]));
    let settings = ScopeSettings { id: 5, mode: Mode::Redirect, ports, quic: Quic::Leave, fail: Fail::Closed };
    let set = ToSensor::Scope { token: 2, change: ScopeChange::Set { cgroup, settings } };
    assert_eq!(stage.ask(set).message, ToProxy::Done { token: 2 });
    let redirecting = |count: usize| {
        until("scopes that redirect", || {
            let status = Status::read(stage.folder.path()).unwrap()?;
            (status.redirecting == count).then_some(())
        });
    };
    redirecting(1);
    let socket = stage.folder.path().join("exec.sock");
    let outside = Program::join(&socket, &stage.cgroup, 0, Redirect::Off);
    let inside = Program::join(&socket, &governed, 0, Redirect::Off);
    assert!(outside.said.starts_with("joined") && inside.said.starts_with("joined"), "{} {}", outside.said, inside.said);
    // A scope of its own with the mode of the one around it.
    redirecting(2);
    let deeper = Program::join(&socket, &stage.mount.join(inside.cgroup().trim_start_matches('/')), 0, Redirect::Off);
    assert!(deeper.said.starts_with("joined"), "{}", deeper.said);
    redirecting(3);
}

#[test]
fn a_user_has_so_many_scopes_and_no_more_until_one_ends() {
    let Some(stage) = Stage::with("too many scopes", |exec| exec.scopes_per_user = 2) else { return };
    let join = |uid| Program::join(&stage.folder.path().join("exec.sock"), &stage.cgroup, uid, Redirect::Off);
    let first = join(0);
    let _second = join(0);
    assert!(join(0).said.starts_with("denied Full"));
    assert!(join(NOBODY).said.starts_with("joined"), "another user is not concerned");
    drop(first);
    until("a place", || join(0).said.starts_with("joined").then_some(()));
}

#[test]
fn while_the_proxy_is_silent_no_program_is_redirected_and_nothing_is_changed() {
    let Some(stage) = Stage::new("a silent proxy") else { return };
    let start = Instant::now();
    let program = Program::join(&stage.folder.path().join("exec.sock"), &stage.cgroup, 0, Redirect::On);
    assert!(program.said.starts_with("denied Failed: the proxy does not accept"), "{}", program.said);
    assert!(start.elapsed().as_secs() < 15, "it is told in time");
    assert_eq!(stage.mount.join(program.cgroup().trim_start_matches('/')), stage.cgroup);
    assert_eq!(fs::read_dir(&stage.cgroup).unwrap().flatten().filter(|entry| entry.path().is_dir()).count(), 1, "only our own");
}

#[test]
fn listeners_of_a_namespace_go_with_its_last_scope_and_more_than_the_bound_come_and_go() {
    let Some(stage) = Stage::new("namespaces that come and go") else { return };
    stage.beat();
    let handed = stage.accept_listeners();
    let socket = stage.folder.path().join("exec.sock");
    // One program stays, so that its listeners do.
    let staying = Program::join_elsewhere(&socket, &stage.cgroup);
    assert!(staying.said.starts_with("joined"), "{}", staying.said);
    // The bound is 256 namespaces at a time.
    for round in 0..270 {
        let program = Program::join_elsewhere(&socket, &stage.cgroup);
        assert!(program.said.starts_with("joined"), "{round}: {}", program.said);
        let path = stage.mount.join(program.cgroup().trim_start_matches('/'));
        drop(program);
        until("the scope to go", || (!path.exists()).then_some(()));
    }
    assert_eq!(handed.load(Ordering::Relaxed), 271);
    let namespace = format!("--net=/proc/{}/ns/net", staying.pid());
    let listens = || {
        let output = std::process::Command::new("nsenter").arg(&namespace).args(["cat", "/proc/net/tcp"]).output().unwrap();
        // State 0A is LISTEN (include/net/tcp_states.h).
        String::from_utf8(output.stdout).unwrap().lines().filter(|line| line.split_whitespace().nth(3) == Some("0A")).count()
    };
    assert_eq!(listens(), 1, "its scope lives");
}

#[test]
fn a_namespace_that_is_joined_again_gets_listeners_again() {
    let Some(stage) = Stage::new("a namespace joined again") else { return };
    stage.beat();
    let handed = stage.accept_listeners();
    let socket = stage.folder.path().join("exec.sock");
    // This process keeps the namespace alive, and has no scope.
    let keeper = Program::join_nowhere();
    for round in 1..=3 {
        let program = Program::join_in(keeper.pid(), &socket, &stage.cgroup);
        assert!(program.said.starts_with("joined"), "{}", program.said);
        assert_eq!(handed.load(Ordering::Relaxed), round);
        let path = stage.mount.join(program.cgroup().trim_start_matches('/'));
        drop(program);
        until("the scope to go", || (!path.exists()).then_some(()));
    }
}
