//! gnomon as root: three processes with no more rights than they need, and what happens to the host's traffic when one of them is killed.
//! The eBPF programs are attached to a cgroup of the test.

use crate::sensor_stage::{Host, Joined, Road, children, kill, logged, needs, programs, server, skip, status, until, until_gone};
use rustix::process::Signal;
use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt,
    },
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// `CAP_DAC_OVERRIDE`, `CAP_DAC_READ_SEARCH`, `CAP_SETGID`, `CAP_SETUID`, `CAP_NET_ADMIN`, `CAP_SYS_PTRACE`, `CAP_SYS_ADMIN`, `CAP_PERFMON` and `CAP_BPF`
/// (linux/capability.h).
const SENSOR: u64 = 1 << 1 | 1 << 2 | 1 << 6 | 1 << 7 | 1 << 12 | 1 << 19 | 1 << 21 | 1 << 38 | 1 << 39;
const NOBODY: u32 = 65534;

fn sets(pid: u32) -> [u64; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|key| u64::from_str_radix(&status(pid, key).unwrap(), 16).unwrap())
}

#[test]
fn each_process_has_the_user_and_the_capabilities_that_it_needs_and_no_others() {
    if !needs("sensor processes") {
        return;
    }
    let mut host = Host::start();
    let serving = host.part("gnomon-serving");
    let uid = status(serving, "Uid").unwrap();
    assert!(uid.split_whitespace().all(|id| id != "0"), "{uid}");
    assert_eq!(sets(serving), [0; 5]);
    assert_eq!(status(serving, "NoNewPrivs").unwrap(), "1");
    let sensor = host.part("gnomon-sensor");
    assert_eq!(sets(sensor), [0, SENSOR, SENSOR, SENSOR, 0]);
    assert_eq!(status(sensor, "NoNewPrivs").unwrap(), "1");
    assert!(programs(sensor).len() >= 10 && programs(serving).is_empty());
    assert_eq!(children(host.child.id()).len(), 2);
    // A thread of its own writes its log.
    assert!(status(host.child.id(), "Threads").is_some_and(|threads| threads == "2"), "the supervisor does nothing else by itself");
}

