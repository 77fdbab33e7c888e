//! A server that writes down which calls it executed, and when, without TLS and with. Half of its answers are event streams.

use crate::support::{HOST, authority::Authority};
use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Milliseconds until the server answers a call: some answers come at once, some long after the stop.
const THINKS: [u64; 4] = [0, 5, 300, LONG];
const LONG: u64 = 20_000;
/// So many calls of a run are thought about for that long: each keeps a client waiting, and the load is to go on.
const MOST_LONG: usize = 3;
/// The longest that a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The form of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    /// An event stream, which begins at once.
    Events,
}

/// What a server did.
#[derive(Default)]
struct Done {
    executed: Vec<(String, Instant)>,
    long: usize,
}

#[derive(Default)]
struct Acts {
    done: Mutex<Done>,
    over: AtomicBool,
}

impl Acts {
    /// Writes down that a call was executed. Returns how many milliseconds to think about the answer, and its form.
    fn execute(&self, name: String) -> (u64, Form) {
        let mut done = self.done.lock().unwrap();
        done.executed.push((name, Instant::now()));
        let number = done.executed.len();
        // So that each of the two comes with each of the other, and with each road of its caller, who alternates them.
        let (mut thinks, of_events) = (THINKS[number / 4 % THINKS.len()], (number / 2).is_multiple_of(2));
        if thinks == LONG {
            done.long += 1;
            thinks = if done.long > MOST_LONG { THINKS[1] } else { LONG };
        }
        (thinks, if of_events { Form::Events } else { Form::Json })
    }

    /// Thinks for so many milliseconds, as long as the server is there.
    fn think(&self, thinks: u64) {
        let until = Instant::now() + Duration::from_millis(thinks);
        while Instant::now() < until && !self.over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5).min(until.saturating_duration_since(Instant::now())));
        }
    }
}

/// A server that writes down which calls it executed, and when.
pub struct Server {
    pub address: SocketAddr,
    /// Where it speaks TLS, as [`HOST`].
    pub tls: SocketAddr,
    pub authority: Authority,
    acts: Arc<Acts>,
}

impl Server {
    pub fn start() -> Self {
        let (acts, authority) = (Arc::<Acts>::default(), Authority::new("the server's authority"));
        let address = listening(&acts, serve);
        let config = authority.server(HOST, &["http/1.1"]);
        let tls = listening(&acts, move |stream: TcpStream, acts: &Acts| {
            serve(StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream), acts);
        });
        Self { address, tls, authority, acts }
    }

    pub fn executed(&self) -> Vec<(String, Instant)> {
        self.acts.done.lock().unwrap().executed.clone()
    }

    /// Waits until it has executed further calls.
    pub fn goes_on(&self) {
        let (before, deadline) = (self.executed().len(), Instant::now() + PATIENCE);
        while self.executed().len() < before + 10 {
            assert!(Instant::now() < deadline, "no further calls come");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Those that were thought about for long wait no more: their gnomon has ended.
    pub fn begins_anew(&self) {
        self.acts.done.lock().unwrap().long = 0;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.acts.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let _ = TcpStream::connect(self.tls);
    }
}

/// An address at which each connection is served by a thread of its own.
fn listening(acts: &Arc<Acts>, serve: impl Fn(TcpStream, &Acts) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let acts = acts.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if acts.over.load(Ordering::Relaxed) {
                return;
            }
            let (acts, serve) = (acts.clone(), serve.clone());
            thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(PATIENCE));
                serve(stream, &acts);
            });
        }
    });
    address
}

/// Answers the requests of one connection.
fn serve(mut stream: impl Read + Write, acts: &Acts) {
    while let Some((method, body)) = message(&mut stream) {
        if method != "POST" {
            let _ = stream.write_all(b"HTTP/1.1 405 no\r\ncontent-length: 0\r\n\r\n").and_then(|()| stream.flush());
            continue;
        }
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (mut thinks, mut form) = (0, Form::Json);
        let result = match said["method"].as_str().unwrap_or_default() {
            "initialize" => {
                json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "test", "version": "1"}})
            }
            "ping" => json!({}),
            "tools/list" => json!({"tools": [{"name": "act", "inputSchema": {"type": "object"}}]}),
            "tools/call" => {
                let name = said["params"]["arguments"]["name"].as_str().unwrap_or_default().to_owned();
                (thinks, form) = acts.execute(name);
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
        if reply(&mut stream, form, &answer, || acts.think(thinks)).is_err() {
            return;
        }
    }
}

/// Sends an answer, or an acceptance where there is none.
fn reply(stream: &mut impl Write, form: Form, answer: &str, think: impl FnOnce()) -> io::Result<()> {
    if form == Form::Events {
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(format!("{head}{}", chunk(": at work\n\n")).as_bytes())?;
        stream.flush()?;
        think();
        let event = chunk(&format!("data: {answer}\n\n"));
        stream.write_all(format!("{event}{}", chunk("")).as_bytes())?;
    } else {
        think();
        let status = if answer.is_empty() { "202 Accepted" } else { "200 OK" };
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        stream.write_all(format!("{head}{answer}").as_bytes())?;
    }
    stream.flush()
}

/// Reads up to this end, and that.
fn up_to(stream: &mut impl Read, end: &[u8]) -> Option<String> {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(end) {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        read.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&read).into_owned())
}

/// Reads one HTTP message with a Content-Length or in chunks: the first word of its first line, and its body.
pub fn message(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let head = up_to(stream, b"\r\n\r\n")?.to_ascii_lowercase();
    let first = head.split(' ').next()?.to_ascii_uppercase();
    if !head.contains("\r\ntransfer-encoding: chunked") {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        return Some((first, body));
    }
    let mut body = Vec::new();
    loop {
        let size = usize::from_str_radix(up_to(stream, b"\r\n")?.trim_end(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some((first, body));
        }
        body.extend_from_slice(&chunk[..size]);
    }
}
