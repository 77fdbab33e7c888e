//! `gnomon rules`: commands for authors of rules, before and after their rules act.

mod check;
mod explain;
mod history;
mod list;
mod new;
pub mod runbook;
mod schema;
mod show;
mod update;

use crate::meant::{Called, LISTED, all, meant};
use anyhow::Result;
use clap::{Args, Subcommand};
use gnomon_cli::{
    Complaint,
    line::clean,
    options::{ConfigFlag, RuleFlags, StateFlag},
    rule_files::RuleText,
};
use gnomon_config::Config;
use gnomon_engine::{Activity, Lint, Rule, RuleSet};
pub use new::matched;

/// `gnomon rules`.
#[derive(Subcommand)]
pub enum Rules {
    /// Compile rules, run their tests, report suspicious ones, and count the recorded events that they would have matched
    Check(check::Check),
    /// List the rules that would be loaded, or the exceptions
    List(list::List),
    /// Show one rule: its conditions and phase, its exceptions, its overrides
    Show(show::Show),
    /// Run the tests of rules and exceptions
    Test(check::Test),
    /// Say which part of a rule matched a recorded event, and which did not
    Explain(explain::Explain),
    /// Draft a rule, or an exception, from a recorded event
    New(new::New),
    /// Print the JSON Schema of rule files, for editors
    Schema,
    /// Install a newer, signed edition of the rules that ship, or go back to the one before
    Update(update::Update),
}

/// Which rules, and where exceptions and events are.
#[derive(Args)]
pub struct Chosen {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    rules: RuleFlags,
}

impl Chosen {
    /// The configuration with the flags over it, and exceptions of the state folder, where there is one.
    ///
    /// # Errors
    /// The configuration is bad.
    pub fn settle(&self) -> Result<Config, Complaint> {
        let mut config = self.config.load()?;
        self.rules.clone().apply(&mut config);
        if let Ok(state_dir) = self.state.dir() {
            config.rules.settle(&state_dir);
        }
        Ok(config)
    }

    pub fn state(&self) -> &StateFlag {
        &self.state
    }
}

impl Rules {
    /// Does what was asked, and writes to standard output.
    ///
    /// # Errors
    /// The command's error.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Check(check) => check.run(),
            Self::List(list) => list.run(),
            Self::Show(show) => show.run(),
            Self::Test(test) => test.run(),
            Self::Explain(explain) => explain.run(),
            Self::New(new) => new.run(),
            Self::Schema => schema::print(),
            Self::Update(update) => update.run(),
        }
    }
}

/// Rules as they were read, and compiled.
struct Loaded {
    read: RuleText,
    set: RuleSet,
}

impl Loaded {
    fn of(config: &Config) -> Result<Self, Complaint> {
        let read = RuleText::of(&config.rules)?;
        let set = read.compile(Lint::Skip)?;
        Ok(Self { read, set })
    }

    /// The loaded rule that is meant, switched off or not.
    ///
    /// # Errors
    /// If none or several match.
    fn rule(&self, text: &str) -> Result<&Rule, Complaint> {
        let unknown = || format!("no rule is loaded that has the id, name or title `{}`", clean(text));
        let found = meant(text, all(&self.set).map(Called::from)).map_err(|unclear| unclear.complaint(text, unknown, LISTED))?;
        self.set.find(found.id).ok_or_else(|| Complaint::own(unknown()))
    }

    /// The text of the file that a rule or filter was read from.
    fn text(&self, file: &str) -> &str {
        self.read.sources.iter().find(|source| source.name == file).map_or("", |source| source.text.as_str())
    }

    fn activity(&self, rule: &Rule) -> Activity {
        if self.set.disabled().iter().any(|other| other.id == rule.id) { Activity::Disabled } else { Activity::Active }
    }
}
