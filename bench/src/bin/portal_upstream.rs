//! The MCP server behind every contender of `portal`: 20 echo tools, both eras, JSON answers, a thread for each connection.
//!
//!     portal_upstream PORT [PORT...]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use gnomon_bench::portal::UPSTREAM_TOOLS;
use serde_json::{Value, json};

static SESSIONS: AtomicU64 = AtomicU64::new(1);

fn main() -> Result<()> {
    let mut listening = Vec::new();
    for port in std::env::args().skip(1) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse::<u16>().context("usage: portal_upstream PORT...")?))?;
        listening.push(thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever closes ends its thread; that is no error here.
                thread::spawn(move || drop(serve(stream)));
            }
        }));
    }
    for listener in listening {
        listener.join().ok();
    }
    Ok(())
}

fn serve(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(128 << 10, stream.try_clone()?);
    let mut writer = stream;
    let mut body = Vec::new();
    loop {
        let (mut length, mut line, mut method) = (0, String::new(), None);
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if method.is_none() {
                method = line.split(' ').next().map(str::to_owned);
            }
            if line.trim_end().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        let answer = match method.as_deref() {
            Some("POST") => answer(&serde_json::from_slice(&body)?),
            _ => ("405 Method Not Allowed", String::new(), None),
        };
        write(&mut writer, answer)?;
    }
}

fn write(writer: &mut TcpStream, (status, session, body): (&str, String, Option<Value>)) -> Result<()> {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let length = body.len();
    writer.write_all(format!("HTTP/1.1 {status}\r\n{kind}{session}content-length: {length}\r\n\r\n{body}").as_bytes())?;
    Ok(())
}

fn answer(message: &Value) -> (&'static str, String, Option<Value>) {
    let (id, params) = (&message["id"], &message["params"]);
    let modern = params["_meta"].get("io.modelcontextprotocol/protocolVersion").is_some();
    if id.is_null() {
        return ("202 Accepted", String::new(), None);
    }
    let mut session = String::new();
    let mut result = match message["method"].as_str() {
        Some("initialize") => {
            session = format!("mcp-session-id: {:032x}\r\n", SESSIONS.fetch_add(1, Ordering::Relaxed));
            json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "bench", "version": "1"}})
        }
        Some("server/discover") => {
            json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": 60000, "cacheScope": "public"})
        }
        Some("tools/list") => json!({"tools": tools(), "ttlMs": 60000, "cacheScope": "public"}),
        Some("tools/call") => {
            if let Some(wait) = params["arguments"]["wait_ms"].as_u64() {
                thread::sleep(Duration::from_millis(wait));
            }
            json!({"content": [{"type": "text", "text": params["arguments"]["text"]}]})
        }
        Some("ping") => json!({}),
        _ => {
            let error = json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "Method not found"}});
            return (if modern { "404 Not Found" } else { "200 OK" }, session, Some(error));
        }
    };
    if modern {
        result["resultType"] = json!("complete");
    }
    ("200 OK", session, Some(json!({"jsonrpc": "2.0", "id": id, "result": result})))
}

fn tools() -> Value {
    let schema = json!({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]});
    (0..UPSTREAM_TOOLS)
        .map(|n| json!({"name": format!("echo_{n}"), "description": "Says what it is told", "inputSchema": schema}))
        .collect()
}
