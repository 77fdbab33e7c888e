//! Real programs on the real kernel, each run directly and under `gnomon exec`: what the sensor reports of their connections, and which
//! program the proxy names for their calls.

use crate::{
    sensor_stage::{Host, needs, skip, until},
    support::{request::call, upstream::Upstream},
};
use gnomon_testkit::has;
use serde_json::Value;
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};

/// A host name that suggests MCP, so that connections to it are reported.
pub const NAME: &str = "mcp.tools.example";

/// Makes a call with Python's TLS; prints the address from `getpeername` last.
pub const PYTHON: &str = r#"
import http.client, socket, ssl, sys, time
ip, port, name, body = sys.argv[1:5]
tls = ssl.create_default_context().wrap_socket(socket.create_connection((ip, int(port))), server_hostname=name)
connection = http.client.HTTPConnection(name, int(port))
connection.sock = tls
connection.request("POST", "/rpc", body, {"content-type": "application/json"})
print(connection.getresponse().read().decode(), tls.getpeername()[0])
time.sleep(0.3)
"#;

/// The same, with the first byte of the ClientHello in a segment of its own, and the rest in three segments.
const SPLIT: &str = r#"
import socket, ssl, sys, time
ip, port, name, body = sys.argv[1:5]
raw = socket.create_connection((ip, int(port)))
raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = ssl.create_default_context().wrap_bio(inside, outside, server_hostname=name)
cuts = [1, 7, 100]
def flush():
    data = outside.read()
    while cuts and len(data) > cuts[0]:
        raw.sendall(data[:cuts[0]])
        data = data[cuts.pop(0):]
        time.sleep(0.03)
    raw.sendall(data)
def until(step):
    while True:
        try:
            result = step()
            flush()
            return result
        except ssl.SSLWantReadError:
            flush()
            inside.write(raw.recv(65536))
until(tls.do_handshake)
request = f"POST /rpc HTTP/1.1\r\nhost: {name}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n{body}"
until(lambda: tls.write(request.encode()))
answer = b""
while b"upstream" not in answer:
    answer += until(lambda: tls.read(65536))
print(answer.decode(), raw.getpeername()[0])
time.sleep(0.3)
"#;

const NODE: &str = r#"
const [ip, port, name, body] = process.argv.slice(1);
const headers = { host: `${name}:${port}`, "content-type": "application/json", "content-length": body.length };
const request = require("https").request({ host: ip, port, servername: name, path: "/rpc", method: "POST", headers }, answer => {
  let text = "";
  answer.on("data", data => (text += data));
  answer.on("end", () => { console.log(text, request.socket.remoteAddress); setTimeout(() => {}, 300); });
});
request.end(body);
"#;

/// A program that makes one call, and the name of its executable.
struct Program {
    command: &'static str,
    arguments: fn(&Call) -> Vec<String>,
    file: &'static str,
}

/// The call to make.
struct Call {
    ip: String,
    port: String,
    body: String,
}

impl Call {
    fn to(upstream: &Upstream, tool: &str) -> Self {
        let (ip, port) = (upstream.address.ip().to_string(), upstream.address.port().to_string());
        Self { ip, port, body: call(1, tool).to_string() }
    }

    fn script(&self, flag: &str, script: &str) -> Vec<String> {
        [flag, script, &self.ip, &self.port, NAME, &self.body].map(str::to_owned).to_vec()
    }

    fn curl(&self, version: &str) -> Vec<String> {
        let shown = if self.ip.contains(':') { format!("[{}]", self.ip) } else { self.ip.clone() };
        let resolve = format!("{NAME}:{}:{shown}", self.port);
        let url = format!("https://{NAME}:{}/rpc", self.port);
        let written = " %{remote_ip}";
        let fixed = ["-sS", version, "--resolve", &resolve, "-H", "content-type: application/json", "-d", &self.body, "-w", written, &url];
        fixed.map(str::to_owned).to_vec()
    }
}

const CURL: Program = Program { command: "curl", arguments: |call| call.curl("--http1.1"), file: "curl" };

const PROGRAMS: [Program; 5] = [
    CURL,
    Program { command: "curl", arguments: |call| call.curl("--http2"), file: "curl" },
    Program { command: "python3", arguments: |call| call.script("-c", PYTHON), file: "python" },
    Program { command: "python3", arguments: |call| call.script("-c", SPLIT), file: "python" },
    Program { command: "node", arguments: |call| call.script("-e", NODE), file: "node" },
];

