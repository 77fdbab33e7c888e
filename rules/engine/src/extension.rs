//! The `gnomon` block of a rule: what a match is about, what to do about it, and examples.

use crate::{
    Activity, Expectation, Mode, Response,
    entries::{self, known_entries, text, texts, word},
    error::{Report, hint},
    yaml::{Node, NodeKind, Plain, Position},
};
use gnomon_observe::{Action, Class, Observation};
use smol_str::SmolStr;
use std::time::SystemTime;

/// The longest message to a client, in characters: it is one line.
const MAX_MESSAGE: usize = 500;

/// The block, with its defaults where it is silent.
#[derive(Debug)]
pub(crate) struct Extension {
    pub(crate) class: Class,
    pub(crate) response: Response,
    pub(crate) activity: Activity,
    pub(crate) owasp: Vec<SmolStr>,
    pub(crate) atlas: Vec<SmolStr>,
    pub(crate) examples: Vec<Example>,
}

/// The block of a filter document: who answers for the exception, why, and how long.
#[derive(Debug, Default)]
pub(crate) struct FilterExtension {
    pub(crate) owner: Option<SmolStr>,
    pub(crate) reason: Option<SmolStr>,
    pub(crate) event: Option<SmolStr>,
    pub(crate) expires: Option<SystemTime>,
    pub(crate) examples: Vec<Example>,
}

/// An observation that the rule must match, or must not.
#[derive(Debug)]
pub(crate) struct Example {
    pub(crate) seen: Observation,
    pub(crate) expected: Expectation,
    pub(crate) at: Position,
}

const KEYS: &[&str] = &["class", "enabled", "response", "owasp", "atlas", "tests"];
const FILTER_KEYS: &[&str] = &["owner", "reason", "event", "expires", "tests"];
const RESPONSE_KEYS: &[&str] = &["action", "mode", "to", "message"];
const TEST_KEYS: &[&str] = &["observe", "expect"];
const MODES: &[&str] = &["explain", "location"];

/// Reads the block; `class` is that of a rule that names none. What is wrong goes to the report.
pub(crate) fn read(block: Option<&Node>, class: Class, report: &mut Report<'_>) -> Extension {
    let mut extension = Extension {
        class,
        response: Response::default(),
        activity: Activity::Active,
        owasp: Vec::new(),
        atlas: Vec::new(),
        examples: Vec::new(),
    };
    let Some(block) = block else { return extension };
    if known_entries(block, "gnomon", KEYS, report).is_none() {
        return extension;
    }
    if let Some(class) = block.get("class").and_then(|node| word(node, report)) {
        extension.class = class;
    }
    if let Some(response) = block.get("response").and_then(|node| response(node, report)) {
        extension.response = response;
    }
    if let Some(activity) = block.get("enabled").and_then(|node| entries::activity(node, report)) {
        extension.activity = activity;
    }
    extension.owasp = ids(block.get("owasp"), "MCP01", is_owasp, report);
    extension.atlas = ids(block.get("atlas"), "AML.T0051", is_atlas, report);
    extension.examples = examples(block, report);
    extension
}

/// Reads the block of a filter document. What is wrong goes to the report.
pub(crate) fn read_filter(block: Option<&Node>, report: &mut Report<'_>) -> FilterExtension {
    let Some(block) = block else { return FilterExtension::default() };
    if known_entries(block, "gnomon", FILTER_KEYS, report).is_none() {
        return FilterExtension::default();
    }
    let mut line = |key: &str| block.get(key).and_then(|node| text(node, report));
    let (owner, reason, event) = (line("owner"), line("reason"), line("event"));
    let expires = block.get("expires").and_then(|node| match node.text().and_then(entries::moment) {
        Some(end) => Some(end),
        None => report.at(node.at, "`expires` is a day, as 2026-12-31, or a moment, as 2026-12-31T18:00:00Z"),
    });
    FilterExtension { owner, reason, event, expires, examples: examples(block, report) }
}

fn examples(block: &Node, report: &mut Report<'_>) -> Vec<Example> {
    match block.get("tests").map(|tests| (tests, &tests.kind)) {
        None => Vec::new(),
        Some((_, NodeKind::List(list))) => list.iter().filter_map(|node| example(node, report)).collect(),
        Some((tests, _)) => {
            report.at::<()>(tests.at, format!("`tests` must be a list, not {}", tests.what()));
            Vec::new()
        }
    }
}

/// Ids of a taxonomy.
fn ids(node: Option<&Node>, sample: &str, is_id: fn(&str) -> bool, report: &mut Report<'_>) -> Vec<SmolStr> {
    let ids = texts(node, report);
    if let Some((node, id)) = node.zip(ids.iter().find(|id| !is_id(id))) {
        report.at::<()>(node.at, format!("`{id}` is not a valid id; write it like {sample}"));
    }
    ids
}

/// The OWASP MCP Top 10 (2025): `MCP01` to `MCP10`.
fn is_owasp(id: &str) -> bool {
    id.strip_prefix("MCP").is_some_and(|n| n.len() == 2 && n.parse::<u8>().is_ok_and(|n| (1..=10).contains(&n)))
}

/// A technique of MITRE ATLAS: `AML.T0051`, `AML.T0084.001`.
fn is_atlas(id: &str) -> bool {
    let digits = |part: &str, count: usize| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
    let Some(rest) = id.strip_prefix("AML.T") else { return false };
    match rest.split_once('.') {
        Some((technique, part)) => digits(technique, 4) && digits(part, 3),
        None => digits(rest, 4),
    }
}

