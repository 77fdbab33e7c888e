//! Servers on standard input and output, as `gnomon portal` and `gnomon run` start them: how they are confined, and that no process of them
//! stays behind. The server is `proxy/portal/tests/behaviour/program.py`, which tries what its tools are asked to try.

use crate::{
    exec::GNOMON,
    sensor_stage::{logged, needs, until},
    support::DEADLINE,
};
use gnomon_testkit::has;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixDatagram, UnixListener},
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Instant,
};
use tempfile::TempDir;

const PYTHON: &str = "/usr/bin/python3";
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proxy/portal/tests/behaviour/program.py");
const SECRET: &str = "hunter2-of-the-server";

/// A folder with a server in it, and with files that the server must not be able to read.
struct Stage {
    dir: TempDir,
    /// The id of the server, which decides the user that it runs as.
    id: &'static str,
}

impl Stage {
    fn new() -> Self {
        Self::of("local")
    }

    fn of(id: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        // Where the test is root, the server runs as another user.
        open(dir.path(), 0o755);
        fs::create_dir(dir.path().join("served")).unwrap();
        open(&dir.path().join("served"), 0o755);
        fs::write(dir.path().join("secret"), SECRET).unwrap();
        fs::write(dir.path().join("other"), "not for the server").unwrap();
        fs::write(dir.path().join("served/notes"), "for the server").unwrap();
        fs::copy(PROGRAM, dir.path().join("served/program.py")).unwrap();
        for (name, mode) in [("secret", 0o644), ("other", 0o644), ("served/notes", 0o644), ("served/program.py", 0o644)] {
            open(&dir.path().join(name), mode);
        }
        Self { dir, id }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self) -> String {
        self.path("served/program.py").display().to_string()
    }

    /// A server with nothing but its command, and the keys in `more`.
    fn plain(&self, more: Value) -> Value {
        let mut server = json!({"id": self.id, "command": [PYTHON, self.program()]});
        server.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        server
    }

    fn start(&self, server: &Value) -> Gnomon<'_> {
        self.start_as(&["portal"], server)
    }

    fn start_as(&self, command: &[&str], server: &Value) -> Gnomon<'_> {
        let config = json!({
            "metrics": {"listen": "off"},
            "servers": [server],
            "portals": [{"id": "main", "listen": "127.0.0.1:0", "servers": [self.id], "policy": [{"allow": {"servers": [self.id]}}]}],
        });
        let file = self.path("gnomon.yml");
        // JSON is YAML.
        fs::write(&file, config.to_string()).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let log = self.path("log");
        let mut gnomon = Command::new(GNOMON);
        gnomon.args(command).arg("--config").arg(&file).env("GNOMON_STATE_DIR", self.path("state"));
        gnomon.env("RUST_LOG", "info").stderr(fs::File::create(&log).unwrap()).stdout(std::process::Stdio::null());
        let mut gnomon = Gnomon { child: gnomon.spawn().unwrap(), address: SocketAddr::from(([127, 0, 0, 1], 0)), stage: self };
        gnomon.address = until("the portal", || {
            let log = gnomon.log();
            let after = log.split_once("main: http://")?.1;
            after.split_once("/mcp")?.0.parse().ok()
        });
        gnomon
    }
}

/// A running gnomon with a portal.
struct Gnomon<'a> {
    child: Child,
    address: SocketAddr,
    stage: &'a Stage,
}

