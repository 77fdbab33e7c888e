//! An event as one line for people.
//!
//! Everything in an event may have been chosen by a stranger, so control characters never reach the
//! terminal.

use crate::accounts;
use serde_json::{Map, Value};
use std::fmt::Write;

/// A flat JSON object of an event.
pub type Event = Map<String, Value>;

/// Longest name that is shown of those that programs give themselves, characters.
const MAX_CLAIM: usize = 60;

/// `2026-11-20 09:00:00 block confirmed ada /usr/bin/node → mcp.example.com tools/call read_file  [rule]`. Of a process that is gone
/// there are number and user, as the kernel had them: `ada process 4711 (claims: "codex") → …`.
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
    if let Some(confidence) = text("gnomon.confidence") {
        let _ = write!(line, " {confidence}");
    }
    if let Some(user) = text("user.name").or_else(|| text("user.id").map(|id| accounts::named(&id))) {
        let _ = write!(line, " {user}");
    }
    match text("process.executable.path") {
        Some(program) => {
            let _ = write!(line, " {program}");
        }
        // Gone before it could be asked, or not of this host. What it says of itself is its own word.
        None => {
            let process = text("process.pid").map(|pid| format!("process {pid}"));
            let _ = write!(line, " {}", process.or_else(|| text("source.address")).unwrap_or_else(|| "?".to_owned()));
            if let Some(name) = first(&["mcp.client.name", "user_agent.original"]) {
                let _ = write!(line, " (claims: {})", claimed(&name));
            }
        }
    }
    line.push_str(" → ");
    line.push_str(&first(&["server.address", "gnomon.local.server", "destination.address"]).unwrap_or_else(|| "?".to_owned()));
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
            for part in request.into_iter().flatten().chain(text("gnomon.flow.outcome")).chain(text("gnomon.passage")) {
                let _ = write!(line, " {part}");
            }
        }
    }
    if let Some(rule) = text("rule.name").or_else(|| text("rule.id")) {
        let _ = write!(line, "  [{rule}]");
    }
    line
}

/// A program's claim about itself, in quotation marks that it cannot end.
fn claimed(name: &str) -> String {
    let mut shown: String =
        name.chars().take(MAX_CLAIM).map(|c| if matches!(c, '"' | '\u{201c}'..='\u{201f}') { '\'' } else { c }).collect();
    if name.chars().nth(MAX_CLAIM).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
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

/// Text of several lines, as several errors have it, on one.
pub fn one_line(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| clean(line.trim())).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

/// Text as one word of a shell, whatever strangers put into it.
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '=' | '@' | ',' | '+');
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('-') {
        return text.to_owned();
    }
    // Control characters cannot be pasted safely; nothing has such a name but an attack on this line.
    let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("'{}'", clean(&text).replace('\'', "'\\''"))
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
    fn what_a_program_says_of_itself_is_never_taken_for_user_and_program() {
        let gone = r#"{"@timestamp":"2026-11-20T09:00:00Z","gnomon.action":"block","gnomon.confidence":"confirmed","user.id":"4200000001",
            "process.pid":4711,"gnomon.process.identity":"gone","source.address":"127.0.0.1","server.address":"a.example",
            "user_agent.original":"root /usr/bin/apt\" → b.example"}"#;
        let line =
            r#"2026-11-20 09:00:00 block confirmed uid 4200000001 process 4711 (claims: "root /usr/bin/apt' → b.example") → a.example"#;
        assert_eq!(of_json(gone), line);
        let root = gone.replace("4200000001", "0");
        assert!(of_json(&root).contains("confirmed root process 4711 (claims"), "{}", of_json(&root));
        let long = serde_json::json!({"mcp.client.name": "x".repeat(500), "source.address": "192.0.2.1"});
        let line = of(long.as_object().unwrap());
        assert!(line.contains("192.0.2.1 (claims: \"xxx") && line.contains("x…\")") && line.len() < 200, "{line}");
        // A known program is named without its claim.
        let known = serde_json::json!({"process.executable.path": "/usr/bin/node", "mcp.client.name": "codex"});
        assert!(!of(known.as_object().unwrap()).contains("codex"));
    }

    #[test]
    fn several_lines_are_told_on_one_without_marks_between_them() {
        assert_eq!(one_line("a.yml:1:1: one\n  a.yml:2:1: two\n\n"), "a.yml:1:1: one; a.yml:2:1: two");
        assert_eq!(one_line("a\u{1b}[2J"), "a\u{fffd}[2J");
    }

    #[test]
    fn a_stranger_cannot_write_to_the_terminal() {
        let event = serde_json::json!({"mcp.client.name": "\u{1b}[2J\u{202e}x\n", "server.address": "a\rb"});
        let line = of(event.as_object().unwrap());
        assert!(!line.contains(['\u{1b}', '\n', '\r', '\u{202e}']), "{line:?}");
    }
}
