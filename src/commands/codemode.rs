//! `gnomon codemode`: the scripts that were run in Code Mode, out of the audit.

use crate::commands::audit::{Told, newest, write};
use anyhow::Result;
use clap::{Args, Subcommand};
use gnomon_cli::{
    Complaint,
    options::{Format, FormatFlag, StateFlag},
    runtime, when,
};
use gnomon_kit::unix_millis;
use std::{
    io::{self, Write as _},
    time::SystemTime,
};

/// Bytes of a token, as far as can be said without the model's own tokenizer.
const TOKEN: u64 = 4;

#[derive(Subcommand)]
pub enum CodeMode {
    /// List executions, the newest last
    List(List),
    /// Show one execution: the script's record, and the calls that it made
    Show(Show),
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    format: FormatFlag,
    /// Only since then: a date, a time (RFC 3339), or so long ago (30m, 12h, 7d)
    #[arg(long, value_name = "WHEN", value_parser = when::parse)]
    since: Option<SystemTime>,
    /// At most this many, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    format: FormatFlag,
    /// The execution, as `gnomon codemode list` names it
    #[arg(value_name = "ID")]
    execution: String,
}

impl CodeMode {
    pub fn run(self) -> Result<()> {
        match self {
            Self::List(list) => runtime()?.block_on(list.run()),
            Self::Show(show) => runtime()?.block_on(show.run()),
        }
    }
}

impl List {
    async fn run(self) -> Result<()> {
        // A script's own record is the one that has its code's digest.
        let since = self.since.map(unix_millis);
        let scripts =
            newest(&self.state, self.limit, |record, at_ms| record.code_sha256.is_some() && since.is_none_or(|since| at_ms >= since));
        write(&scripts.await?, self.format.format())
    }
}

impl Show {
    async fn run(self) -> Result<()> {
        let told = newest(&self.state, usize::MAX, |record, _| record.execution.as_deref() == Some(&self.execution)).await?;
        let Some(Told { record: script, .. }) = told.iter().find(|told| told.record.code_sha256.is_some()) else {
            let next = "`gnomon codemode list` names those that are recorded; one that is still running is not there yet";
            return Err(Complaint::input(format!("there is no execution {}", self.execution)).next(next).into());
        };
        write(&told, self.format.format())?;
        if self.format.format() == Format::Text {
            let (code, answer) = (script.request_bytes.unwrap_or_default(), script.response_bytes.unwrap_or_default());
            let within: u64 =
                told.iter().filter(|told| told.record.code_sha256.is_none()).filter_map(|told| told.record.response_bytes).sum();
            writeln!(
                io::stdout(),
                "about {} tokens of code and {} of answer; the calls' own answers were {}, which no model read",
                code / TOKEN,
                answer / TOKEN,
                within / TOKEN
            )?;
        }
        Ok(())
    }
}
