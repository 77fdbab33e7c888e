//! `gnomon replay`: would these rules have caught that? Events go to standard output, the summary to
//! standard error.

use anyhow::Result;
use clap::Args;
use gnomon_cli::{
    Complaint, judging, line,
    options::{ConfigFlag, Format, FormatFlag, RuleFlags, StateFlag},
    rule_files::RuleText,
};
use gnomon_engine::Lint;
use gnomon_inspect::{HostPatterns, Inspector};
use gnomon_observe::{Field, Lookup, Observation};
use gnomon_record::Finisher;
use gnomon_replay::{
    Replay as Player, Summary,
    compare::{self, Outcomes},
};
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
    state: StateFlag,
    #[command(flatten)]
    rules: RuleFlags,
    #[command(flatten)]
    format: FormatFlag,
    /// Show MCP calls that no rule matched, too
    #[arg(long)]
    all: bool,
    /// Compare with the rules as they would be with this folder or file of rules (in place of those with the same ids);
    /// repeatable
    #[arg(long, value_name = "DIR")]
    against: Vec<PathBuf>,
    /// Recordings: HAR 1.2, events as JSON lines, pcap or pcapng; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Replay {
    pub fn run(self) -> Result<()> {
        let mut config = self.config.load()?;
        self.rules.clone().apply(&mut config);
        // Exceptions count here as they do live. Without a state folder there are none in it.
        let state_dir = self.state.dir().ok();
        if let Some(state_dir) = &state_dir {
            config.rules.settle(state_dir);
        }
        let text = RuleText::of(&config.rules)?;
        let decided = judging::decided(&config, state_dir.as_deref())?;
        let inspector = judging::of_recordings(&config, text.compile(Lint::Skip)?, &decided)?;
        if !self.against.is_empty() && self.files.iter().any(|file| file.as_os_str() == "-") {
            return Err(Complaint::usage("standard input can be read once, and --against reads recordings twice")
                .next("name a file")
                .into());
        }
        if let Some(stale) = &decided.stale {
            writeln!(io::stderr(), "{}", stale.note())?;
        }
        let mut outcomes = Outcomes::default();
        let mut out = BufWriter::new(io::stdout().lock());
        let (format, all) = (self.format.format(), self.all);
        let compares = !self.against.is_empty();
        let mut emit = |event: &Observation| -> Result<()> {
            if compares {
                outcomes.add(event);
            }
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
        if compares {
            let other = text.with(&self.against)?.compile(Lint::Skip)?;
            let other = judging::of_recordings(&config, other, &decided)?;
            self.compare(config.bypass_hosts(), (&outcomes, &inspector), &other)?;
        }
        match (summary.bad_parts(), decided.stale) {
            (0, None) => Ok(()),
            // Something may have been decided since.
            (0, Some(stale)) => Err(stale.complaint().into()),
            (bad, _) => {
                Err(Complaint::input(format!("{bad} lines could not be read")).next("they are listed above; all others were judged").into())
            }
        }
    }

    /// Judges the same recordings by the other rules, silently.
    fn compare(&self, bypass: HostPatterns, before: (&Outcomes, &Arc<Inspector>), other: &Arc<Inspector>) -> Result<()> {
        let mut outcomes = Outcomes::default();
        let mut emit = |event: &Observation| -> Result<()> {
            outcomes.add(event);
            Ok(())
        };
        let mut player = Player { inspector: other, bypass, finisher: Finisher::new(), summary: Summary::default(), emit: &mut emit };
        self.files.iter().try_for_each(|file| player.file(file))?;
        let name = self.against.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        let (first, second) = (before.1.rules(), other.rules());
        Ok(compare::write(&mut io::stderr().lock(), &name, (before.0, &first), (&outcomes, &second))?)
    }
}
