//! YAML documents to rules and filters: Sigma's own keys. The `gnomon` block is read in `extension`.

use crate::{
    Activity, Enforcement, Mode, Response, Rule, Source,
    detection::{self, Block, Items},
    entries::{MAX_FILE, id_of, required, text, texts, title_of, word},
    error::{Report, hint, nearest},
    expr::{Asks, Expr},
    extension::{self, Example},
    filter::{self, LoadedFilter},
    pattern::Budget,
    sigma_logs::{self, LogSource},
    yaml::{Node, NodeKind, Position},
};
use gnomon_observe::{Action, Class, Level, Phase};
use smol_str::SmolStr;

/// A rule as read, with the judge's data.
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
    let (documents, fault) = sigma_logs::documents(&source.text);
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

/// Remarks for people. In other people's rules an unquoted `: ` often makes a mapping of one, which is no reason to refuse a rule.
fn remarks(node: &Node) -> Vec<SmolStr> {
    match &node.kind {
        NodeKind::List(list) => list.iter().flat_map(remarks).collect(),
        NodeKind::Map(entries) => {
            entries.iter().map(|(key, value)| format!("{}: {}", key.name, remarks(value).join(" ")).trim_end().into()).collect()
        }
        NodeKind::Scalar(_) => node.text().map(SmolStr::new).into_iter().collect(),
    }
}

fn rule(document: &Node, source: &Source, report: &mut Report<'_>, items: &mut Items) -> Option<Loaded> {
    let before = report.errors.len();
    let title = required(document, "title", "a title, one line that says what it finds", report).and_then(|title| title_of(title, report));
    let id = required(document, "id", "an id, a UUID that never changes (uuidgen makes one)", report).and_then(|id| id_of(id, report));
    let level = document.get("level").and_then(|node| word::<Level>(node, report)).unwrap_or(Level::Medium);
    let status = document.get("status").and_then(|node| status(node, report));
    let name = document.get("name").and_then(|node| text(node, report));
    let logs = sigma_logs::logsource(document, report);
    let expr = match document.get("detection") {
        Some(node) => detection::read(Block::Detection, node, report, items),
        None => report.at(document.at, "the rule has no `detection`; say what it looks for"),
    };
    let extension = extension::read(document.get("gnomon"), logs.map_or(Class::Mcp, LogSource::class), report);
    let description = document.get("description").and_then(|node| text(node, report));
    let references = texts(document.get("references"), report);
    let false_positives = document.get("falsepositives").map(remarks).unwrap_or_default();
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
        false_positives,
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
    // A bypass must be decidable before the first byte is read.
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

fn status(node: &Node, report: &mut Report<'_>) -> Option<SmolStr> {
    let status = node.text().unwrap_or_default();
    if STATUSES.contains(&status) {
        return Some(status.into());
    }
    report.at(node.at, format!("`{status}` is not a status{}", hint(status, STATUSES)))
}
