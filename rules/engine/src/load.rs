//! YAML documents to rules and filters: Sigma's own keys. The `gnomon` block is read in `extension`.

use crate::{
    Activity, Enforcement, Mode, Response, Rule, Source,
    detection::{self, Block, Items},
    error::{Report, hint, nearest},
    expr::{Asks, Expr},
    extension::{self, Example},
    filter::{self, LoadedFilter},
    pattern::Budget,
    yaml::{self, Node, NodeKind, Position},
};
use gnomon_observe::{Action, Level, Phase};
use smol_str::SmolStr;
use std::str::FromStr;

/// The longest file, in bytes.
pub(crate) const MAX_FILE: usize = 1 << 20;
/// The longest title, in characters (Sigma 2.1.0).
const MAX_TITLE: usize = 256;

/// A rule as read, with what the judge needs.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) rule: Rule,
    pub(crate) expr: Expr,
    pub(crate) asks: Asks,
    pub(crate) examples: Vec<Example>,
    pub(crate) activity: Activity,
    pub(crate) at: Position,
}

/// A document of a file. What the kinds have in common is that files may hold both.
#[derive(Debug)]
pub(crate) enum Document {
    Rule(Box<Loaded>),
    Filter(Box<LoadedFilter>),
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
/// Sigma's, and the key of filters.
const FILTER_KEYS: &[&str] = &[
    "title",
    "id",
    "name",
    "taxonomy",
    "status",
    "description",
    "license",
    "author",
    "references",
    "date",
    "modified",
    "logsource",
    "filter",
    "tags",
    "gnomon",
];
const STATUSES: &[&str] = &["stable", "test", "experimental", "deprecated", "unsupported"];

/// All rules and filters of a file. What is wrong goes to the report.
pub(crate) fn file(source: &Source, report: &mut Report<'_>, items: &mut Items) -> Vec<Document> {
    let start = Position { line: 1, column: 1 };
    if source.text.len() > MAX_FILE {
        report.at::<()>(start, format!("the file is larger than {MAX_FILE} bytes; split it"));
        return Vec::new();
    }
    let (documents, fault) = yaml::documents(&source.text);
    items.regexes = Budget::default();
    let read = |document: &Node| self::document(document, source, report, items);
    let read = documents.iter().filter_map(read).collect();
    match fault {
        Some(fault) => report.fault(fault),
        None if documents.is_empty() => {
            report.at::<()>(start, "the file has no rule in it; write one or take the file away");
        }
        None => {}
    }
    read
}

fn document(document: &Node, source: &Source, report: &mut Report<'_>, items: &mut Items) -> Option<Document> {
    let NodeKind::Map(entries) = &document.kind else {
        return report.at(document.at, format!("a rule must be a mapping that begins with `title:`, not {}", document.what()));
    };
    for (key, what) in [("correlation", "Sigma correlations"), ("action", "Sigma rule collections")] {
        if let Some((key, _)) = entries.iter().find(|(k, _)| k.name == key) {
            return report.at(key.at, format!("not supported yet: {what} (`{}`)", key.name));
        }
    }
    let is_filter = document.get("filter").is_some();
    let known = if is_filter { FILTER_KEYS } else { SIGMA_KEYS };
    for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.name.as_str())) {
        // Sigma allows keys of others' making; a slip of the pen is not one.
        if let Some(near) = nearest(&key.name, known) {
            report.at::<()>(key.at, format!("unknown key `{}`; did you mean `{near}`?", key.name));
        }
    }
    if is_filter {
        filter::read(document, source, report, items).map(|one| Document::Filter(Box::new(one)))
    } else {
        rule(document, source, report, items).map(|one| Document::Rule(Box::new(one)))
    }
}

fn rule(document: &Node, source: &Source, report: &mut Report<'_>, items: &mut Items) -> Option<Loaded> {
    let before = report.errors.len();
    let title = required(document, "title", "a title, one line that says what it finds", report).and_then(|title| title_of(title, report));
    let id = required(document, "id", "an id, a UUID that never changes (uuidgen makes one)", report).and_then(|id| id_of(id, report));
    let level = document.get("level").and_then(|node| word::<Level>(node, report)).unwrap_or(Level::Medium);
    let status = document.get("status").and_then(|node| status(node, report));
    let name = document.get("name").and_then(|node| text(node, report));
    logsource(document, report);
    let expr = match document.get("detection") {
        Some(node) => detection::read(Block::Detection, node, report, items),
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
    let at = document.get("gnomon").map_or(document.at, |node| node.at);
    allow_is_timely(&extension.response, &asks, at, report)?;
    let rule = Rule {
        id,
        name,
        title,
        status,
        description,
        references,
        tags,
        level,
        class: extension.class,
        origin: source.origin,
        response: extension.response,
        enforcement: Enforcement::Enforce,
        phase,
        fields: asks.fields.clone(),
        owasp: extension.owasp,
        atlas: extension.atlas,
        filters: Vec::new(),
        change: None,
        file: SmolStr::new(&source.name),
        line: document.at.line,
    };
    let at = document.get("id").map_or(document.at, |node| node.at);
    Some(Loaded { rule, expr, asks, examples: extension.examples, activity: extension.activity, at })
}

/// An exemption that comes after the answer would come too late: the request was refused by then.
pub(crate) fn allow_is_timely(response: &Response, asks: &Asks, at: Position, report: &mut Report<'_>) -> Option<()> {
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

pub(crate) fn required<'n>(document: &'n Node, key: &str, what: &str, report: &mut Report<'_>) -> Option<&'n Node> {
    match document.get(key) {
        Some(node) => Some(node),
        None => report.at(document.at, format!("`{key}` is missing; give {what}")),
    }
}

fn status(node: &Node, report: &mut Report<'_>) -> Option<SmolStr> {
    let status = node.text().unwrap_or_default();
    if STATUSES.contains(&status) {
        return Some(status.into());
    }
    report.at(node.at, format!("`{status}` is not a status{}", hint(status, STATUSES)))
}

pub(crate) fn title_of(node: &Node, report: &mut Report<'_>) -> Option<SmolStr> {
    let title = text(node, report)?;
    if title.trim().is_empty() || title.chars().count() > MAX_TITLE || title.contains(['\n', '\r']) {
        return report.at(node.at, format!("`title` must be one line of 1 to {MAX_TITLE} characters"));
    }
    Some(title)
}

pub(crate) fn id_of(node: &Node, report: &mut Report<'_>) -> Option<SmolStr> {
    let id = text(node, report)?;
    let uuid = id.len() == 36
        && id.bytes().enumerate().all(|(n, b)| if matches!(n, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() });
    if !uuid {
        return report.at(node.at, format!("`{id}` is not a UUID; uuidgen makes one"));
    }
    Some(id.to_ascii_lowercase().into())
}

pub(crate) fn logsource(document: &Node, report: &mut Report<'_>) -> Option<()> {
    const ADVICE: &str = "write `logsource: {product: mcp, category: mcp_traffic}`";
    let Some(node) = document.get("logsource") else {
        return report.at(document.at, format!("`logsource` is missing; {ADVICE}"));
    };
    let NodeKind::Map(entries) = &node.kind else {
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

pub(crate) fn texts(node: Option<&Node>, report: &mut Report<'_>) -> Vec<SmolStr> {
    match node.map(|node| (node, &node.kind)) {
        None => Vec::new(),
        Some((_, NodeKind::List(list))) => list.iter().filter_map(|node| text(node, report)).collect(),
        Some((node, _)) => {
            report.at::<()>(node.at, format!("a list of texts is expected here, not {}", node.what()));
            Vec::new()
        }
    }
}
