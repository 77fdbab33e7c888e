//! Every session of a portal that began ends in the audit, whatever ended it and whenever gnomon stops: with a server that does not answer
//! when it is told.

use crate::stops::{Running, Stop, audited, free, message};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const SESSIONS: usize = 200;
const CLIENTS: usize = 8;

/// A server with sessions that hangs when it is told that one has ended.
struct Hanging {
    address: SocketAddr,
    told: Arc<AtomicUsize>,
}

impl Hanging {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (told, next) = (Arc::<AtomicUsize>::default(), Arc::<AtomicU64>::default());
        let ends = told.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (told, next) = (ends.clone(), next.clone());
                thread::spawn(move || serve(stream, &told, &next));
            }
        });
        Self { address, told }
    }
}

/// Answers the requests of one connection, until gnomon closes it.
fn serve(mut stream: TcpStream, told: &AtomicUsize, next: &AtomicU64) {
    while let Some((method, body)) = message(&mut stream) {
        match method.as_str() {
            "POST" => {}
            "DELETE" => {
                told.fetch_add(1, Ordering::Relaxed);
                let _ = stream.read(&mut [0]);
                return;
            }
            _ => {
                let _ = stream.write_all(b"HTTP/1.1 405 no\r\ncontent-length: 0\r\n\r\n");
                continue;
            }
        }
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let result = match said["method"].as_str().unwrap_or_default() {
            "initialize" => {
                json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "test", "version": "1"}})
            }
            "tools/list" => json!({"tools": [{"name": "act", "inputSchema": {"type": "object"}}]}),
            "tools/call" => json!({"content": [{"type": "text", "text": "done"}]}),
            _ => json!({}),
        };
        let answer = match said.get("id") {
            None => String::new(),
            Some(id) => json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string(),
        };
        let status = if answer.is_empty() { "202 Accepted" } else { "200 OK" };
        let session = match said["method"] == "initialize" {
            true => format!("mcp-session-id: s{}\r\n", next.fetch_add(1, Ordering::Relaxed)),
            false => String::new(),
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{session}content-length: {}\r\n\r\n", answer.len());
        if stream.write_all(format!("{head}{answer}").as_bytes()).is_err() {
            return;
        }
    }
}

/// The answer to one message, head and all.
fn post(to: SocketAddr, session: Option<&str>, body: &Value) -> Option<String> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let session = session.map_or_else(String::new, |id| format!("mcp-session-id: {id}\r\n"));
    let body = body.to_string();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n\
         {session}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Begins a session and calls a tool in it, so that it is open at the server as well.
fn begins_and_calls(portal: SocketAddr) -> Option<()> {
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}});
    let begun = post(portal, None, &initialize)?;
    let session = begun.lines().find_map(|line| line.strip_prefix("mcp-session-id: "))?;
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "tools_act", "arguments": {}}});
    post(portal, Some(session), &call)?.contains("done").then_some(())
}

/// A portal with these bounds of sessions, and all sessions begun at it.
fn all_begun(server: &Hanging, bounds: &str, state: &tempfile::TempDir) -> Running {
    let (listen, config) = (free(), state.path().join("gnomon.yml"));
    let text = format!(
        "servers: [{{id: tools, url: 'http://{}/mcp'}}]\nportals:\n  - {{id: main, listen: '{listen}', servers: [tools], sessions: {bounds}, \
         policy: [{{allow: {{servers: [tools]}}}}]}}\n",
        server.address
    );
    fs::write(&config, text).unwrap();
    let running = Running::start(&["portal", "--metrics", "off", "--config", config.to_str().unwrap()], state.path(), listen);
    let deadline = Instant::now() + Duration::from_secs(60);
    while begins_and_calls(listen).is_none() {
        assert!(Instant::now() < deadline, "the server is not reached: {}", running.log());
        thread::sleep(Duration::from_millis(100));
    }
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| thread::spawn(move || (0..SESSIONS / CLIENTS).filter(|_| begins_and_calls(listen).is_some()).count()))
        .collect();
    let begun: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(begun > SESSIONS / 2, "{begun}: {}", running.log());
    running
}

/// Every session of the audit that began has ended there, and nothing is lost.
fn each_has_ended(state: &tempfile::TempDir, why: &str) {
    let records = audited(state.path());
    let count = |wanted: &str| records.iter().filter(|(kind, _)| kind == wanted).count();
    assert!(count("session_start") > SESSIONS / 2, "{why}: {}", count("session_start"));
    assert_eq!((count("session_end"), count("lost")), (count("session_start"), 0), "{why}");
}

#[test]
fn sessions_that_ended_for_others_are_in_the_audit_although_gnomon_stops_while_their_server_hangs() {
    for stop in [Stop::Once, Stop::Twice] {
        let (server, state) = (Hanging::start(), tempfile::tempdir().unwrap());
        // Beyond so many three are evicted at a time.
        let running = all_begun(&server, "{max: 130}", &state);
        assert!(server.told.load(Ordering::Relaxed) > 0, "some were evicted: {}", running.log());
        running.stop(stop);
        each_has_ended(&state, "evicted");
    }
}

#[test]
fn sessions_that_were_idle_for_too_long_are_in_the_audit_although_gnomon_stops_while_their_server_hangs() {
    let (server, state) = (Hanging::start(), tempfile::tempdir().unwrap());
    let running = all_begun(&server, "{idle_seconds: 2}", &state);
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.told.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < deadline, "none expired: {}", running.log());
        thread::sleep(Duration::from_millis(5));
    }
    running.stop(Stop::Twice);
    each_has_ended(&state, "expired");
}
