//! One item of a detection: a field and what its value must be, or a search through all texts.
//!
//! The judge, the slow evaluator and the embedded examples share these primitives; what they do
//! not share is how items are combined and when a rule is settled.

use crate::{
    readings,
    text::{self, Case, Stand, Text},
    truth::{self, Truth},
};
use aho_corasick::AhoCorasick;
use gnomon_observe::{FIELDS, Family, Field, FieldRef, Lookup, Observation, Phase, Role, Value};
use ipnet::IpNet;
use regex_automata::{dfa::dense, meta::Regex};
use smol_str::SmolStr;
use std::{io::Write, net::IpAddr, ops::Range, sync::Arc};

/// The automaton of a regular expression for texts that pass.
pub(crate) type RegexDfa = dense::DFA<Vec<u32>>;

/// A field and a test of its value.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Numbers the different items of a set from 0, as far as numbers go.
    pub(crate) number: u16,
    pub(crate) field: FieldRef,
    /// The phase at whose end all of its fields are final.
    pub(crate) phase: Phase,
    pub(crate) test: Test,
    pub(crate) sense: Sense,
    /// The number of its first question on texts that pass, if its field has such ([`crate::texts`]).
    pub(crate) question: Option<u32>,
}

/// The sense of a test: it asserts, or denies (`neq`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sense {
    Asserts,
    Denies,
}

#[derive(Clone, Debug)]
pub(crate) enum Test {
    Present,
    Missing,
    /// Any of these texts, whole and in any case: sorted, folded.
    OneOf(Box<[Box<[u8]>]>),
    /// Any of these texts within, in any case.
    AnyWithin(Box<AhoCorasick>),
    Any(Box<[Pattern]>),
    All(Box<[Pattern]>),
    Like {
        other: FieldRef,
        stand: Stand,
        case: Case,
    },
}

/// One value of an item.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    Null,
    Bool(bool),
    Number(Number),
    Compare(Order, Number),
    Text(Text),
    Cidr(IpNet),
    Regex(Regex),
    /// The same, with its automaton for texts that pass.
    PassingRegex(Regex, Arc<RegexDfa>),
}

/// A number as written: whole if it can be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Less,
    AtMost,
    More,
    AtLeast,
}

/// A search through every text of the request.
#[derive(Clone, Debug)]
pub(crate) struct Keywords {
    pub(crate) patterns: Box<[Pattern]>,
    pub(crate) link: Link,
}

/// The way in which the values of an item are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Any,
    All,
}

impl Item {
    /// The truth value at the end of `phase`.
    pub(crate) fn judge(&self, seen: &Observation, phase: Phase) -> Truth {
        if self.phase > phase {
            return Truth::Unknown;
        }
        if let Some(truth) = self.heard(seen) {
            return truth;
        }
        let truth = match (seen.look_up(&self.field), &self.test) {
            (Lookup::Unreadable, _) => return Truth::Unknown,
            (lookup, Test::Present) => return matches!(lookup, Lookup::Value(_)).into(),
            (lookup, Test::Missing) => return matches!(lookup, Lookup::Absent).into(),
            // Only `null` fits what is absent; a denial asserts nothing about it.
            (Lookup::Absent, Test::Any(patterns)) => {
                return (self.sense == Sense::Asserts && patterns.iter().any(|p| matches!(p, Pattern::Null))).into();
            }
            (Lookup::Absent, _) => return Truth::False,
            (Lookup::Value(value), Test::OneOf(_) | Test::AnyWithin(_) | Test::Any(_) | Test::All(_)) => self.fits(value).into(),
            (Lookup::Value(value), Test::Like { other, stand, case }) => match seen.look_up(other) {
                Lookup::Unreadable => Truth::Unknown,
                Lookup::Absent => Truth::False,
                Lookup::Value(other) => like(value, other, *stand, *case).into(),
            },
        };
        if truth == Truth::False && seen.is_partial(&self.field) {
            return Truth::Unknown;
        }
        match self.sense {
            Sense::Asserts => truth,
            Sense::Denies => !truth,
        }
    }
}

