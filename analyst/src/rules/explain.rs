//! `gnomon rules explain`: which part of a rule matched an event.

use super::{Chosen, Loaded};
use crate::stored;
use anyhow::Result;
use clap::Args;
use gnomon_cli::{
    line::clean,
    options::{Format, FormatFlag},
};
use gnomon_engine::{Explained, Finding, Rule, explain};
use gnomon_observe::{Field, FieldRef, Lookup, Observation};
use serde_json::{Value, json};
use std::io::{self, Write};

#[derive(Args)]
pub struct Explain {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    format: FormatFlag,
    /// The rule's id, the beginning of it, its name or its title
    #[arg(value_name = "RULE")]
    rule: String,
    /// The event's id, or the beginning of it
    #[arg(value_name = "EVENT-ID")]
    event: String,
}

impl Explain {
    pub fn run(self) -> Result<()> {
        let loaded = Loaded::of(&self.chosen.settle()?)?;
        let rule = loaded.rule(&self.rule)?;
        let event = stored::event(&self.chosen.state().ledger()?, &self.event)?;
        let filters = rule.filters.iter().filter_map(|place| loaded.set.filters().get(*place));
        let asked: Vec<&FieldRef> = rule.fields.iter().chain(filters.flat_map(|filter| &filter.fields)).collect();
        let seen = stored::observation(&event, asked.iter().copied())?;
        let parts = parts(&loaded, rule, &seen);
        let then = Then::of(&event, rule);
        let unread = unread(&event, &asked, &seen);
        let mut out = io::stdout().lock();
        match self.format.format() {
            Format::Json => {
                let parts: Vec<_> = parts.iter().map(|(name, told)| json!({"document": name, "explained": json(told)})).collect();
                let matched = then == Then::Matched;
                let mut all = json!(parts);
                // Of the rule as a whole, which is the first document.
                if let Some(first) = all.get_mut(0) {
                    first["matched_when_seen"] = json!(matched);
                    first["unread"] = json!(unread);
                }
                writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
            }
            Format::Text => {
                for (name, told) in &parts {
                    writeln!(out, "{}", clean(name))?;
                    tree(&mut out, told, 1)?;
                }
                let whole = truth_of(&parts);
                for why in &unread {
                    writeln!(out, "{}", clean(why))?;
                }
                if let Some(said) = then.beside(whole, !unread.is_empty(), rule.response.action.interferes()) {
                    writeln!(out, "{said}")?;
                }
                let mut lost: Vec<String> = asked.iter().filter(|field| !field.is_stored()).map(ToString::to_string).collect();
                lost.dedup();
                if !lost.is_empty() {
                    writeln!(out, "not kept in events: {}", lost.join(", "))?;
                }
                let places = places(&event, &asked);
                if then == Then::Matched && !places.is_empty() {
                    writeln!(out, "where rules found what they look for: {}", clean(&places.join(", ")))?;
                }
            }
        }
        Ok(())
    }
}

/// What the event itself says of the rule: it was judged with everything that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Matched,
    NotNamed,
}

impl Then {
    fn of(event: &stored::Event, rule: &Rule) -> Self {
        let named = event.get(Field::RulesMatched.name()).and_then(Value::as_array);
        let matched = named.is_some_and(|ids| ids.iter().any(|id| id.as_str() == Some(rule.id.as_str())));
        if matched { Then::Matched } else { Then::NotNamed }
    }

    /// What is to be said beside what the stored event shows.
    fn beside(self, whole: Finding, is_unread: bool, interferes: bool) -> Option<&'static str> {
        match (self, whole) {
            (Then::Matched, Finding::Unknown) if is_unread && interferes => {
                Some("the event names it: a rule that refuses does so too where what it asks for could not be read")
            }
            (Then::NotNamed, Finding::Unknown) if is_unread => {
                Some("the event does not name it: a rule that only logs says nothing of what could not be read")
            }
            (Then::Matched, Finding::Unknown) => {
                Some("it matched when it was seen (the event names it); the text that decided is not kept")
            }
            (Then::NotNamed, Finding::Unknown) => {
                Some("the event does not name it: it did not match when it was seen, or was not loaded; what would show why is not kept")
            }
            (Then::Matched, Finding::False) => {
                Some("it matched when it was seen (the event names it): the rule or its exceptions changed since")
            }
            (Then::NotNamed, Finding::True) => {
                Some("the event does not name it: it was not loaded when that was seen, or it or its exceptions changed since")
            }
            (Then::Matched, Finding::True) | (Then::NotNamed, Finding::False) => None,
        }
    }
}

