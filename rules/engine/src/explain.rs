//! Why a rule matched an observation or did not: each part of its text with what was seen and what came of it.
//!
//! It reads the text again, part by part, by the reader that compiles rules, so that judging carries no labels.

use crate::{
    detection::{self, Block, Items},
    error::Report,
    expr::Expr,
    sigma_logs,
    truth::{self, Truth},
    yaml::{Key, Node, NodeKind},
};
use gnomon_observe::{FieldRef, Lookup, Observation, Phase, Value};
use std::fmt::Write;

/// The result of one part of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The part matches.
    True,
    /// The part does not match.
    False,
    /// Its evidence was never seen, could not be read, or is not kept in events.
    Unknown,
}

impl Finding {
    /// `true`, `false` or `unknown`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Finding::True => "true",
            Finding::False => "false",
            Finding::Unknown => "unknown",
        }
    }
}

impl From<Truth> for Finding {
    fn from(truth: Truth) -> Self {
        match truth {
            Truth::True => Finding::True,
            Truth::False => Finding::False,
            Truth::Unknown => Finding::Unknown,
        }
    }
}

/// A part of a rule and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The part's source text: a condition, a search id, or `field|modifiers: value`.
    pub part: String,
    /// The value seen for its field; none for parts that have parts.
    pub seen: Option<String>,
    /// Its result.
    pub finding: Finding,
    /// Its own parts.
    pub parts: Vec<Explained>,
}

/// Explains the document that begins on this line of a rule file; none where no rule or filter that can be read begins there.
#[must_use]
pub fn explain(text: &str, line: u32, seen: &Observation) -> Option<Explained> {
    let (documents, _) = sigma_logs::documents(text);
    let document = documents.iter().find(|document| document.at.line == line)?;
    let (block, node) = match document.get("filter") {
        Some(node) => (Block::Filter, node),
        None => (Block::Detection, document.get("detection")?),
    };
    let mut reader = Reader { seen, report: Report::new(""), items: Items::default() };
    let whole = detection::read(block, node, &mut reader.report, &mut reader.items)?;
    let NodeKind::Map(entries) = &node.kind else { return None };
    let parts = entries.iter().filter(|(key, _)| !block.is_its_own(&key.name)).map(|(key, value)| reader.search(key.name.clone(), value));
    let parts = parts.collect();
    Some(Explained {
        part: node.get("condition").map(written).unwrap_or_default(),
        seen: None,
        finding: reader.judge(&whole).into(),
        parts,
    })
}

struct Reader<'a> {
    seen: &'a Observation,
    report: Report<'static>,
    items: Items,
}

impl Reader<'_> {
    fn judge(&self, expr: &Expr) -> Truth {
        expr.judge(self.seen, Phase::Response)
    }

    fn search(&mut self, part: String, node: &Node) -> Explained {
        let expr = detection::search(node, &mut self.report, &mut self.items);
        let finding = expr.map_or(Truth::Unknown, |expr| self.judge(&expr)).into();
        let parts = match &node.kind {
            NodeKind::Map(entries) => entries.iter().map(|(key, value)| self.entry(key, value)).collect(),
            NodeKind::List(list) if list.iter().any(|node| matches!(node.kind, NodeKind::Map(_))) => {
                list.iter().enumerate().map(|(number, node)| self.search(format!("any of, {}", number + 1), node)).collect()
            }
            NodeKind::List(_) | NodeKind::Scalar(_) => {
                let part = format!("keywords: {}", written(node));
                vec![Explained { part, seen: None, finding, parts: Vec::new() }]
            }
        };
        Explained { part, seen: None, finding, parts }
    }

    fn entry(&mut self, key: &Key, value: &Node) -> Explained {
        let expr = detection::entry(key, value, &mut self.report, &mut self.items);
        let finding = truth::all(expr.iter().map(|expr| self.judge(expr)));
        let field = key.name.split('|').next().unwrap_or_default().parse::<FieldRef>().ok();
        let seen = field.map(|field| match self.seen.look_up(&field) {
            Lookup::Value(value) => shown(value),
            Lookup::Absent => "absent".to_owned(),
            Lookup::Unreadable if field.is_stored() => "could not be read".to_owned(),
            Lookup::Unreadable => "not kept".to_owned(),
        });
        Explained { part: format!("{}: {}", key.name, written(value)), seen, finding: finding.into(), parts: Vec::new() }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Str(text) => format!("`{text}`"),
        Value::Int(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::List(list) => format!("[{}]", list.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ")),
    }
}

fn written(node: &Node) -> String {
    let mut text = String::new();
    write(node, &mut text);
    text
}

fn write(node: &Node, text: &mut String) {
    // Formatting a String cannot fail.
    let _ = match &node.kind {
        NodeKind::Scalar(scalar) => write!(text, "{}", scalar.text),
        NodeKind::List(list) => {
            text.push('[');
            for (n, node) in list.iter().enumerate() {
                text.push_str(if n == 0 { "" } else { ", " });
                write(node, text);
            }
            write!(text, "]")
        }
        NodeKind::Map(entries) => {
            text.push('{');
            for (n, (key, node)) in entries.iter().enumerate() {
                let _ = write!(text, "{}{}: ", if n == 0 { "" } else { ", " }, key.name);
                write(node, text);
            }
            write!(text, "}}")
        }
    };
}
