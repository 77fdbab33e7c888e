//! An event as one line for people.
//!
//! Everything in an event may have been chosen by a stranger, so control characters never reach the
//! terminal.

use serde_json::{Map, Value};
use std::fmt::Write;

/// A flat JSON object of an event.
pub type Event = Map<String, Value>;

/// `2026-11-20 09:00:00 block confirmed ada /usr/bin/node → mcp.example.com tools/call read_file  [rule]`
pub fn of(event: &Event) -> String {
    let text = |name: &str| event.get(name).map(plain).filter(|text| !text.is_empty());
    let first = |names: &[&str]| names.iter().find_map(|name| text(name));
    let mut line = String::new();
    let time = text("@timestamp").unwrap_or_default();
    let time = time.split('.').next().unwrap_or_default().replacen('T', " ", 1);
    let _ = write!(line, "{} {}", time.trim_end_matches('Z'), text("gnomon.action").unwrap_or_else(|| "-".to_owned()));
    if let Some(health) = text("gnomon.health") {
        let reason = text("message").map(|reason| format!(": {reason}")).unwrap_or_default();
        let _ = write!(line, " gnomon {health}{reason}");
        return line;
    }
    for part in [text("gnomon.confidence"), text("user.name")].into_iter().flatten() {
        let _ = write!(line, " {part}");
    }
    let client = first(&["process.executable.path", "mcp.client.name", "user_agent.original", "source.address"]);
    // A process that was gone before it could be asked still has its number.
    let client = client.or_else(|| text("process.pid").map(|pid| format!("process {pid}")));
    let _ = write!(line, " {} → ", client.unwrap_or_else(|| "?".to_owned()));
    line.push_str(&first(&["server.address", "destination.address"]).unwrap_or_else(|| "?".to_owned()));
    match event.get("server.port").and_then(Value::as_i64) {
        None | Some(443) => {}
        Some(port) => {
            let _ = write!(line, ":{port}");
        }
    }
    let what = text("mcp.method.name").or_else(|| text("rpc.method"));
    match what {
        Some(method) => {
            let _ = write!(line, " {method}");
            let name = first(&["gen_ai.tool.name", "gen_ai.prompt.name", "mcp.resource.uri"]);
            if let Some(name) = name {
                let _ = write!(line, " {name}");
            }
        }
        None => {
            let request = [text("http.request.method"), text("url.path")];
            for part in request.into_iter().flatten().chain(text("gnomon.flow.outcome")) {
                let _ = write!(line, " {part}");
            }
        }
    }
    if let Some(rule) = text("rule.name").or_else(|| text("rule.id")) {
        let _ = write!(line, "  [{rule}]");
    }
    line
}

/// The line of an event that is still JSON; the JSON itself where it is not an object.
pub fn of_json(json: &str) -> String {
    serde_json::from_str::<Event>(json).map_or_else(|_| clean(json), |event| of(&event))
}

/// The line of an event that is still JSON, with its id at the end: what `gnomon events show` takes.
pub fn with_id(json: &str) -> String {
    let Ok(event) = serde_json::from_str::<Event>(json) else { return clean(json) };
    match event.get("event.id").map(plain).filter(|id| !id.is_empty()) {
        Some(id) => format!("{}  {id}", of(&event)),
        None => of(&event),
    }
}

/// `1 call`, `2 calls`.
pub fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A value for people: lists as words with commas.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => clean(text),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Text without control characters, and without the marks that reorder a line (Trojan Source,
/// CVE-2021-42574).
pub fn clean(text: &str) -> String {
    let reorders = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || reorders(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detection_reads_who_to_what_and_why() {
        let event = r#"{"@timestamp":"2026-11-20T09:00:00.123Z","gnomon.action":"block","gnomon.confidence":"confirmed","user.name":"ada",
            "process.executable.path":"/usr/bin/node","server.address":"mcp.example.com","server.port":443,"mcp.method.name":"tools/call",
            "gen_ai.tool.name":"read_file","rule.name":"No files","event.id":"019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b11"}"#;
        let line = "2026-11-20 09:00:00 block confirmed ada /usr/bin/node → mcp.example.com tools/call read_file  [No files]";
        assert_eq!(of_json(event), line);
        assert_eq!(with_id(event), format!("{line}  019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b11"));
    }

    #[test]
    fn what_is_not_known_leaves_no_gap() {
        let event = r#"{"@timestamp":"2026-11-20T09:00:00Z","gnomon.action":"log","source.address":"127.0.0.1","server.address":"a.example",
            "server.port":8443,"http.request.method":"GET","url.path":"/sse"}"#;
        assert_eq!(of_json(event), "2026-11-20 09:00:00 log 127.0.0.1 → a.example:8443 GET /sse");
    }

    #[test]
    fn a_stranger_cannot_write_to_the_terminal() {
        let event = serde_json::json!({"mcp.client.name": "\u{1b}[2J\u{202e}x\n", "server.address": "a\rb"});
        let line = of(event.as_object().unwrap());
        assert!(!line.contains(['\u{1b}', '\n', '\r', '\u{202e}']), "{line:?}");
    }
}
