//! Sigma filter documents: exceptions to rules. As pySigma combines them, a rule matches where its own condition *and* the
//! filter's hold, so an exception reads `condition: not selection`.
//!
//! An exception ends by itself: its `gnomon.expires` is compared with the clock that the set is compiled with, never with
//! one of this crate's own.

use crate::{
    Source,
    detection::{self, Block, Items},
    entries,
    error::Report,
    expr::{Asks, Expr},
    extension::{self, Example},
    sigma_logs,
    yaml::{Node, NodeKind, Position},
};
use gnomon_observe::FieldRef;
use smol_str::SmolStr;
use std::{sync::Arc, time::SystemTime};

/// The rules that a filter applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Every rule: `rules: any`.
    Any,
    /// These, by id or name.
    Named(Vec<SmolStr>),
}

/// The effect of a filter at the time the set was compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterStatus {
    /// The filter narrows this many rules.
    Acts(usize),
    /// None of the rules that it names is loaded.
    Idle,
    /// The filter has expired.
    Expired,
}

/// A loaded filter document.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Its id, lower case.
    pub id: Option<SmolStr>,
    /// Its title.
    pub title: SmolStr,
    /// Its description: what it excepts, and why.
    pub description: Option<SmolStr>,
    /// The rules that it applies to.
    pub targets: Targets,
    /// The person or team that owns it: `gnomon.owner`.
    pub owner: Option<SmolStr>,
    /// Its justification: `gnomon.reason`.
    pub reason: Option<SmolStr>,
    /// The event that gave cause for it: `gnomon.event`.
    pub event: Option<SmolStr>,
    /// The time at which it stops acting: `gnomon.expires`. A date includes its whole day, UTC.
    pub expires: Option<SystemTime>,
    /// Its current effect.
    pub status: FilterStatus,
    /// The fields it names, each once.
    pub fields: Vec<FieldRef>,
    /// The file it was read from.
    pub file: SmolStr,
    /// The line of the file on which it begins, from 1.
    pub line: u32,
}

impl Filter {
    pub(crate) fn is_over(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// A filter as read.
#[derive(Debug)]
pub(crate) struct LoadedFilter {
    pub(crate) filter: Filter,
    pub(crate) expr: Arc<Expr>,
    pub(crate) asks: Asks,
    pub(crate) examples: Vec<Example>,
    pub(crate) at: Position,
}

pub(crate) fn read(document: &Node, source: &Source, report: &mut Report<'_>, items: &mut Items) -> Option<LoadedFilter> {
    let before = report.errors.len();
    let title = entries::required(document, "title", "a title, one line that says what it excepts", report)
        .and_then(|title| entries::title_of(title, report));
    let id = document.get("id").and_then(|id| entries::id_of(id, report));
    sigma_logs::logsource(document, report);
    let node = document.get("filter")?;
    let targets = match node.get("rules") {
        Some(rules) => targets(rules, report),
        None => {
            report.at(node.at, "the filter has no `rules`; list the ids or names of the rules that it excepts from, or write `rules: any`")
        }
    };
    let expr = detection::read(Block::Filter, node, report, items);
    let extension = extension::read_filter(document.get("gnomon"), report);
    let description = document.get("description").and_then(|node| entries::text(node, report));
    if report.errors.len() > before {
        return None;
    }
    if !excepts(node) {
        let at = node.get("condition").map_or(node.at, |condition| condition.at);
        report
            .advise(at, "the condition has no `not`: the rules would match for this alone; an exception reads `condition: not selection`");
    }
    let (title, targets, expr) = (title?, targets?, expr?);
    let mut asks = Asks::default();
    expr.asks(&mut asks);
    let filter = Filter {
        id,
        title,
        description,
        targets,
        owner: extension.owner,
        reason: extension.reason,
        event: extension.event,
        expires: extension.expires,
        status: FilterStatus::Idle,
        fields: asks.fields.clone(),
        file: SmolStr::new(&source.name),
        line: document.at.line,
    };
    Some(LoadedFilter { filter, expr: Arc::new(expr), asks, examples: extension.examples, at: node.at })
}

fn targets(node: &Node, report: &mut Report<'_>) -> Option<Targets> {
    match &node.kind {
        // As pySigma has it, an empty list is any.
        NodeKind::List(list) if list.is_empty() => Some(Targets::Any),
        NodeKind::List(list) => {
            let names: Vec<_> = list.iter().map(|node| entries::text(node, report)).collect();
            names.into_iter().collect::<Option<_>>().map(Targets::Named)
        }
        _ => {
            let name = entries::text(node, report)?;
            Some(if name.eq_ignore_ascii_case("any") { Targets::Any } else { Targets::Named(vec![name]) })
        }
    }
}

/// True if any part of it denies: one that only asserts would narrow the rules to it.
fn excepts(node: &Node) -> bool {
    let denied = |node: &Node| node.text().is_some_and(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "not"));
    node.get("condition").is_some_and(denied) || has_denial(node)
}

fn has_denial(node: &Node) -> bool {
    match &node.kind {
        NodeKind::Map(entries) => {
            entries.iter().any(|(key, value)| key.name.split('|').skip(1).any(|word| word == "neq") || has_denial(value))
        }
        NodeKind::List(list) => list.iter().any(has_denial),
        NodeKind::Scalar(_) => false,
    }
}