/// How a program is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Direct,
    UnderExec,
}

/// Runs a program in the sensor's cgroup, with `before` in front of its command.
pub fn start(host: &Host, way: Way, before: &[&str], trust: &Path, command: &[String]) -> Output {
    command_in(host, way, before, trust, command).output().unwrap()
}

/// The same command, not yet started.
pub fn command_in(host: &Host, way: Way, before: &[&str], trust: &Path, command: &[String]) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"echo 0 > "$0/cgroup.procs" && exec "$@""#]).arg(&host.cgroup).args(before);
    if way == Way::UnderExec {
        shell.arg(env!("CARGO_BIN_EXE_gnomon")).arg("exec").arg("--exec-socket").arg(host.exec_socket()).arg("--");
    }
    for variable in ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
        shell.env(variable, trust);
    }
    shell.args(command).stdin(Stdio::null());
    shell
}

fn run(host: &Host, way: Way, before: &[&str], upstream: &Upstream, program: &Program, tool: &str) -> String {
    let call = Call::to(upstream, tool);
    let command: Vec<String> = std::iter::once(program.command.to_owned()).chain((program.arguments)(&call)).collect();
    let output = start(host, way, before, upstream.authority.pem_file(), &command);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("done by the upstream"), "{way:?} {}: {output:?}\n{}", program.command, host.log());
    assert!(said.trim_end().ends_with(&call.ip), "it is told the address that it asked for: {said}");
    said
}

