//! Events as syslog messages (RFC 5424): fields as structured data, the line for people as the message.

use gnomon_ledger::StoredEvent;
use serde_json::{Map, Value};
use std::fmt::Write;

/// Log audit (RFC 5424 table 1).
const FACILITY: u8 = 13;
/// Longest name of a parameter (RFC 5424 section 6.3.3).
const MAX_NAME: usize = 32;
/// 32473 is the number for documentation (RFC 5612): gnomon has no number of its own.
const SD_ID: &str = "gnomon@32473";

/// One message, without a frame. `host` is printable ASCII, or `-`.
pub(super) fn message(event: &StoredEvent, host: &str, describe: fn(&str) -> String) -> String {
    let fields: Map<String, Value> = serde_json::from_str(&event.json).unwrap_or_default();
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let priority = FACILITY * 8 + severity(text("rule.level").unwrap_or_default());
    let time = text("@timestamp").filter(|time| is_word(time)).unwrap_or("-");
    let kind = text("event.kind").filter(|kind| is_word(kind)).unwrap_or("event");
    let mut message = format!("<{priority}>1 {time} {host} gnomon {} {kind} ", std::process::id());
    if fields.is_empty() {
        message.push('-');
    } else {
        let _ = write!(message, "[{SD_ID}");
        for (name, value) in fields.iter().filter(|(name, _)| is_name(name)) {
            parameter(&mut message, name, value);
        }
        message.push(']');
    }
    // The mark says that it is UTF-8 (section 6.4).
    message.push_str(" \u{feff}");
    message.extend(describe(&event.json).chars().map(printable));
    message
}

/// The message with its length in front: octet counting (RFC 6587 section 3.4.1, RFC 5425 section 4.3).
pub(super) fn frame(message: &str, into: &mut Vec<u8>) {
    into.extend_from_slice(message.len().to_string().as_bytes());
    into.push(b' ');
    into.extend_from_slice(message.as_bytes());
}

/// Appends a parameter; a list becomes several parameters of one name (section 6.3.3 allows it).
fn parameter(message: &mut String, name: &str, value: &Value) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| parameter(message, name, value)),
        Value::String(text) => quoted(message, name, text),
        Value::Null => {}
        other => quoted(message, name, &other.to_string()),
    }
}

/// Section 6.3.3: `"`, `\` and `]` are escaped. Control characters would be lines and terminals' commands
/// at some receivers: a space stands for each.
fn quoted(message: &mut String, name: &str, text: &str) {
    let _ = write!(message, " {name}=\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\' | ']') {
            message.push('\\');
        }
        message.push(printable(c));
    }
    message.push('"');
}

fn printable(c: char) -> char {
    if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c }
}

fn is_name(name: &str) -> bool {
    is_word(name) && name.len() <= MAX_NAME && !name.contains(['=', ']', '"'])
}

pub(super) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic())
}

/// RFC 5424 table 2.
fn severity(level: &str) -> u8 {
    match level {
        "critical" => 2,
        "high" => 3,
        "medium" => 4,
        "low" => 5,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_observe::FIELDS;

    fn of(json: &str) -> String {
        message(&StoredEvent { seq: 1, at_ms: 0, json: json.to_owned() }, "build-17", |_| "one\nline".to_owned())
    }

    #[test]
    fn an_event_is_a_message_of_rfc_5424() {
        let text = of(
            r#"{"@timestamp":"2026-11-20T09:00:00.000Z","event.kind":"alert","rule.level":"high","server.port":443,"gnomon.tools":["a","b"]}"#,
        );
        let pid = std::process::id();
        assert_eq!(
            text,
            format!(
                "<107>1 2026-11-20T09:00:00.000Z build-17 gnomon {pid} alert [gnomon@32473 @timestamp=\"2026-11-20T09:00:00.000Z\" \
                 event.kind=\"alert\" rule.level=\"high\" server.port=\"443\" gnomon.tools=\"a\" gnomon.tools=\"b\"] \u{feff}one line"
            )
        );
        let mut framed = Vec::new();
        frame(&text, &mut framed);
        assert!(framed.starts_with(format!("{} <107>1", text.len()).as_bytes()));
    }

    #[test]
    fn a_hostile_value_ends_neither_its_parameter_nor_its_message() {
        let text = of(r#"{"user_agent.original":"a\" b=\"c] \\ \n<0>1 - - - - - -\u0000\u001b[2J\u2028"}"#);
        assert!(text.contains(r#"user_agent.original="a\" b=\"c\] \\  <0>1 - - - - - -  [2J "]"#), "{text}");
        assert!(!text.chars().any(char::is_control));
        // Neither do a name, a kind or a time that is none.
        let text = of(r#"{"a b":"x","a=b":"x","a]":"x","event.kind":"a [b","@timestamp":"now or never","ok":"y"}"#);
        assert!(text.starts_with("<110>1 - build-17 gnomon "), "{text}");
        assert!(text.contains(" event [gnomon@32473 event.kind=\"a [b\" @timestamp=\"now or never\" ok=\"y\"] "), "{text}");
    }

    #[test]
    fn every_field_of_the_table_has_a_name_that_syslog_allows() {
        for field in FIELDS {
            assert!(is_name(field.name), "{}", field.name);
        }
    }
}