impl Drop for Gnomon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gnomon<'_> {
    fn log(&self) -> String {
        fs::read_to_string(self.stage.path("log")).unwrap_or_default()
    }

    /// One request of the stateless era (2026-07-28).
    fn request(&self, method: &str, name: &str, mut params: Value) -> Value {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let named = if name.is_empty() { String::new() } else { format!("mcp-name: {name}\r\n") };
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // HTTP/1.0, so that the answer has no chunks.
        write!(
            stream,
            "POST /mcp HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n\
             mcp-protocol-version: 2026-07-28\r\nmcp-method: {method}\r\n{named}content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let last = body.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ").unwrap_or(line)).ok()).next_back();
        last.unwrap_or_else(|| panic!("no answer in {answer}"))
    }

    fn answer(&self, tool: &str, arguments: Value) -> Value {
        let name = format!("{}_{tool}", self.stage.id);
        self.request("tools/call", &name, json!({"name": name, "arguments": arguments}))
    }

    /// The text that a tool answers. Waits for a server that has just been started.
    fn call(&self, tool: &str, arguments: Value) -> String {
        until(tool, || self.answer(tool, arguments.clone())["result"]["content"][0]["text"].as_str().map(str::to_owned))
    }

    fn read(&self, path: &Path) -> String {
        self.call("read", json!({"path": path}))
    }
}

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace().next().unwrap_or_default().to_owned()
}

fn is_there(pid: &str) -> bool {
    // A zombie does not count.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
}

#[test]
fn a_server_reads_what_its_command_names_and_nothing_of_gnomon() {
    if !has("a_server_reads_what_its_command_names_and_nothing_of_gnomon", &[PYTHON]) {
        return;
    }
    let stage = Stage::new();
    let env = json!({"env": {"KEY": format!("file:{}", stage.path("secret").display())}});
    let gnomon = stage.start(&stage.plain(env));
    assert!(gnomon.read(&stage.path("served/program.py")).contains("What it is told to do by its tools"));
    for hidden in ["state", "state/ledger.sqlite", "gnomon.yml", "secret", "other", "served/notes", "served", ""] {
        assert_eq!(gnomon.read(&stage.path(hidden)), "denied: Permission denied", "{hidden}");
    }
    assert_eq!(gnomon.read(Path::new("/etc/shadow")), "denied: Permission denied");
    assert_eq!(gnomon.read(&PathBuf::from(format!("/proc/{}/environ", gnomon.child.id()))), "denied: Permission denied");
    let inside: Value = serde_json::from_str(&gnomon.call("where", json!({}))).unwrap();
    assert_eq!(inside["cwd"], stage.path("state/servers/local").to_str().unwrap());
    // It can write to its own folder and to no other.
    assert_eq!(gnomon.call("write", json!({"path": "kept", "text": "x"})), "written");
    assert_eq!(gnomon.read(Path::new("kept")), "x");
    for other in ["served/program.py", "served/new", "new"] {
        assert_eq!(gnomon.call("write", json!({"path": stage.path(other)})), "denied: Permission denied", "{other}");
    }
    // The environment is exactly what is configured, and its secret is not in the log.
    let environment: Value = serde_json::from_str(&gnomon.call("environment", json!({}))).unwrap();
    let names: Vec<&String> = environment.as_object().unwrap().keys().collect();
    assert_eq!((environment["KEY"].as_str(), names.len()), (Some(SECRET), 5), "{names:?}");
    gnomon.call("say", json!({"text": "the key is $KEY and\tthat is it"}));
    let log = until("the log", || Some(gnomon.log()).filter(|log| log.contains("and that is it")));
    assert!(log.contains("the key is [secret] and") && !log.contains(SECRET), "{log}");
}

#[test]
fn what_is_opened_is_open_and_what_would_open_gnomon_is_refused() {
    if !has("what_is_opened_is_open_and_what_would_open_gnomon_is_refused", &[PYTHON]) {
        return;
    }
    let stage = Stage::new();
    let gnomon = stage.start(&stage.plain(json!({"read": [stage.path("served")]})));
    assert_eq!(gnomon.read(&stage.path("served/notes")), "for the server");
    assert_eq!(gnomon.call("write", json!({"path": stage.path("served/notes")})), "denied: Permission denied");
    drop(gnomon);
    fs::create_dir(stage.path("shared")).unwrap();
    fs::set_permissions(stage.path("shared"), Permissions::from_mode(0o777)).unwrap();
    let gnomon = stage.start(&stage.plain(json!({"write": [stage.path("shared")]})));
    assert_eq!(gnomon.call("write", json!({"path": stage.path("shared/new"), "text": "y"})), "written");
    drop(gnomon);
    let gnomon = stage.start(&stage.plain(json!({"read": [stage.dir.path()]})));
    let log = until("the refusal", || Some(gnomon.log()).filter(|log| log.contains("would be open with it")));
    assert!(log.contains("is not started"), "{log}");
    assert_ne!(gnomon.answer("echo", json!({"text": "x"}))["error"], Value::Null);
}