pub(crate) fn response(node: &Node, report: &mut Report<'_>) -> Option<Response> {
    known_entries(node, "response", RESPONSE_KEYS, report)?;
    let Some(action) = node.get("action") else {
        let words: Vec<_> = Action::supported().map(Action::as_str).collect();
        return report.at(node.at, format!("`response` has no `action`; use one of: {}", words.join(", ")));
    };
    let (action_at, action) = (action.at, word::<Action>(action, report)?);
    if !Action::supported().any(|supported| supported == action) {
        return report.at(action_at, format!("not supported yet: `{action}`; use block or log"));
    }
    let message = match node.get("message") {
        None => None,
        Some(node) => Some(message(node, report)?),
    };
    if action == Action::Allow
        && let Some(mode) = node.get("mode")
    {
        return match (mode.text(), node.get("to")) {
            (Some("bypass"), None) => Some(Response { action, mode: Mode::Bypass, message, to: None }),
            (Some("bypass"), Some(to)) => report.at(to.at, "`to` belongs to `action: redirect`; take it out"),
            _ => report.at(mode.at, "the only mode of `allow` is `bypass`: the connection is passed on unread"),
        };
    }
    if action != Action::Redirect {
        let lost = ["mode", "to"].into_iter().find_map(|key| node.get(key).map(|node| (key, node)));
        return match lost {
            Some((key, node)) => report.at(node.at, format!("`{key}` belongs to `action: redirect`; take it out")),
            None => Some(Response { action, message, ..Response::default() }),
        };
    }
    let mode = match node.get("mode").map(|node| (node, node.text().unwrap_or_default())) {
        None | Some((_, "explain")) => Mode::Explain,
        Some((_, "location")) => Mode::Location,
        Some((node, "serve")) => return report.at(node.at, "not supported yet: `mode: serve`; use explain or location"),
        Some((node, other)) => return report.at(node.at, format!("`{other}` is not a mode of redirect{}", hint(other, MODES))),
    };
    let Some(to) = node.get("to") else {
        return report.at(node.at, "`redirect` has no `to`; name a portal or write its URL");
    };
    Some(Response { action, mode, to: Some(target(to, mode, report)?), message })
}

fn message(node: &Node, report: &mut Report<'_>) -> Option<SmolStr> {
    let message = text(node, report)?;
    if message.chars().count() > MAX_MESSAGE || message.chars().any(char::is_control) {
        return report.at(node.at, format!("`message` must be one line of at most {MAX_MESSAGE} characters, without control characters"));
    }
    Some(message)
}

/// The target of a redirect: an absolute URL, or with `explain` the name of a portal.
fn target(node: &Node, mode: Mode, report: &mut Report<'_>) -> Option<SmolStr> {
    let to = text(node, report)?;
    if to.contains(':') || mode == Mode::Location {
        return if is_url(&to) {
            Some(to)
        } else {
            report.at(node.at, format!("`{to}` is not an absolute URL; write it like https://portal.example/mcp"))
        };
    }
    let name = !to.is_empty() && to.len() <= 64 && to.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if name {
        Some(to)
    } else {
        report.at(node.at, format!("`{to}` is neither a portal's name (letters, digits, `-`, `_`, `.`) nor a URL"))
    }
}

/// True for an absolute http(s) URL that can be sent in a header: visible ASCII, a host, no user.
fn is_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    text.len() <= 2048
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\'))
        && !host.is_empty()
        && !authority.contains('@')
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn example(node: &Node, report: &mut Report<'_>) -> Option<Example> {
    known_entries(node, "tests", TEST_KEYS, report)?;
    let expected = match node.get("expect").map(|node| (node, node.text().unwrap_or_default())) {
        Some((_, "match")) => Expectation::Match,
        Some((_, "no_match")) => Expectation::NoMatch,
        Some((node, other)) => return report.at(node.at, format!("`{other}` cannot be expected{}", hint(other, &["match", "no_match"]))),
        None => return report.at(node.at, "the example has no `expect`; write `expect: match` or `expect: no_match`"),
    };
    let Some(observe) = node.get("observe") else {
        return report.at(node.at, "the example has no `observe`; name fields and their values");
    };
    let NodeKind::Map(entries) = &observe.kind else {
        return report.at(observe.at, format!("`observe` must be a mapping of fields, not {}", observe.what()));
    };
    let mut seen = Observation::new();
    let before = report.errors.len();
    for (key, value) in entries {
        let set = json(value).ok_or_else(|| format!("`{}` must be a text, a whole number, true, false or a list of texts", key.name));
        match set.and_then(|json| seen.set_json(&key.name, &json).map_err(|error| error.to_string())) {
            Ok(()) => {}
            Err(message) => {
                report.at::<()>(key.at, message);
            }
        }
    }
    (report.errors.len() == before).then_some(Example { seen, expected, at: node.at })
}

fn json(node: &Node) -> Option<serde_json::Value> {
    match &node.kind {
        NodeKind::Map(_) => None,
        NodeKind::List(list) => list.iter().map(json).collect::<Option<Vec<_>>>().map(serde_json::Value::Array),
        NodeKind::Scalar(scalar) => match scalar.value {
            Plain::Null => None,
            Plain::Bool(truth) => Some(truth.into()),
            Plain::Int(number) => Some(number.into()),
            // What YAML takes for a fraction is a version or a name here: fields have none.
            Plain::Float(_) | Plain::Text => Some(scalar.text.as_str().into()),
        },
    }
}
