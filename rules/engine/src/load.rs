//! One YAML document to one rule: Sigma's own keys. The `gnomon` block is read in `extension`.

use crate::{
    Mode, Response, Rule, Source,
    detection::{self, Items},
    error::{Report, hint, nearest},
    expr::{Asks, Expr},
    extension::{self, Example},
    pattern::Budget,
    yaml::{self, Kind, Node, Place},
};
use gnomon_observe::{Action, Level, Phase};
use smol_str::SmolStr;
use std::str::FromStr;

/// The longest file, in bytes.
const MAX_FILE: usize = 1 << 20;
/// The longest title, in characters (Sigma 2.1.0).
const MAX_TITLE: usize = 256;

/// A rule as read, with what the judge needs.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) rule: Rule,
    pub(crate) expr: Expr,
    pub(crate) asks: Asks,
    pub(crate) examples: Vec<Example>,
    pub(crate) at: Place,
}

const SIGMA_KEYS: &[&str] = &[
    "title",
    "id",
    "name",
    "related",
    "taxonomy",
    "status",
    "description",
    "license",
    "author",
    "references",
    "date",
    "modified",
    "logsource",
    "detection",
    "fields",
    "falsepositives",
    "level",
    "tags",
    "scope",
    "gnomon",
];
const STATUSES: &[&str] = &["stable", "test", "experimental", "deprecated", "unsupported"];

/// All rules of a file. What is wrong goes to the report.
pub(crate) fn file(source: &Source, report: &mut Report<'_>, items: &mut Items) -> Vec<Loaded> {
    let start = Place { line: 1, column: 1 };
    if source.text.len() > MAX_FILE {
        report.at::<()>(start, format!("the file is larger than {MAX_FILE} bytes; split it"));
        return Vec::new();
    }
    let (documents, fault) = yaml::documents(&source.text);
    items.regexes = Budget::default();
    let rules = documents.iter().filter_map(|document| rule(document, source, report, items)).collect();
    match fault {
        Some(fault) => report.fault(fault),
        None if documents.is_empty() => {
            report.at::<()>(start, "the file has no rule in it; write one or take the file away");
        }
        None => {}
    }
    rules
}

fn rule(document: &Node, source: &Source, report: &mut Report<'_>, items: &mut Items) -> Option<Loaded> {
    let Kind::Map(entries) = &document.kind else {
        return report.at(document.at, format!("a rule must be a mapping that begins with `title:`, not {}", document.what()));
    };
    for (key, what) in [("correlation", "Sigma correlations"), ("filter", "Sigma filters"), ("action", "Sigma rule collections")] {
        if let Some((key, _)) = entries.iter().find(|(k, _)| k.name == key) {
            return report.at(key.at, format!("not supported yet: {what} (`{}`)", key.name));
        }
    }
    let before = report.errors.len();
    for (key, _) in entries.iter().filter(|(key, _)| !SIGMA_KEYS.contains(&key.name.as_str())) {
        // Sigma allows keys of others' making; a slip of the pen is not one.
        if let Some(near) = nearest(&key.name, SIGMA_KEYS) {
            report.at::<()>(key.at, format!("unknown key `{}`; did you mean `{near}`?", key.name));
        }
    }
    let title = required(document, "title", "a title, one line that says what it finds", report).and_then(|title| title_of(title, report));
    let id = required(document, "id", "an id, a UUID that never changes (uuidgen makes one)", report).and_then(|id| id_of(id, report));
    let level = document.get("level").and_then(|node| word::<Level>(node, report)).unwrap_or(Level::Medium);
    if let Some(node) = document.get("status") {
        let status = node.text().unwrap_or_default();
        if !STATUSES.contains(&status) {
            report.at::<()>(node.at, format!("`{status}` is not a status{}", hint(status, STATUSES)));
        }
    }
    logsource(document, report);
    let expr = match document.get("detection") {
        Some(node) => detection::read(node, report, items),
        None => report.at(document.at, "the rule has no `detection`; say what it looks for"),
    };
    let extension = extension::read(document.get("gnomon"), report);
    let description = document.get("description").and_then(|node| text(node, report));
    let references = texts(document.get("references"), report);
    let tags = texts(document.get("tags"), report);
    if report.errors.len() > before {
        return None;
    }
    let (title, id, expr) = (title?, id?, expr?);
    let mut asks = Asks::default();
    expr.asks(&mut asks);
    let phase = asks.phases.last();
    allow_is_timely(&extension.response, &asks, document, report)?;
    let rule = Rule {
        id,
        title,
        description,
        references,
        tags,
        level,
        class: extension.class,
        origin: source.origin,
        response: extension.response,
        phase,
        fields: asks.fields.clone(),
        file: SmolStr::new(&source.name),
        line: document.at.line,
    };
    Some(Loaded { rule, expr, asks, examples: extension.examples, at: document.get("id").map_or(document.at, |node| node.at) })
}