#[test]
fn a_server_has_no_rights_and_reaches_no_other_process() {
    if !has("a_server_has_no_rights_and_reaches_no_other_process", &[PYTHON]) {
        return;
    }
    let stage = Stage::new();
    let gnomon = stage.start(&stage.plain(json!({})));
    let status = gnomon.call("status", json!({}));
    assert_eq!((field(&status, "NoNewPrivs").as_str(), field(&status, "Seccomp").as_str()), ("1", "2"), "{status}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
    if rustix::process::geteuid().is_root() {
        let uid: u32 = field(&status, "Uid").parse().unwrap();
        assert!((61184..65520).contains(&uid), "a user of its own: {uid}");
        assert_eq!(field(&status, "CapBnd"), "0000000000000000");
    }
    for number in [libc_numbers::UNSHARE, libc_numbers::PTRACE, libc_numbers::MOUNT, libc_numbers::KEYCTL, libc_numbers::IO_URING_SETUP] {
        assert_eq!(gnomon.call("call", json!({"number": number, "arguments": [0, 0, 0]})), "denied: Operation not permitted", "{number}");
    }
    // Its cgroup, from which it would move to another.
    let groups = gnomon_host::cgroup::Hierarchy::find().unwrap().mount().join("cgroup.procs");
    assert_eq!(gnomon.call("write", json!({"path": groups, "text": "0"})), "denied: Permission denied");
    logged(|| gnomon.log(), "is confined by session, ");
}

/// System call numbers; libc is no dependency of these tests.
mod libc_numbers {
    #[cfg(target_arch = "x86_64")]
    pub const UNSHARE: u32 = 272;
    #[cfg(target_arch = "x86_64")]
    pub const PTRACE: u32 = 101;
    #[cfg(target_arch = "x86_64")]
    pub const MOUNT: u32 = 165;
    #[cfg(target_arch = "x86_64")]
    pub const KEYCTL: u32 = 250;
    #[cfg(not(target_arch = "x86_64"))]
    pub const UNSHARE: u32 = 97;
    #[cfg(not(target_arch = "x86_64"))]
    pub const PTRACE: u32 = 117;
    #[cfg(not(target_arch = "x86_64"))]
    pub const MOUNT: u32 = 40;
    #[cfg(not(target_arch = "x86_64"))]
    pub const KEYCTL: u32 = 219;
    pub const IO_URING_SETUP: u32 = 425;
}

#[test]
fn a_server_makes_no_connection_unless_it_is_allowed_to() {
    if !has("a_server_makes_no_connection_unless_it_is_allowed_to", &[PYTHON]) {
        return;
    }
    let stage = Stage::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = json!({"host": "127.0.0.1", "port": listener.local_addr().unwrap().port()});
    let socket = stage.path("served/socket");
    let _local = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o777)).unwrap();
    // As the system's log and the journal listen.
    let log = stage.path("served/log");
    let _log = UnixDatagram::bind(&log).unwrap();
    fs::set_permissions(&log, Permissions::from_mode(0o777)).unwrap();
    for (network, tcp, unix) in [
        ("none", "denied: Operation not permitted", "denied: Operation not permitted"),
        ("internet", "connected", "denied: Operation not permitted"),
        ("host", "connected", "connected"),
    ] {
        let gnomon = stage.start(&stage.plain(json!({"network": network})));
        assert_eq!(gnomon.call("connect", there.clone()), tcp, "{network}");
        assert_eq!(gnomon.call("local", json!({"path": socket})), unix, "{network}");
        for kind in ["SOCK_DGRAM", "SOCK_RAW"] {
            assert_eq!(gnomon.call("local", json!({"path": log, "pair": kind})), unix, "{network}: {kind}");
        }
        // A pair of streams is connected already.
        let streams = gnomon.call("local", json!({"path": socket, "pair": "SOCK_STREAM"}));
        assert_eq!(streams, "denied: Transport endpoint is already connected", "{network}");
    }
}

