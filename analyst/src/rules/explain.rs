//! `gnomon rules explain`: which part of a rule matched an event.

use super::{Chosen, Loaded};
use crate::stored;
use anyhow::Result;
use clap::Args;
use gnomon_cli::{
    line::clean,
    options::{Format, FormatFlag},
};
use gnomon_engine::{Explained, Rule, explain};
use gnomon_observe::Observation;
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
        let seen = stored::observation(&event)?;
        let parts = parts(&loaded, rule, &seen);
        let mut out = io::stdout().lock();
        match self.format.format() {
            Format::Json => {
                let parts: Vec<_> = parts.iter().map(|(name, told)| json!({"document": name, "explained": json(told)})).collect();
                writeln!(out, "{}", serde_json::to_string_pretty(&parts)?)?;
            }
            Format::Text => {
                for (name, told) in &parts {
                    writeln!(out, "{}", clean(name))?;
                    tree(&mut out, told, 1)?;
                }
                let unanswered: Vec<String> =
                    rule.fields.iter().filter(|field| stored::is_never_stored(field)).map(ToString::to_string).collect();
                if !unanswered.is_empty() {
                    writeln!(out, "events never hold {}: here they are absent, live they were judged", unanswered.join(", "))?;
                }
            }
        }
        Ok(())
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