/// An exemption that comes after the answer would come too late: the request was refused by then.
fn allow_is_timely(response: &Response, asks: &Asks, document: &Node, report: &mut Report<'_>) -> Option<()> {
    let at = document.get("gnomon").map_or(document.at, |node| node.at);
    // What is passed on unread must be told from what is known before the first byte is read.
    if response.mode == Mode::Bypass
        && let Some(field) = asks.fields.iter().find(|field| field.phase() > Phase::Hello)
    {
        return report.at(
            at,
            format!("`mode: bypass` must be decidable at the ClientHello, but `{field}` is only known when the connection is read"),
        );
    }
    let late = asks.fields.iter().find(|field| field.phase() > Phase::Message);
    match late {
        Some(field) if response.action == Action::Allow => report.at(
            at,
            format!("`allow` must be decidable on the request, but `{field}` is only known with the answer; name what the request says"),
        ),
        _ => Some(()),
    }
}

fn required<'n>(document: &'n Node, key: &str, what: &str, report: &mut Report<'_>) -> Option<&'n Node> {
    match document.get(key) {
        Some(node) => Some(node),
        None => report.at(document.at, format!("the rule has no `{key}`; give it {what}")),
    }
}

fn title_of(node: &Node, report: &mut Report<'_>) -> Option<SmolStr> {
    let title = text(node, report)?;
    if title.trim().is_empty() || title.chars().count() > MAX_TITLE || title.contains(['\n', '\r']) {
        return report.at(node.at, format!("`title` must be one line of 1 to {MAX_TITLE} characters"));
    }
    Some(title)
}

fn id_of(node: &Node, report: &mut Report<'_>) -> Option<SmolStr> {
    let id = text(node, report)?;
    let uuid = id.len() == 36
        && id.bytes().enumerate().all(|(n, b)| if matches!(n, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() });
    if !uuid {
        return report.at(node.at, format!("`{id}` is not a UUID; uuidgen makes one"));
    }
    Some(id.to_ascii_lowercase().into())
}

fn logsource(document: &Node, report: &mut Report<'_>) -> Option<()> {
    const ADVICE: &str = "write `logsource: {product: mcp, category: mcp_traffic}`";
    let Some(node) = document.get("logsource") else {
        return report.at(document.at, format!("the rule has no `logsource`; {ADVICE}"));
    };
    let Kind::Map(entries) = &node.kind else {
        return report.at(node.at, format!("`logsource` must be a mapping; {ADVICE}"));
    };
    for (key, value) in entries {
        let wanted = match key.name.as_str() {
            "product" => "mcp",
            "category" => "mcp_traffic",
            "definition" => continue,
            other => return report.at(key.at, format!("`{other}` in `logsource` is of other traffic than ours; {ADVICE}")),
        };
        if value.text() != Some(wanted) {
            return report.at(value.at, format!("this rule is for other traffic than ours; {ADVICE}"));
        }
    }
    if node.get("product").is_none() || node.get("category").is_none() {
        return report.at(node.at, format!("`logsource` is not complete; {ADVICE}"));
    }
    Some(())
}

/// A word of a closed vocabulary.
pub(crate) fn word<T: FromStr<Err = gnomon_observe::UnknownWord>>(node: &Node, report: &mut Report<'_>) -> Option<T> {
    let Some(text) = node.text() else {
        return report.at(node.at, format!("a word is expected here, not {}", node.what()));
    };
    match text.parse() {
        Ok(word) => Some(word),
        Err(error) => report.at(node.at, error.to_string()),
    }
}

/// A text.
pub(crate) fn text(node: &Node, report: &mut Report<'_>) -> Option<SmolStr> {
    match node.text() {
        Some(text) => Some(text.into()),
        None => report.at(node.at, format!("a text is expected here, not {}", node.what())),
    }
}

fn texts(node: Option<&Node>, report: &mut Report<'_>) -> Vec<SmolStr> {
    match node.map(|node| (node, &node.kind)) {
        None => Vec::new(),
        Some((_, Kind::List(list))) => list.iter().filter_map(|node| text(node, report)).collect(),
        Some((node, _)) => {
            report.at::<()>(node.at, format!("a list of texts is expected here, not {}", node.what()));
            Vec::new()
        }
    }
}
