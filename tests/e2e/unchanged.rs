//! Redirection changes nothing else: real programs, names with several addresses, and the host's routing rules behave the same with and
//! without it.

use crate::{
    joined::{Way, command_in, trusting},
    scopes::redirecting,
    sensor_stage::{Host, Netns, needs, scrape, until, within},
    support::authority::Authority,
};
use gnomon_testkit::has;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::{
    array,
    fs::{self, Permissions},
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// The most that redirection may add to the time of a program whose server is named or on loopback, also at its first attempt.
const TOLERANCE: Duration = Duration::from_millis(300);
/// The best of this many attempts counts on either side, as other tests run on the same processors.
const ATTEMPTS: usize = 3;

/// The addresses of the far namespace: nobody listens on the first, servers listen on the second.
const ADDRESSES: [&str; 2] = ["192.0.2.2", "192.0.2.3"];
/// An address of the far namespace on which nobody listens, and one behind it whose packets are dropped.
const ADDRESSES6: [&str; 2] = ["2001:db8::2", "2001:db8:dead::1"];
/// A user id without an account.
const USER: u32 = 54321;

/// What servers answer: the references of a git repository.
const ANSWER: &str = "0123456789012345678901234567890123456789\trefs/heads/greeting\n";

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// A running server, and the count of connections that it accepted.
struct Server {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

/// Answers every request with [`ANSWER`], over TLS where there is a configuration of it.
fn serve(listener: TcpListener, tls: Option<Arc<ServerConfig>>) -> Server {
    let server = Server { address: listener.local_addr().unwrap(), accepted: Arc::default() };
    let accepted = server.accepted.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            accepted.fetch_add(1, Ordering::SeqCst);
            let tls = tls.clone();
            thread::spawn(move || match tls {
                None => answer(&mut stream),
                Some(tls) => {
                    let mut stream = StreamOwned::new(ServerConnection::new(tls).unwrap(), stream);
                    answer(&mut stream);
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
            });
        }
    });
    server
}

fn answer(stream: &mut (impl Read + Write)) {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(read) if read > 0 => head.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{ANSWER}", ANSWER.len());
    let _ = stream.write_all(answer.as_bytes());
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

    /// The same, with IPv6 between them.
    fn with_ipv6() -> Self {
        let stage = Self::new();
        let [refuses, drops] = ADDRESSES6;
        stage.near.run(&["ip", "address", "add", "2001:db8::1/64", "dev", "near", "nodad"]);
        stage.far.run(&["ip", "address", "add", &format!("{refuses}/64"), "dev", "far", "nodad"]);
        // In the namespace of the programs itself connect() would fail at once.
        stage.far.run(&["ip", "route", "add", "blackhole", &format!("{drops}/128")]);
        stage.near.run(&["ip", "route", "add", &format!("{drops}/128"), "via", refuses]);
        stage
    }

    /// What is put in front of a command to run it in there, with this file of host names.
    fn before(&self, hosts: &Path) -> Vec<String> {
        let here = format!("--net={}", self.near.path().display());
        let names = r#"mount --bind "$0" /etc/hosts && exec "$@""#;
        words(&["nsenter", &here, "unshare", "--mount", "sh", "-c", names, hosts.to_str().unwrap()])
    }
}

fn run(host: &Host, way: Way, before: &[String], command: &[String]) -> Output {
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    command_in(host, way, &before, Path::new("/dev/null"), command).output().unwrap()
}

fn greets(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stdout).contains("greeting")
}

/// The count of connections to the proxy, with any outcome, in these metrics.
fn flows(metrics: &str) -> u64 {
    let counts = metrics.lines().filter_map(|line| line.strip_prefix("gnomon_flows_total{")?.split_once("} ")?.1.parse::<u64>().ok());
    counts.sum()
}

/// A name whose first address leads nowhere.
struct Situation {
    name: &'static str,
    dead: &'static str,
    alive: &'static str,
}

