//! `gnomon confine`: keeps, or becomes, a server of the portal that is a program. Not for people.

use anyhow::Result;
use clap::Args;
use gnomon_cli::Complaint;
use gnomon_confine::{Plan, enter, keep};
use std::process;

#[derive(Args)]
pub struct Confine {
    /// Become the program: said by the process that keeps it, with its number
    #[arg(long, value_name = "PID")]
    enter: Option<u32>,
    /// What to run and how, JSON
    plan: String,
}

impl Confine {
    pub fn run(self) -> Result<()> {
        let plan: Plan = serde_json::from_str(&self.plan).map_err(|error| Complaint::usage(format!("no plan: {error}")))?;
        let code = match self.enter {
            Some(keeper) => enter(&plan, keeper),
            None => keep(&plan, &["confine".to_owned(), "--enter".to_owned(), process::id().to_string(), self.plan]),
        };
        process::exit(code.into());
    }
}
