//! Rules and exceptions as text, begun from an event. Everything in an event may have been chosen by a stranger, so values
//! are quoted for YAML, made literal for Sigma, and cleaned where they stand in a comment.

use crate::stored::{self, Event};
use gnomon_cli::{Complaint, line::clean};
use gnomon_observe::{CONCEALED, Channel, Field, Retention};
use std::fmt::{self, Write};
use time::{OffsetDateTime, macros::format_description};

/// The longest title and the longest value that is taken over, characters.
const MAX_TITLE: usize = 120;

/// The fields that narrow an exception, who it is for first, as far as the event has them. A host may have several servers, a file several
/// entries, an entry another content later.
pub const NARROW: [&str; 24] = [
    "user.name",
    USER_ID,
    CLIENT,
    "server.address",
    PORT,
    DESTINATION,
    DESTINATION_PORT,
    "gnomon.server.id",
    TOOL,
    "mcp.resource.uri",
    "gen_ai.prompt.name",
    "gnomon.local.server",
    PACKAGE,
    "gnomon.config.path",
    "gnomon.config.entry",
    CONFIG_KIND,
    "gnomon.config.hash",
    "tls.client.server_name",
    "url.path",
    METHOD,
    "rpc.method",
    "gnomon.passage",
    "process.executable.path",
    CHANNEL,
];
/// Who it was, which is no finding: an exception of these alone would silence all that somebody does.
pub const WHO: [&str; 3] = ["user.name", USER_ID, CLIENT];
/// What says nothing without another field.
const BESIDE: [&str; 4] = [PORT, DESTINATION_PORT, CONFIG_KIND, CHANNEL];
/// What is compared only where the event names no server, tool, package or entry.
const LAST_RESORT: [&str; 4] = ["url.path", "rpc.method", "gnomon.passage", "process.executable.path"];

const USER_ID: &str = "user.id";
/// The client's address, which tells who it was where no user is known.
const CLIENT: &str = "source.address";
const TOOL: &str = "gen_ai.tool.name";
/// The port, which means nothing without its host.
const PORT: &str = "server.port";
const DESTINATION: &str = "destination.address";
const DESTINATION_PORT: &str = "destination.port";
const PACKAGE: &str = "package.name";
const CONFIG_KIND: &str = "gnomon.config.kind";
const CHANNEL: &str = "gnomon.channel";
const METHOD: &str = "mcp.method.name";

/// The fields that an event has and that tell it from others, in the order of [`NARROW`]: not twice the same by another name.
fn telling(event: &Event) -> Vec<&'static str> {
    let has = |field: &str| event.get(field).is_some_and(|value| !value.is_null());
    let local = [Channel::Process, Channel::Config].iter().any(|channel| stored::text(event, CHANNEL).as_deref() == Some(channel.as_str()));
    let is_told = |field: &&str| match *field {
        USER_ID => !has("user.name"),
        CLIENT => !has("user.name") && !has(USER_ID),
        // The name that the client asked for, where it is known.
        DESTINATION | DESTINATION_PORT => !has("server.address"),
        "tls.client.server_name" | "gnomon.server.id" => !has("server.address"),
        PACKAGE => !has("gnomon.local.server"),
        // A tool is called in one way.
        METHOD => !has(TOOL),
        "rpc.method" => !has(METHOD),
        CHANNEL => local,
        _ => true,
    };
    let told: Vec<&str> = NARROW.into_iter().filter(|field| has(field) && is_told(field)).collect();
    let says = |field: &&str| !WHO.contains(field) && !BESIDE.contains(field) && !LAST_RESORT.contains(field) && *field != METHOD;
    let enough = told.iter().any(says);
    told.into_iter().filter(|field| !enough || !LAST_RESORT.contains(field)).collect()
}

