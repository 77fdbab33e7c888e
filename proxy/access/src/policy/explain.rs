//! Why policy decides as it does: each entry, and of each the first part that did not hold.

use super::{Decision, Entry, LineRef, Policy, truth::Truth, what::Effect};
use crate::{Asked, Caller, caller::printable};
use std::fmt;

/// The result of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Every part holds.
    Matched,
    /// A `deny` matched because a fact is missing: this one.
    MatchedByMissing {
        /// The key in the file.
        key: &'static str,
        /// The missing fact.
        why: String,
    },
    /// A part does not hold, or rests on a missing fact in an `allow`.
    Unmatched {
        /// The key in the file.
        key: &'static str,
        /// The value found instead.
        why: String,
    },
}

/// An entry and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The entry.
    pub line: LineRef,
    /// `allow` or `deny`.
    pub effect: &'static str,
    /// Its result.
    pub finding: Finding,
}

/// The explanation of a decision. Displays for people, several lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The decision, the same that [`Policy::decide`] makes.
    pub decision: Decision,
    /// Each entry, in the order of the file.
    pub entries: Vec<Explained>,
    caller: String,
    asked: String,
}

impl Policy {
    /// Explains the decision of [`Policy::decide`].
    #[must_use]
    pub fn explain(&self, caller: &Caller, asked: &Asked<'_>) -> Explanation {
        let explained =
            |entry: &Entry| Explained { line: entry.line.clone(), effect: entry.effect.as_str(), finding: entry.finding(caller, asked) };
        let name = printable(asked.name);
        Explanation {
            decision: self.decide(caller, asked),
            entries: self.entries.iter().map(explained).collect(),
            caller: caller.to_string(),
            asked: format!("the {} `{name}` of server `{}` through portal `{}`", asked.capability, asked.server, asked.portal),
        }
    }
}

impl Entry {
    fn finding(&self, caller: &Caller, asked: &Asked<'_>) -> Finding {
        let capability = || format!("it is the {} `{}`", asked.capability, printable(asked.name));
        let hints = || format!("read_only {}, destructive {}", told(asked.hints.read_only), told(asked.hints.destructive));
        let kind = match asked.capability {
            crate::Capability::Tool => "tools",
            crate::Capability::Prompt => "prompts",
            crate::Capability::Resource | crate::Capability::ResourceTemplate => "resources",
        };
        let mut parts = vec![
            (self.what.portal(asked), "portals", format!("it is portal `{}`", asked.portal)),
            (self.what.server(asked), "servers", format!("it is server `{}`", asked.server)),
            (self.what.capability(asked, self.effect), kind, capability()),
            (self.what.hints(asked), "hints", hints()),
        ];
        let condition = |one: &super::Condition| {
            let found = printable(&one.found(caller));
            (one.holds(caller), one.key(), format!("asks for {one}, has {found}"))
        };
        parts.extend(self.who.iter().map(condition));
        if let Some(when) = &self.when {
            let (truth, why) = when.judge(asked.arguments, caller);
            parts.push((truth, "when", why.unwrap_or_else(|| format!("`{}` is false", when.source()))));
        }
        let failed = parts.iter().find(|(truth, ..)| *truth == Truth::False);
        let missing = parts.iter().find(|(truth, ..)| *truth == Truth::Missing);
        match (failed, missing, self.effect) {
            (Some((_, key, why)), ..) => Finding::Unmatched { key, why: why.clone() },
            (None, Some((_, key, why)), Effect::Deny) => Finding::MatchedByMissing { key, why: why.clone() },
            (None, Some((_, key, why)), Effect::Allow) => Finding::Unmatched { key, why: why.clone() },
            (None, None, _) => Finding::Matched,
        }
    }
}

fn told(hint: Option<bool>) -> &'static str {
    match hint {
        None => "not said",
        Some(true) => "true",
        Some(false) => "false",
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\nasks for {}\n", self.caller, self.asked)?;
        for entry in &self.entries {
            let decides = self.decision.line() == Some(&entry.line);
            let mark = if decides { "→" } else { " " };
            writeln!(f, "{mark} {}  {}", entry.line, entry.line.text)?;
            match &entry.finding {
                Finding::Matched => writeln!(f, "      matches")?,
                Finding::MatchedByMissing { key, why } => {
                    writeln!(f, "      matches, as what it rests on is not known: {key}: {why}")?;
                }
                Finding::Unmatched { key, why } => writeln!(f, "      no match: {key}: {why}")?,
            }
        }
        if !self.entries.is_empty() {
            writeln!(f)?;
        }
        match &self.decision {
            Decision::Allow(permit) => match permit.line() {
                Some(line) => write!(f, "allowed by {line}"),
                None => f.write_str("allowed"),
            },
            Decision::Deny { line: Some(line) } => write!(f, "denied by {line}"),
            Decision::Deny { line: None } => f.write_str("denied: no entry allows it"),
        }?;
        match self.decision.line().and_then(|line| line.reason.as_ref()) {
            Some(reason) => write!(f, ": {}", printable(reason)),
            None => Ok(()),
        }
    }
}
