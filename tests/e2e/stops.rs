//! However gnomon is stopped while it works, every call that a server executed is on record. Executions are counted at the server, and no
//! call fails before the stop. The server answers half of the calls as event streams, and half of those through the proxy come within TLS.
//!
//! `GNOMON_STOPS` is the number of stops, 12 by default.

pub use crate::stops_server::message;
use crate::{
    exec::GNOMON,
    stops_server::{PATIENCE, Server},
    support::{HOST, authority::trusting, rules::block},
};
use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::{Pid, Signal, kill_process},
};
use rustls::{
    ClientConfig, ClientConnection, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A call of this age is on disk whatever happens: it is reported after two seconds without an answer and committed a fifth of a second
/// later. The rest is for a loaded machine.
const PROMISED: Duration = Duration::from_secs(4);

/// How gnomon is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Once,
    Twice,
    Killed,
    /// Once, after it has read its configuration anew twice.
    Reloaded,
    /// Once, and another is started in its place, where the same load goes on.
    Again,
}

fn stops() -> impl Iterator<Item = (u64, Stop)> {
    let most = std::env::var("GNOMON_STOPS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let kinds = [Stop::Once, Stop::Twice, Stop::Killed, Stop::Reloaded, Stop::Again];
    (0..most).zip(kinds.into_iter().cycle())
}

/// A running gnomon without a sensor, on ports of its own.
pub struct Running {
    child: Child,
    state: PathBuf,
}

impl Running {
    pub fn start(arguments: &[&str], state: &Path, ready: SocketAddr) -> Self {
        let log = fs::OpenOptions::new().create(true).append(true).open(state.join("log")).unwrap();
        let child = Command::new(GNOMON)
            .args(arguments)
            .args(["--state-dir", state.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let running = Self { child, state: state.to_owned() };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(ready).is_err() {
            assert!(Instant::now() < deadline, "it does not listen: {}", running.log());
            thread::sleep(Duration::from_millis(20));
        }
        running
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.state.join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let _ = kill_process(pid, signal);
    }

    /// Has it read everything anew, and waits until it says that it has.
    fn reload(&self, says: &str) {
        let said = || self.log().matches(says).count();
        let (before, deadline) = (said(), Instant::now() + PATIENCE);
        self.signal(Signal::HUP);
        while said() == before {
            assert!(Instant::now() < deadline, "it does not reload: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn stop(mut self, stop: Stop) {
        match stop {
            Stop::Once | Stop::Reloaded | Stop::Again => self.signal(Signal::TERM),
            Stop::Twice => {
                self.signal(Signal::TERM);
                thread::sleep(Duration::from_millis(100));
                self.signal(Signal::TERM);
            }
            Stop::Killed => self.signal(Signal::KILL),
        }
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not end: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

pub fn free() -> SocketAddr {
    gnomon_testkit::free_port()
}

/// Six clients that call until told to stop, each call under a name of its own.
struct Load {
    over: Arc<AtomicBool>,
    failed: Arc<Mutex<Vec<(String, Instant)>>>,
    clients: Vec<thread::JoinHandle<()>>,
}

impl Load {
    /// `post` makes the call with this number and name.
    fn start(run: u64, post: impl Fn(u64, &str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let (over, failed) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (post, next) = (Arc::new(post), Arc::new(AtomicU64::new(0)));
        let client = |_| {
            let (post, next, over, failed) = (post.clone(), next.clone(), over.clone(), failed.clone());
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let name = format!("call-{run}-{number}");
                    let answer = post(number, &name).unwrap_or_default();
                    if !String::from_utf8_lossy(&answer).contains("done") {
                        failed.lock().unwrap().push((name, Instant::now()));
                        // Nobody may listen for a while.
                        thread::sleep(Duration::from_millis(5));
                    }
                }
            })
        };
        let clients = (0..6).map(client).collect();
        Self { over, failed, clients }
    }

    /// Ends it. No call may have failed before the stop.
    fn end(self, stopped: Instant) {
        self.over.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        let failed = self.failed.lock().unwrap();
        let early: Vec<&str> = failed.iter().filter(|(_, at)| *at < stopped).map(|(name, _)| name.as_str()).collect();
        assert!(early.is_empty(), "failed although nothing had ended: {early:?}");
    }
}

fn call(tool: &str, name: &str, meta: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"{name}","method":"tools/call","params":{{"name":"{tool}","arguments":{{"name":"{name}"}}{meta}}}}}"#)
}

fn connect(to: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(to).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    Some(stream)
}

/// Posts and waits for the answer, or for the end of the connection.
fn post(to: SocketAddr, target: &str, headers: &str, body: &str) -> Option<Vec<u8>> {
    exchange(connect(to)?, target, &format!("host: {to}\r\n{headers}"), body)
}

/// The same through the proxy, within TLS, to the port of [`HOST`].
fn post_in_tls(proxy: SocketAddr, port: u16, trust: &Arc<ClientConfig>, body: &str) -> Option<Vec<u8>> {
    let (mut stream, host) = (connect(proxy)?, format!("{HOST}:{port}"));
    stream.write_all(format!("CONNECT {host} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).ok()?;
    message(&mut stream)?;
    let tls = ClientConnection::new(trust.clone(), ServerName::try_from(HOST).unwrap()).unwrap();
    exchange(StreamOwned::new(tls, stream), "/mcp", &format!("host: {host}\r\n"), body)
}

fn exchange(mut stream: impl Read + Write, target: &str, headers: &str, body: &str) -> Option<Vec<u8>> {
    let length = body.len();
    let head = format!("POST {target} HTTP/1.1\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
    stream.flush().ok()?;
    message(&mut stream).map(|(_, body)| body)
}

/// A client's trust in the authority of the gnomon that runs there.
fn trusting_gnomon(state: &Path) -> Arc<ClientConfig> {
    let (file, deadline) = (state.join("ca.pem"), Instant::now() + PATIENCE);
    while !file.exists() {
        assert!(Instant::now() < deadline, "it has no authority");
        thread::sleep(Duration::from_millis(20));
    }
    trusting(&CertificateDer::from_pem_file(file).unwrap(), &["http/1.1"])
}

/// What must be on record: every executed call; where gnomon was killed, those executed at least [`PROMISED`] before.
fn owed(executed: &[(String, Instant)], killed: Option<Instant>) -> BTreeSet<String> {
    let old = |at: &Instant| killed.is_none_or(|killed| killed.saturating_duration_since(*at) > PROMISED);
    executed.iter().filter(|(_, at)| old(at)).map(|(name, _)| name.clone()).collect()
}

#[test]
fn however_a_proxy_is_stopped_every_call_that_a_server_executed_is_an_event() {
    for (number, stop) in stops() {
        let (server, state, listen) = (Server::start(), tempfile::tempdir().unwrap(), free());
        let (events_file, rules) = (state.path().join("events.jsonl"), state.path().join("rules"));
        fs::create_dir(&rules).unwrap();
        let (address, resolve) = (listen.to_string(), format!("{HOST}:{}:127.0.0.1", server.tls.port()));
        let start = || {
            let trusted = server.authority.pem_file().to_str().unwrap();
            let mut arguments = vec!["proxy", "--listen", &address, "--metrics", "off", "--events", events_file.to_str().unwrap()];
            arguments.extend(["--rules", rules.to_str().unwrap(), "--upstream-ca", trusted, "--resolve", &resolve]);
            Running::start(&arguments, state.path(), listen)
        };
        let running = start();
        let (target, port, trust) = (format!("http://{}/mcp", server.address), server.tls.port(), trusting_gnomon(state.path()));
        let load = Load::start(number, move |number, name| {
            let body = call("act", name, "");
            if number.is_multiple_of(2) { post(listen, &target, "", &body) } else { post_in_tls(listen, port, &trust, &body) }
        });
        match stop {
            Stop::Once | Stop::Twice | Stop::Again => thread::sleep(Duration::from_millis(700)),
            Stop::Killed => thread::sleep(PROMISED + Duration::from_secs(1)),
            Stop::Reloaded => {
                for rule in [1, 2] {
                    fs::write(rules.join(format!("{rule}.yml")), block(rule, "gen_ai.tool.name: another_tool").text).unwrap();
                    running.reload("rules reloaded");
                    server.goes_on();
                }
            }
        }
        let stopped = Instant::now();
        running.stop(stop);
        if stop == Stop::Again {
            server.begins_anew();
            let again = start();
            server.goes_on();
            again.stop(Stop::Once);
        }
        load.end(stopped);
        let lines = fs::read_to_string(&events_file).unwrap_or_default();
        let events: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let told: BTreeSet<String> = events
            .iter()
            .filter(|event| event["event.kind"] != "outcome")
            .filter_map(|event| event["jsonrpc.request.id"].as_str().map(|id| id.trim_matches('"').to_owned()))
            .collect();
        let owed = owed(&server.executed(), (stop == Stop::Killed).then_some(stopped));
        let within_tls = owed.iter().filter(|name| name.ends_with(['1', '3', '5', '7', '9'])).count();
        assert!((1..owed.len()).contains(&within_tls), "{within_tls} of {} calls came within TLS", owed.len());
        let missing: Vec<_> = owed.difference(&told).collect();
        assert!(missing.is_empty(), "stop {number} ({stop:?}): executed and not recorded: {missing:?} of {}", owed.len());
    }
}

/// A pipe that is full, and that nobody reads.
fn full_pipe() -> (io::PipeReader, io::PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader, writer)
}

#[test]
fn whoever_reads_neither_events_nor_the_log_keeps_no_call_from_the_record_and_no_stop_from_its_end() {
    let (server, state, listen) = (Server::start(), tempfile::tempdir().unwrap(), free());
    let ((_log, stderr), (_events, stdout)) = (full_pipe(), full_pipe());
    let rules = state.path().join("rules");
    fs::create_dir(&rules).unwrap();
    let mut command = Command::new(GNOMON);
    command.args(["proxy", "--listen", &listen.to_string(), "--metrics", "off", "--events", "-", "--rules", rules.to_str().unwrap()]);
    let child = command.args(["--state-dir", state.path().to_str().unwrap()]).stdout(stdout).stderr(stderr).spawn().unwrap();
    let running = Running { child, state: state.path().to_owned() };
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(listen).is_err() {
        assert!(Instant::now() < deadline, "it does not listen");
        thread::sleep(Duration::from_millis(20));
    }
    // More lines for the log than it has threads.
    for number in 0..8 {
        fs::write(rules.join("bad.yml"), format!(": bad [ {number}")).unwrap();
        running.signal(Signal::HUP);
        thread::sleep(Duration::from_millis(300));
    }
    let target = format!("http://{}/mcp", server.address);
    for name in ["one", "two"] {
        let answer = post(listen, &target, "", &call("act", name, "")).expect("an answer");
        assert!(String::from_utf8_lossy(&answer).contains("done"));
    }
    let began = Instant::now();
    running.stop(Stop::Once);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let shown = Command::new(GNOMON).args(["events", "--json", "--state-dir", state.path().to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.contains("one") && text.contains("two"), "{text}");
}

/// The records of the audit: the kind of each, and the name of its call.
pub fn audited(state: &Path) -> Vec<(String, String)> {
    let shown = Command::new(GNOMON)
        .args(["audit", "show", "--json", "--limit", "1000000", "--state-dir", state.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let text = String::from_utf8(shown.stdout).unwrap();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let records = serde_json::Deserializer::from_str(&text).into_iter::<Value>().map(Result::unwrap).flat_map(|one| match one {
        Value::Array(all) => all,
        one => vec![one],
    });
    records.map(|record| (word(&record["gnomon.audit.kind"]), word(&record["gnomon.arguments"]["name"]))).collect()
}

const META: &str = r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}"#;
const HEADERS: &str = "accept: application/json\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: tools_act\r\n";

#[test]
fn however_a_portal_is_stopped_every_call_that_a_server_executed_is_in_the_audit_and_none_is_lost() {
    for (number, stop) in stops() {
        let (server, state, listen) = (Server::start(), tempfile::tempdir().unwrap(), free());
        let writes = if stop == Stop::Killed { "before_call" } else { "soon" };
        let config = state.path().join("gnomon.yml");
        let configure = |denied: &str| {
            let text = format!(
                "servers: [{{id: tools, url: 'http://{}/mcp'}}]\naudit: {{writes: {writes}}}\n\
                 portals:\n  - {{id: main, listen: '{listen}', servers: [tools], record: [arguments], \
                 policy: [{{allow: {{servers: [tools]}}}}, {{deny: {{servers: [tools], tools: [{denied}]}}}}]}}\n",
                server.address
            );
            fs::write(&config, text).unwrap();
        };
        configure("another");
        let start = || Running::start(&["portal", "--metrics", "off", "--config", config.to_str().unwrap()], state.path(), listen);
        let running = start();
        // A session that sends nothing more and ends with the stop.
        let begin = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;
        let accept = "accept: application/json, text/event-stream\r\n";
        let deadline = Instant::now() + PATIENCE;
        while post(listen, "/mcp", HEADERS, &call("tools_act", "first", META))
            .is_none_or(|answer| !String::from_utf8_lossy(&answer).contains("done"))
        {
            assert!(Instant::now() < deadline, "the server is not reached: {}", running.log());
            thread::sleep(Duration::from_millis(100));
        }
        assert!(post(listen, "/mcp", accept, begin).is_some(), "{}", running.log());
        let load = Load::start(number, move |_, name| post(listen, "/mcp", HEADERS, &call("tools_act", name, META)));
        if stop == Stop::Reloaded {
            for denied in ["another, one", "another, two"] {
                configure(denied);
                running.reload("policies and log-ins of");
                server.goes_on();
            }
        } else {
            thread::sleep(Duration::from_millis(700));
        }
        let (log, stopped) = (running.log(), Instant::now());
        running.stop(stop);
        if stop == Stop::Again {
            server.begins_anew();
            let again = start();
            server.goes_on();
            again.stop(Stop::Once);
        }
        load.end(stopped);
        let records = audited(state.path());
        let kind = |wanted: &[&str]| -> BTreeSet<String> {
            records.iter().filter(|(kind, _)| wanted.contains(&kind.as_str())).map(|(_, name)| name.clone()).collect()
        };
        let told = if stop == Stop::Killed { kind(&["start"]) } else { kind(&["call"]) };
        let owed = owed(&server.executed(), None);
        assert!(owed.len() > 1, "the server executed next to nothing: {log}");
        let missing: Vec<_> = owed.difference(&told).collect();
        assert!(missing.is_empty(), "stop {number} ({stop:?}): executed and not in the audit: {missing:?} of {}", owed.len());
        assert!(records.iter().all(|(kind, _)| kind != "lost"), "nothing was lost: {records:?}");
        assert_eq!(records.iter().filter(|(kind, _)| kind == "session_start").count(), 1);
        if stop != Stop::Killed {
            assert_eq!(records.iter().filter(|(kind, _)| kind == "session_end").count(), 1, "the session ends with gnomon: {records:?}");
        } else {
            assert!(records.iter().any(|(kind, _)| kind == "login"), "answered, so the log-in is on record: {records:?}");
        }
    }
}