/// The fields that narrow an exception for this event, without those in `wider`.
///
/// # Errors
/// Nothing would be left that must be the same, or nothing but who it was; or the event has one of them without its secrets.
pub fn narrow(event: &Event, wider: &[String]) -> Result<Vec<String>, Complaint> {
    let told = telling(event);
    let is_kept = |field: &str| told.contains(&field) && !wider.iter().any(|wider| wider == field);
    let means = |field: &str| match field {
        PORT => is_kept("server.address"),
        DESTINATION_PORT => is_kept(DESTINATION),
        _ => true,
    };
    let kept: Vec<String> = told.iter().filter(|field| is_kept(field) && means(field)).map(|field| (*field).to_owned()).collect();
    if let Some(field) = kept.iter().find(|field| is_concealed(event, field)) {
        return Err(Complaint::usage(format!("the event has {field} without the secret in it, so an exception cannot compare it"))
            .next(format!("leave it out with --wider {field}, or write the exception by hand (docs/rules.md)")));
    }
    if kept.iter().any(|field| !WHO.contains(&field.as_str()) && !BESIDE.contains(&field.as_str())) {
        return Ok(kept);
    }
    let left = match kept.iter().find(|field| WHO.contains(&field.as_str())) {
        Some(field) if field == CLIENT => {
            "nothing but the client's address would have to be the same: all that comes from there would be excepted from the rules"
        }
        Some(_) => "nothing but the user would have to be the same: all that they do would be excepted from the rules",
        None => "nothing would be left that must be the same: the rules would be off",
    };
    Err(match wider {
        [] => Complaint::usage(format!("the event names no server, tool, package or entry of a configuration, so {left}"))
            .next("write the exception by hand (docs/rules.md), or switch a rule off in overrides.yml"),
        _ => Complaint::usage(left).next("leave out less with --wider, or switch a rule off in overrides.yml"),
    })
}

/// True if the event has a value of this field that is not as it was.
fn is_concealed(event: &Event, field: &str) -> bool {
    let may_be = field.parse::<Field>().is_ok_and(|field| field.info().retention == Retention::Address);
    may_be && stored::text(event, field).is_some_and(|text| text.contains(CONCEALED))
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
        line(&format!("description: {}", quoted(self.reason.unwrap_or("Say why this is not a finding."))));
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
        line("          expect: no_match\n        # … and not what differs in one of these, whatever else it is.");
        for other_at in self.fields.iter().filter(|field| is_free(event, field)) {
            line("        - observe:");
            for field in self.fields {
                let other = if field == other_at { "'something-else'".to_owned() } else { sample(event, field) };
                line(&format!("              {field}: {other}"));
            }
            line("          expect: match");
        }
        text
    }
}

/// A rule that matches what is like the event.
///
/// # Errors
/// The event names nothing to select by.
pub fn rule(event: &Event) -> Result<String, Complaint> {
    let get = |field: &str| stored::text(event, field);
    let of_call = [METHOD, TOOL, "mcp.resource.uri", "gen_ai.prompt.name", "server.address"];
    let of_request = get(METHOD).is_none().then_some(["http.request.method", "url.path"]);
    let mut fields: Vec<&str> = of_call.into_iter().chain(of_request.into_iter().flatten()).filter(|field| get(field).is_some()).collect();
    // What is no call is told by what an exception for it would compare, whoever it was and whatever its content is by then.
    let beyond = telling(event).into_iter().filter(|field| !WHO.contains(field) && *field != "gnomon.config.hash");
    if get(METHOD).is_none() {
        let more: Vec<&str> = beyond.filter(|field| *field != PORT && !fields.contains(field)).collect();
        fields.extend(more);
    }
    if fields.is_empty() {
        return Err(Complaint::usage("the event names nothing that a rule could select").next("begin one from docs/rules.md"));
    }
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
    let other_at = fields.iter().rposition(|field| is_free(event, field)).unwrap_or_default();
    for (n, field) in fields.iter().enumerate() {
        let other = if n == other_at { "'something-else'".to_owned() } else { sample(event, field) };
        line(&format!("              {field}: {other}"));
    }
    line("          expect: no_match");
    Ok(text)
}

/// True if the field's value is a text that could be any other: no number, and none of a few words.
fn is_free(event: &Event, field: &str) -> bool {
    let is_text = matches!(event.get(field), Some(serde_json::Value::String(_)));
    is_text && field != CHANNEL && field.parse::<Field>().is_ok_and(|field| field.words().is_none())
}

