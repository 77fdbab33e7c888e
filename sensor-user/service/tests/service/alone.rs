//! Programs of another owner that allow no other beside them, attached before ours.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use gnomon_link::{Fail, FeatureState, List, Mode, Ports, Quic, ScopeChange, ScopeSettings, ToProxy, ToSensor};

use gnomon_testkit::foreign::{Answer, Beside, CONNECT4, Foreign, Hook, SOCK_OPS};

use crate::stage::{Stage, until};

/// Attaches a program that allows no other.
fn attach(cgroup: &Path, hook: Hook) {
    // The cgroup keeps it attached.
    drop(Foreign::attach(cgroup, hook, Beside::Nothing, Answer::Allow));
}

/// What a program in the cgroup receives when it connects to a server that sends `direct`.
fn connects(cgroup: &Path, port: u16) -> String {
    let script = r#"echo $$ > "$0/cgroup.procs"; exec bash -c "exec 3<>/dev/tcp/127.0.0.2/$1 && head -c 6 <&3""#;
    let output = Command::new("sh").args(["-c", script]).arg(cgroup).arg(port.to_string()).stderr(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn where_owners_cannot_be_known_nothing_is_redirected_and_scopes_open_or_close_as_set() {
    let Some(stage) = Stage::after("alone on sock_ops", |cgroup| attach(cgroup, SOCK_OPS)) else { return };
    let broken = stage.welcome.features.iter().find(|feature| feature.name.as_str() == "gn_sockops").unwrap();
    assert_eq!(broken.state, FeatureState::Broken);
    let server = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in server.incoming() {
            std::io::Write::write_all(&mut stream.unwrap(), b"direct").unwrap();
        }
    });
    // A proxy that sends heartbeats and accepts.
    let listeners = stage.ask(ToSensor::ListenIn { token: 6, netns_cookie: 0, pid: std::process::id() });
    assert!(matches!(listeners.message, ToProxy::Listeners { .. }), "{:?}", listeners.message);
    stage.beat();
    for (fail, hears) in [(Fail::Open, "direct"), (Fail::Closed, "")] {
        let scoped = stage.cgroup.join(format!("{fail:?}"));
        std::fs::create_dir(&scoped).unwrap();
        let cgroup = std::fs::metadata(&scoped).unwrap().ino();
        let settings = ScopeSettings { id: 5, mode: Mode::Redirect, ports: Ports::Listed(List::cut([port])), quic: Quic::Leave, fail };
        let set = stage.ask(ToSensor::Scope { token: 2, change: ScopeChange::Set { cgroup, settings } }).message;
        assert_eq!(set, ToProxy::Done { token: 2 });
        assert_eq!(connects(&scoped, port), hears, "{fail:?}");
        until("the program to end", || std::fs::remove_dir(&scoped).ok());
    }
    // The listeners that were handed over stay open all the time.
    for listener in listeners.descriptors {
        let listener = TcpListener::from(listener);
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "nobody came");
    }
}

#[test]
fn a_scope_that_cannot_hold_at_all_is_refused_with_the_reason() {
    let Some(stage) = Stage::after("alone on connect4", |cgroup| attach(cgroup, CONNECT4)) else { return };
    let cgroup = std::fs::metadata(&stage.cgroup).unwrap().ino();
    let ports = Ports::Listed(List::cut([443]));
    let settings = ScopeSettings { id: 5, mode: Mode::Redirect, ports, quic: Quic::Leave, fail: Fail::Closed };
    let set = stage.ask(ToSensor::Scope { token: 2, change: ScopeChange::Set { cgroup, settings } }).message;
    let ToProxy::Refused { token: 2, detail, .. } = set else { panic!("{set:?}") };
    assert!(detail.as_str().contains("gn_connect4 is not attached"), "{detail:?}");
}

#[test]
fn programs_of_others_are_not_overridden_by_ours() {
    use std::cell::OnceCell;
    let (denied, server) = (OnceCell::new(), TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap());
    let port = server.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in server.incoming() {
            std::io::Write::write_all(&mut stream.unwrap(), b"direct").unwrap();
        }
    });
    let Some(stage) = Stage::within("overridden above", |above| {
        denied.set(Foreign::attach(above, CONNECT4, Beside::Override, Answer::Refuse)).unwrap();
    }) else {
        return;
    };
    let feature = stage.welcome.features.iter().find(|feature| feature.name.as_str() == "gn_connect4").unwrap();
    assert_eq!(feature.state, FeatureState::Broken);
    assert!(feature.reason.as_str().contains("would switch off program"), "{}", feature.reason);
    let below = stage.cgroup.join("agents");
    std::fs::create_dir(&below).unwrap();
    assert_eq!(connects(&below, port), "", "who forbids connections above still does");
    denied.into_inner().unwrap().detach();
    assert_eq!(connects(&below, port), "direct");
    until("the program to end", || std::fs::remove_dir(&below).ok());
}
