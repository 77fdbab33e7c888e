//! gnomon as root, seen from outside: its processes, its eBPF programs, and a program that joins.

use crate::support::{
    DEADLINE,
    cgroup::{OwnCgroup, remove_soon},
};
use gnomon_host::cgroup::Hierarchy;
use gnomon_link::{ExecEnd, Redirect, Text, ToExec, ToGnomon, VERSION};
pub use gnomon_testkit::{free_port, skip};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::AsFd as _, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::{NamedTempFile, TempDir};

/// Whether the sensor can run here; reports a skip if not.
pub fn needs(name: &str) -> bool {
    let why = if !rustix::process::geteuid().is_root() {
        "needs root"
    } else if Hierarchy::find().is_err() {
        "no cgroup2 hierarchy is mounted"
    } else if aya::programs::loaded_programs().next().is_some_and(|found| found.is_err()) {
        "bpf(2) is not allowed"
    } else {
        return true;
    };
    skip(name, why);
    false
}

/// Waits until a log says so: it is written on a thread of its own, after what it tells of.
pub fn logged(log: impl Fn() -> String, said: &str) {
    let end = Instant::now() + DEADLINE;
    while !log().contains(said) {
        assert!(Instant::now() < end, "the log does not say `{said}`: {}", log());
        thread::sleep(Duration::from_millis(10));
    }
}

/// Polls until other processes have done something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {DEADLINE:?} for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A running `gnomon run`; all of its processes are killed when dropped.
pub struct Host {
    pub child: Child,
    pub proxy: SocketAddr,
    pub metrics: SocketAddr,
    pub state: TempDir,
    pub cgroup: OwnCgroup,
    log: NamedTempFile,
    run: PathBuf,
    parts: Vec<u32>,
    arguments: Vec<String>,
}

impl Host {
    pub fn start() -> Self {
        let host = Self::start_with(&[]);
        until("the sensor to be joined", || host.scrape().contains("gnomon_sensor_up 1\n").then_some(()));
        host
    }

    /// Starts it with further arguments at the end, which override the others.
    pub fn start_with(arguments: &[&str]) -> Self {
        let cgroup = OwnCgroup::new();
        let run = Path::new("/run").join(cgroup.file_name().unwrap());
        let (state, log) = (tempfile::tempdir().unwrap(), NamedTempFile::new().unwrap());
        let [proxy, metrics] = [free_port(), free_port()];
        let (text, state_dir, socket) = (|path: &Path| path.display().to_string(), state.path(), run.join("exec.sock"));
        let mut all = vec!["run".to_owned(), "--state-dir".to_owned(), text(state_dir)];
        all.extend(["--listen".to_owned(), proxy.to_string(), "--metrics".to_owned(), metrics.to_string()]);
        all.extend(["--exec-socket".to_owned(), text(&socket)]);
        if !arguments.contains(&"--sensor") {
            all.extend(["--sensor".to_owned(), text(&cgroup)]);
        }
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let child = spawn(&all, &log);
        let mut host = Self { child, proxy, metrics, state, cgroup, log, run, parts: Vec::new(), arguments: all };
        host.serves();
        host
    }

    /// Starts it again after it has ended.
    pub fn start_again(&mut self) {
        self.child = spawn(&self.arguments, &self.log);
        self.serves();
    }

    fn serves(&mut self) {
        until("gnomon to serve", || {
            assert!(self.child.try_wait().unwrap().is_none(), "gnomon ended: {}", self.log());
            TcpStream::connect(self.metrics).and_then(|_| TcpStream::connect(self.proxy)).ok()
        });
        self.parts = children(self.child.id());
    }

    /// The log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    /// The process id of the part with this name, which may have been restarted.
    pub fn part(&mut self, name: &str) -> u32 {
        let supervisor = self.child.id();
        let pid = until(name, || children(supervisor).into_iter().find(|pid| status(*pid, "Name").as_deref() == Some(name)));
        self.parts.push(pid);
        pid
    }

    pub fn exec_socket(&self) -> PathBuf {
        self.run.join("exec.sock")
    }

    pub fn scrape(&self) -> String {
        scrape(self.metrics)
    }

    /// Calls a tool of a server that does not exist, through the proxy: that is an event all the same. Returns once the event is
    /// acknowledged.
    pub fn cause_event(&self, tool: &str) {
        self.cause(tool, "{}");
    }