#[test]
fn the_very_file_that_is_pinned_is_executed_and_no_other_that_takes_its_place() {
    if !has("the_very_file_that_is_pinned_is_executed_and_no_other_that_takes_its_place", &[PYTHON]) {
        return;
    }
    let stage = Stage::new();
    let script = stage.path("served/server");
    let text = fs::read_to_string(PROGRAM).unwrap();
    let write = |text: &str| {
        // A new file takes the name: the running process still has the old one open.
        let new = stage.path("served/new-server");
        fs::write(&new, format!("#!{PYTHON}\n{text}")).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(0o755)).unwrap();
        fs::rename(&new, &script).unwrap();
    };
    let digest = |path: &Path| Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    write(&text);
    let expected = digest(&script);
    let server = json!({"id": "local", "command": [script], "pin": {"sha256": expected}});
    let gnomon = stage.start(&server);
    let inside: Value = serde_json::from_str(&gnomon.call("where", json!({}))).unwrap();
    assert!(inside["file"].as_str().unwrap().starts_with("/proc/self/fd/"), "by descriptor: {inside}");
    write(&text.replace("for name in NAMES", "for name in NAMES  # somebody was here"));
    let found = digest(&script);
    // The process of this client ends; the one that would be started next is not the pinned file.
    gnomon.answer("die", json!({}));
    let told = until("the client to be told", || {
        let answer = gnomon.answer("echo", json!({"text": "x"}));
        answer["error"]["message"].as_str().filter(|told| told.contains("pinned")).map(str::to_owned)
    });
    assert!(told.starts_with("server `local`: its program is not the one that is pinned") && !told.contains('/'), "{told}");
    let told = format!("is not the pinned file: expected sha256 {expected}, found {found}");
    logged(|| gnomon.log(), &told);
    drop(gnomon);
    // A file that other users can write to cannot be pinned by its digest.
    write(&text);
    fs::set_permissions(&script, Permissions::from_mode(0o777)).unwrap();
    let gnomon = stage.start(&server);
    until("the refusal", || gnomon.log().contains("its group or everybody may write to it").then_some(()));
}

#[test]
fn a_server_that_makes_processes_without_end_gets_as_many_as_it_may() {
    if !has("a_server_that_makes_processes_without_end_gets_as_many_as_it_may", &[PYTHON]) {
        return;
    }
    // Processes are counted by user: what others start and end beside it must not be this one's.
    let stage = Stage::of("multiplying");
    let gnomon = stage.start(&stage.plain(json!({"limits": {"tasks": 24}})));
    let made: usize = gnomon.call("bomb", json!({})).parse().unwrap();
    assert!((1..=24).contains(&made), "{made}");
    assert_eq!(gnomon.call("echo", json!({"text": "well"})), "well");
}

#[test]
fn killing_gnomon_leaves_no_process_of_a_server_however_it_hid() {
    if !has("killing_gnomon_leaves_no_process_of_a_server_however_it_hid", &[PYTHON]) {
        return;
    }
    let stage = Stage::new();
    let mut server = stage.plain(json!({}));
    server["command"].as_array_mut().unwrap().extend([json!("legacy"), json!("--stubborn")]);
    let mut gnomon = stage.start(&server);
    let pids = [gnomon.call("pid", json!({})), gnomon.call("leave", json!({}))];
    assert!(pids.iter().all(|pid| is_there(pid)), "{pids:?}");
    let keeper = field(&fs::read_to_string(format!("/proc/{}/status", pids[0])).unwrap(), "PPid");
    gnomon.child.kill().unwrap();
    gnomon.child.wait().unwrap();
    for pid in pids.iter().chain([&keeper]) {
        until("the process to end", || (!is_there(pid)).then_some(()));
    }
}

