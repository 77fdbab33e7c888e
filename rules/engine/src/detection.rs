//! Sigma's `detection` block: search ids to expressions.

use crate::{
    condition::{self, Named},
    error::Report,
    expr::Expr,
    item::{Item, Keywords, Link, Pattern, Sense, Test},
    modifiers::{Modifiers, Operator},
    pattern,
    text::{Stand, Text, literal},
    texts::MAX_GLOB,
    yaml::{Key, Node, NodeKind, Plain},
};
use gnomon_observe::{Field, FieldRef, FieldType, Role};
use std::{collections::HashMap, fmt::Write, sync::Arc};

/// The most search ids of a rule, its condition included.
const MAX_IDS: usize = 256;
/// The number of needles from which an automaton is worth its memory.
const AUTOMATON_FROM: usize = 4;

/// The two blocks that hold search ids and a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Block {
    /// The detection of a rule.
    Detection,
    /// The detection of a filter document, which also names its rules here.
    Filter,
}

impl Block {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Block::Detection => "detection",
            Block::Filter => "filter",
        }
    }

    /// True if a key is not a search id.
    pub(crate) fn is_its_own(self, key: &str) -> bool {
        key == "condition" || self == Block::Filter && key == "rules"
    }
}

/// Reads the block. What is wrong goes to the report.
pub(crate) fn read(block: Block, node: &Node, report: &mut Report<'_>, items: &mut Items) -> Option<Expr> {
    let NodeKind::Map(entries) = &node.kind else {
        return report.at(node.at, format!("`{}` must be a mapping of search ids and a `condition`, not {}", block.name(), node.what()));
    };
    if entries.len() > MAX_IDS {
        return report.at(node.at, format!("more than {MAX_IDS} search ids; split the rule"));
    }
    let mut ids: Vec<Named> = Vec::new();
    let mut complete = true;
    for (key, value) in entries {
        match key.name.as_str() {
            key if block.is_its_own(key) => {}
            "timeframe" => complete &= report.at::<()>(key.at, "not supported yet: `timeframe`").is_some(),
            name => match search(value, report, items) {
                Some(expr) => ids.push(Named { name: name.to_owned(), expr: Arc::new(expr), used: false }),
                None => complete = false,
            },
        }
    }
    let Some(condition) = node.get("condition") else {
        let message = format!("`{}` has no `condition`; say how its search ids are combined, such as `condition: selection`", block.name());
        return report.at(node.at, message);
    };
    if !complete {
        return None;
    }
    let expr = conditions(condition, &mut ids, report)?;
    if let Some(unused) = ids.iter().find(|id| !id.used && !id.name.starts_with('_')) {
        let at = entries.iter().find(|(key, _)| key.name == unused.name).map_or(node.at, |(key, _)| key.at);
        return report.at(at, format!("the condition does not use `{}`; use it or take it out", unused.name));
    }
    Some(expr)
}

