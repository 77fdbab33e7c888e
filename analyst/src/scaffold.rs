//! Rules and exceptions as text, begun from an event. Everything in an event may have been chosen by a stranger, so values
//! are quoted for YAML, made literal for Sigma, and cleaned where they stand in a comment.

use crate::stored::{self, Event};
use gnomon_cli::line::clean;
use std::fmt::{self, Write};
use time::{OffsetDateTime, macros::format_description};

/// The longest title and the longest value that is taken over, characters.
const MAX_TITLE: usize = 120;

/// The fields that narrow an exception, narrowest first, as far as the event has them. A host may have several servers.
pub const NARROW: [&str; 4] = ["user.name", "server.address", PORT, "gen_ai.tool.name"];
/// The port, which means nothing without its host.
const PORT: &str = "server.port";

/// The fields that narrow an exception for this event, without those in `wider`.
pub fn narrow(event: &Event, wider: &[String]) -> Vec<String> {
    let is_kept = |field: &str| event.contains_key(field) && !wider.iter().any(|wider| wider == field);
    let kept = NARROW.into_iter().filter(|field| is_kept(field) && (*field != PORT || is_kept("server.address")));
    kept.map(str::to_owned).collect()
}

/// A rule, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub id: String,
    /// `None` of a rule that is not loaded.
    pub title: Option<String>,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.title {
            Some(title) => write!(f, "{} [{}]", clean(title), clean(&self.id)),
            None => write!(f, "{} (not loaded)", clean(&self.id)),
        }
    }
}

/// An exception that is to be written.
pub struct Exception<'a> {
    pub event: &'a Event,
    /// Fields that it is for; it has the values of the event.
    pub fields: &'a [String],
    /// The rules that no longer match.
    pub rules: &'a [Named],
    /// The rules that matched the event as well and go on matching, listed in the file for its readers.
    pub stay: &'a [Named],
    pub owner: Option<&'a str>,
    pub reason: Option<&'a str>,
    /// The expiry as written: a date or a time.
    pub until: Option<&'a str>,
}

impl Exception<'_> {
    /// The filter document.
    pub fn text(&self) -> String {
        let event = self.event;
        let get = |field: &str| stored::text(event, field);
        let what: Vec<String> = self.fields.iter().filter_map(|field| get(field)).collect();
        let mut text = String::new();
        // Formatting a String cannot fail.
        let mut line = |content: &str| {
            let _ = writeln!(text, "{content}");
        };
        line("# An exception, as a Sigma filter: the rules below do not match what `selection` describes.");
        line("# `not` in the condition makes it one. Delete the file, or let it expire, and they match again.");
        line(&format!("title: {}", quoted(&title(&format!("Except {}", what.join(", "))))));
        line(&format!("id: {}", uuid::Uuid::new_v4()));
        line(&format!("description: {}", quoted(self.reason.unwrap_or("Say why this is no finding."))));
        line(&format!("date: {}", today()));
        line("logsource:\n    product: mcp\n    category: mcp_traffic\nfilter:\n    rules:");
        let entry = |Named { id, title }: &Named| {
            let title = title.as_deref().map(|title| format!("  # {}", clean(title))).unwrap_or_default();
            format!("- {}{title}", clean(id))
        };
        for rule in self.rules {
            line(&format!("        {}", entry(rule)));
        }
        if !self.stay.is_empty() {
            line("        # These matched as well, and go on matching:");
        }
        for rule in self.stay {
            line(&format!("        # {}", entry(rule)));
        }
        line("    selection:");
        for field in self.fields {
            line(&format!("        {}: {}", key(field), value(event, field)));
        }
        line("    condition: not selection\ngnomon:");
        for (key, value) in [("owner", self.owner), ("reason", self.reason), ("expires", self.until)] {
            match value {
                Some(value) => line(&format!("    {key}: {}", quoted(value))),
                None => line(&format!("    # {key}: ")),
            }
        }
        if let Some(id) = get("event.id") {
            line(&format!("    event: {}", quoted(&id)));
        }
        line("    tests:\n        # What is excepted …\n        - observe:");
        for field in self.fields {
            line(&format!("              {field}: {}", sample(event, field)));
        }
        line("          expect: no_match\n        # … and nothing else.\n        - observe:");
        for (n, field) in self.fields.iter().enumerate() {
            let other = if n == 0 { "'something-else'".to_owned() } else { sample(event, field) };
            line(&format!("              {field}: {other}"));
        }
        line("          expect: match");
        text
    }
}