impl Item {
    /// True if the value fits, as it is written or as servers read it.
    fn fits(&self, value: &Value) -> bool {
        let tested = |value: &Value| match &self.test {
            Test::OneOf(texts) => any_text(value, |text| one_of(texts, text)),
            Test::AnyWithin(automaton) => any_text(value, |text| automaton.is_match(text)),
            Test::Any(patterns) => patterns.iter().any(|pattern| pattern.fits(value)),
            Test::All(patterns) => patterns.iter().all(|pattern| pattern.fits(value)),
            Test::Present | Test::Missing | Test::Like { .. } => false,
        };
        if tested(value) {
            return true;
        }
        let Value::Str(text) = value else { return false };
        readings::others(&self.field, text).into_iter().any(|reading| tested(&Value::Str(reading)))
    }

    /// The numbers of its questions on texts that pass: one for each pattern where all must be found, else one.
    pub(crate) fn questions(&self) -> Range<u32> {
        let Some(first) = self.question else { return 0..0 };
        let count = if let Test::All(patterns) = &self.test { patterns.len() as u32 } else { 1 };
        first..first.saturating_add(count)
    }

    /// The truth value by what was found in texts that passed, if its field had any.
    fn heard(&self, seen: &Observation) -> Option<Truth> {
        let (FieldRef::Field(field), Some(first)) = (&self.field, self.question) else { return None };
        let found = seen.texts().filter(|found| found.has(*field))?;
        let truth: Truth = match &self.test {
            Test::Present => return Some(Truth::True),
            Test::Missing => return Some(Truth::False),
            Test::All(_) => self.questions().all(|question| found.answers(question)),
            Test::OneOf(_) | Test::AnyWithin(_) | Test::Any(_) | Test::Like { .. } => found.answers(first),
        }
        .into();
        Some(match self.sense {
            Sense::Asserts => truth,
            Sense::Denies => !truth,
        })
    }

    /// The texts that it compares with as a whole, where it takes any of several.
    pub(crate) fn texts(&self) -> impl Iterator<Item = SmolStr> + '_ {
        let (texts, patterns): (&[Box<[u8]>], &[Pattern]) = match &self.test {
            Test::OneOf(texts) => (texts, &[]),
            Test::Any(patterns) | Test::All(patterns) => (&[], patterns),
            Test::Present | Test::Missing | Test::AnyWithin(_) | Test::Like { .. } => (&[], &[]),
        };
        let whole = patterns.iter().filter_map(|pattern| if let Pattern::Text(text) = pattern { text.whole() } else { None });
        texts.iter().map(|text| &**text).chain(whole).filter_map(|text| std::str::from_utf8(text).ok()).map(SmolStr::new)
    }
}

impl Pattern {
    fn fits(&self, value: &Value) -> bool {
        match self {
            Pattern::Null => false,
            Pattern::Bool(wanted) => match value {
                Value::Bool(truth) => truth == wanted,
                Value::Int(_) => false,
                Value::Str(_) | Value::List(_) => any_text(value, |text| truth_word(text) == Some(*wanted)),
            },
            Pattern::Number(wanted) => any_number(value, |number| wanted.equals(number)),
            Pattern::Compare(order, bound) => any_number(value, |number| order.holds(number, *bound)),
            Pattern::Text(pattern) => any_text(value, |text| pattern.fits(text)),
            // An IPv4 address in IPv6 clothes is the IPv4 address.
            Pattern::Cidr(net) => any_text(value, |text| text.parse::<IpAddr>().is_ok_and(|address| net.contains(&address.to_canonical()))),
            Pattern::Regex(regex) | Pattern::PassingRegex(regex, _) => any_text(value, |text| regex.is_match(text)),
        }
    }
}

impl Keywords {
    /// The truth value at the end of `phase`. A match is final at once; an absence is known once the request is complete and all of it
    /// was readable.
    pub(crate) fn judge(&self, seen: &Observation, phase: Phase) -> Truth {
        let missing = || if phase < Phase::Message || unreadable_request(seen) { Truth::Unknown } else { Truth::False };
        let found = self.patterns.iter().map(|pattern| if self.found(pattern, seen, phase) { Truth::True } else { missing() });
        match self.link {
            Link::Any => truth::any(found),
            Link::All => truth::all(found),
        }
    }

