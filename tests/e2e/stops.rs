//! However gnomon is stopped while it works, every call that a server executed is on record. Executions are counted at the server.
//!
//! `GNOMON_STOPS` is the number of stops, 12 by default.

use crate::exec::GNOMON;
use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::{Pid, Signal, kill_process},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Milliseconds until the server answers a call: some answers come at once, some long after the stop.
const THINKS: [u64; 4] = [0, 5, 300, 20_000];
/// A call of this age is on disk whatever happens: it is reported after two seconds without an answer and committed a fifth of a second
/// later. The rest is for a loaded machine.
const PROMISED: Duration = Duration::from_secs(4);

/// A server that writes down which calls it executed, and when.
struct Server {
    address: SocketAddr,
    executed: Arc<Mutex<Vec<(String, Instant)>>>,
    over: Arc<AtomicBool>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (executed, over) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicBool>::default());
        let (acts, ends) = (executed.clone(), over.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let (acts, ends) = (acts.clone(), ends.clone());
                thread::spawn(move || serve(stream, &acts, &ends));
            }
        });
        Self { address, executed, over }
    }

    fn executed(&self) -> Vec<(String, Instant)> {
        self.executed.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Answers the requests of one connection.
fn serve(mut stream: TcpStream, acts: &Mutex<Vec<(String, Instant)>>, over: &AtomicBool) {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    while let Some((method, body)) = message(&mut stream) {
        if method != "POST" {
            let _ = stream.write_all(b"HTTP/1.1 405 no\r\ncontent-length: 0\r\n\r\n");
            continue;
        }
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let result = match said["method"].as_str().unwrap_or_default() {
            "initialize" => {
                json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "test", "version": "1"}})
            }
            "ping" => json!({}),
            "tools/list" => json!({"tools": [{"name": "act", "inputSchema": {"type": "object"}}]}),
            "tools/call" => {
                let name = said["params"]["arguments"]["name"].as_str().unwrap_or_default().to_owned();
                let mut acts = acts.lock().unwrap();
                acts.push((name, Instant::now()));
                let thinks = THINKS[acts.len() % THINKS.len()];
                drop(acts);
                let until = Instant::now() + Duration::from_millis(thinks);
                while Instant::now() < until && !over.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(5).min(until.saturating_duration_since(Instant::now())));
                }
                json!({"content": [{"type": "text", "text": "done"}]})
            }
            _ => Value::Null,
        };
        let answer = match (said.get("id"), result) {
            (None, _) => None,
            (Some(id), Value::Null) => Some(json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "unknown"}})),
            (Some(id), result) => Some(json!({"jsonrpc": "2.0", "id": id, "result": result})),
        };
        let answer = answer.map_or_else(String::new, |answer| answer.to_string());
        let status = if answer.is_empty() { "202 Accepted" } else { "200 OK" };
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        if stream.write_all(format!("{head}{answer}").as_bytes()).is_err() {
            return;
        }
    }
}

/// Reads one HTTP message with a Content-Length: the first word of its first line, and its body.
pub fn message(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head.split(' ').next()?.to_ascii_uppercase(), body))
}

/// How gnomon is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Once,
    Twice,
    Killed,
}