#[test]
fn only_gnomon_can_read_the_authoritys_key_also_where_the_user_nobody_owned_it_before() {
    if !needs("the key of the authority") {
        return;
    }
    let mut host = Host::start_with(&["--sensor", "off"]);
    let key = host.state.path().join("ca.key");
    let reads =
        |uid: u32| Command::new("cat").arg(&key).uid(uid).gid(uid).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success();
    let check = |host: &mut Host| {
        // The folder is readable for everybody, as a package creates it; the key file is not.
        fs::set_permissions(host.state.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let owner = fs::metadata(&key).unwrap().uid();
        let serving = status(host.part("gnomon-serving"), "Uid").unwrap();
        assert_eq!(serving.split_whitespace().next().unwrap(), owner.to_string());
        assert!(owner != NOBODY && owner != 0 && !reads(NOBODY) && reads(owner), "{owner}");
    };
    check(&mut host);
    // As the file was created by earlier versions.
    kill(host.child.id(), Signal::TERM);
    host.ended();
    chown(host.state.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    for entry in fs::read_dir(host.state.path()).unwrap().flatten() {
        chown(entry.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    assert!(reads(NOBODY));
    let certificate = fs::read(host.state.path().join("ca.pem")).unwrap();
    host.start_again();
    // A number that was free: another's, where another process took the first one meanwhile.
    check(&mut host);
    assert_eq!(fs::read(host.state.path().join("ca.pem")).unwrap(), certificate, "it is the same authority");
    logged(|| host.log(), "was nobody's (65534)");
}

#[test]
fn when_told_to_stop_nothing_stays() {
    if !needs("sensor stop") {
        return;
    }
    let mut host = Host::start();
    let (sensor, serving) = (host.part("gnomon-sensor"), host.part("gnomon-serving"));
    let attached = programs(sensor);
    kill(host.child.id(), Signal::TERM);
    assert!(host.ended().success(), "{}", host.log());
    assert!(status(sensor, "Name").is_none() && status(serving, "Name").is_none());
    until_gone(&attached);
    assert!(!host.exec_socket().exists());
    assert!(!host.log().contains("the sensor"), "nothing to tell: {}", host.log());
}

#[test]
fn a_killed_sensor_takes_its_programs_along_and_another_takes_its_place() {
    if !needs("sensor killed") {
        return;
    }
    let upstream = server();
    let mut host = Host::start();
    host.cause_event("before_the_kill");
    let mut program = Joined::start(&host.exec_socket(), &host.cgroup, 0);
    assert_eq!(program.reaches(upstream), Road::ThroughProxy, "{}", program.said);
    let sensor = host.part("gnomon-sensor");
    let attached = programs(sensor);
    kill(sensor, Signal::KILL);
    let start = Instant::now();
    assert_eq!(eventually_direct(&mut program, upstream), Road::Direct);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    until_gone(&attached);
    logged(|| host.log(), "the sensor ended");
    let next = until("another sensor", || Some(host.part("gnomon-sensor")).filter(|pid| *pid != sensor));
    until("it to be joined", || host.scrape().contains("gnomon_sensor_up 1\n").then_some(()));
    assert!(programs(next).len() >= 10);
    host.cause_event("after_the_kill");
    assert!(host.events().contains("before_the_kill"));
    // That nothing was seen meanwhile is told, and counted.
    let events = host.events();
    let told = |health: &str| events.lines().find(|line| line.contains(&format!(r#""gnomon.health":"{health}""#))).unwrap_or_default();
    assert!(told("sensor_gone").contains("nothing is redirected") && told("sensor_back").contains(" ms what did not come"), "{events}");
    let page = host.scrape();
    let counted = |name: &str| -> f64 {
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("{name}: {page}"))
    };
    let absent = counted("gnomon_sensor_absent_seconds_total");
    assert_eq!(counted("gnomon_sensor_absences_total"), 1.0);
    assert!(absent > 0.0 && absent < start.elapsed().as_secs_f64(), "{absent}");
    let mut another = Joined::start(&host.exec_socket(), &host.cgroup, 0);
    assert_eq!(another.reaches(upstream), Road::ThroughProxy, "{}", another.said);
}

#[test]
fn a_killed_serving_process_ends_all_and_traffic_goes_its_own_way() {
    if !needs("sensor serving killed") {
        return;
    }
    let upstream = server();
    let mut host = Host::start();
    host.cause_event("before_the_kill");
    let mut program = Joined::start(&host.exec_socket(), &host.cgroup, 0);
    assert_eq!(program.reaches(upstream), Road::ThroughProxy, "{}", program.said);
    let (sensor, serving) = (host.part("gnomon-sensor"), host.part("gnomon-serving"));
    let attached = programs(sensor);
    kill(serving, Signal::KILL);
    let start = Instant::now();
    assert_eq!(eventually_direct(&mut program, upstream), Road::Direct);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(host.ended().code(), Some(137));
    until_gone(&attached);
    assert!(status(sensor, "Name").is_none());
    assert!(host.events().contains("before_the_kill"));
}

#[test]
fn a_killed_supervisor_leaves_nothing_behind() {
    if !needs("sensor supervisor killed") {
        return;
    }
    let upstream = server();
    let mut host = Host::start();
    host.cause_event("before_the_kill");
    let mut program = Joined::start(&host.exec_socket(), &host.cgroup, 0);
    assert_eq!(program.reaches(upstream), Road::ThroughProxy, "{}", program.said);
    let (sensor, serving) = (host.part("gnomon-sensor"), host.part("gnomon-serving"));
    let attached = programs(sensor);
    host.child.kill().unwrap();
    let start = Instant::now();
    assert_eq!(eventually_direct(&mut program, upstream), Road::Direct);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    until("both parts to end", || (status(sensor, "Name").is_none() && status(serving, "Name").is_none()).then_some(()));
    until_gone(&attached);
    assert!(host.events().contains("before_the_kill"));
}

#[test]
fn a_sensor_that_cannot_work_says_why_and_the_proxy_serves_without_it() {
    if !needs("sensor that cannot work") {
        return;
    }
    let mut host = Host::start();
    // The next one finds nothing to look at.
    fs::remove_dir(&*host.cgroup).unwrap();
    kill(host.part("gnomon-sensor"), Signal::KILL);
    logged(|| host.log(), &host.cgroup.display().to_string());
    host.cause_event("without_a_sensor");
    until("the absence to be counted", || host.scrape().contains("gnomon_sensor_absences_total 1\n").then_some(()));
}

#[test]
fn a_folder_that_is_no_cgroup_is_refused_before_anything_starts_and_by_the_check_of_the_configuration() {
    if !needs("sensor folder") {
        return;
    }
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let gnomon = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gnomon"));
        command.args(arguments).arg("--state-dir").arg(state.path()).env("GNOMON_SENSOR", folder.path());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let named = format!("--sensor {}: that is not a cgroup v2 folder", folder.path().display());
    for arguments in [&["run", "--listen", "127.0.0.1:0", "--metrics", "off"][..], &["config", "check"]] {
        let (code, said) = gnomon(arguments);
        assert!(code == Some(2) && said.contains(&named) && said.contains("name the folder of a cgroup"), "{code:?} {said}");
    }
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0, "nothing was begun");
    let (_, said) = gnomon(&["run", "--sensor", "/nonexistent/cgroup"]);
    assert!(said.contains("/nonexistent/cgroup: No such file or directory"), "{said}");
    let (code, said) = gnomon(&["config", "check", "--sensor", "off"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn without_root_it_is_one_process_and_no_sensor() {
    if !needs("sensor without root") {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    chown(state.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let log = state.path().join("log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_gnomon"));
    command.args(["run", "--listen", "127.0.0.1:0", "--metrics", "off", "--state-dir"]).arg(state.path());
    command.uid(NOBODY).gid(NOBODY).stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return skip("sensor without root", "other users cannot reach the built command");
        }
        spawned => spawned.unwrap(),
    };
    let said = until("the announcement", || fs::read_to_string(&log).ok().filter(|said| said.contains("scope")));
    let alone = children(child.id()).is_empty();
    kill(child.id(), Signal::TERM);
    assert!(child.wait().unwrap().success());
    assert!(alone && said.contains("nothing else on this host"), "{said}");
}

#[test]
fn a_sensor_that_an_ordinary_user_starts_ends_with_what_it_needs() {
    if !needs("a sensor without root") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let socket = folder.path().join("sensor.sock");
    let standing = ["--listen", socket.to_str().unwrap(), "--peer", "nobody"];
    for more in [&standing[..], &["--parent", "1"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gnomon"));
        command.args(["sensor", "--own-cgroup", "/"]).args(more).uid(NOBODY).gid(NOBODY).stdin(Stdio::null());
        let output = match command.output() {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return skip("a sensor without root", "other users cannot reach the built command");
            }
            output => output.unwrap(),
        };
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("the sensor needs CAP_BPF") && said.contains("run it as root"), "{said}");
        assert!(!socket.exists());
    }
}

/// How the program reaches the server once its connections no longer go through the proxy. Connections under way when the process ended are
/// refused.
fn eventually_direct(program: &mut Joined, upstream: std::net::SocketAddr) -> Road {
    until("a direct connection", || Some(program.reaches(upstream)).filter(|road| *road == Road::Direct))
}
