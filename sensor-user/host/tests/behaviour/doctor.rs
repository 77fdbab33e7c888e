//! The doctor on this host.

use std::io::BufRead as _;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use gnomon_host::doctor::{Check, CheckStatus, Feature, Options, Port, examine, worst};

use crate::support::{eventually, start, tool};

fn find(checks: &[Check], id: &str) -> Check {
    checks.iter().find(|check| check.id == id).unwrap_or_else(|| panic!("{id}: {checks:#?}")).clone()
}

#[test]
fn every_check_says_what_it_saw_and_what_to_do_within_two_seconds() {
    let started = Instant::now();
    let checks = examine(&Options::default());
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let mut ids: Vec<&str> = checks.iter().map(|check| check.id.as_str()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "no id stands twice");
    for check in &checks {
        assert!(!check.seen.is_empty() && (check.next.is_some() || check.state < CheckStatus::Warn), "{check:?}");
    }
    for id in ["kernel.release", "cgroup.layout", "process.capabilities", "clock.real", "clock.boot"] {
        find(&checks, id);
    }
    assert_eq!(find(&checks, "clock.real").state, CheckStatus::Ok);
}

#[test]
fn features_are_reported_as_the_sensor_found_them() {
    let feature = |name: &str, state| Feature { name: name.into(), state, reason: "because".into() };
    let options =
        Options { features: vec![feature("connect4", CheckStatus::Ok), feature("exec", CheckStatus::Warn)], ..Options::default() };
    let checks = examine(&options);
    assert_eq!(find(&checks, "feature.connect4").state, CheckStatus::Ok);
    let exec = find(&checks, "feature.exec");
    assert!(exec.state == CheckStatus::Warn && exec.seen == "because" && exec.next.is_some());
    assert!(worst(&checks) >= CheckStatus::Warn);
}

#[test]
fn a_port_is_free_or_ours() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let look = || {
        let checks = examine(&Options { ports: vec![Port { name: "proxy", address }], ..Options::default() });
        find(&checks, "port.proxy")
    };
    let held = look();
    assert_eq!(held.state, CheckStatus::Ok, "{held:?}");
    assert!(held.seen.contains(&format!("process {}", std::process::id())), "{held:?}");
    drop(listener);
    // A process forked by a parallel test may hold a copy of the socket until it calls exec.
    eventually(|| look().seen.contains("is free").then_some(()));
}

/// A process of another program that listens on the port.
fn listening(python: &std::path::Path) -> (crate::support::Kept, Port) {
    let code = "import socket,sys\ns=socket.create_server(('127.0.0.1',0))\nprint(s.getsockname()[1],flush=True)\nsys.stdin.read()";
    let mut child = start(Command::new(python).args(["-c", code]));
    let mut line = String::new();
    std::io::BufReader::new(child.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, Port { name: "metrics", address: format!("127.0.0.1:{}", line.trim()).parse().unwrap() })
}

#[test]
fn the_holder_of_a_port_is_named() {
    if !gnomon_testkit::has("holder_of_a_port", &["python3"]) {
        return;
    }
    let (child, port) = listening(&tool("python3").unwrap());
    let held = find(&examine(&Options { ports: vec![port], ..Options::default() }), "port.metrics");
    assert_eq!(held.state, CheckStatus::Fail);
    assert!(held.seen.contains(&format!("process {}", child.id())) && held.seen.contains("python"), "{held:?}");
    assert!(held.next.unwrap().contains("metrics"));
}

#[test]
fn the_gnomon_that_serves_holds_its_port_whatever_its_program_file_is_by_now() {
    if !gnomon_testkit::has("port_of_who_serves", &["python3"]) {
        return;
    }
    // As after an upgrade in place, or of another copy: who serves runs another file than who looks.
    let (child, port) = listening(&tool("python3").unwrap());
    let look = |serving| find(&examine(&Options { ports: vec![port.clone()], serving, ..Options::default() }), "port.metrics");
    let held = look(Some(child.id()));
    assert_eq!(held.state, CheckStatus::Ok, "{held:?}");
    assert!(held.seen.contains(&format!("gnomon itself, process {}", child.id())), "{held:?}");
    assert_eq!(look(Some(std::process::id())).state, CheckStatus::Fail, "another holds it");
}

#[test]
fn checks_are_json() {
    let json = serde_json::to_value(examine(&Options::default())).unwrap();
    let first = &json[0];
    assert_eq!((first["id"].as_str(), first["state"].as_str()), (Some("kernel.release"), Some("ok")));
    assert!(first["next"].is_null() && first["seen"].is_string() && first["title"].is_string());
}