/// Why fields that are asked for were unknown when the event was made.
fn unread(event: &stored::Event, asked: &[&FieldRef], seen: &Observation) -> Vec<String> {
    let is_asked = |field: &Field| asked.iter().any(|asked| matches!(asked, FieldRef::Field(one) if one == field));
    let found = stored::unread(event).into_iter();
    found
        .filter(|(fields, _)| fields.iter().any(|field| is_asked(field) && seen.get(*field) == Lookup::Unreadable))
        .map(|(_, why)| why)
        .collect()
}

/// The places that the event names of texts of these fields.
fn places<'e>(event: &'e stored::Event, asked: &[&FieldRef]) -> Vec<&'e str> {
    let named = event.get(Field::TextPlaces.name()).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    named.filter(|place| asked.iter().any(|field| place.split(' ').next() == Some(field.to_string().as_str()))).collect()
}

/// The rule and its exceptions as a whole: all of them must hold.
fn truth_of(parts: &[(String, Explained)]) -> Finding {
    let has = |finding| parts.iter().any(|(_, told)| told.finding == finding);
    if has(Finding::False) {
        Finding::False
    } else if has(Finding::Unknown) {
        Finding::Unknown
    } else {
        Finding::True
    }
}

/// The rule, then each filter that narrows it: all of them must hold.
fn parts(loaded: &Loaded, rule: &Rule, seen: &Observation) -> Vec<(String, Explained)> {
    let filters = rule.filters.iter().filter_map(|place| loaded.set.filters().get(*place));
    let filters = filters.map(|filter| (format!("and exception: {} ({})", filter.title, filter.file), &filter.file, filter.line));
    let documents = std::iter::once((rule.title.to_string(), &rule.file, rule.line)).chain(filters);
    documents.filter_map(|(name, file, line)| Some((name, explain(loaded.text(file), line, seen)?))).collect()
}

fn tree(out: &mut impl Write, told: &Explained, depth: usize) -> io::Result<()> {
    let seen = told.seen.as_ref().map(|seen| format!("   (seen: {})", clean(seen))).unwrap_or_default();
    writeln!(out, "{:indent$}{:<8}{}{seen}", "", told.finding.as_str(), clean(&told.part), indent = depth * 2)?;
    told.parts.iter().try_for_each(|part| tree(out, part, depth + 1))
}

fn json(told: &Explained) -> Value {
    json!({
        "part": told.part,
        "seen": told.seen,
        "finding": told.finding.as_str(),
        "parts": told.parts.iter().map(json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_engine::{Origin, RuleSet, Source};

    const RULE: &str = "title: Uses a tool
id: 11111111-2222-4333-8444-555555555555
logsource: { product: mcp, category: mcp_traffic }
detection: { selection: { mcp.method.name: tools/call, user.name: ada }, condition: selection }
level: medium
gnomon: { class: mcp, response: { action: block } }
";

    fn explained(event: Value) -> (Finding, Vec<String>, String) {
        let event = event.as_object().unwrap();
        let set = RuleSet::compile(&[Source { name: "a.yml".into(), text: RULE.to_owned(), origin: Origin::Admin }]).unwrap();
        let rule = set.find("11111111").unwrap();
        let asked: Vec<&FieldRef> = rule.fields.iter().collect();
        let seen = stored::observation(event, asked.iter().copied()).unwrap();
        let told = explain(RULE, rule.line, &seen).unwrap();
        let unread = unread(event, &asked, &seen);
        let beside = Then::of(event, rule).beside(told.finding, !unread.is_empty(), rule.response.action.interferes()).unwrap_or_default();
        (told.finding, unread, beside.to_owned())
    }

    #[test]
    fn what_could_not_be_read_is_unknown_and_not_absent() {
        let named = ["11111111-2222-4333-8444-555555555555"];
        for (field, value) in
            [("gnomon.malformed", json!("truncated")), ("gnomon.passage", json!("no_room")), ("gnomon.truncated", json!(["names"]))]
        {
            let (finding, unread, beside) = explained(json!({field: value, "user.name": "ada", "gnomon.rules.matched": named}));
            assert_eq!((finding, unread.len()), (Finding::Unknown, 1), "{field}: {unread:?}");
            assert!(
                unread[0].contains(field) && beside.contains("could not be read") && !beside.contains("changed since"),
                "{unread:?}: {beside}"
            );
        }
        let (finding, unread, _) = explained(json!({"gnomon.process.identity": "gone", "mcp.method.name": "tools/call"}));
        assert!(finding == Finding::Unknown && unread[0].contains("gnomon.process.identity: gone"), "{unread:?}");
        // What was read is what it was.
        assert_eq!(explained(json!({"gnomon.malformed": "truncated", "user.name": "bob"})).0, Finding::False);
        let (finding, unread, beside) = explained(json!({"user.name": "ada", "gnomon.rules.matched": named}));
        assert!(finding == Finding::False && unread.is_empty() && beside.contains("changed since"), "{beside}");
    }
}
