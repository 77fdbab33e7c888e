//! The proxy's requests.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use gnomon_host::cgroup::Hierarchy;
use gnomon_host::identity::BootTime;
use gnomon_link::{
    Executable, Fail, FeatureState, IdentityAnswer, Lineage, List, Mode, Ports, Quic, RefusalReason, ScopeChange, ScopeSettings,
    StartAnswer, ToProxy, ToSensor,
};
use gnomon_sensor::Heartbeat;
use gnomon_sensord::Ended;

use crate::stage::{SOON, Stage};

#[test]
fn the_proxy_is_told_what_works_and_what_was_counted() {
    let Some(stage) = Stage::new("features and counters") else { return };
    assert!(stage.welcome.features.iter().any(|feature| &*feature.name == "gn_connect4" && feature.state == FeatureState::Ok));
    assert_eq!(stage.welcome.ring_bytes, 1 << 16);
    let ToProxy::Features { token: 3, features } = stage.ask(ToSensor::Features { token: 3 }).message else { panic!("no features") };
    assert_eq!(features, stage.welcome.features);
    let ToProxy::Counters { token: 4, programs } = stage.ask(ToSensor::Counters { token: 4 }).message else { panic!("no counters") };
    let connect = programs.iter().find(|program| &*program.name == "gn_connect4").unwrap();
    for outcome in ["attempted", "delivered", "fail_open:stale_heartbeat", "fail_closed:table_full"] {
        assert!(connect.counts.iter().any(|count| &*count.outcome == outcome), "{outcome}");
    }
}

#[test]
fn the_proxy_is_told_who_a_process_is() {
    let Some(stage) = Stage::new("identities") else { return };
    let ask = |pid, connected| {
        let question = ToSensor::Resolve { token: 9, pid, connected_boot_ns: connected, generation_boot_ns: 0, cookie: 1 };
        match stage.ask(question).message {
            ToProxy::Process { token: 9, found } => found,
            other => panic!("{other:?}"),
        }
    };
    let IdentityAnswer::Identity(identity) = ask(std::process::id(), BootTime::now().0) else { panic!("it is us") };
    let this = std::env::current_exe().unwrap();
    assert!(matches!(&identity.executable, Executable::File { path, sha256: Some(_), .. } if **path == *this.to_str().unwrap()));
    assert_eq!(identity.credentials.unwrap().uid, 0);
    assert_eq!(ask(std::process::id(), 1), IdentityAnswer::Gone, "a process that is younger than the connection is another");
}

#[test]
fn what_a_process_runs_is_not_told_of_another_exec_nor_of_another_process_with_its_number() {
    let Some(stage) = Stage::new("starts") else { return };
    let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
    let pid = child.id();
    let ask = |began, lineage| match stage.ask(ToSensor::ReadStart { token: 9, pid, began_boot_ns: began, lineage }).message {
        ToProxy::Start { token: 9, found } => found,
        other => panic!("{other:?}"),
    };
    // The exec itself was before this moment, and is not known to be the one that is asked for.
    assert_eq!(ask(BootTime::now().0, Lineage::Left), StartAnswer::Stale);
    assert_eq!(ask(1, Lineage::Left), StartAnswer::Gone, "a process that is younger than the exec is another");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(ask(BootTime::now().0, Lineage::Left), StartAnswer::Gone);
}

#[test]
fn a_bad_message_is_refused_and_the_next_is_answered() {
    let Some(stage) = Stage::new("bad messages") else { return };
    for bad in [&[0xFF; 40][..], &[0], &[0, 99, 0], &[3, 1, 0, 1, 1, 9, 9, 9, 9]] {
        rustix::net::send(stage.proxy.as_fd(), bad, rustix::net::SendFlags::empty()).unwrap();
    }
    assert!(matches!(stage.ask(ToSensor::Features { token: 1 }).message, ToProxy::Features { token: 1, .. }));
}

#[test]
fn scopes_are_changed_but_for_gnomon_s_own() {
    let Some(stage) = Stage::new("scopes") else { return };
    let hierarchy = Hierarchy::find().unwrap();
    let id = |name: &str| {
        let path = stage.cgroup.join(name);
        hierarchy.at(&format!("/{}", path.strip_prefix(&stage.mount).unwrap().display())).unwrap().id().0
    };
    let settings = |ports: &[u16]| {
        let ports = Ports::Listed(List::cut(ports.iter().copied()));
        ScopeSettings { id: 5, mode: Mode::Redirect, ports, quic: Quic::Leave, fail: Fail::Open }
    };
    let change = |change| stage.ask(ToSensor::Scope { token: 2, change }).message;
    assert_eq!(change(ScopeChange::Set { cgroup: id(""), settings: settings(&[443]) }), ToProxy::Done { token: 2 });
    assert_eq!(change(ScopeChange::Remove { cgroup: id("") }), ToProxy::Done { token: 2 });
    assert_eq!(change(ScopeChange::Default { settings: settings(&[]) }), ToProxy::Done { token: 2 });
    let own = change(ScopeChange::Set { cgroup: id("own"), settings: settings(&[443]) });
    assert!(matches!(own, ToProxy::Refused { token: 2, why: RefusalReason::NotAllowed, .. }), "{own:?}");
    std::fs::create_dir_all(stage.cgroup.join("own/one.service/inner")).unwrap();
    for below in ["own/one.service", "own/one.service/inner"] {
        let own = change(ScopeChange::Set { cgroup: id(below), settings: settings(&[443]) });
        assert!(matches!(own, ToProxy::Refused { token: 2, why: RefusalReason::NotAllowed, .. }), "{below}: {own:?}");
    }
    for below in ["own/one.service/inner", "own/one.service"] {
        std::fs::remove_dir(stage.cgroup.join(below)).unwrap();
    }
    let zero = change(ScopeChange::Set { cgroup: id(""), settings: settings(&[0]) });
    assert!(matches!(zero, ToProxy::Refused { why: RefusalReason::NotAllowed, .. }), "{zero:?}");
}

