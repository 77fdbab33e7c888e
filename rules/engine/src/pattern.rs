//! The values of an item: text, number, network or regular expression, compiled.

use crate::{
    error::Report,
    item::{Number, Pattern, RegexDfa},
    modifiers::{Flags, Modifiers, Operator},
    text::{self, Text},
    texts::MAX_GLOB,
    yaml::{Node, NodeKind, Plain, Scalar},
};
use ipnet::IpNet;
use regex_automata::{
    dfa::{StartKind, dense},
    meta::{self, Regex},
    nfa::thompson,
    util::syntax,
};
use std::{net::IpAddr, sync::Arc};

/// The longest regular expression, in bytes.
const MAX_REGEX: usize = 4096;
/// The largest automaton of one regular expression, in bytes.
const MAX_AUTOMATON: usize = 1 << 20;
/// The most lazily built states of one regular expression, in bytes per judging thread.
const MAX_CACHE: usize = 512 << 10;

/// The number of regular expressions that a file may still compile: they cost memory even where they are short.
#[derive(Debug)]
pub(crate) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(256)
    }
}

/// Reads one value.
pub(crate) fn read(value: &Node, modifiers: &Modifiers, report: &mut Report<'_>, budget: &mut Budget) -> Option<Pattern> {
    let NodeKind::Scalar(scalar) = &value.kind else {
        return report.at(value.at, format!("a value must be a text, a number, true, false or null, not {}", value.what()));
    };
    if let Some(taken_for) = scalar.disputed {
        let message = format!(
            "`{}` without quotes is {taken_for} to other Sigma tools, and may be a text here: quote a text; write true, false, or a number as 15 or 1.5",
            scalar.text
        );
        return report.at(value.at, message);
    }
    if scalar.value == Plain::Null && modifiers.operator != Operator::Text {
        return report.at(value.at, "null has no place with this modifier; compare with null without modifiers");
    }
    let pattern = match modifiers.operator {
        Operator::Regex(flags) => regex(&scalar.text, flags, budget).map(Pattern::Regex),
        Operator::Cidr => network(&scalar.text).map(Pattern::Cidr),
        Operator::Compare(_) if scalar.value == Plain::Text && number(scalar).is_some() => {
            Err("a comparison takes a number without quotes".to_owned())
        }
        Operator::Compare(order) => match number(scalar) {
            Some(bound) => Ok(Pattern::Compare(order, bound)),
            None => Err(format!("`{}` is not a number", scalar.text)),
        },
        Operator::Text => plain(scalar, modifiers),
        // These have readers of their own.
        Operator::Exists | Operator::FieldRef => Err("this modifier takes another kind of value".to_owned()),
    };
    match pattern {
        Ok(pattern) => Some(pattern),
        Err(message) => report.at(value.at, message),
    }
}

/// Reads one value to be looked for in texts that pass.
pub(crate) fn read_passing(value: &Node, modifiers: &Modifiers, report: &mut Report<'_>, budget: &mut Budget) -> Option<Pattern> {
    let pattern = read(value, modifiers, report, budget)?;
    let wrong = match (&pattern, &value.kind, modifiers.operator) {
        (Pattern::Regex(_), NodeKind::Scalar(scalar), Operator::Regex(flags)) => match automaton(&scalar.text, flags) {
            Ok(automaton) => {
                let Pattern::Regex(regex) = pattern else { return None };
                return Some(Pattern::PassingRegex(regex, Arc::new(automaton)));
            }
            Err(wrong) => wrong,
        },
        (Pattern::Bool(_) | Pattern::Number(_), ..) => "this field has texts; put the value in quotes".to_owned(),
        (Pattern::Text(Text::Glob { tokens, .. }), ..) if tokens.len() > MAX_GLOB => {
            format!("a text with wildcards, or with letters outside ASCII without `cased`, may have {MAX_GLOB} characters here; split it")
        }
        _ => return Some(pattern),
    };
    report.at(value.at, wrong)
}

