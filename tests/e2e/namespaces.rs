//! Programs in network namespaces other than gnomon's: the servers that they connect to are reached from their namespace.

use crate::caller::{Answer, Call, post};
use crate::scopes::redirecting;
use crate::sensor_stage::{Host, Joined, Netns, Road, needs, serve, until};
use crate::support::{request::call, rules::block};
use gnomon_testkit::has;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The count of connections that ended with this outcome.
fn flows(host: &Host, outcome: &str) -> Option<String> {
    let line = format!("gnomon_flows_total{{outcome=\"{outcome}\"}} ");
    host.scrape().lines().find_map(|found| found.strip_prefix(&line)).map(str::to_owned)
}

#[test]
fn a_server_on_loopback_of_the_program_s_own_namespace_is_reached_through_the_proxy() {
    if !needs("netns loopback") || !has("netns loopback", &["ip"]) {
        return;
    }
    let (host, netns) = (Host::start(), Netns::new());
    let mut program = Joined::start_in(&host.exec_socket(), &host.cgroup, 0, Some(&netns));
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let server = serve(netns.listen(at));
        assert_eq!(program.reaches(server), Road::ThroughProxy, "{at}: {}: {}", program.said, host.log());
    }
    // The same port in our namespace has another server, which must not be reached.
    let here = TcpListener::bind("127.0.0.1:0").unwrap();
    let Road::None(error) = program.reaches(here.local_addr().unwrap()) else { panic!("there is no such server in that namespace") };
    assert!(error.contains("refused"), "as without us, where nobody listens: {error}");
    here.set_nonblocking(true).unwrap();
    assert!(here.accept().is_err(), "the proxy connected to a stranger");
    until("the counts", || (flows(&host, "passthrough")? == "2").then_some(()));
    assert_eq!(flows(&host, "out_of_reach").as_deref(), Some("0"));
}

#[test]
fn a_program_of_a_configured_scope_in_a_namespace_of_its_own_is_redirected_from_its_second_connection_on() {
    if !needs("netns scope") || !has("netns scope", &["ip"]) {
        return;
    }
    let netns = Netns::new();
    let server = serve(netns.listen("127.0.0.1:0"));
    let port = server.port();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gnomon.yml");
    let cgroup = format!("/gnomon-e2e-{}-*/containers", std::process::id());
    fs::write(
        &config,
        format!("sensor:\n scopes:\n  - {{name: containers, match: {{cgroup: '{cgroup}'}}, mode: intercept, ports: [{port}]}}\n"),
    )
    .unwrap();
    for (path, mode) in [(folder.path(), 0o755), (&config, 0o644)] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let mut host = Host::start_with(&["--config", config.to_str().unwrap()]);
    let containers = host.cgroup.join("containers");
    fs::create_dir(&containers).unwrap();
    let scrape = |line: &str| host.scrape().lines().find_map(|found| found.strip_prefix(line).map(str::to_owned));
    until("the scope", || (redirecting(&host) == 1).then_some(()));
    let mut program = Joined::bystander(&containers, &netns);
    until("the proxy", || (program.reaches(server) == Road::ThroughProxy).then_some(()));
    assert_eq!(program.reaches(server), Road::ThroughProxy, "{}", host.log());
    until("what went by to be counted", || scrape("gnomon_fail_open_total{reason=\"no_listener\"} ").filter(|count| count != "0"));
    // Another program there is redirected at once: the listeners are already open.
    let mut other = Joined::bystander(&containers, &netns);
    assert_eq!(other.reaches(server), Road::ThroughProxy);
    // The listeners of a namespace that no process is in are closed.
    let sensor = host.part("gnomon-sensor");
    let open = || fs::read_dir(format!("/proc/{sensor}/fd")).unwrap().count();
    let before = open();
    drop((program, other, netns));
    until("the listeners to be closed", || (open() < before).then_some(()));
}

#[test]
fn a_server_that_only_the_program_s_namespace_has_a_route_to_is_reached_through_the_proxy() {
    if !needs("netns routes") || !has("netns routes", &["ip"]) {
        return;
    }
    let (host, near, far) = (Host::start(), Netns::new(), Netns::new());
    near.connect(&far);
    let server = serve(far.listen("192.0.2.2:0"));
    let mut program = Joined::start_in(&host.exec_socket(), &host.cgroup, 0, Some(&near));
    assert_eq!(program.reaches(server), Road::ThroughProxy, "{}: {}", program.said, host.log());
    // A program in our own namespace is not affected.
    let mut here = Joined::start(&host.exec_socket(), &host.cgroup, 0);
    assert_eq!(here.reaches(crate::sensor_stage::server()), Road::ThroughProxy, "{}", here.said);
}

