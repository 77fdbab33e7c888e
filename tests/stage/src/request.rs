//! Requests of MCP clients, and their bytes in HTTP.

use super::{HOST, coding::Coding};
use http::Request;
use serde_json::{Value, json};

/// A `tools/call`.
pub fn call(id: impl Into<Value>, tool: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": {"name": tool, "arguments": {"path": "/srv/plan"}}})
}

/// A request without parameters.
pub fn request(id: impl Into<Value>, method: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": {}})
}

/// An HTTP/1.1 head with these further header lines, each ended by CRLF.
pub fn h1_head(method: &str, path: &str, further: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nhost: {HOST}\r\n{further}\r\n").into_bytes()
}

/// The header lines of a JSON body in this coding.
pub fn json_headers(coding: Coding) -> String {
    let mut lines = "content-type: application/json\r\naccept: application/json, text/event-stream\r\n".to_owned();
    if let Some(name) = coding.header() {
        lines.push_str(&format!("content-encoding: {name}\r\n"));
    }
    lines
}

/// A POST with a length, in one piece.
pub fn h1_post(path: &str, body: &[u8]) -> Vec<u8> {
    h1_post_with(path, "", body)
}

/// The same with further header lines.
pub fn h1_post_with(path: &str, further: &str, body: &[u8]) -> Vec<u8> {
    let lines = format!("{}content-length: {}\r\n{further}", json_headers(Coding::Identity), body.len());
    let mut bytes = h1_head("POST", path, &lines);
    bytes.extend_from_slice(body);
    bytes
}

/// One chunk of a chunked body.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// An HTTP/2 request with a JSON body in this coding.
pub fn h2_post(path: &str, coding: Coding) -> Request<()> {
    let mut request = Request::post(format!("https://{HOST}{path}"))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    if let Some(name) = coding.header() {
        request = request.header("content-encoding", name);
    }
    request.body(()).unwrap()
}