/// The automaton of a regular expression that was read already. Texts that pass are of any length, so it must be finite and known.
fn automaton(pattern: &str, flags: Flags) -> Result<RegexDfa, String> {
    let config = dense::Config::new()
        .start_kind(StartKind::Unanchored)
        .dfa_size_limit(Some(MAX_AUTOMATON))
        .determinize_size_limit(Some(4 * MAX_AUTOMATON));
    let built = dense::Builder::new()
        .configure(config)
        .syntax(syntax_of(pattern, flags))
        .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(MAX_AUTOMATON)))
        .build(pattern);
    built.map_err(|error| {
        if error.is_size_limit_exceeded() {
            "the regular expression is too large for texts of any length; use fewer or smaller repetitions, or contains".to_owned()
        } else {
            "the regular expression asks for the bounds of words in Unicode, which texts of any length are not searched for; write (?-u:\\b)".to_owned()
        }
    })
}

fn plain(scalar: &Scalar, modifiers: &Modifiers) -> Result<Pattern, String> {
    let whole = modifiers.stand == text::Stand::Whole;
    Ok(match scalar.value {
        Plain::Null if whole => Pattern::Null,
        Plain::Null => return Err("null has no place with this modifier; compare with null without modifiers".to_owned()),
        Plain::Bool(truth) if whole => Pattern::Bool(truth),
        Plain::Int(number) if whole => Pattern::Number(Number::Int(number)),
        Plain::Float(number) if whole => Pattern::Number(Number::Float(number)),
        Plain::Bool(_) | Plain::Int(_) | Plain::Float(_) => {
            Pattern::Text(Text::new(text::literal(&scalar.text), modifiers.stand, modifiers.case))
        }
        Plain::Text => Pattern::Text(Text::new(text::wildcards(&scalar.text, modifiers.dash), modifiers.stand, modifiers.case)),
    })
}

fn number(scalar: &Scalar) -> Option<Number> {
    match scalar.text.parse() {
        Ok(number) => Some(Number::Int(number)),
        Err(_) => scalar.text.parse().ok().filter(|number: &f64| number.is_finite()).map(Number::Float),
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network.ok_or_else(|| format!("`{text}` is not a network; write it like 10.0.0.0/8"))
}

/// Without Unicode tables where the pattern does not ask for them: that costs a
/// hundredth of the memory, and `\w`, `\d` and `\b` then mean ASCII.
fn syntax_of(pattern: &str, flags: Flags) -> syntax::Config {
    // `(?u)` inside a pattern does its own asking.
    let unicode = !pattern.is_ascii() || [r"\x", r"\u", r"\U", r"\p", r"\P"].iter().any(|escape| pattern.contains(escape));
    syntax::Config::new()
        .unicode(unicode)
        .utf8(false)
        .nest_limit(64)
        .case_insensitive(flags.ignore_case)
        .multi_line(flags.multi_line)
        .dot_matches_new_line(flags.dot_all)
}

fn regex(pattern: &str, flags: Flags, budget: &mut Budget) -> Result<Regex, String> {
    if pattern.len() > MAX_REGEX {
        return Err(format!("the regular expression is longer than {MAX_REGEX} bytes; split it"));
    }
    let Some(left) = budget.0.checked_sub(1) else {
        return Err("too many regular expressions in one file; use contains, startswith or endswith".to_owned());
    };
    budget.0 = left;
    let syntax = syntax_of(pattern, flags);
    let limits = meta::Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(MAX_AUTOMATON))
        .onepass_size_limit(Some(MAX_AUTOMATON))
        .hybrid_cache_capacity(MAX_CACHE)
        .which_captures(thompson::WhichCaptures::None);
    meta::Builder::new().configure(limits).syntax(syntax).build(pattern).map_err(|error| match error.syntax_error() {
        Some(error) => explain(&error.to_string()),
        None => "the regular expression is too large when compiled; use fewer or smaller repetitions".to_owned(),
    })
}

/// The parser draws a caret below the pattern; one line has room for its number only.
fn explain(drawing: &str) -> String {
    let cause = drawing.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or("it cannot be read");
    let caret = drawing.lines().find(|line| line.contains('^') && line.chars().all(|c| c == ' ' || c == '^'));
    match caret.and_then(|line| line.find('^')).and_then(|column| column.checked_sub(3)) {
        Some(column) => format!("not a regular expression: {cause}, at its character {column}"),
        None => format!("not a regular expression: {cause}"),
    }
}