/// A rule that matches calls like the event's.
pub fn rule(event: &Event) -> String {
    let get = |field: &str| stored::text(event, field);
    let fields: Vec<&str> = ["mcp.method.name", "gen_ai.tool.name", "mcp.resource.uri", "gen_ai.prompt.name", "server.address"]
        .into_iter()
        .chain(get("mcp.method.name").is_none().then_some(["http.request.method", "url.path"]).into_iter().flatten())
        .filter(|field| get(field).is_some())
        .collect();
    let what: Vec<String> = fields.iter().filter_map(|field| get(field)).collect();
    let mut text = String::new();
    let mut line = |content: &str| {
        let _ = writeln!(text, "{content}");
    };
    line("# Begun from an event. Take out what is too narrow, then: gnomon rules check FILE");
    line(&format!("title: {}", quoted(&title(&what.join(" ")))));
    line(&format!("id: {}", uuid::Uuid::new_v4()));
    line("status: experimental\ndescription: Say what this finds, and why it matters.");
    line(&format!("date: {}", today()));
    line("logsource:\n    product: mcp\n    category: mcp_traffic\ndetection:\n    selection:");
    for field in &fields {
        line(&format!("        {}: {}", key(field), value(event, field)));
    }
    line("    # Who may do this anyway; `and not` takes it out of the match:");
    line("    # filter_who:\n    #     user.group.names: platform\n    # condition: selection and not filter_who");
    line("    condition: selection");
    line("# informational, low, medium, high or critical");
    line(
        "level: medium\ngnomon:\n    class: mcp\n    response:\n        # log writes it down; block answers the client instead of the server, with `message`.",
    );
    line("        action: log\n        # message: 'One line that the person and the model are shown.'\n    tests:\n        - observe:");
    for field in &fields {
        line(&format!("              {field}: {}", sample(event, field)));
    }
    line("          expect: match\n        - observe:");
    for (n, field) in fields.iter().enumerate() {
        let other = if n + 1 == fields.len() { "'something-else'".to_owned() } else { sample(event, field) };
        line(&format!("              {field}: {other}"));
    }
    line("          expect: no_match");
    text
}

/// Names of tools and users are compared letter by letter: servers tell them apart so.
pub fn is_cased(field: &str) -> bool {
    matches!(field, "gen_ai.tool.name" | "gen_ai.prompt.name" | "user.name" | "mcp.resource.uri")
}

fn key(field: &str) -> String {
    if is_cased(field) { format!("{field}|cased") } else { field.to_owned() }
}

fn value(event: &Event, field: &str) -> String {
    match event.get(field) {
        Some(serde_json::Value::String(text)) => quoted(&literal(text)),
        Some(serde_json::Value::Array(list)) => {
            let all: Vec<String> = list.iter().filter_map(|entry| entry.as_str()).map(|text| quoted(&literal(text))).collect();
            format!("[{}]", all.join(", "))
        }
        Some(other) => other.to_string(),
        None => "null".to_owned(),
    }
}

fn sample(event: &Event, field: &str) -> String {
    match event.get(field) {
        Some(serde_json::Value::String(text)) => quoted(text),
        Some(other) => other.to_string(),
        None => "null".to_owned(),
    }
}

/// Sigma's wildcards made literal.
fn literal(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A text as a YAML scalar: in single quotes where they will do, else with escapes as JSON has them.
fn quoted(text: &str) -> String {
    if clean(text) == text && !text.contains(['\u{feff}', '\u{85}']) {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        let mut escaped = String::from("\"");
        for c in text.chars() {
            // Characters that a terminal interprets are escaped as well.
            let _ = match c {
                '"' | '\\' => write!(escaped, "\\{c}"),
                ' '..='~' => write!(escaped, "{c}"),
                _ => write!(escaped, "\\U{:08x}", u32::from(c)),
            };
        }
        escaped.push('"');
        escaped
    }
}

fn title(text: &str) -> String {
    let title: String = clean(text).chars().take(MAX_TITLE).collect();
    if title.trim().is_empty() { "Begun from an event".to_owned() } else { title }
}

fn today() -> String {
    OffsetDateTime::now_utc().date().format(format_description!("[year]-[month]-[day]")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_engine::{Origin, RuleSet, Source};
    use serde_json::json;

    fn compiled(text: &str) -> RuleSet {
        let source = Source { name: "new.yml".into(), text: text.to_owned(), origin: Origin::Admin };
        RuleSet::compile(&[source]).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
    }

    fn hostile() -> Vec<Event> {
        let names = [
            "read_file",
            "a'b\"c: #x",
            "line\nfeed: {x",
            "*?\\",
            "\u{202e}\u{1b}[2J",
            "\u{1f600} - x",
            "",
            "%YAML",
            "&a *b",
            "\u{feff}\u{85}\u{7f}x",
        ];
        let event = |name: &str| {
            let event = json!({
                "event.id": "019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b11", "rule.id": "8d2b3f0a-4f0c-4c3f-9d0e-2f1f3a5b7c9d", "rule.name": name,
                "mcp.method.name": "tools/call", "gen_ai.tool.name": name, "user.name": name, "server.address": "mcp.example.com",
                "server.port": 8443,
            });
            event.as_object().unwrap().clone()
        };
        names.into_iter().map(event).collect()
    }

    #[test]
    fn what_is_begun_from_a_hostile_event_compiles_and_its_tests_hold() {
        for event in hostile() {
            let fields = NARROW.map(str::to_owned);
            let named = |id: &str| Named { id: id.to_owned(), title: stored::text(&event, "rule.name") };
            let (rules, stay) =
                ([named("8d2b3f0a-4f0c-4c3f-9d0e-2f1f3a5b7c9d")], [named("a06d0be7-29e6-427c-8e90-673c481c5fac"), named("x\n- y")]);
            let exception = Exception {
                event: &event,
                fields: &fields,
                rules: &rules,
                stay: &stay,
                owner: Some("o'b: #"),
                reason: Some("x\ny"),
                until: Some("2026-12-31"),
            };
            assert!(exception.text().contains("\n        server.port: 8443\n"), "{}", exception.text());
            for text in [exception.text(), rule(&event)] {
                assert!(!text.contains(['\u{202e}', '\u{1b}']), "{text}");
                let results = compiled(&text).run_tests();
                assert_eq!(results.len(), 2);
                assert!(results.iter().all(|result| result.passed), "{text}");
            }
        }
    }
}
