//! `gnomon replay`: would these rules have caught that? Events go to standard output, the summary to
//! standard error.

use crate::{
    complaint::Complaint,
    line,
    options::{ConfigFlag, Format, FormatFlag, RuleFlags},
    replay::{Replay as Player, Summary},
    rule_files,
};
use anyhow::Result;
use clap::Args;
use gnomon_inspect::{Bounds, Inspector, Surroundings};
use gnomon_intercept::Finisher;
use gnomon_observe::{Field, Lookup, Observation};
use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    sync::Arc,
};

#[derive(Args)]
pub struct Replay {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    rules: RuleFlags,
    #[command(flatten)]
    format: FormatFlag,
    /// Show MCP calls that no rule matched, too
    #[arg(long)]
    all: bool,
    /// Recordings: HAR 1.2, or events as JSON lines; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Replay {
    pub fn run(self) -> Result<()> {
        let mut config = self.config.load()?;
        self.rules.apply(&mut config);
        let rules = rule_files::load(&config.rules)?;
        let surroundings = Surroundings { sanctioned: config.sanctioned_hosts(), catalogue: rule_files::catalogue(&config.rules.hosts)? };
        let bounds = Bounds { window: config.proxy.window_bytes, ..Bounds::default() };
        let inspector = Arc::new(Inspector::new(Arc::new(rules), surroundings, bounds));
        let mut out = BufWriter::new(io::stdout().lock());
        let (format, all) = (self.format.format(), self.all);
        let mut emit = |event: &Observation| -> Result<()> {
            if !all && event.get(Field::RuleId) == Lookup::Absent {
                return Ok(());
            }
            let json = serde_json::to_string(event)?;
            match format {
                Format::Json => writeln!(out, "{json}")?,
                Format::Text => writeln!(out, "{}", line::of_json(&json))?,
            }
            Ok(())
        };
        let mut player = Player {
            inspector: &inspector,
            bypass: config.bypass_hosts(),
            finisher: Finisher::new(),
            summary: Summary::default(),
            emit: &mut emit,
        };
        // What was judged before a recording broke off is told all the same.
        let played = self.files.iter().try_for_each(|file| player.file(file));
        let summary = player.summary;
        out.flush()?;
        summary.write(&mut io::stderr().lock(), &inspector)?;
        played?;
        match summary.bad_parts() {
            0 => Ok(()),
            bad => {
                Err(Complaint::input(format!("{bad} lines could not be read")).next("they are named above; all others were judged").into())
            }
        }
    }
}
