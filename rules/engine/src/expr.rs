//! A rule's condition with its items in place, and its three-valued value.

use crate::{
    item::{Item, Keywords, Sense, Test},
    truth::{self, Truth},
};
use gnomon_observe::{Field, FieldRef, Observation, Phase};
use smol_str::SmolStr;
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

/// Host names and addresses, lower case, each once, sorted.
pub type NamedServers = BTreeSet<SmolStr>;

#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Item(Arc<Item>),
    Keywords(Keywords),
    All(Box<[Expr]>),
    Any(Box<[Expr]>),
    Not(Box<Expr>),
    /// A search id, which a condition may name more than once.
    Named(Arc<Expr>),
    /// The condition of a filter over the rule.
    Filter(Arc<Expr>),
}

/// The truth of a filter that asks for what cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exceptions {
    /// Unknown, as of anything else: it may still come.
    AsFarAsKnown,
    /// What is not known to be excepted is not.
    WhereCertain,
}

impl Expr {
    /// The truth value at the end of `phase`.
    pub(crate) fn judge(&self, seen: &Observation, phase: Phase) -> Truth {
        self.combine(seen, phase, Exceptions::AsFarAsKnown, &mut |item| item.judge(seen, phase))
    }

    /// The same, of what no more evidence will come for: a filter excepts only what it certainly does.
    pub(crate) fn judge_finally(&self, seen: &Observation, phase: Phase) -> Truth {
        self.combine(seen, phase, Exceptions::WhereCertain, &mut |item| item.judge(seen, phase))
    }

    /// As [`Expr::judge`], with each item asked once: sets of rules ask the same few questions over and over.
    pub(crate) fn recall(&self, seen: &Observation, phase: Phase, memory: &mut Memory) -> Truth {
        self.combine(seen, phase, Exceptions::AsFarAsKnown, &mut |item| memory.recall(item.number, || item.judge(seen, phase)))
    }

    fn combine(&self, seen: &Observation, phase: Phase, exceptions: Exceptions, ask: &mut impl FnMut(&Item) -> Truth) -> Truth {
        match self {
            Expr::Item(item) => ask(item),
            Expr::Keywords(keywords) => keywords.judge(seen, phase),
            Expr::All(exprs) => truth::all(exprs.iter().map(|expr| expr.combine(seen, phase, exceptions, ask))),
            Expr::Any(exprs) => truth::any(exprs.iter().map(|expr| expr.combine(seen, phase, exceptions, ask))),
            Expr::Not(expr) => !expr.combine(seen, phase, exceptions, ask),
            Expr::Named(expr) => expr.combine(seen, phase, exceptions, ask),
            Expr::Filter(expr) => match (expr.combine(seen, phase, exceptions, ask), exceptions) {
                (Truth::Unknown, Exceptions::WhereCertain) => Truth::True,
                (truth, _) => truth,
            },
        }
    }

    /// Hands on each item; one that the condition names twice may come twice.
    pub(crate) fn each_item(&self, on: &mut impl FnMut(&Arc<Item>)) {
        match self {
            Expr::Item(item) => on(item),
            Expr::Keywords(_) => {}
            Expr::All(exprs) | Expr::Any(exprs) => exprs.iter().for_each(|expr| expr.each_item(on)),
            Expr::Not(expr) => expr.each_item(on),
            Expr::Named(expr) | Expr::Filter(expr) => expr.each_item(on),
        }
    }

    /// Notes the fields that it reads.
    pub(crate) fn asks(&self, asks: &mut Asks) {
        match self {
            Expr::Item(item) => {
                asks.field(&item.field);
                if let Test::Like { other, .. } = &item.test {
                    asks.field(other);
                }
            }
            Expr::Keywords(_) => asks.keywords(),
            Expr::All(exprs) | Expr::Any(exprs) => exprs.iter().for_each(|expr| expr.asks(asks)),
            Expr::Not(expr) => expr.asks(asks),
            Expr::Named(expr) | Expr::Filter(expr) => {
                if asks.named.insert(Arc::as_ptr(expr) as usize) {
                    expr.asks(asks);
                }
            }
        }
    }

    /// True if it can hold only where it asserts something of the server or the path: a rule that says *not at this server* is about all
    /// the others.
    pub(crate) fn singles_out(&self) -> bool {
        match self {
            Expr::Item(item) => item.sense == Sense::Asserts && !matches!(item.test, Test::Missing) && is_place(&item.field),
            Expr::All(exprs) => exprs.iter().any(Expr::singles_out),
            Expr::Any(exprs) => !exprs.is_empty() && exprs.iter().all(Expr::singles_out),
            Expr::Named(expr) | Expr::Filter(expr) => expr.singles_out(),
            Expr::Keywords(_) | Expr::Not(_) => false,
        }
    }