pub fn events(host: &Host) -> Vec<Value> {
    host.events().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn names(event: &Value, file: &str) -> bool {
    event["process.executable.path"].as_str().is_some_and(|path| path.rsplit('/').next().unwrap_or_default().starts_with(file))
}

/// An upstream, and a host whose serving process trusts it.
async fn stage(address: &str) -> (Upstream, Host) {
    let upstream = Upstream::at(address, NAME, &["h2", "http/1.1"], |_| None).await;
    let host = trusting(upstream.authority.pem_file(), &[]);
    (upstream, host)
}

/// A host whose serving process trusts this authority for connections to upstreams.
pub fn trusting(pem: &Path, arguments: &[&str]) -> Host {
    fs::set_permissions(pem.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    let host = Host::start_with(&[&["--upstream-ca", pem.to_str().unwrap()], arguments].concat());
    until("the sensor to be joined", || host.scrape().contains("gnomon_sensor_up 1\n").then_some(()));
    host
}

/// Checks the event of a call that was intercepted under `gnomon exec`.
pub fn check_joined(event: &Value, file: &str) {
    assert!(names(event, file), "{event:#}");
    assert_eq!(event["gnomon.correlation"], "owner", "{event:#}");
    assert_eq!(event["gnomon.process.identity"], "confirmed", "it became this program after the sensor began: {event:#}");
    assert_eq!(event["gnomon.vantage"], "proxy");
    assert_eq!(event["mcp.method.name"], "tools/call");
    assert_eq!(event["user.name"], "root");
    assert_eq!(event["server.address"], NAME);
    assert!(event["gnomon.cgroup"].as_str().is_some_and(|path| path.contains("gnomon-exec-")), "{event:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_programs_are_tagged_as_they_are_and_read_under_exec() {
    let name = "real_programs_are_tagged_as_they_are_and_read_under_exec";
    if !needs(name) {
        return;
    }
    let (upstream, host) = stage("127.0.0.1:0").await;
    for (number, program) in PROGRAMS.iter().enumerate() {
        if !has(name, &[program.command]) {
            continue;
        }
        // A process that ends before gnomon has looked it up is reported without its executable, so a second try may be needed.
        let before = events(&host).len();
        until("the flow's event", || {
            run(&host, Way::Direct, &[], &upstream, program, "direct_tool");
            let seen = events(&host);
            let event = seen.into_iter().skip(before).find(|event| names(event, program.file))?;
            assert_eq!((&event["gnomon.vantage"], &event["tls.client.server_name"]), (&"flow".into(), &NAME.into()), "{event:#}");
            assert_eq!(event["gnomon.confidence"], "suspected");
            assert_eq!(event["gnomon.action"], "log", "observing refuses nothing");
            assert!(event["tls.client.ja4"].as_str().is_some_and(|ja4| ja4.starts_with("t13d")), "{event:#}");
            Some(())
        });
        let tool = format!("tool_{number}");
        run(&host, Way::UnderExec, &[], &upstream, program, &tool);
        let event = until("the call's event", || events(&host).into_iter().find(|event| event["gen_ai.tool.name"] == *tool));
        check_joined(&event, program.file);
    }
}

/// A copy of curl with a tail of zeros: agents come as one file of 300 MB and more.
fn large_copy_of_curl(folder: &Path, name: &str) -> String {
    let copy = folder.join(name);
    let shown = Command::new("sh").args(["-c", "command -v curl"]).output().unwrap();
    fs::copy(String::from_utf8(shown.stdout).unwrap().trim(), &copy).unwrap();
    fs::OpenOptions::new().write(true).open(&copy).unwrap().set_len(300 << 20).unwrap();
    copy.to_str().unwrap().to_owned()
}

const ASKS_FOR_DIGESTS: &str = "title: A program that nobody knows\nid: 0c1d2e3f-4a5b-4c6d-8e7f-8091a2b3c4d5\n\
    logsource: {product: mcp, category: mcp_traffic}\n\
    detection: {one: {process.executable.hash.sha256|startswith: 'zz'}, condition: one}\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_first_call_of_a_large_program_waits_for_its_digest_only_where_a_rule_asks_for_it() {
    let name = "the_first_call_of_a_large_program_waits_for_its_digest_only_where_a_rule_asks_for_it";
    if !needs(name) || !has(name, &["curl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let rule = folder.path().join("digest.yml");
    fs::write(&rule, ASKS_FOR_DIGESTS).unwrap();
    let upstream = Upstream::at("127.0.0.1:0", NAME, &["h2", "http/1.1"], |_| None).await;
    for asks in [false, true] {
        let rules = ["--rules", rule.to_str().unwrap()];
        let host = trusting(upstream.authority.pem_file(), if asks { &rules } else { &[] });
        // One that was run before, for what everything else takes.
        run(&host, Way::UnderExec, &[], &upstream, &CURL, "warm");
        let mut took = f64::MAX;
        for attempt in 0..3 {
            let file = format!("large-{asks}-{attempt}");
            let command = large_copy_of_curl(folder.path(), &file);
            let call = Call::to(&upstream, &file);
            let mut arguments = call.curl("--http1.1");
            let written = arguments.iter().position(|argument| argument == "-w").unwrap() + 1;
            arguments[written] = " %{time_total}".to_owned();
            let command: Vec<String> = std::iter::once(command).chain(arguments).collect();
            let output = start(&host, Way::UnderExec, &[], upstream.authority.pem_file(), &command);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && said.contains("done by the upstream"), "{output:?}\n{}", host.log());
            took = took.min(said.trim().rsplit(' ').next().unwrap().parse().unwrap());
            let event = until("the call's event", || events(&host).into_iter().find(|event| event["gen_ai.tool.name"] == *file));
            check_joined(&event, &file);
            assert!(!asks || event["process.executable.hash.sha256"].is_string(), "{event:#}");
        }
        println!("rules ask for digests: {asks}; the fastest first call took {took} s");
        assert!(asks || took < 0.5, "{took} s");
    }
}

/// A child connects, hands its connection to its parent and ends; the parent speaks on it.
const SHORT_LIVED: &str = r#"
import array, socket, subprocess, sys
ip, port, body = sys.argv[1:4]
child = """
import array, os, socket, sys
near = socket.socket(fileno=int(sys.argv[1]))
made = socket.create_connection((sys.argv[2], int(sys.argv[3])))
near.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [made.fileno()]))])
os._exit(0)
"""
near, far = socket.socketpair()
subprocess.Popen([sys.executable, "-c", child, str(far.fileno()), ip, port], pass_fds=[far.fileno()]).wait()
_, rights, _, _ = near.recvmsg(1, socket.CMSG_SPACE(4))
made = socket.socket(fileno=array.array("i", rights[0][2])[0])
head = f"POST /rpc HTTP/1.1\r\nhost: {ip}:{port}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
made.sendall((head + body).encode())
while made.recv(65536): pass
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ended_before_it_was_looked_at_is_told_by_the_name_of_its_file() {
    let name = "a_program_that_ended_before_it_was_looked_at_is_told_by_the_name_of_its_file";
    if !needs(name) || !has(name, &["python3"]) {
        return;
    }
    let (trusted, host) = stage("127.0.0.1:0").await;
    let upstream = Upstream::without_tls(|_| None).await;
    // It may be looked at before it ends.
    let told = (0..40).find_map(|attempt| {
        let tool = format!("short_{attempt}");
        let call = Call::to(&upstream, &tool);
        let command = ["python3", "-c", SHORT_LIVED, &call.ip, &call.port, &call.body].map(str::to_owned);
        let output = start(&host, Way::UnderExec, &[], trusted.authority.pem_file(), &command);
        assert!(output.status.success(), "{output:?}");
        let event = until("the call's event", || events(&host).into_iter().find(|event| event["gen_ai.tool.name"] == *tool));
        event["process.name"].is_string().then_some(event)
    });
    let told = told.expect("one of forty ended before it was looked at");
    assert!(told["process.name"].as_str().unwrap().starts_with("python"), "{told:#}");
    assert!(told["process.executable.path"].is_null() && told["gnomon.process.identity"] != "confirmed", "{told:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_is_read_like_ipv4() {
    if !needs("ipv6_is_read_like_ipv4") || !has("ipv6_is_read_like_ipv4", &["curl"]) {
        return;
    }
    let (upstream, host) = stage("[::1]:0").await;
    run(&host, Way::UnderExec, &[], &upstream, &CURL, "six");
    let event = until("the call's event", || events(&host).into_iter().find(|event| event["gen_ai.tool.name"] == "six"));
    check_joined(&event, "curl");
    assert_eq!(event["destination.address"], "::1");
}

/// A network namespace connected to ours; removed when dropped.
struct Namespace {
    name: String,
    outside: String,
}

impl Namespace {
    fn new() -> Option<Self> {
        let number = std::process::id() % 4096;
        let namespace = Self { name: format!("gne2e{number}"), outside: format!("10.213.{}.{}", number / 64, (number % 64) * 4 + 1) };
        let inside = format!("10.213.{}.{}", number / 64, (number % 64) * 4 + 2);
        let (near, far) = (format!("gn{number}a"), format!("gn{number}b"));
        for command in [
            format!("ip netns add {}", namespace.name),
            format!("ip link add {near} type veth peer name {far}"),
            format!("ip link set {far} netns {}", namespace.name),
            format!("ip addr add {}/30 dev {near}", namespace.outside),
            format!("ip link set {near} up"),
            format!("ip -n {} addr add {inside}/30 dev {far}", namespace.name),
            format!("ip -n {} link set {far} up", namespace.name),
            format!("ip -n {} link set lo up", namespace.name),
        ] {
            let mut words = command.split(' ');
            let done = Command::new(words.next().unwrap()).args(words).output().ok()?;
            if !done.status.success() {
                println!("{command}: {}", String::from_utf8_lossy(&done.stderr));
                return None;
            }
        }
        Some(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Deleting the namespace removes the pair of devices too.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_in_another_network_namespace_is_read_too() {
    let name = "a_program_in_another_network_namespace_is_read_too";
    if !needs(name) || !has(name, &["ip", "curl"]) {
        return;
    }
    let Some(namespace) = Namespace::new() else {
        return skip(name, "network namespaces cannot be made here");
    };
    let (upstream, host) = stage(&format!("{}:0", namespace.outside)).await;
    run(&host, Way::UnderExec, &["ip", "netns", "exec", &namespace.name], &upstream, &CURL, "elsewhere");
    let event = until("the call's event", || events(&host).into_iter().find(|event| event["gen_ai.tool.name"] == "elsewhere"));
    check_joined(&event, "curl");
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_is_refused_under_exec_so_that_clients_fall_back() {
    let name = "quic_is_refused_under_exec_so_that_clients_fall_back";
    if !needs(name) || !has(name, &["python3"]) {
        return;
    }
    const DATAGRAMS: &str = r#"
import socket
def told(step):
    try:
        step()
        return "sent"
    except PermissionError:
        return "refused"
def connected(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(("127.0.0.9", port))
print(told(lambda: connected(443)),
      told(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.9", 443))),
      told(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.9", 5353))))
"#;
    let (upstream, host) = stage("127.0.0.1:0").await;
    let command = ["python3", "-c", DATAGRAMS].map(str::to_owned);
    for (way, expected) in [(Way::UnderExec, "refused refused sent"), (Way::Direct, "sent sent sent")] {
        let output = start(&host, way, &[], upstream.authority.pem_file(), &command);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected, "{way:?} {output:?}");
    }
}