/// One condition, or a list of which any suffices.
pub(crate) fn conditions(node: &Node, ids: &mut [Named], report: &mut Report<'_>) -> Option<Expr> {
    let list = match &node.kind {
        NodeKind::List(list) if !list.is_empty() => list.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut exprs = Vec::new();
    for node in list {
        let NodeKind::Scalar(scalar) = &node.kind else {
            return report.at(node.at, format!("a condition must be a text, not {}", node.what()));
        };
        match condition::parse(&scalar.text, ids) {
            Ok(expr) => exprs.push(expr),
            Err(wrong) => {
                let at = scalar.offset.map_or(node.at, |offset| node.at.plus(offset + wrong.after));
                return report.at(at, format!("in the condition: {}", wrong.message));
            }
        }
    }
    Some(Expr::any(exprs))
}

/// A mapping (all of it), a list (any of it) or a keyword.
pub(crate) fn search(node: &Node, report: &mut Report<'_>, items: &mut Items) -> Option<Expr> {
    match &node.kind {
        NodeKind::Map(entries) if entries.is_empty() => report.at(node.at, "an empty mapping would match everything; name a field"),
        NodeKind::List(list) if list.is_empty() => report.at(node.at, "an empty list matches nothing; name a value"),
        NodeKind::Map(entries) => {
            let exprs: Vec<_> = entries.iter().map(|(key, value)| entry(key, value, report, items)).collect();
            exprs.into_iter().collect::<Option<_>>().map(Expr::all)
        }
        NodeKind::List(list) if list.iter().all(|node| matches!(node.kind, NodeKind::Scalar(_))) => {
            keywords(list, &Modifiers::default(), report, items)
        }
        NodeKind::List(list) => {
            let exprs: Vec<_> = list.iter().map(|node| search(node, report, items)).collect();
            exprs.into_iter().collect::<Option<_>>().map(Expr::any)
        }
        NodeKind::Scalar(_) => keywords(std::slice::from_ref(node), &Modifiers::default(), report, items),
    }
}

/// One `field|modifiers: values`.
pub(crate) fn entry(key: &Key, value: &Node, report: &mut Report<'_>, items: &mut Items) -> Option<Expr> {
    let (name, modifiers) = match key.name.split_once('|') {
        Some((name, words)) => (name, Modifiers::parse(words, key.at.plus(name.chars().count() + 1), report)?),
        None => (key.name.as_str(), Modifiers::default()),
    };
    let values = match &value.kind {
        NodeKind::List(list) if list.is_empty() => return report.at(value.at, "an empty list matches nothing; name a value"),
        NodeKind::List(list) => list.as_slice(),
        _ => std::slice::from_ref(value),
    };
    if modifiers.link == Link::All && values.len() < 2 {
        return report.at(key.at, "`all` needs more than one value; leave it out");
    }
    if name.is_empty() {
        return keywords(values, &modifiers, report, items);
    }
    let field: FieldRef = match name.parse() {
        Ok(field) => field,
        Err(error) => return report.at(key.at, format!("{error}")),
    };
    if field.role() == Role::Outcome {
        return report.at(key.at, format!("`{name}` is written after the rules ran, so no rule can ask for it; name what was seen"));
    }
    if let Some(item) = items.known.get(&fingerprint(&key.name, values)) {
        return Some(Expr::Item(Arc::clone(item)));
    }
    let mut item = item(field, values, &modifiers, report, items)?;
    item.number = u16::try_from(items.known.len()).unwrap_or(u16::MAX);
    if asks_of_texts(&item) {
        item.question = Some(items.questions);
        items.questions = items.questions.saturating_add(item.questions().len() as u32);
    }
    let item = Arc::new(item);
    items.known.insert(fingerprint(&key.name, values), Arc::clone(&item));
    Some(Expr::Item(item))
}

/// The items of a set, each once: rules ask the same questions over and over.
#[derive(Debug, Default)]
pub(crate) struct Items {
    known: HashMap<String, Arc<Item>>,
    /// The number of questions on texts that pass.
    questions: u32,
    /// The remaining budget of regular expressions of the file at hand.
    pub(crate) regexes: pattern::Budget,
}

/// Equal for items that are written the same.
fn fingerprint(key: &str, values: &[Node]) -> String {
    let mut print = format!("{key:?}");
    for value in values {
        // Formatting a String cannot fail. What is no scalar is refused, so it is never known.
        let _ = match &value.kind {
            NodeKind::Scalar(scalar) => write!(print, " {:?}{:?}", scalar.value, scalar.text),
            NodeKind::List(_) | NodeKind::Map(_) => write!(print, " !"),
        };
    }
    print
}

fn item(field: FieldRef, values: &[Node], modifiers: &Modifiers, report: &mut Report<'_>, items: &mut Items) -> Option<Item> {
    let mut phase = field.phase();
    let passes = is_passing(&field);
    let test = match modifiers.operator {
        Operator::FieldRef | Operator::Cidr | Operator::Compare(_) if passes => {
            let message = format!(
                "`{field}` is matched as it passes and never held, so it is compared with texts only; use contains, startswith, endswith or re"
            );
            return report.at(values.first()?.at, message);
        }
        Operator::Exists => exists(values, report)?,
        Operator::FieldRef => {
            let [value] = values else {
                return report.at(values.first()?.at, "`fieldref` compares with one field; write one name");
            };
            let other = reference(value, report)?;
            if is_passing(&other) {
                return report
                    .at(value.at, format!("`{other}` is matched as it passes and never held, so nothing can be compared with it"));
            }
            phase = phase.max(other.phase());
            Test::Like { other, stand: modifiers.stand, case: modifiers.case }
        }
        _ => {
            if let Some(truth) = values.iter().find(|value| holds_texts(&field) && is_truth(value)) {
                return report.at(truth.at, "this field has texts; put the value in quotes");
            }
            let read = if passes { pattern::read_passing } else { pattern::read };
            let patterns: Vec<_> = values.iter().map(|value| read(value, modifiers, report, &mut items.regexes)).collect();
            let mut patterns: Vec<Pattern> = patterns.into_iter().collect::<Option<_>>()?;
            if holds_addresses(&field) && modifiers.operator == Operator::Text && modifiers.stand == Stand::Whole {
                patterns.extend(values.iter().filter_map(|value| as_it_is_seen(value, modifiers)));
            }
            match modifiers.link {
                Link::All => Test::All(patterns.into()),
                Link::Any if passes || is_tools(&field) && patterns.iter().all(is_text) => Test::Any(patterns.into()),
                Link::Any => any_of(patterns),
            }
        }
    };
    Some(Item { number: 0, field, phase, test, sense: modifiers.sense, question: None })
}

/// True if it is answered while texts pass. The names of tools are kept, but not all of a long list: what asks for texts alone is answered by
/// all of them.
fn asks_of_texts(item: &Item) -> bool {
    match &item.test {
        _ if is_passing(&item.field) => true,
        Test::Any(patterns) | Test::All(patterns) => is_tools(&item.field) && patterns.iter().all(is_text),
        Test::Present | Test::Missing | Test::OneOf(_) | Test::AnyWithin(_) | Test::Like { .. } => false,
    }
}

fn is_tools(field: &FieldRef) -> bool {
    *field == FieldRef::Field(Field::Tools)
}

fn is_text(pattern: &Pattern) -> bool {
    match pattern {
        Pattern::Text(Text::Glob { tokens, .. }) => tokens.len() <= MAX_GLOB,
        Pattern::Text(_) => true,
        _ => false,
    }
}

/// True if the field's texts are matched as they pass.
fn is_passing(field: &FieldRef) -> bool {
    matches!(field, FieldRef::Field(field) if field.is_passing())
}

/// True if the field holds texts only.
fn holds_texts(field: &FieldRef) -> bool {
    match field {
        FieldRef::Field(field) => matches!(field.info().kind, FieldType::Str | FieldType::List),
        FieldRef::Member(..) => true,
    }
}

fn is_truth(value: &Node) -> bool {
    matches!(&value.kind, NodeKind::Scalar(scalar) if matches!(scalar.value, Plain::Bool(_)))
}

/// True if the field holds addresses in their shortest form.
fn holds_addresses(field: &FieldRef) -> bool {
    matches!(field, FieldRef::Field(Field::ServerAddress | Field::DestinationAddress | Field::SourceAddress))
}

/// An address as it is seen, where the rule spells it in another way.
fn as_it_is_seen(value: &Node, modifiers: &Modifiers) -> Option<Pattern> {
    let NodeKind::Scalar(scalar) = &value.kind else { return None };
    let seen = gnomon_kit::address(&scalar.text)?.to_string();
    (seen != scalar.text).then(|| Pattern::Text(Text::new(literal(&seen), Stand::Whole, modifiers.case)))
}

/// Lists of the same simple kind become one look-up.
fn any_of(patterns: Vec<Pattern>) -> Test {
    if patterns.len() >= AUTOMATON_FROM {
        let sole: Option<Vec<Box<[u8]>>> =
            patterns.iter().map(|p| if let Pattern::Text(t) = p { t.sole().map(Into::into) } else { None }).collect();
        if let Some(mut texts) = sole {
            texts.sort_unstable();
            return Test::OneOf(texts.into());
        }
        let within: Option<Vec<&[u8]>> = patterns.iter().map(|p| if let Pattern::Text(t) = p { t.within() } else { None }).collect();
        let automaton = within.and_then(|needles| aho_corasick::AhoCorasick::builder().ascii_case_insensitive(true).build(needles).ok());
        if let Some(automaton) = automaton {
            return Test::AnyWithin(Box::new(automaton));
        }
    }
    Test::Any(patterns.into())
}

fn exists(values: &[Node], report: &mut Report<'_>) -> Option<Test> {
    let [value] = values else { return report.at(values.first()?.at, "`exists` takes one value: true or false") };
    match &value.kind {
        NodeKind::Scalar(scalar) => match (scalar.value, scalar.text.as_str()) {
            (Plain::Bool(true), _) | (_, "true" | "yes") => return Some(Test::Present),
            (Plain::Bool(false), _) | (_, "false" | "no") => return Some(Test::Missing),
            _ => {}
        },
        NodeKind::List(_) | NodeKind::Map(_) => {}
    }
    report.at(value.at, "`exists` takes true or false")
}

fn reference(value: &Node, report: &mut Report<'_>) -> Option<FieldRef> {
    let Some(name) = value.text() else {
        return report.at(value.at, format!("`fieldref` takes the name of a field, not {}", value.what()));
    };
    match name.parse::<FieldRef>() {
        Ok(field) if field.role() == Role::Outcome => {
            report.at(value.at, format!("`{name}` is written after the rules ran, so no rule can ask for it; name what was seen"))
        }
        Ok(field) => Some(field),
        Err(error) => report.at(value.at, error.to_string()),
    }
}

/// Values without a field are looked for in every text of the request.
fn keywords(values: &[Node], modifiers: &Modifiers, report: &mut Report<'_>, items: &mut Items) -> Option<Expr> {
    let at = values.first()?.at;
    match modifiers.operator {
        Operator::Text | Operator::Regex(_) => {}
        _ => return report.at(at, "keywords are searched in every text, so only text modifiers fit; name a field"),
    }
    if modifiers.sense == Sense::Denies {
        return report.at(at, "`neq` needs a field; use `not` in the condition");
    }
    let modifiers = Modifiers { stand: if modifiers.stand == Stand::Whole { Stand::Within } else { modifiers.stand }, ..*modifiers };
    let patterns: Vec<_> = values
        .iter()
        .map(|value| match &value.kind {
            NodeKind::Scalar(scalar) if scalar.value != Plain::Null && !scalar.text.is_empty() => {
                pattern::read(value, &modifiers, report, &mut items.regexes)
            }
            _ => report.at(value.at, format!("a keyword must be a text, not {}", value.what())),
        })
        .collect();
    let patterns: Vec<Pattern> = patterns.into_iter().collect::<Option<_>>()?;
    Some(Expr::Keywords(Keywords { patterns: patterns.into(), link: modifiers.link }))
}