/// Names of tools and users, files and entries are compared letter by letter: servers, and this host, tell them apart so.
pub fn is_cased(field: &str) -> bool {
    matches!(
        field,
        "gen_ai.tool.name"
            | "gen_ai.prompt.name"
            | "user.name"
            | "mcp.resource.uri"
            | "gnomon.local.server"
            | "package.name"
            | "gnomon.config.path"
            | "gnomon.config.entry"
            | "process.executable.path"
    )
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
            let fields = narrow(&event, &[]).unwrap();
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
            for (text, tests) in [(exception.text(), 4), (rule(&event).unwrap(), 2)] {
                assert!(!text.contains(['\u{202e}', '\u{1b}']), "{text}");
                let results = compiled(&text).run_tests();
                assert_eq!(results.len(), tests);
                assert!(results.iter().all(|result| result.passed), "{text}");
            }
        }
    }

    fn on(fields: serde_json::Value) -> Event {
        let mut event = fields.as_object().unwrap().clone();
        for (name, value) in [("event.id", "019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b11"), ("rule.id", "8d2b3f0a-4f0c-4c3f-9d0e-2f1f3a5b7c9d")] {
            event.insert(name.to_owned(), value.into());
        }
        event
    }

    /// What gnomon writes of each channel and vantage, and what an exception for it compares.
    fn of_every_channel() -> Vec<(Event, Vec<&'static str>)> {
        let hook = json!({"gnomon.channel": "config", "user.name": "ada", "user.id": "1000", "gnomon.config.client": "Claude Code",
            "gnomon.config.path": "/home/ada/.claude/settings.json", "gnomon.config.entry": "PreToolUse Bash", "gnomon.config.kind": "hook",
            "gnomon.config.hash": "9f86d081884c7d65", "gnomon.config.runs": "file:sh", "gnomon.config.change": "first_seen"});
        let listed = json!({"gnomon.channel": "config", "user.name": "ada", "server.address": "a.example", "server.port": 443, "url.path": "/mcp",
            "gnomon.config.path": "/home/ada/.cursor/mcp.json", "gnomon.config.entry": "gh", "gnomon.config.kind": "server",
            "gnomon.config.secrets": ["headers.Authorization github-token"]});
        let unread = json!({"gnomon.channel": "config", "user.name": "ada", "gnomon.config.path": "/home/ada/x.json", "gnomon.config.change": "unread"});
        let started = json!({"gnomon.channel": "process", "user.name": "ada", "user.id": "1000", "gnomon.local.server": "pkg:npm/x",
            "package.name": "x", "process.executable.path": "/usr/bin/node"});
        let gone = json!({"gnomon.channel": "process", "gnomon.local.server": "pkg:npm/x", "gnomon.process.identity": "gone"});
        let package = json!({"gnomon.channel": "process", "user.id": "1000", "package.name": "x"});
        let flow = json!({"gnomon.channel": "https", "user.name": "ada", "destination.address": "192.0.2.7", "destination.port": 443,
            "process.executable.path": "/usr/bin/curl", "gnomon.flow.outcome": "observed"});
        let unreadable =
            json!({"gnomon.channel": "http", "user.name": "ada", "gnomon.passage": "request_line_odd", "source.address": "127.0.0.1"});
        let nowhere = json!({"gnomon.channel": "http", "user.name": "ada", "url.path": "/mcp", "mcp.method.name": "tools/list", "rpc.method": "tools/list"});
        let stdio = json!({"gnomon.channel": "stdio", "user.name": "ada", "gnomon.server.id": "docs", "gen_ai.tool.name": "read", "mcp.method.name": "tools/call"});
        let call = json!({"gnomon.channel": "https", "user.name": "ada", "server.address": "a.example", "server.port": 8443,
            "destination.address": "192.0.2.7", "url.path": "/mcp", "mcp.method.name": "tools/call", "gen_ai.tool.name": "read"});
        let read = json!({"gnomon.channel": "http", "source.address": "192.0.2.9", "server.address": "a.example", "server.port": 80, "url.path": "/mcp",
            "mcp.method.name": "resources/read", "rpc.method": "resources/read", "mcp.resource.uri": "memo://x/1"});
        let prompt = json!({"gnomon.channel": "http", "user.name": "ada", "source.address": "192.0.2.9", "server.address": "a.example",
            "server.port": 80, "mcp.method.name": "prompts/get", "gen_ai.prompt.name": "sum"});
        let listing = json!({"gnomon.channel": "http", "user.name": "ada", "server.address": "a.example", "server.port": 80,
            "mcp.method.name": "tools/list"});
        let entry =
            ["user.name", "gnomon.config.path", "gnomon.config.entry", "gnomon.config.kind", "gnomon.config.hash", "gnomon.channel"];
        let at = ["user.name", "server.address", "server.port"];
        vec![
            (hook, entry.to_vec()),
            (listed, [&at[..], &["gnomon.config.path", "gnomon.config.entry", "gnomon.config.kind", "gnomon.channel"]].concat()),
            (unread, vec!["user.name", "gnomon.config.path", "gnomon.channel"]),
            (started, vec!["user.name", "gnomon.local.server", "gnomon.channel"]),
            (gone, vec!["gnomon.local.server", "gnomon.channel"]),
            (package, vec!["user.id", "package.name", "gnomon.channel"]),
            (flow, vec!["user.name", "destination.address", "destination.port"]),
            (unreadable, vec!["user.name", "gnomon.passage"]),
            (nowhere, vec!["user.name", "url.path", "mcp.method.name"]),
            (stdio, vec!["user.name", "gnomon.server.id", "gen_ai.tool.name"]),
            (call, [&at[..], &["gen_ai.tool.name"]].concat()),
            (read, vec!["source.address", "server.address", "server.port", "mcp.resource.uri", "mcp.method.name"]),
            (prompt, [&at[..], &["gen_ai.prompt.name", "mcp.method.name"]].concat()),
            (listing, [&at[..], &["mcp.method.name"]].concat()),
        ]
        .into_iter()
        .map(|(event, fields)| (on(event), fields))
        .collect()
    }

    #[test]
    fn an_exception_and_a_rule_from_an_event_of_any_channel_are_for_what_was_seen_and_not_for_all_that_a_user_does() {
        for (event, expected) in of_every_channel() {
            let fields = narrow(&event, &[]).unwrap();
            assert_eq!(fields, expected, "{event:?}");
            let rules = [Named { id: "8d2b3f0a-4f0c-4c3f-9d0e-2f1f3a5b7c9d".to_owned(), title: None }];
            let exception = Exception { event: &event, fields: &fields, rules: &rules, stay: &[], owner: None, reason: None, until: None };
            for text in [exception.text(), rule(&event).unwrap()] {
                let results = compiled(&text).run_tests();
                assert!(results.len() >= 2 && results.iter().all(|result| result.passed), "{text}");
            }
            let selected = rule(&event).unwrap();
            assert!(!selected.contains("user.name|cased") && selected.contains("selection:\n        "), "{selected}");
        }
    }

    #[test]
    fn an_exception_is_not_made_of_what_an_event_has_only_in_part() {
        let event = on(json!({"user.name": "ada", "server.address": "a.example", "mcp.method.name": "resources/read",
            "mcp.resource.uri": "https://h.example/x?token=***&id=1"}));
        let refused = narrow(&event, &[]).unwrap_err();
        assert!(
            refused.cause.contains("mcp.resource.uri") && refused.next.unwrap().contains("--wider mcp.resource.uri"),
            "{}",
            refused.cause
        );
        let fields = narrow(&event, &["mcp.resource.uri".to_owned()]).unwrap();
        assert_eq!(fields, ["user.name", "server.address", "mcp.method.name"]);
    }

    #[test]
    fn an_exception_of_nothing_but_a_user_or_a_client_is_refused_and_says_why() {
        let refused = narrow(&on(json!({"source.address": "192.0.2.9"})), &[]).unwrap_err();
        assert!(refused.cause.contains("nothing but the client's address"), "{}", refused.cause);
        for who in [json!({"user.name": "ada", "source.address": "127.0.0.1"}), json!({"user.id": "1000", "gnomon.channel": "process"})] {
            let refused = narrow(&on(who), &[]).unwrap_err();
            assert!(refused.cause.contains("nothing but the user") && !refused.next.unwrap().contains("--wider"), "{}", refused.cause);
        }
        assert!(narrow(&on(json!({"gnomon.channel": "https"})), &[]).unwrap_err().cause.contains("the rules would be off"));
        assert!(rule(&on(json!({"user.name": "ada"}))).is_err());
        // Where somebody asks for it as well, in their own words.
        let wider = |fields: &[&str]| fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>();
        for (event, fields) in of_every_channel() {
            let all: Vec<&str> = fields.into_iter().filter(|field| !WHO.contains(field)).collect();
            let refused = narrow(&event, &wider(&all)).unwrap_err();
            assert!(refused.next.unwrap().contains("leave out less with --wider"), "{}", refused.cause);
        }
    }
}
