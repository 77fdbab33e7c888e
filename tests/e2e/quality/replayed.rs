//! The same cases as HAR files, judged by `gnomon replay`.

use super::corpus::{Case, Expected, Framing, Given};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};

/// Why a case cannot be written as HAR 1.2, if so.
pub fn untold(case: &Case) -> Option<&'static str> {
    match (case.framing, case.expected) {
        (_, Expected::Later) => Some("WebSocket is not judged"),
        (Framing::Length | Framing::Two, _) => match case.header("content-encoding") {
            Some(_) if case.expected == Expected::Malformed || serde_json::from_slice::<Value>(&case.plain_body()).is_err() => {
                Some("a recording holds decoded bodies; this one cannot be decoded")
            }
            _ => None,
        },
        _ => Some("a recording has no transfer framing"),
    }
}

/// The events of `gnomon replay --all --json` for one case, in a folder for scratch files.
pub fn events(case: &Case, dir: &Path) -> Vec<Value> {
    let (har, config) = (dir.join("case.har"), dir.join("gnomon.yml"));
    fs::write(
        &har,
        json!({"log": {"version": "1.2", "creator": {"name": "gnomon tests", "version": "1"}, "entries": [entry(case)]}}).to_string(),
    )
    .unwrap();
    // An empty configuration, so that this machine's own is not used.
    fs::write(&config, "").unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_gnomon"))
        .args(["replay", "--all", "--json", "--config"])
        .args([&config, &har])
        .env("RUST_LOG", "off")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}: {}", case.id, String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn entry(case: &Case) -> Value {
    // An absolute request target is a URL already.
    let path = case.path.find("://").map_or(&*case.path, |scheme| case.path[scheme + 3..].trim_start_matches(|c| c != '/'));
    let host = case.target();
    let host = host.trim_end_matches(":443");
    let version = if case.framing == Framing::Two { "HTTP/2" } else { "HTTP/1.1" };
    let mut request = json!({
        "method": case.method, "url": format!("https://{host}{path}"), "httpVersion": version,
        "headers": pairs(&case.headers), "queryString": [], "cookies": [], "headersSize": -1, "bodySize": case.body.len(),
    });
    if !case.body.is_empty() {
        request["postData"] = content(&case.plain_body(), case.header("content-type").unwrap_or_default());
    }
    let given = case.answer.clone().unwrap_or(Given { status: 200, headers: Vec::new(), body: Vec::new() });
    let kind = given.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let response = json!({
        "status": given.status, "statusText": "", "httpVersion": version, "headers": pairs(&given.headers), "cookies": [],
        "content": content(&given.body, kind.map_or("", |(_, value)| value)), "redirectURL": "", "headersSize": -1, "bodySize": -1,
    });
    json!({"startedDateTime": "2026-11-20T09:00:00.000Z", "time": 1, "request": request, "response": response, "cache": {}, "timings": {}})
}

fn pairs(headers: &[(String, String)]) -> Value {
    headers.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

fn content(body: &[u8], kind: &str) -> Value {
    match std::str::from_utf8(body) {
        Ok(text) => json!({"mimeType": kind, "text": text, "size": body.len()}),
        Err(_) => json!({"mimeType": kind, "text": STANDARD.encode(body), "encoding": "base64", "size": body.len()}),
    }
}
