//! `gnomon rules new`: the beginning of a rule or exception, from an event.

use super::Chosen;
use crate::{
    scaffold::{self, Exception, Named},
    stored,
};
use anyhow::Result;
use clap::Args;
use gnomon_cli::Complaint;
use std::io::{self, Write};

#[derive(Args)]
pub struct New {
    #[command(flatten)]
    chosen: Chosen,
    /// The event to draft from: its id, or the beginning of it
    #[arg(long, value_name = "EVENT-ID")]
    from: String,
    /// Draft an exception to the rules that matched it, instead of a rule
    #[arg(long)]
    exception: bool,
}

impl New {
    pub fn run(self) -> Result<()> {
        let event = stored::event(&self.chosen.state().ledger()?, &self.from)?;
        let text = if self.exception {
            let fields = scaffold::narrow(&event, &[])?;
            // Other matched rules, which the author may add, are lines to uncomment.
            let (id, others) = matched(&event)?;
            let title = stored::text(&event, "rule.name");
            let stay: Vec<Named> = others.into_iter().map(|id| Named { id, title: None }).collect();
            Exception { event: &event, fields: &fields, rules: &[Named { id, title }], stay: &stay, owner: None, reason: None, until: None }
                .text()
        } else {
            scaffold::rule(&event)?
        };
        Ok(io::stdout().lock().write_all(text.as_bytes())?)
    }
}

/// The rule that decided on an event, and the others that matched.
///
/// # Errors
/// If no rule matched.
pub fn matched(event: &stored::Event) -> Result<(String, Vec<String>), Complaint> {
    let decided = stored::text(event, "rule.id").filter(|id| !id.is_empty());
    let decided = decided.ok_or_else(|| Complaint::usage("no rule matched this event, so there is nothing to except it from"))?;
    let list = stored::text(event, "gnomon.rules.matched").unwrap_or_default();
    let others = list.split(',').filter(|id| !id.is_empty() && *id != decided).map(str::to_owned).collect();
    Ok((decided, others))
}