    fn found(&self, pattern: &Pattern, seen: &Observation, phase: Phase) -> bool {
        let until = phase.min(Phase::Message);
        seen.values().any(|(field, value)| {
            field.phase() <= until
                && field.role() == Role::Evidence
                && matches!(value, Value::Str(_) | Value::List(_))
                && pattern.fits(value)
        })
    }
}

/// True if any evidence of the request could not be read.
fn unreadable_request(seen: &Observation) -> bool {
    seen.has_unreadable()
        && (FIELDS.iter().zip(Field::all()).any(|(info, field)| {
            info.phase <= Phase::Message && info.role == Role::Evidence && matches!(seen.get(field), Lookup::Unreadable)
        }) || unreadable_family(seen, Family::RequestHeader)
            || unreadable_family(seen, Family::Argument))
}

/// A family says that it is unreadable only of members it does not have, and a stranger may name
/// an argument anything: so ask for several names, and take it as unreadable if it has them all.
fn unreadable_family(seen: &Observation, family: Family) -> bool {
    const UNLIKELY: &str = "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    for length in 1..=UNLIKELY.len() {
        match seen.look_up(&FieldRef::Member(family, SmolStr::new_inline(&UNLIKELY[..length]))) {
            Lookup::Unreadable => return true,
            Lookup::Absent => return false,
            Lookup::Value(_) => {}
        }
    }
    true
}

fn one_of(texts: &[Box<[u8]>], text: &str) -> bool {
    texts.binary_search_by(|known| known.iter().copied().cmp(text.bytes().map(|b| b.to_ascii_lowercase()))).is_ok()
}

fn truth_word(text: &str) -> Option<bool> {
    let is = |words: [&str; 3]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(["true", "yes", "1"]) {
        Some(true)
    } else if is(["false", "no", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// True if any text of the value fits; numbers and booleans count as they are written.
fn any_text(value: &Value, fits: impl Fn(&str) -> bool) -> bool {
    match value {
        Value::Str(text) => fits(text),
        Value::List(list) => list.iter().any(|text| fits(text)),
        Value::Bool(truth) => fits(if *truth { "true" } else { "false" }),
        Value::Int(number) => Decimal::new(*number).is_some_and(|decimal| decimal.text().is_some_and(fits)),
    }
}

/// True if any number of the value fits; a text counts when it is a number as a whole.
fn any_number(value: &Value, fits: impl Fn(Number) -> bool) -> bool {
    let text = |text: &str| match text.parse::<i64>() {
        Ok(number) => fits(Number::Int(number)),
        Err(_) => text.parse().is_ok_and(|number| fits(Number::Float(number))),
    };
    match value {
        Value::Int(number) => fits(Number::Int(*number)),
        Value::Str(one) => text(one),
        Value::List(list) => list.iter().any(|one| text(one)),
        Value::Bool(_) => false,
    }
}

fn like(value: &Value, other: &Value, stand: Stand, case: Case) -> bool {
    any_text(other, |needle| any_text(value, |text| text::stands(text, needle, stand, case)))
}

/// A number's decimal digits, without the heap.
struct Decimal {
    bytes: [u8; 20],
    length: usize,
}

impl Decimal {
    fn new(number: i64) -> Option<Self> {
        let mut bytes = [0; 20];
        let mut rest = &mut bytes[..];
        write!(rest, "{number}").ok()?;
        let length = 20 - rest.len();
        Some(Self { bytes, length })
    }

    fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes.get(..self.length)?).ok()
    }
}

impl Number {
    fn float(self) -> f64 {
        match self {
            Number::Int(number) => number as f64,
            Number::Float(number) => number,
        }
    }

    fn equals(self, other: Number) -> bool {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a == b,
            (a, b) => a.float() == b.float(),
        }
    }
}

impl Order {
    fn holds(self, number: Number, bound: Number) -> bool {
        let order = match (number, bound) {
            (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
            (a, b) => a.float().partial_cmp(&b.float()),
        };
        order.is_some_and(|order| match self {
            Order::Less => order.is_lt(),
            Order::AtMost => order.is_le(),
            Order::More => order.is_gt(),
            Order::AtLeast => order.is_ge(),
        })
    }
}
