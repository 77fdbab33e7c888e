//! An MCP server over HTTP with one tool, in threads of the test.

use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

/// Runs until the test process ends.
pub struct Server {
    pub port: u16,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(&stream));
            }
        });
        Self { port }
    }
}

/// Serves a connection until the client closes it.
fn serve(stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            if line == "\r\n" {
                break;
            }
            let (name, value) = line.split_once(':')?;
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let (status, answer) = if first.starts_with("POST ") { answer(&serde_json::from_slice(&body).ok()?) } else { (405, String::new()) };
        let mut to = stream;
        write!(to, "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).ok()?;
    }
}

fn answer(said: &Value) -> (u16, String) {
    let Some(id) = said.get("id") else { return (202, String::new()) };
    let result = match said["method"].as_str() {
        Some("initialize") => {
            json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "test", "version": "1"}})
        }
        Some("ping") => json!({}),
        Some("tools/list") => json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}),
        Some("tools/call") => json!({"content": [{"type": "text", "text": "done by the server"}]}),
        _ => return (200, json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "unknown"}}).to_string()),
    };
    (200, json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
}
