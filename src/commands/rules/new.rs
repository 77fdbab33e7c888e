//! `gnomon rules new`: the beginning of a rule or exception, from an event.

use super::Chosen;
use crate::{
    complaint::Complaint,
    scaffold::{self, Exception, NARROW},
    stored,
};
use anyhow::Result;
use clap::Args;
use std::io::{self, Write};

#[derive(Args)]
pub struct New {
    #[command(flatten)]
    chosen: Chosen,
    /// The event to begin from: its id, or the beginning of it
    #[arg(long, value_name = "EVENT-ID")]
    from: String,
    /// Begin an exception to the rules that matched it, instead of a rule
    #[arg(long)]
    exception: bool,
}

impl New {
    pub fn run(self) -> Result<()> {
        let event = stored::event(&self.chosen.state().ledger()?, &self.from)?;
        let text = if self.exception {
            let fields: Vec<String> = NARROW.iter().filter(|field| event.contains_key(**field)).map(|field| (*field).to_owned()).collect();
            let rules = matched(&event)?;
            if fields.is_empty() {
                return Err(Complaint::usage("the event names neither user, server nor tool, so nothing narrow can be excepted").into());
            }
            Exception { event: &event, fields: &fields, rules: &rules, owner: None, reason: None, until: None }.text()
        } else {
            scaffold::rule(&event)
        };
        Ok(io::stdout().lock().write_all(text.as_bytes())?)
    }
}

/// The rules that matched an event.
///
/// # Errors
/// None did.
pub fn matched(event: &stored::Event) -> Result<Vec<String>, Complaint> {
    let list = stored::text(event, "gnomon.rules.matched").or_else(|| stored::text(event, "rule.id"));
    let rules: Vec<String> = list.iter().flat_map(|list| list.split(',')).map(str::to_owned).filter(|id| !id.is_empty()).collect();
    if rules.is_empty() {
        return Err(Complaint::usage("no rule matched this event, so there is nothing to except it from"));
    }
    Ok(rules)
}
