//! Lints for rules that are valid but useless: rules that can never match, rules that match everything, parts that their channel can never
//! fill.
//!
//! Only certain findings are reported: items are treated as independent propositions, except those known to exclude each other. All
//! combinations are tried; of a rule of many items, only the channels are looked at that its parts leave it.

use crate::{
    error::Report,
    expr::Expr,
    item::{Item, Keywords, Number, Pattern, Sense, Test},
    load::Loaded,
    sigma_logs,
    yaml::{Node, NodeKind, Position},
};
use gnomon_kit::nearest;
use gnomon_observe::{Channel, Field, FieldRef, FieldType, MCP_METHODS};
use std::{collections::BTreeSet, sync::Arc};

/// The lint, which finds rules that are valid and make no sense. It costs more than loading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lint {
    /// Not run.
    #[default]
    Skip,
    /// Run; its findings are in [`RuleSet::warnings`](crate::RuleSet::warnings).
    Run,
}

/// Most items of a rule whose combinations are tried.
const MAX_ITEMS: usize = 12;

/// True if a rule may ask of a channel what that never has: it names its channel, or its fields have none in common.
pub(crate) fn may_contradict_its_channel(one: &Loaded) -> bool {
    let in_common = |channel: &Channel| one.asks.fields.iter().all(|field| field.channels().contains(channel));
    one.asks.fields.contains(&FieldRef::Field(Field::Channel)) || !Channel::ALL.iter().any(in_common)
}

/// Lints a rule. A field that no channel has where the rule matches is an error; other findings are warnings, made where they are asked for.
pub(crate) fn rule(one: &Loaded, text: &str, report: &mut Report<'_>, lint: Lint) {
    let mut facts = Facts::default();
    facts.gather(&one.expr);
    if lint == Lint::Run {
        methods(&facts, one, text, report);
    }
    let Some(detection) = detection_of(one, text) else { return };
    let detection = &detection;
    let at = detection.get("condition").map_or(detection.at, |condition| condition.at);
    let is_small = facts.items.len() + facts.keywords.len() <= MAX_ITEMS;
    let Reach { can_match, can_miss, lacks_channel, pinned } = if is_small { facts.reach(&one.expr) } else { Reach::roughly(&one.expr) };
    let told = |report: &mut Report<'_>, message: &str| {
        if lint == Lint::Run {
            report.advise(at, message);
        }
    };
    if !can_match {
        let dead = facts.items.iter().find(|item| channels(item).is_some_and(|channels| channels.is_empty()));
        match dead {
            Some(item) => told(report, &format!("the rule can never match: `{}` has no such value", item.field)),
            None if lacks_channel => {
                let each = facts
                    .items
                    .iter()
                    .filter(|item| needs_value(item))
                    .map(|item| format!("`{}` on {}", item.field, on(item.field.channels())));
                let each: BTreeSet<String> = each.collect();
                let each: Vec<&str> = each.iter().map(String::as_str).collect();
                report.at::<()>(
                    at,
                    format!("the rule can never match: no channel fills all of its fields, which are filled {}", each.join(", ")),
                );
            }
            None => told(report, "the rule can never match: its parts rule each other out"),
        }
    } else if !can_miss {
        told(report, "the rule matches everything; name what it looks for");
    }
    for item in facts.items.iter().filter(|_| can_match) {
        if !item.field.channels().iter().any(|channel| pinned.contains(channel)) {
            let pinned: Vec<Channel> = pinned.iter().copied().collect();
            let (never, filled) = (on(&pinned), on(item.field.channels()));
            let message = format!("`{}` is never filled on channel {never}, where this rule matches; it is filled on {filled}", item.field);
            report.at::<()>(place_of(detection, &item.field).unwrap_or(at), message);
        }
    }
}

/// What a rule can come to.
#[derive(Default)]
struct Reach {
    can_match: bool,
    can_miss: bool,
    /// It would match where no channel has all of its fields.
    lacks_channel: bool,
    /// The channels on which it matches.
    pinned: BTreeSet<Channel>,
}

impl Reach {
    /// The same of a rule with more items than are combined. It matches on none but these channels, and maybe not on all of them; whether it
    /// can miss is not looked at.
    fn roughly(expr: &Expr) -> Self {
        let pinned = at_most_on(expr);
        Self { can_match: !pinned.is_empty(), can_miss: true, lacks_channel: pinned.is_empty(), pinned }
    }
}

