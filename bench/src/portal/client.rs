//! One connection of an MCP client, kept alive.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const PATIENCE: Duration = Duration::from_secs(20);

/// How a caller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// 2025-11-25: a handshake, then a session.
    Stateful,
    /// 2026-07-28: each request is complete in itself.
    Stateless,
}

/// One caller.
pub struct Client {
    stream: TcpStream,
    era: Era,
    /// What stands between request line and Content-Length.
    head: String,
    port: u16,
    path: &'static str,
    session: Option<String>,
    received: Vec<u8>,
    next_id: u64,
}

impl Client {
    /// Connects, and in a stateful era opens a session.
    ///
    /// # Errors
    /// When it is not let in.
    pub fn open(port: u16, path: &'static str, era: Era) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client =
            Self { stream, era, head: String::new(), port, path, session: None, received: Vec::with_capacity(256 << 10), next_id: 1 };
        client.write_head();
        if era == Era::Stateful {
            let params = r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}"#;
            client.request("initialize", params, None)?;
            client.write_head();
            client.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, None)?;
        }
        Ok(client)
    }

    /// Takes no event streams, so that answers that are long in coming are documents as well.
    #[must_use]
    pub fn without_streams(mut self) -> Self {
        self.head = self.head.replace(", text/event-stream", "");
        self
    }

    fn write_head(&mut self) {
        let (path, port) = (self.path, self.port);
        self.head = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n"
        );
        match (self.era, &self.session) {
            (Era::Stateless, _) => self.head.push_str("mcp-protocol-version: 2026-07-28\r\n"),
            (Era::Stateful, Some(session)) => {
                self.head.push_str(&format!("mcp-protocol-version: 2025-11-25\r\nmcp-session-id: {session}\r\n"));
            }
            (Era::Stateful, None) => {}
        }
    }

    /// Calls a tool; the answer has to hold what was sent.
    ///
    /// # Errors
    /// When it does not.
    pub fn call(&mut self, tool: &str, text: &str) -> Result<()> {
        let params = format!(r#"{{"name":"{tool}","arguments":{{"text":"{text}"}}"#);
        let answered = self.request("tools/call", &self.complete(params), Some(tool))?;
        ensure!(memchr::memmem::find(answered, text.as_bytes()).is_some(), "another answer: {}", shown(answered));
        Ok(())
    }

    /// Calls a tool with whatever it takes; the value is its result.
    ///
    /// # Errors
    /// When there is none.
    pub fn take(&mut self, tool: &str, arguments: &serde_json::Value) -> Result<serde_json::Value> {
        let params = format!(r#"{{"name":"{tool}","arguments":{arguments}"#);
        let answered = self.request("tools/call", &self.complete(params), Some(tool))?;
        Ok(serde_json::from_slice::<serde_json::Value>(answered)?["result"].take())
    }

    /// Runs code in Code Mode; the value is the text of its result, and whether it failed.
    ///
    /// # Errors
    /// When there is no result.
    pub fn run(&mut self, tool: &str, code: &str) -> Result<(String, bool)> {
        let params = format!(r#"{{"name":"{tool}","arguments":{}"#, serde_json::json!({ "code": code }));
        let answered = self.request("tools/call", &self.complete(params), Some(tool))?;
        let mut answer = serde_json::from_slice::<serde_json::Value>(answered)?;
        ensure!(answer["error"].is_null(), "{}", answer["error"]);
        let result = answer["result"].take();
        let text = result["content"][0]["text"].as_str().unwrap_or_default().to_owned();
        Ok((text, result["isError"] == true))
    }

    /// How many tools there are.
    ///
    /// # Errors
    /// When there is no list.
    pub fn list(&mut self) -> Result<usize> {
        let answered = self.request("tools/list", &self.complete("{".to_owned()), None)?;
        Ok(memchr::memmem::find_iter(answered, b"\"inputSchema\"").count())
    }

    /// The tools as they are listed.
    ///
    /// # Errors
    /// When there is no list.
    pub fn tools(&mut self) -> Result<serde_json::Value> {
        let answered = self.request("tools/list", &self.complete("{".to_owned()), None)?;
        Ok(serde_json::from_slice::<serde_json::Value>(answered)?["result"]["tools"].take())
    }

    /// Closes what is open, with what an era wants in every request.
    fn complete(&self, mut params: String) -> String {
        if self.era == Era::Stateless {
            if params.len() > 1 {
                params.push(',');
            }
            params.push_str(
                r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"}}"#,
            );
        }
        params.push('}');
        params
    }

    fn request(&mut self, method: &str, params: &str, name: Option<&str>) -> Result<&[u8]> {
        let id = self.next_id;
        self.next_id += 1;
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        let mirrored = (self.era == Era::Stateless).then(|| match name {
            Some(name) => format!("mcp-method: {method}\r\nmcp-name: {name}\r\n"),
            None => format!("mcp-method: {method}\r\n"),
        });
        let body = self.post(&body, mirrored.as_deref())?;
        ensure!(memchr::memmem::find(&self.received[body.clone()], b"\"result\"").is_some(), "{method}: {}", shown(&self.received[body]));
        Ok(&self.received[body])
    }

    /// Sends one message and reads its answer whole; the value is where its body is.
    fn post(&mut self, body: &str, further: Option<&str>) -> Result<std::ops::Range<usize>> {
        let message = format!("{}{}content-length: {}\r\n\r\n{body}", self.head, further.unwrap_or(""), body.len());
        self.stream.write_all(message.as_bytes())?;
        self.received.clear();
        let head = loop {
            if let Some(end) = memchr::memmem::find(&self.received, b"\r\n\r\n") {
                break end + 4;
            }
            self.read()?;
        };
        let text = String::from_utf8_lossy(&self.received[..head]).to_ascii_lowercase();
        let status: u16 = text.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
        if let Some(session) = field("mcp-session-id:") {
            // Ids are compared by case, so the value is taken from the head as it came.
            let at = text.find("mcp-session-id:").unwrap_or_default() + "mcp-session-id:".len();
            let value = String::from_utf8_lossy(&self.received[at..head]).trim_start().chars().take(session.chars().count()).collect();
            self.session = Some(value);
        }
        let end = if let Some(length) = field("content-length:") {
            head + length.parse::<usize>()?
        } else if field("transfer-encoding:").is_some_and(|value| value == "chunked") {
            while !self.received.ends_with(b"\r\n0\r\n\r\n") {
                self.read()?;
            }
            self.received.len()
        } else {
            head
        };
        while self.received.len() < end {
            self.read()?;
        }
        if !(200..300).contains(&status) {
            bail!("HTTP {status}: {}", shown(&self.received[head..end]));
        }
        Ok(head..end)
    }

    fn read(&mut self) -> Result<()> {
        let start = self.received.len();
        self.received.resize(start + (64 << 10), 0);
        let got = self.stream.read(&mut self.received[start..]);
        self.received.truncate(start + got.as_ref().map_or(0, |got| *got));
        ensure!(got.context("no answer")? > 0, "the connection was closed");
        Ok(())
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}