#[test]
fn listeners_are_where_the_process_is_and_the_same_when_asked_for_again() {
    let Some(stage) = Stage::new("listeners") else { return };
    let ask = |netns_cookie, pid| stage.ask(ToSensor::ListenIn { token: 6, netns_cookie, pid });
    let mut asked = Vec::new();
    for _ in 0..2 {
        let received = ask(0, std::process::id());
        let ToProxy::Listeners { token: 6, netns_cookie, port, .. } = received.message else { panic!("{:?}", received.message) };
        for descriptor in received.descriptors {
            assert_eq!(TcpListener::from(descriptor).local_addr().unwrap().port(), port);
        }
        asked.push((netns_cookie, port));
    }
    assert_eq!(asked[0], asked[1]);
    let wrong = ask(asked[0].0 + 1, std::process::id()).message;
    // Before Linux 5.14 a namespace has no cookie.
    let known = std::fs::metadata("/proc/self/ns/net").map(|found| std::os::unix::fs::MetadataExt::ino(&found)).unwrap() != asked[0].0;
    assert!(!known || matches!(wrong, ToProxy::Refused { why: RefusalReason::OtherNamespace, .. }), "{wrong:?}");
    let gone = ask(0, u32::MAX >> 1).message;
    assert!(matches!(gone, ToProxy::Refused { why: RefusalReason::Gone, .. }), "{gone:?}");
}

#[test]
fn it_ends_when_the_proxy_is_gone_and_when_it_is_told_to() {
    let Some(mut stage) = Stage::new("ends when told") else { return };
    stage.stop.write_all(b"x").unwrap();
    assert_eq!(stage.ended(), Ended::Asked);
    let Some(mut stage) = Stage::new("ends with the proxy") else { return };
    let (another, _) = gnomon_link::ProxyEnd::pair().unwrap();
    drop(std::mem::replace(&mut stage.proxy, another.into()));
    assert_eq!(stage.ended(), Ended::ProxyGone);
    assert!(!stage.folder.path().join("exec.sock").exists());
}

#[test]
fn once_the_proxy_is_gone_what_waits_to_be_accepted_is_reset_at_once_and_nothing_is_redirected_also_while_scopes_fail_closed() {
    for fail in [Fail::Open, Fail::Closed] {
        let Some(mut stage) = Stage::new("listeners of a proxy that is gone") else { return };
        let agents = stage.cgroup.join("agents");
        std::fs::create_dir(&agents).unwrap();
        let hierarchy = Hierarchy::find().unwrap();
        let cgroup = hierarchy.at(&format!("/{}", agents.strip_prefix(&stage.mount).unwrap().display())).unwrap().id().0;
        let settings = ScopeSettings { id: 5, mode: Mode::Redirect, ports: Ports::Listed(List::cut([443])), quic: Quic::Leave, fail };
        let set = ToSensor::Scope { token: 2, change: ScopeChange::Set { cgroup, settings } };
        assert_eq!(stage.ask(set).message, ToProxy::Done { token: 2 });
        let ToProxy::Listeners { port, .. } = stage.ask(ToSensor::ListenIn { token: 6, netns_cookie: 0, pid: std::process::id() }).message
        else {
            panic!("no listeners")
        };
        let mut queued = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        Heartbeat::from_fd(stage.welcome.heartbeat.try_clone().unwrap()).unwrap().beat();
        let (another, _) = gnomon_link::ProxyEnd::pair().unwrap();
        drop(std::mem::replace(&mut stage.proxy, another.into()));
        let gone = Instant::now();
        queued.set_read_timeout(Some(SOON)).unwrap();
        assert_eq!(queued.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset, "{fail:?}");
        assert!(gone.elapsed() < Duration::from_millis(500), "{fail:?}: {:?}", gone.elapsed());
        assert_eq!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        // No heartbeat is left that would let a connection be redirected.
        assert_eq!(last_beat(&stage.welcome.heartbeat), 0, "{fail:?}");
    }
}

/// Reads the heartbeat as the kernel half does.
fn last_beat(heartbeat: &OwnedFd) -> u64 {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    let length = rustix::param::page_size();
    // SAFETY: a new mapping at a place of the kernel's choice, of a map that holds one word, read before it is unmapped.
    unsafe {
        let start = mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, heartbeat, 0).unwrap();
        let beat = start.cast::<u64>().read_volatile();
        munmap(start, length).unwrap();
        beat
    }
}
