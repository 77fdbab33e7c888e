//! `overrides.yml`: what an administrator changes of rules, or of a whole pack, without editing them: level, response, whether
//! they are tried in shadow, whether they act at all. Each change says why.

use crate::{
    Activity, Enforcement, Response, Source,
    entries::{self, activity, known_entries, word},
    error::{Report, hint},
    extension,
    yaml::{self, Node, NodeKind, Position},
};
use gnomon_observe::Level;
use smol_str::SmolStr;

/// The most overrides of a set.
const MAX_OVERRIDES: usize = 4096;

/// The rules that an override changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// One rule, by id or name.
    Rule(SmolStr),
    /// The rules of a shipped pack, by its name, that have no override of their own.
    Pack(SmolStr),
}

#[derive(Debug)]
pub(crate) struct Override {
    pub(crate) at: Position,
    pub(crate) whom: Whom,
    pub(crate) whom_at: Position,
    pub(crate) enforcement: Option<Enforcement>,
    pub(crate) level: Option<Level>,
    pub(crate) activity: Option<Activity>,
    pub(crate) response: Option<Response>,
    pub(crate) reason: SmolStr,
}

const KEYS: &[&str] = &["rule", "pack", "level", "enabled", "mode", "response", "reason"];
const MODES: &[&str] = &["enforce", "shadow"];

/// Reads the file. What is wrong goes to the report.
pub(crate) fn file(source: &Source, report: &mut Report<'_>) -> Vec<Override> {
    let start = Position { line: 1, column: 1 };
    if source.text.len() > entries::MAX_FILE {
        report.at::<()>(start, format!("the file is larger than {} bytes", entries::MAX_FILE));
        return Vec::new();
    }
    let (documents, fault) = yaml::documents(&source.text);
    if let Some(fault) = fault {
        report.fault(fault);
    }
    let mut all = Vec::new();
    for document in &documents {
        match &document.kind {
            NodeKind::List(list) => all.extend(list.iter().filter_map(|node| one(node, report))),
            _ => {
                report.at::<()>(document.at, format!("overrides are a list of `- rule: ID`, not {}", document.what()));
            }
        }
    }
    for (place, change) in all.iter().enumerate() {
        if let Whom::Pack(name) = &change.whom
            && all[..place].iter().any(|other: &Override| other.whom == change.whom)
        {
            report.at::<()>(change.at, format!("the pack `{name}` is changed twice; merge the two"));
        }
    }
    if all.len() > MAX_OVERRIDES {
        report.at::<()>(start, format!("more than {MAX_OVERRIDES} overrides"));
    }
    all
}

fn one(node: &Node, report: &mut Report<'_>) -> Option<Override> {
    known_entries(node, "override", KEYS, report)?;
    let whom = whom(node, report);
    let reason = entries::required(node, "reason", "a reason, for those who read it next year", report);
    let ((whom, whom_at), reason) = (whom?, reason?);
    let level = match node.get("level") {
        Some(level) => Some(word::<Level>(level, report)?),
        None => None,
    };
    let activity = match node.get("enabled") {
        Some(node) => Some(activity(node, report)?),
        None => None,
    };
    let enforcement = match node.get("mode") {
        Some(node) => Some(enforcement(node, report)?),
        None => None,
    };
    let response = match node.get("response") {
        Some(node) => Some(extension::response(node, report)?),
        None => None,
    };
    if level.is_none() && activity.is_none() && response.is_none() && enforcement.is_none() {
        return report.at(node.at, "nothing is changed; give `level`, `response`, `mode` or `enabled`");
    }
    Some(Override { at: node.at, whom, whom_at, enforcement, level, activity, response, reason: entries::text(reason, report)? })
}

fn whom(node: &Node, report: &mut Report<'_>) -> Option<(Whom, Position)> {
    match (node.get("rule"), node.get("pack")) {
        (None, Some(pack)) => Some((Whom::Pack(entries::text(pack, report)?), pack.at)),
        (Some(_), Some(pack)) => report.at(pack.at, "either `rule` or `pack`; write two overrides"),
        (_, None) => {
            let rule = entries::required(node, "rule", "the id or name of a rule", report)?;
            Some((Whom::Rule(entries::text(rule, report)?), rule.at))
        }
    }
}

/// `mode: enforce | shadow`.
fn enforcement(node: &Node, report: &mut Report<'_>) -> Option<Enforcement> {
    match node.text() {
        Some("enforce") => Some(Enforcement::Enforce),
        Some("shadow") => Some(Enforcement::Shadow),
        other => report.at(node.at, format!("`mode` takes enforce or shadow{}", hint(other.unwrap_or_default(), MODES))),
    }
}