static SITUATIONS: [Situation; 4] = [
    Situation { name: "refuses.example", dead: ADDRESSES[0], alive: ADDRESSES[1] },
    Situation { name: "refuses6.example", dead: ADDRESSES6[0], alive: ADDRESSES[1] },
    Situation { name: "drops6.example", dead: ADDRESSES6[1], alive: ADDRESSES[1] },
    Situation { name: "localhost", dead: "::1", alive: "127.0.0.1" },
];

impl Situation {
    fn is_local(&self) -> bool {
        self.name == "localhost"
    }

    /// Its lines in a file of host names.
    fn lines(&self) -> String {
        let Self { name, dead, alive } = self;
        format!("{dead} {name}\n{alive} {name}\n")
    }

    /// Options with which gnomon resolves the name to the addresses that the programs' file of host names has.
    fn options(&self, port: u16) -> Vec<String> {
        if self.is_local() {
            return Vec::new();
        }
        let resolve = |address: &str| format!("{}:{port}:{}", self.name, SocketAddr::new(address.parse().unwrap(), port));
        words(&["--resolve", &resolve(self.dead), "--resolve", &resolve(self.alive)])
    }
}

/// A program that fetches a URL.
struct Program {
    name: &'static str,
    arguments: fn(&str) -> Vec<String>,
    /// Whether there is a variable by which it trusts an authority.
    trusts: bool,
}

const PYTHON: &str = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=3).read().decode())";
const NODE: &str = "fetch(process.argv[1]).then(r => r.text()).then(t => console.log(t))";

static PROGRAMS: [Program; 5] = [
    Program { name: "curl", arguments: |url| words(&["-sS", "--max-time", "20", url]), trusts: true },
    Program { name: "wget", arguments: |url| words(&["-q", "-O", "-", "--tries=1", "--timeout=3", url]), trusts: false },
    Program { name: "python3", arguments: |url| words(&["-c", PYTHON, url]), trusts: true },
    Program { name: "node", arguments: |url| words(&["-e", NODE, url]), trusts: true },
    // Outside of any repository, which could have settings of its own.
    Program { name: "git", arguments: |url| words(&["-C", "/", "ls-remote", url]), trusts: true },
];

/// Runs a program and says how long that took, so that what brings it into its namespaces and scope does not count.
const CLOCK: &str = r#"
begun=$(date +%s%N)
"$@"
code=$?
echo "took $(( ($(date +%s%N) - begun) / 1000000 )) ms"
exit $code
"#;

fn fetch(host: &Host, way: Way, before: &[String], trust: &Path, program: &Program, url: &str) -> (Output, Duration) {
    let mut command = words(&["sh", "-c", CLOCK, "sh", program.name]);
    command.extend((program.arguments)(url));
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    let output = command_in(host, way, &before, trust, &command).env("GIT_SSL_CAINFO", trust).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let took: Option<u64> = said.lines().find_map(|line| line.strip_prefix("took ")?.strip_suffix(" ms")?.parse().ok());
    let took = Duration::from_millis(took.unwrap_or_else(|| panic!("{} {url} {way:?}: {output:?}", program.name)));
    (output, took)
}