/// The channels on which an expression can hold, and maybe more: what must be absent, or is denied, leaves all of them.
fn at_most_on(expr: &Expr) -> BTreeSet<Channel> {
    let all = || -> BTreeSet<Channel> { Channel::ALL.iter().copied().collect() };
    match expr {
        Expr::Item(item) => channels(item).map_or_else(all, |on| on.into_iter().collect()),
        Expr::Keywords(_) | Expr::Not(_) => all(),
        Expr::All(exprs) => exprs.iter().map(at_most_on).fold(all(), |on, other| &on & &other),
        Expr::Any(exprs) => exprs.iter().flat_map(at_most_on).collect(),
        Expr::Named(expr) | Expr::Filter(expr) => at_most_on(expr),
    }
}

/// The detection of this rule in its file.
fn detection_of(one: &Loaded, text: &str) -> Option<Node> {
    let (documents, _) = sigma_logs::documents(text);
    documents.iter().find(|document| document.at.line == one.rule.line).and_then(|document| document.get("detection")).cloned()
}

/// Warns of methods that no revision of MCP has: a message with one is none of MCP's, so no event has it.
fn methods(facts: &Facts<'_>, one: &Loaded, text: &str, report: &mut Report<'_>) {
    let named = facts.items.iter().filter(|item| item.field == FieldRef::Field(Field::McpMethod)).flat_map(|item| item.texts());
    let odd: BTreeSet<_> = named.filter(|method| !MCP_METHODS.iter().any(|known| known.eq_ignore_ascii_case(method))).collect();
    if odd.is_empty() {
        return;
    }
    let detection = detection_of(one, text);
    let place = detection.as_ref().and_then(|detection| place_of(detection, &FieldRef::Field(Field::McpMethod)));
    for method in odd {
        let near = nearest(&method, MCP_METHODS, 0.8).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        report.advise(
            place.unwrap_or(Position { line: one.rule.line, column: 1 }),
            format!("no revision of MCP has the method `{method}`{near}"),
        );
    }
}

/// Channels as one text.
fn on(channels: &[Channel]) -> String {
    channels.iter().map(|channel| channel.as_str()).collect::<Vec<_>>().join(", ")
}

/// The questions that a rule asks, each once.
#[derive(Default)]
struct Facts<'e> {
    items: Vec<&'e Arc<Item>>,
    keywords: Vec<&'e Keywords>,
}

impl<'e> Facts<'e> {
    fn gather(&mut self, expr: &'e Expr) {
        match expr {
            Expr::Item(item) if !self.items.iter().any(|known| Arc::ptr_eq(known, item)) => self.items.push(item),
            Expr::Item(_) => {}
            Expr::Keywords(keywords) => {
                if !self.keywords.iter().any(|known| std::ptr::eq(*known, keywords)) {
                    self.keywords.push(keywords);
                }
            }
            Expr::All(exprs) | Expr::Any(exprs) => exprs.iter().for_each(|expr| self.gather(expr)),
            Expr::Not(expr) => self.gather(expr),
            Expr::Named(expr) | Expr::Filter(expr) => self.gather(expr),
        }
    }

    /// Tries all combinations of the items.
    fn reach(&self, expr: &Expr) -> Reach {
        let mut reach = Reach::default();
        for truths in 0..1u32 << (self.items.len() + self.keywords.len()) {
            let Some(channels) = self.possible(truths) else { continue };
            let holds = self.judge(expr, truths);
            if channels.is_empty() {
                reach.lacks_channel |= holds;
            } else if holds {
                reach.can_match = true;
                reach.pinned.extend(channels);
            } else {
                reach.can_miss = true;
            }
        }
        reach
    }

    fn judge(&self, expr: &Expr, truths: u32) -> bool {
        let is = |place: Option<usize>| place.is_some_and(|place| truths >> place & 1 == 1);
        match expr {
            Expr::Item(item) => is(self.items.iter().position(|known| Arc::ptr_eq(known, item))),
            Expr::Keywords(keywords) => {
                is(self.keywords.iter().position(|known| std::ptr::eq(*known, keywords)).map(|n| n + self.items.len()))
            }
            Expr::All(exprs) => exprs.iter().all(|expr| self.judge(expr, truths)),
            Expr::Any(exprs) => exprs.iter().any(|expr| self.judge(expr, truths)),
            Expr::Not(expr) => !self.judge(expr, truths),
            Expr::Named(expr) | Expr::Filter(expr) => self.judge(expr, truths),
        }
    }