fn stops() -> impl Iterator<Item = (u64, Stop)> {
    let most = std::env::var("GNOMON_STOPS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    (0..most).map(|number| (number, [Stop::Once, Stop::Twice, Stop::Killed][usize::try_from(number % 3).unwrap_or(0)]))
}

/// A running gnomon without a sensor, on ports of its own.
pub struct Running {
    child: Child,
    state: PathBuf,
}

impl Running {
    pub fn start(arguments: &[&str], state: &Path, ready: SocketAddr) -> Self {
        let log = fs::File::create(state.join("log")).unwrap();
        let child = Command::new(GNOMON)
            .args(arguments)
            .args(["--state-dir", state.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let running = Self { child, state: state.to_owned() };
        let deadline = Instant::now() + Duration::from_secs(60);
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

    pub fn stop(mut self, stop: Stop) {
        match stop {
            Stop::Once => self.signal(Signal::TERM),
            Stop::Twice => {
                self.signal(Signal::TERM);
                thread::sleep(Duration::from_millis(100));
                self.signal(Signal::TERM);
            }
            Stop::Killed => self.signal(Signal::KILL),
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not end: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

pub fn free() -> SocketAddr {
    gnomon_testkit::free_port()
}

/// Calls from six clients until told to stop, each call under a name of its own.
fn load(post: impl Fn(&str) + Send + Sync + 'static, run: u64, over: &Arc<AtomicBool>) -> Vec<thread::JoinHandle<()>> {
    let (post, next) = (Arc::new(post), Arc::new(AtomicU64::new(0)));
    let client = |_| {
        let (post, next, over) = (post.clone(), next.clone(), over.clone());
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                post(&format!("call-{run}-{}", next.fetch_add(1, Ordering::Relaxed)));
            }
        })
    };
    (0..6).map(client).collect()
}

fn call(tool: &str, name: &str, meta: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"{name}","method":"tools/call","params":{{"name":"{tool}","arguments":{{"name":"{name}"}}{meta}}}}}"#)
}

/// Posts and waits for the answer, or for the end of the connection.
fn post(to: SocketAddr, target: &str, headers: &str, body: &str) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: {to}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
    message(&mut stream).map(|(_, body)| body)
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
        let address = listen.to_string();
        let events_file = state.path().join("events.jsonl");
        let running = Running::start(
            &["proxy", "--listen", &address, "--metrics", "off", "--events", events_file.to_str().unwrap()],
            state.path(),
            listen,
        );
        let over = Arc::<AtomicBool>::default();
        let target = format!("http://{}/mcp", server.address);
        let clients = load(move |name| drop(post(listen, &target, "", &call("act", name, ""))), number, &over);
        thread::sleep(if stop == Stop::Killed { PROMISED + Duration::from_secs(1) } else { Duration::from_millis(700) });
        let killed = (stop == Stop::Killed).then(Instant::now);
        running.stop(stop);
        over.store(true, Ordering::Relaxed);
        let executed = server.executed();
        clients.into_iter().for_each(|client| client.join().unwrap());
        let lines = fs::read_to_string(state.path().join("events.jsonl")).unwrap_or_default();
        let events: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let told: BTreeSet<String> = events
            .iter()
            .filter(|event| event["event.kind"] != "outcome")
            .filter_map(|event| event["jsonrpc.request.id"].as_str().map(|id| id.trim_matches('"').to_owned()))
            .collect();
        let owed = owed(&executed, killed);
        assert!(!owed.is_empty(), "the server executed nothing");
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
    let deadline = Instant::now() + Duration::from_secs(60);
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
        let text = format!(
            "servers: [{{id: tools, url: 'http://{}/mcp'}}]\naudit: {{writes: {writes}}}\nportals:\n  - {{id: main, listen: '{listen}', servers: [tools], \
             record: [arguments], policy: [{{allow: {{servers: [tools]}}}}]}}\n",
            server.address
        );
        fs::write(&config, text).unwrap();
        let running = Running::start(&["portal", "--metrics", "off", "--config", config.to_str().unwrap()], state.path(), listen);
        // A session that sends nothing more and ends with the stop.
        let begin = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;
        let accept = "accept: application/json, text/event-stream\r\n";
        let deadline = Instant::now() + Duration::from_secs(60);
        while post(listen, "/mcp", HEADERS, &call("tools_act", "first", META))
            .is_none_or(|answer| !String::from_utf8_lossy(&answer).contains("done"))
        {
            assert!(Instant::now() < deadline, "the server is not reached: {}", running.log());
            thread::sleep(Duration::from_millis(100));
        }
        assert!(post(listen, "/mcp", accept, begin).is_some(), "{}", running.log());
        let over = Arc::<AtomicBool>::default();
        let clients = load(move |name| drop(post(listen, "/mcp", HEADERS, &call("tools_act", name, META))), number, &over);
        thread::sleep(Duration::from_millis(700));
        let log = running.log();
        running.stop(stop);
        over.store(true, Ordering::Relaxed);
        let executed = server.executed();
        clients.into_iter().for_each(|client| client.join().unwrap());
        let records = audited(state.path());
        let kind = |wanted: &[&str]| -> BTreeSet<String> {
            records.iter().filter(|(kind, _)| wanted.contains(&kind.as_str())).map(|(_, name)| name.clone()).collect()
        };
        let told = if stop == Stop::Killed { kind(&["start"]) } else { kind(&["call"]) };
        let owed = owed(&executed, None);
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
