//! A rule's condition with its items in place, and its three-valued value.

use crate::{
    item::{Item, Keywords, Test},
    truth::{self, Truth},
};
use gnomon_observe::{FieldRef, Observation, Phase};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Item(Box<Item>),
    Keywords(Keywords),
    All(Box<[Expr]>),
    Any(Box<[Expr]>),
    Not(Box<Expr>),
    /// A search id, which a condition may name more than once.
    Named(Arc<Expr>),
}

impl Expr {
    /// What can be said when `phase` is over.
    pub(crate) fn judge(&self, seen: &Observation, phase: Phase) -> Truth {
        match self {
            Expr::Item(item) => item.judge(seen, phase),
            Expr::Keywords(keywords) => keywords.judge(seen, phase),
            Expr::All(exprs) => truth::all(exprs.iter().map(|expr| expr.judge(seen, phase))),
            Expr::Any(exprs) => truth::any(exprs.iter().map(|expr| expr.judge(seen, phase))),
            Expr::Not(expr) => !expr.judge(seen, phase),
            Expr::Named(expr) => expr.judge(seen, phase),
        }
    }

    /// Notes what it looks at.
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
            Expr::Named(expr) => expr.asks(asks),
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

/// What a rule looks at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asks {
    /// Fields, each once, in the order of first mention.
    pub(crate) fields: Vec<FieldRef>,
    pub(crate) phases: Phases,
    pub(crate) keywords: bool,
}

impl Asks {
    fn field(&mut self, field: &FieldRef) {
        self.phases.insert(field.phase());
        if !self.fields.contains(field) {
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

    /// The earliest one after `phase`.
    pub(crate) fn after(self, phase: Phase) -> Option<Phase> {
        Self(self.0 & !((2 << phase as u8) - 1)).first()
    }
}