#[test]
fn stopping_gnomon_asks_a_server_to_end_and_then_ends_it() {
    if !has("stopping_gnomon_asks_a_server_to_end_and_then_ends_it", &[PYTHON]) {
        return;
    }
    let stage = Stage::new();
    let mut server = stage.plain(json!({}));
    server["command"].as_array_mut().unwrap().extend([json!("legacy"), json!("--stubborn")]);
    let mut gnomon = stage.start(&server);
    let pids = [gnomon.call("pid", json!({})), gnomon.call("leave", json!({}))];
    let asked = Instant::now();
    kill_process(Pid::from_child(&gnomon.child), Signal::TERM).unwrap();
    let status = until("gnomon to end", || gnomon.child.try_wait().unwrap());
    assert!(status.success(), "{status}: {}", gnomon.log());
    assert!(pids.iter().all(|pid| !is_there(pid)), "gone with it: {pids:?}");
    assert!(asked.elapsed() < DEADLINE, "{:?}", asked.elapsed());
}

#[test]
fn a_state_folder_that_only_root_passes_through_keeps_no_server_from_its_own() {
    if !has("a_state_folder_that_only_root_passes_through_keeps_no_server_from_its_own", &[PYTHON]) {
        return;
    }
    let stage = Stage::new();
    fs::create_dir(stage.path("closed")).unwrap();
    fs::set_permissions(stage.path("closed"), Permissions::from_mode(0o700)).unwrap();
    let state = stage.path("closed/state");
    let gnomon = stage.start_as(&["portal", "--state-dir", state.to_str().unwrap()], &stage.plain(json!({})));
    assert_eq!(gnomon.call("write", json!({"path": "kept", "text": "x"})), "written");
    let inside: Value = serde_json::from_str(&gnomon.call("where", json!({}))).unwrap();
    let home = inside["home"].as_str().unwrap().to_owned();
    assert_eq!(home.starts_with("/run/gnomon-servers/"), rustix::process::geteuid().is_root(), "{home}");
    assert_eq!(gnomon.read(&Path::new(&home).join("kept")), "x", "by its whole path too");
    drop(gnomon);
    if let Some(own) = Path::new(&home).parent().filter(|own| own.starts_with("/run/gnomon-servers")) {
        fs::remove_dir_all(own).unwrap();
    }
}

#[test]
fn under_gnomon_run_a_server_is_confined_as_well_though_it_is_the_same_user() {
    if !needs("confined under gnomon run") || !has("confined under gnomon run", &[PYTHON]) {
        return;
    }
    let stage = Stage::new();
    let gnomon = stage.start_as(&["run", "--sensor", "off", "--listen", "127.0.0.1:0"], &stage.plain(json!({})));
    let status = gnomon.call("status", json!({}));
    assert_ne!(field(&status, "Uid"), "0");
    assert_eq!((field(&status, "NoNewPrivs").as_str(), field(&status, "Seccomp").as_str()), ("1", "2"));
    for hidden in ["state", "state/ca.key", "state/ledger.sqlite", "gnomon.yml"] {
        assert_eq!(gnomon.read(&stage.path(hidden)), "denied: Permission denied", "{hidden}");
    }
    assert_eq!(gnomon.call("write", json!({"path": "kept", "text": "x"})), "written");
    let status = |pid: &str| fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let keeper = field(&status(&gnomon.call("pid", json!({}))), "PPid");
    let serving = field(&status(&keeper), "PPid");
    assert_eq!(gnomon.read(&PathBuf::from(format!("/proc/{serving}/environ"))), "denied: Permission denied");
}