    /// Adds the servers that it names in full. Names with wildcards, and those that it denies, are none that could be looked up.
    pub(crate) fn named_servers(&self, names: &mut NamedServers) {
        match self {
            Expr::Item(item) if item.field == FieldRef::Field(Field::ServerAddress) && item.sense == Sense::Asserts => {
                names.extend(item.texts().filter(|name| gnomon_kit::address(name).is_none()));
            }
            Expr::All(exprs) | Expr::Any(exprs) => exprs.iter().for_each(|expr| expr.named_servers(names)),
            Expr::Named(expr) | Expr::Filter(expr) => expr.named_servers(names),
            Expr::Item(_) | Expr::Keywords(_) | Expr::Not(_) => {}
        }
    }

    /// All of these; one of them alone stays itself.
    pub(crate) fn all(mut exprs: Vec<Expr>) -> Self {
        if exprs.len() == 1 { exprs.remove(0) } else { Expr::All(exprs.into()) }
    }

    /// Any of these; one of them alone stays itself.
    pub(crate) fn any(mut exprs: Vec<Expr>) -> Self {
        if exprs.len() == 1 { exprs.remove(0) } else { Expr::Any(exprs.into()) }
    }
}

/// True if a field names the server or something on it.
fn is_place(field: &FieldRef) -> bool {
    use Field::{DestinationAddress, ServerAddress, Sni, UrlFull, UrlOriginal, UrlPath};
    matches!(field, FieldRef::Field(ServerAddress | UrlPath | UrlFull | UrlOriginal | Sni | DestinationAddress))
}

/// The results of the first 128 different items of a set at one phase of one observation.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    truths: u128,
    falsehoods: u128,
    unknowns: u128,
}

impl Memory {
    fn recall(&mut self, number: u16, judge: impl FnOnce() -> Truth) -> Truth {
        let Some(mark) = 1u128.checked_shl(number.into()) else { return judge() };
        if self.truths & mark != 0 {
            return Truth::True;
        }
        if self.falsehoods & mark != 0 {
            return Truth::False;
        }
        if self.unknowns & mark != 0 {
            return Truth::Unknown;
        }
        let truth = judge();
        match truth {
            Truth::True => self.truths |= mark,
            Truth::False => self.falsehoods |= mark,
            Truth::Unknown => self.unknowns |= mark,
        }
        truth
    }
}

/// The fields and keywords that a rule reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asks {
    /// Fields, each once, in the order of first mention.
    pub(crate) fields: Vec<FieldRef>,
    pub(crate) phases: Phases,
    pub(crate) keywords: bool,
    /// The fields already collected, so that long rules are read in one pass.
    known: HashSet<FieldRef>,
    named: HashSet<usize>,
}

impl Asks {
    fn field(&mut self, field: &FieldRef) {
        self.phases.insert(field.phase());
        if self.known.insert(field.clone()) {
            self.fields.push(field.clone());
        }
    }

    fn keywords(&mut self) {
        self.keywords = true;
        Phase::ALL.iter().filter(|phase| **phase <= Phase::Message).for_each(|phase| self.phases.insert(*phase));
    }
}

/// A set of phases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Phases(u8);

impl Phases {
    pub(crate) fn insert(&mut self, phase: Phase) {
        self.0 |= 1 << phase as u8;
    }

    pub(crate) fn first(self) -> Option<Phase> {
        Phase::ALL.get(self.0.trailing_zeros() as usize).copied()
    }

    pub(crate) fn last(self) -> Phase {
        Phase::ALL.iter().rev().copied().find(|phase| self.0 & (1 << *phase as u8) != 0).unwrap_or(Phase::Connect)
    }

    /// True if one of them is after `last` (or there is no last) and not after `phase`.
    pub(crate) fn within(self, last: Option<Phase>, phase: Phase) -> bool {
        let past = last.map_or(0, |last| (2 << last as u8) - 1);
        self.0 & ((2 << phase as u8) - 1) & !past != 0
    }

    /// The earliest one after `phase`.
    pub(crate) fn after(self, phase: Phase) -> Option<Phase> {
        Self(self.0 & !((2 << phase as u8) - 1)).first()
    }
}