/// Runs each program in each situation, directly and under `gnomon exec`.
fn same_with_and_without_us(test: &str, scheme: &str) {
    if !needs(test) || !has(test, &["ip"]) {
        return;
    }
    let stage = Stage::with_ipv6();
    let authority = Authority::new("the servers' authority");
    let trust = authority.pem_file();
    let (mut cells, mut options) = (Vec::new(), Vec::new());
    for program in PROGRAMS.iter().filter(|program| scheme == "http" || program.trusts) {
        if !has(test, &[program.name]) {
            continue;
        }
        for situation in &SITUATIONS {
            let netns = if situation.is_local() { &stage.near } else { &stage.far };
            let tls = (scheme == "https").then(|| authority.server(situation.name, &["http/1.1"]));
            // Each attempt is a first one: what failed at another port says nothing of this one.
            let servers: [Server; ATTEMPTS] = array::from_fn(|_| serve(netns.listen(&format!("{}:0", situation.alive)), tls.clone()));
            for server in &servers {
                options.extend(situation.options(server.address.port()));
            }
            cells.push((program, situation, servers));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, SITUATIONS.iter().map(Situation::lines).collect::<String>()).unwrap();
    let before = stage.before(&hosts);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let host = trusting(trust, &options);
    for (program, situation, servers) in &cells {
        let mut best = [Duration::MAX; 2];
        for server in servers {
            let url = format!("{scheme}://{}:{}/", situation.name, server.address.port());
            let direct = fetch(&host, Way::Direct, &before, trust, program, &url);
            let seen = flows(&host.scrape());
            let redirected = fetch(&host, Way::UnderExec, &before, trust, program, &url);
            let told = || format!("{} {url}\ndirectly: {direct:?}\nthrough us: {redirected:?}\n{}", program.name, host.log());
            // Node goes on to a further address by itself since version 20; before, redirection does it good.
            assert!(greets(&direct.0) || program.name == "node", "{}", told());
            assert!(greets(&redirected.0) && redirected.0.status.success(), "{}", told());
            until(&format!("{} {url} to go through the proxy", program.name), || (flows(&host.scrape()) > seen).then_some(()));
            best = [best[0].min(direct.1), best[1].min(redirected.1)];
            if best[1] < best[0] + TOLERANCE {
                break;
            }
        }
        let told = format!("{} {scheme}://{}: {best:?} without and with us", program.name, situation.name);
        println!("{told}");
        assert!(best[1] < best[0] + TOLERANCE, "{told}");
    }
}

#[test]
fn programs_reach_a_name_whose_first_address_is_dead_as_soon_as_they_do_without_us() {
    same_with_and_without_us("programs_reach_a_name_whose_first_address_is_dead_as_soon_as_they_do_without_us", "http");
}

#[test]
fn programs_reach_a_name_whose_first_address_is_dead_as_soon_over_tls_too() {
    same_with_and_without_us("programs_reach_a_name_whose_first_address_is_dead_as_soon_over_tls_too", "https");
}

#[test]
fn a_program_that_names_no_server_is_refused_a_dead_address_the_second_time() {
    let test = "a_program_that_names_no_server_is_refused_a_dead_address_the_second_time";
    if !needs(test) || !has(test, &["ip", "python3"]) {
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
    let command = words(&["python3", "-c", TWICE, ADDRESSES[0]]);
    let told = |way| String::from_utf8(run(&host, way, &before, &command).stdout).unwrap();
    assert_eq!(told(Way::Direct), "refused\nrefused\n");
    assert_eq!(told(Way::UnderExec), "reset\nrefused\n");
}

/// Here gnomon is in another network namespace than the user's programs.
#[test]
fn a_user_without_access_to_the_network_has_none_through_the_proxy() {
    let test = "a_user_without_access_to_the_network_has_none_through_the_proxy";
    if !needs(test) || !has(test, &["ip", "curl", "setpriv"]) {
        return;
    }
    let stage = Stage::new();
    let beyond = serve(stage.far.listen(&format!("{}:0", ADDRESSES[1])), None).address;
    stage.near.run(&["ip", "rule", "add", "uidrange", &format!("{USER}-{USER}"), "prohibit"]);
    let host = Host::start();
    let command = words(&["curl", "-sS", "--max-time", "20", &format!("http://{beyond}/")]);
    for (uid, reaches) in [(USER, false), (USER + 1, true), (0, true)] {
        let mut before = stage.before(Path::new("/etc/hosts"));
        before.extend(words(&["setpriv", "--reuid", &uid.to_string(), "--clear-groups"]));
        for way in [Way::Direct, Way::UnderExec] {
            let output = run(&host, way, &before, &command);
            assert_eq!(greets(&output), reaches, "{uid} {way:?}: {output:?}\n{}", host.log());
        }
    }
}

/// How a user's request goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Road {
    Direct,
    /// Under `gnomon exec`.
    Exec,
    /// From a scope of the configuration that only intercepts.
    Scope,
    /// Asked of the proxy.
    Asked,
    /// In a tunnel that was asked of the proxy.
    Tunnel,
}

/// Here gnomon is in the same network namespace, where the rules that it would go by itself let it out.
#[test]
fn what_the_host_refuses_a_user_is_refused_on_every_road_through_the_proxy() {
    let test = "what_the_host_refuses_a_user_is_refused_on_every_road_through_the_proxy";
    if !needs(test) || !has(test, &["ip", "curl", "setpriv"]) {
        return;
    }
    let stage = Stage::new();
    let near = stage.near.path();
    stage.near.run(&["ip", "rule", "add", "uidrange", &format!("{USER}-{USER}"), "prohibit"]);
    // An address that failed is refused to its user for a while, so that each road has a server of its own.
    let servers = [Road::Direct, Road::Exec, Road::Scope, Road::Asked, Road::Tunnel]
        .map(|road| (road, serve(stage.far.listen(&format!("{}:0", ADDRESSES[1])), None)));
    let redirected = servers.iter().find(|(road, _)| *road == Road::Scope).unwrap().1.address.port();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gnomon.yml");
    let cgroup = format!("/gnomon-e2e-{}-*/egress", std::process::id());
    let scope = format!("{{name: egress, match: {{cgroup: '{cgroup}'}}, mode: intercept, ports: [{redirected}]}}");
    fs::write(&config, format!("sensor: {{scopes: [{scope}]}}\n")).unwrap();
    for (path, mode) in [(folder.path(), 0o755), (&config, 0o644)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let host = within(&near, || {
        let host = Host::start_with(&["--config", config.to_str().unwrap()]);
        until("the sensor to be joined", || host.scrape().contains("gnomon_sensor_up 1\n").then_some(()));
        host
    });
    let scope = host.cgroup.join("egress");
    fs::create_dir(&scope).unwrap();
    until("the scope", || (redirecting(&host) == 1).then_some(()));
    let (metrics, proxy) = (host.metrics, format!("http://{}", host.proxy));
    let counted = || flows(&within(&near, || scrape(metrics)));
    // Who is refused comes last: what others opened there is not for that user either.
    for (uid, reaches) in [(USER + 1, true), (0, true), (USER, false)] {
        for (road, server) in &servers {
            let enter = r#"echo 0 > "$0/cgroup.procs" && exec "$@""#;
            let mut before = if *road == Road::Scope { words(&["sh", "-c", enter, scope.to_str().unwrap()]) } else { Vec::new() };
            before.extend(stage.before(Path::new("/etc/hosts")));
            before.extend(words(&["setpriv", "--reuid", &uid.to_string(), "--clear-groups"]));
            let mut command = words(&["curl", "-sS", "--max-time", "20", &format!("http://{}/", server.address)]);
            match road {
                Road::Direct | Road::Exec | Road::Scope => {}
                Road::Asked => command.extend(words(&["--proxy", &proxy])),
                Road::Tunnel => command.extend(words(&["--proxy", &proxy, "--proxytunnel"])),
            }
            let way = if *road == Road::Exec { Way::UnderExec } else { Way::Direct };
            let (seen, accepted) = (counted(), server.accepted.load(Ordering::SeqCst));
            let output = run(&host, way, &before, &command);
            let reached = server.accepted.load(Ordering::SeqCst) > accepted;
            assert_eq!((greets(&output), reached), (reaches, reaches), "{uid} {road:?}: {output:?}\n{}", host.log());
            if *road != Road::Direct {
                until(&format!("{uid} {road:?} to go through the proxy"), || (counted() > seen).then_some(()));
            }
        }
    }
}
