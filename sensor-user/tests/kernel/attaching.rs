//! Which programs are attached where, and what the kernel half records about processes.

use std::process::Command;

use gnomon_sensor::attached;

use crate::support::{Stage, needs, until};

#[test]
fn attached_programs_are_listed_by_hook_and_name() {
    if !needs("attached") {
        return;
    }
    let stage = Stage::new("attached", 0, |_| {});
    let mut found: Vec<(&str, String)> = attached(&stage.cgroup).unwrap().into_iter().map(|program| (program.hook, program.name)).collect();
    found.sort();
    let expected = [
        ("connect4", "gn_connect4"),
        ("connect6", "gn_connect6"),
        ("egress", "gn_hello"),
        ("getpeername4", "gn_getpeer4"),
        ("getpeername6", "gn_getpeer6"),
        ("sendmsg4", "gn_sendmsg4"),
        ("sendmsg6", "gn_sendmsg6"),
        ("sock_ops", "gn_sockops"),
        ("sock_release", "gn_release"),
    ];
    assert_eq!(found, expected.map(|(hook, name)| (hook, name.to_owned())));
    assert_eq!(attached(&stage.client_cgroup()).unwrap(), [], "nothing at a cgroup below");
}

#[test]
fn a_process_is_remembered_with_the_time_of_its_last_exec() {
    if !needs("execs") {
        return;
    }
    let stage = Stage::new("execs", 0, |_| {});
    let execs = stage.sensor.execs().unwrap();
    assert_eq!(execs.last(std::process::id()), None, "it began before the sensor did");
    let mut child = Command::new("/bin/sh").args(["-c", "read x; exec sleep 60"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    // A process that waits for an exec is woken a moment before the tracepoint runs.
    until("the first exec", || execs.last(child.id()).is_some());
    let first = execs.last(child.id()).unwrap();
    drop(child.stdin.take());
    until("the second exec", || execs.last(child.id()).is_some_and(|last| last > first));
    child.kill().unwrap();
    child.wait().unwrap();
}
