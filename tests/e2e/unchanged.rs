//! Redirection changes nothing else: real programs, names with several addresses, and the host's routing rules behave the same with and
//! without it.

use crate::{
    joined::{Way, command_in},
    sensor_stage::{Host, Netns, needs, skip, until},
};
use gnomon_testkit::has;
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

/// Nobody listens on the first; a server listens on the second.
const ADDRESSES: [&str; 2] = ["192.0.2.2", "192.0.2.3"];
const NAME: &str = "both.example";
/// A user id without an account.
const USER: u32 = 54321;

/// Answers every request with `greeting`.
fn serve(listener: TcpListener) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut head = Vec::new();
                let mut buffer = [0; 4096];
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(read) if read > 0 => head.extend_from_slice(&buffer[..read]),
                        _ => return,
                    }
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\ngreeting");
            });
        }
    });
    address
}

/// The network namespace of the programs, and one that is reached from it.
struct Stage {
    near: Netns,
    far: Netns,
}

impl Stage {
    fn new() -> Self {
        let (near, far) = (Netns::new(), Netns::new());
        near.connect(&far);
        far.run(&["ip", "address", "add", &format!("{}/24", ADDRESSES[1]), "dev", "far"]);
        Self { near, far }
    }

    /// What is put in front of a command to run it in there, with this file of host names.
    fn before(&self, hosts: &Path) -> Vec<String> {
        let here = format!("--net={}", self.near.path().display());
        let names = r#"mount --bind "$0" /etc/hosts && exec "$@""#;
        ["nsenter", &here, "unshare", "--mount", "sh", "-c", names, hosts.to_str().unwrap()].map(str::to_owned).to_vec()
    }
}

fn run(host: &Host, way: Way, before: &[String], command: &[&str]) -> (Output, Duration) {
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
    let begun = Instant::now();
    let output = command_in(host, way, &before, Path::new("/dev/null"), &command).output().unwrap();
    (output, begun.elapsed())
}

/// Programs that fetch this URL.
fn programs(url: &str) -> Vec<(&'static str, Vec<String>)> {
    let python = format!("import urllib.request; print(urllib.request.urlopen({url:?}, timeout=20).read().decode())");
    let node = format!("fetch({url:?}).then(r => r.text()).then(t => console.log(t))");
    let all: [(&str, &[&str]); 4] = [
        ("curl", &["-sS", "--max-time", "20", url]),
        ("wget", &["-q", "-O", "-", "--tries=1", "--timeout=20", url]),
        ("python3", &["-c", &python]),
        ("node", &["-e", &node]),
    ];
    all.map(|(program, arguments)| (program, arguments.iter().map(|&argument| argument.to_owned()).collect())).to_vec()
}

#[test]
fn programs_reach_a_name_whose_first_address_refuses_as_they_do_without_us() {
    let test = "programs_reach_a_name_whose_first_address_refuses_as_they_do_without_us";
    if !needs(test) || !has(test, &["ip"]) {
        return;
    }
    let stage = Stage::new();
    let beyond = serve(stage.far.listen(&format!("{}:0", ADDRESSES[1])));
    let local = serve(stage.near.listen("127.0.0.1:0"));
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, format!("::1 localhost\n127.0.0.1 localhost\n{} {NAME}\n{} {NAME}\n", ADDRESSES[0], ADDRESSES[1])).unwrap();
    let before = stage.before(&hosts);
    // gnomon resolves the name to the addresses that the program's file of host names has.
    let resolve = ADDRESSES.map(|address| format!("{NAME}:{}:{address}", beyond.port()));
    let host = Host::start_with(&["--resolve", &resolve[0], "--resolve", &resolve[1]]);
    until("the sensor to be joined", || host.scrape().contains("gnomon_sensor_up 1\n").then_some(()));
    for url in [format!("http://localhost:{}/", local.port()), format!("http://{NAME}:{}/", beyond.port())] {
        for (program, arguments) in programs(&url) {
            if Command::new(program).arg("--version").output().is_err() {
                skip(test, &format!("no {program}"));
                continue;
            }
            let command: Vec<&str> = std::iter::once(program).chain(arguments.iter().map(String::as_str)).collect();
            let took = [Way::Direct, Way::UnderExec].map(|way| {
                let (output, took) = run(&host, way, &before, &command);
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(said.contains("greeting"), "{program} {url} {way:?}: {output:?}\n{}", host.log());
                took
            });
            println!("{program} {url}: {} ms direct, {} ms redirected", took[0].as_millis(), took[1].as_millis());
            // Generous for a busy machine, and shorter than any program's own timeout.
            assert!(took[1] < took[0] + Duration::from_secs(5), "{program} {url}: {took:?}");
        }
    }
}

#[test]
fn a_program_that_names_no_server_is_refused_a_dead_address_the_second_time() {
    let test = "a_program_that_names_no_server_is_refused_a_dead_address_the_second_time";
    if !needs(test) || !has(test, &["ip"]) {
        return;
    }
    const TWICE: &str = r#"
import socket, sys
for _ in range(2):
    try:
        connection = socket.create_connection((sys.argv[1], 9), timeout=20)
        print("reset" if connection.recv(1) else "end")
    except ConnectionResetError:
        print("reset")
    except (ConnectionRefusedError, PermissionError):
        print("refused")
"#;
    let stage = Stage::new();
    let before = stage.before(Path::new("/etc/hosts"));
    let host = Host::start();
    let told = |way| String::from_utf8(run(&host, way, &before, &["python3", "-c", TWICE, ADDRESSES[0]]).0.stdout).unwrap();
    assert_eq!(told(Way::Direct), "refused\nrefused\n");
    assert_eq!(told(Way::UnderExec), "reset\nrefused\n");
}

#[test]
fn a_user_without_access_to_the_network_has_none_through_the_proxy() {
    let test = "a_user_without_access_to_the_network_has_none_through_the_proxy";
    if !needs(test) || !has(test, &["ip"]) {
        return;
    }
    let stage = Stage::new();
    let beyond = serve(stage.far.listen(&format!("{}:0", ADDRESSES[1])));
    stage.near.run(&["ip", "rule", "add", "uidrange", &format!("{USER}-{USER}"), "prohibit"]);
    let host = Host::start();
    let url = format!("http://{beyond}/");
    for (uid, reaches) in [(USER, false), (USER + 1, true), (0, true)] {
        let mut before = stage.before(Path::new("/etc/hosts"));
        before.extend(["setpriv", "--reuid", &uid.to_string(), "--clear-groups"].map(str::to_owned));
        for way in [Way::Direct, Way::UnderExec] {
            let (output, _) = run(&host, way, &before, &["curl", "-sS", "--max-time", "20", &url]);
            let said = String::from_utf8_lossy(&output.stdout).contains("greeting");
            assert_eq!(said, reaches, "{uid} {way:?}: {output:?}\n{}", host.log());
        }
    }
}