    /// The channels on which items could come out so, if any has all of their fields; none if they never can.
    fn possible(&self, truths: u32) -> Option<Vec<Channel>> {
        let mut channels: Vec<Channel> = Channel::ALL.to_vec();
        for (place, item) in self.items.iter().enumerate() {
            let holds = truths >> place & 1 == 1;
            if holds && let Some(on) = self::channels(item) {
                channels.retain(|channel| on.contains(channel));
            }
            let others = self.items.iter().enumerate().filter(|(other, _)| *other != place);
            for (other, second) in others.filter(|(_, second)| second.field == item.field) {
                if clash(item, holds, second, truths >> other & 1 == 1) {
                    return None;
                }
            }
        }
        Some(channels)
    }
}

/// True if the value must be present for the item to hold.
fn needs_value(item: &Item) -> bool {
    match &item.test {
        Test::Missing => false,
        Test::Any(patterns) => item.sense == Sense::Denies || !patterns.iter().any(|pattern| matches!(pattern, Pattern::Null)),
        Test::Present | Test::OneOf(_) | Test::AnyWithin(_) | Test::All(_) | Test::Like { .. } => true,
    }
}

/// The channels on which it can hold; none where all can.
fn channels(item: &Item) -> Option<Vec<Channel>> {
    if !needs_value(item) {
        return None;
    }
    let mut on: Vec<Channel> = item.field.channels().to_vec();
    if let Some(values) = literals(item) {
        if item.field == FieldRef::Field(Field::Channel) {
            on.retain(|channel| values.contains(channel.as_str()));
        }
        let words = match &item.field {
            FieldRef::Field(field) => field.words(),
            FieldRef::Member(..) => None,
        };
        let fits = |value: &String| match kind(&item.field) {
            _ if words.is_some_and(|words| !words.contains(&value.as_str())) => false,
            Some(FieldType::Bool) => matches!(value.as_str(), "true" | "false" | "yes" | "no" | "1" | "0"),
            Some(FieldType::Int) => value.parse::<f64>().is_ok(),
            _ => true,
        };
        if !values.iter().any(fits) {
            on.clear();
        }
    }
    Some(on)
}

/// Two items of one field that cannot come out so together.
fn clash(first: &Item, holds: bool, second: &Item, second_holds: bool) -> bool {
    if !holds {
        return false;
    }
    match (&second.test, second_holds) {
        (Test::Missing, true) if needs_value(first) => return true,
        (Test::Present, false) if needs_value(first) => return true,
        _ => {}
    }
    if matches!((&first.test, &second.test), (Test::Missing, Test::Missing)) && !second_holds {
        return true;
    }
    let is_single = kind(&first.field).is_some_and(|kind| kind != FieldType::List);
    let (Some(values), Some(others)) = (literals(first), literals(second)) else { return false };
    is_single && if second_holds { values.is_disjoint(&others) } else { values.is_subset(&others) }
}

fn kind(field: &FieldRef) -> Option<FieldType> {
    match field {
        FieldRef::Field(field) => Some(field.info().kind),
        // A header may stand several times.
        FieldRef::Member(..) => None,
    }
}

/// All values for which it holds, where they can be listed, in lower case.
fn literals(item: &Item) -> Option<BTreeSet<String>> {
    if item.sense == Sense::Denies {
        return None;
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    match &item.test {
        Test::OneOf(texts) => texts.iter().map(|bytes| text(bytes)).collect(),
        Test::Any(patterns) => patterns
            .iter()
            .map(|pattern| match pattern {
                Pattern::Text(pattern) => pattern.sole().and_then(text),
                Pattern::Bool(truth) => Some(truth.to_string()),
                Pattern::Number(Number::Int(number)) => Some(number.to_string()),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

/// The position at which a field is named first.
fn place_of(node: &Node, field: &FieldRef) -> Option<Position> {
    match &node.kind {
        NodeKind::Map(entries) => entries.iter().find_map(|(key, value)| {
            let name = key.name.split('|').next().unwrap_or_default();
            if name.parse::<FieldRef>().is_ok_and(|named| named == *field) { Some(key.at) } else { place_of(value, field) }
        }),
        NodeKind::List(list) => list.iter().find_map(|node| place_of(node, field)),
        NodeKind::Scalar(_) => None,
    }
}