/// The environment variable that holds the call for a program that ends at once.
const ORDER: &str = "GNOMON_TEST_CALL_AND_END";

/// Not a test: a program that makes one call and ends, so that its process cannot be looked up afterwards.
#[test]
#[ignore = "a role, not a test"]
fn call_and_end() {
    let Ok(order) = std::env::var(ORDER) else { return };
    println!("\n> {}", serde_json::to_string(&post(&serde_json::from_str(&order).unwrap())).unwrap());
}

/// Has such a program call the blocked tool, from this cgroup and namespace. Returns whether the call was blocked.
fn is_blocked(cgroup: &Path, netns: &Path, server: SocketAddr) -> bool {
    let order = Call::new(server, "/rpc", call(1, "blocked_tool").to_string());
    let mut command = Command::new("sh");
    command.args(["-c", r#"echo 0 > "$0/cgroup.procs" && exec "$@""#]).arg(cgroup);
    command.arg("nsenter").arg(format!("--net={}", netns.display())).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "namespaces::call_and_end", "--ignored", "--nocapture", "--test-threads=1"]);
    let output = command.env(ORDER, serde_json::to_string(&order).unwrap()).output().unwrap();
    let answer = Answer::of(&output).unwrap_or_else(|| panic!("{output:?}")).json();
    assert!(answer["result"]["isError"] == true || answer["done"] == true, "{answer:#}");
    answer["result"]["isError"] == true
}

/// A server that answers every request with `{"done":true}`.
fn done(listener: TcpListener) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (mut reader, mut length) = (BufReader::new(&stream), 0);
            for line in reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
                length = line.to_ascii_lowercase().strip_prefix("content-length: ").map_or(length, |length| length.parse().unwrap());
            }
            let _ = reader.read_exact(&mut vec![0; length]);
            let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 13\r\n\r\n{\"done\":true}");
        }
    });
    address
}

/// A network namespace that is kept by a mount, as `ip netns` and CNI do, until dropped.
struct Mounted {
    _folder: TempDir,
    file: PathBuf,
}

impl Mounted {
    fn of(netns: &Netns) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("net");
        fs::write(&file, "").unwrap();
        assert!(Command::new("mount").arg("--bind").args([&netns.path(), &file]).status().unwrap().success());
        Self { _folder: folder, file }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.file).status();
    }
}

#[test]
fn calls_of_programs_that_end_at_once_are_blocked_in_a_namespace_that_outlives_them() {
    if !needs("netns of ended programs") || !has("netns of ended programs", &["ip", "mount", "nsenter"]) {
        return;
    }
    // One namespace with a process in it that makes no connection, and one that only a mount keeps.
    let (inhabited, other) = (Netns::new(), Netns::new());
    let mounted = Mounted::of(&other);
    let servers = [&inhabited, &other].map(|netns| done(netns.listen("127.0.0.1:0")));
    let namespaces = [inhabited.path(), mounted.file.clone()];
    drop(other);
    let folder = tempfile::tempdir().unwrap();
    let (config, rule) = (folder.path().join("gnomon.yml"), folder.path().join("rule.yml"));
    fs::write(&rule, &*block(1, "gen_ai.tool.name: blocked_tool").text).unwrap();
    let cgroup = format!("/gnomon-e2e-{}-*/containers", std::process::id());
    let ports = servers.map(|server| server.port().to_string()).join(", ");
    let scope = format!("{{name: containers, match: {{cgroup: '{cgroup}'}}, mode: enforce, ports: [{ports}]}}");
    fs::write(&config, format!("rules: {{dirs: [rule.yml]}}\nsensor:\n scopes:\n  - {scope}\n")).unwrap();
    for (path, mode) in [(folder.path(), 0o755), (&config, 0o644), (&rule, 0o644)] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let host = Host::start_with(&["--config", config.to_str().unwrap()]);
    let containers = host.cgroup.join("containers");
    fs::create_dir(&containers).unwrap();
    until("the scope", || (redirecting(&host) == 1).then_some(()));
    for (namespace, server) in namespaces.iter().zip(servers) {
        until("calls to be blocked", || is_blocked(&containers, namespace, server).then_some(()));
        for _ in 0..3 {
            assert!(is_blocked(&containers, namespace, server), "{}", host.log());
        }
    }
}