    /// The same with arguments for the tool.
    pub fn cause(&self, tool: &str, arguments: &str) {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#);
        let head = "POST http://127.0.0.2:1/mcp HTTP/1.1\r\nHost: 127.0.0.2:1\r\nContent-Type: application/json\r\nConnection: close\r\n";
        let mut stream = TcpStream::connect(self.proxy).unwrap();
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
        until("the event to be in the ledger", || self.events().contains(tool).then_some(()));
    }

    /// The events in the ledger, as `gnomon events` prints them.
    pub fn events(&self) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gnomon"));
        let output = command.args(["events", "--json", "--state-dir"]).arg(self.state.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until it has ended.
    pub fn ended(&mut self) -> ExitStatus {
        until("gnomon to end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let end = log.char_indices().rev().nth(4_000).map_or(0, |(place, _)| place);
            eprintln!("gnomon said at the end:\n{}", &log[end..]);
        }
        kill(self.child.id(), rustix::process::Signal::TERM);
        let end = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait().unwrap().is_none() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for part in self.parts.iter().filter(|pid| status(**pid, "Name").is_some_and(|name| name.starts_with("gnomon-s"))) {
            kill(*part, rustix::process::Signal::KILL);
        }
        remove_soon(&self.cgroup.with_file_name(format!("gnomon-exec-{}-0", self.child.id())));
        let _ = fs::remove_dir_all(&self.run);
    }
}

fn spawn(arguments: &[String], log: &NamedTempFile) -> Child {
    let log = fs::File::options().append(true).open(log.path()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_gnomon")).args(arguments).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// The metrics of a gnomon; empty where none listens.
pub fn scrape(metrics: SocketAddr) -> String {
    let mut answer = String::new();
    let Ok(mut stream) = TcpStream::connect(metrics) else { return answer };
    let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let _ = stream.read_to_string(&mut answer);
    answer
}

pub fn kill(pid: u32, signal: rustix::process::Signal) {
    let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal);
}

/// The value of a line in `/proc/PID/status`; `None` if the process has ended, whether or not it was waited for.
pub fn status(pid: u32, key: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |key: &str| Some(text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.trim().to_owned());
    field("State").filter(|state| !state.starts_with('Z'))?;
    field(key)
}

pub fn children(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| status(*pid, "PPid") == Some(parent.to_string())).collect()
}

/// The ids of the eBPF programs that a process has open.
pub fn programs(pid: u32) -> Vec<u32> {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let id = |text: String| text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
    let mut ids: Vec<u32> = files.filter_map(|entry| id(fs::read_to_string(entry.path()).ok()?)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Waits until none of these eBPF programs is loaded any more.
pub fn until_gone(programs: &[u32]) {
    until("the programs to be gone", || {
        let loaded: Vec<u32> = aya::programs::loaded_programs().flatten().map(|found| found.id()).collect();
        (!programs.iter().any(|id| loaded.contains(id))).then_some(())
    });
}

/// A network namespace with loopback; removed when dropped.
pub struct Netns(Child);

impl Netns {
    pub fn new() -> Self {
        let mut command = Command::new("unshare");
        // It reads standard input until that is closed.
        command.args(["--net", "sh", "-c", "ip link set lo up && echo up && exec cat"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        Self(child)
    }

    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }

    /// Runs a program in it.
    pub fn run(&self, program: &[&str]) {
        let output = Command::new("nsenter").arg(format!("--net={}", self.path().display())).args(program).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Connects it to another with a pair of devices: this end has 192.0.2.1, the other 192.0.2.2.
    pub fn connect(&self, other: &Self) {
        self.run(&["ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", &other.0.id().to_string()]);
        for (side, device, address) in [(self, "near", "192.0.2.1/24"), (other, "far", "192.0.2.2/24")] {
            side.run(&["ip", "address", "add", address, "dev", device]);
            side.run(&["ip", "link", "set", device, "up"]);
        }
    }

    /// Opens a listener in it.
    pub fn listen(&self, at: &str) -> TcpListener {
        listen_in(&self.path(), at)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Opens a listener in a network namespace.
pub fn listen_in(netns: &Path, at: &str) -> TcpListener {
    within(netns, || TcpListener::bind(at).unwrap())
}

/// Runs a closure in a network namespace.
pub fn within<T: Send>(netns: &Path, act: impl FnOnce() -> T + Send) -> T {
    let namespace = fs::File::open(netns).unwrap();
    let enter = || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        act()
    };
    // Only this thread enters the namespace, and it ends with the closure.
    thread::scope(|scope| scope.spawn(enter).join().unwrap())
}

/// A server that speaks first: it sends the client's port as it sees it.
pub fn server() -> SocketAddr {
    serve(TcpListener::bind("127.0.0.2:0").unwrap())
}

/// The same with this listener.
pub fn serve(listener: TcpListener) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = writeln!(stream, "{}", stream.peer_addr().unwrap().port());
        }
    });
    address
}

/// A program that has joined a running gnomon, so that its connections are redirected.
pub struct Joined {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
    pub said: String,
}

/// In place of a socket: the program does not join.
const NONE: &str = "none";

/// What its answers begin with, to tell them from the lines of the test harness.
const SIGN: &str = "> ";

impl Joined {
    pub fn start(socket: &Path, cgroup: &Path, uid: u32) -> Self {
        Self::start_in(socket, cgroup, uid, None)
    }

    /// Starts a program that does not join, in another network namespace: only the configuration's scopes concern it.
    pub fn bystander(cgroup: &Path, netns: &Netns) -> Self {
        Self::start_in(Path::new(NONE), cgroup, 0, Some(netns))
    }

    /// The same in our own network namespace.
    pub fn apart(cgroup: &Path) -> Self {
        Self::start_in(Path::new(NONE), cgroup, 0, None)
    }

    /// Starts a program that joins, in another network namespace where one is given.
    pub fn start_in(socket: &Path, cgroup: &Path, uid: u32, netns: Option<&Netns>) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"echo 0 > "$0/cgroup.procs" && exec "$@""#]).arg(cgroup);
        if let Some(netns) = netns {
            command.arg("nsenter").arg(format!("--net={}", netns.path().display()));
        }
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", "sensor_stage::act", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env("GNOMON_TEST_SOCKET", socket).env("GNOMON_TEST_UID", uid.to_string()).process_group(0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut joined = Self { child, answers, said: String::new() };
        joined.said = joined.answer();
        joined
    }

    /// Connects to the server, and reports whether the server saw the program itself as its client.
    pub fn reaches(&mut self, server: SocketAddr) -> Road {
        writeln!(self.child.stdin.as_mut().unwrap(), "{server}").unwrap();
        match self.answer().as_str() {
            "direct" => Road::Direct,
            "other" => Road::ThroughProxy,
            other => Road::None(other.to_owned()),
        }
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "the program is gone");
            if let Some(answer) = line.strip_prefix(SIGN) {
                return answer.trim().to_owned();
            }
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a connection went to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Road {
    Direct,
    ThroughProxy,
    None(String),
}

/// Not a test: the main function of the joined program.
#[test]
#[ignore = "a role, not a test"]
fn act() {
    let Some(socket) = std::env::var_os("GNOMON_TEST_SOCKET") else { return };
    let uid: u32 = std::env::var("GNOMON_TEST_UID").unwrap().parse().unwrap();
    if uid != 0 {
        let uid = nix::unistd::Uid::from_raw(uid);
        nix::unistd::setresuid(uid, uid, uid).unwrap();
    }
    if socket == NONE {
        println!("\n{SIGN}apart");
    } else {
        join(Path::new(&socket));
    }
    for line in std::io::stdin().lines() {
        println!("\n{SIGN}{}", connect(line.unwrap().parse().unwrap()).unwrap_or_else(|error| error.to_string()));
    }
}

fn join(socket: &Path) {
    let channel = ExecEnd::connect(socket, DEADLINE).unwrap();
    channel.send(&ToGnomon::Join { version: VERSION, argv0: Text::cut("test"), redirect: Redirect::On }, &[], DEADLINE).unwrap();
    match channel.recv(DEADLINE).unwrap().message {
        ToExec::Joined { cgroup, bundle } => println!("\n{SIGN}joined {cgroup} {bundle:?}"),
        ToExec::Denied { why, detail, .. } => println!("\n{SIGN}denied {why:?} {detail}"),
    }
}

fn connect(server: SocketAddr) -> std::io::Result<String> {
    let stream = TcpStream::connect_timeout(&server, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    Ok(if line.trim() == stream.local_addr()?.port().to_string() { "direct" } else { "other" }.to_owned())
}
