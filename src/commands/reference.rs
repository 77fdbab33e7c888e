//! `gnomon reference`: the reference pages, generated from the code so that they cannot drift.

use crate::{config::keys, options::RuleFlags, rule_files};
use anyhow::Result;
use clap::{CommandFactory, Subcommand};
use gnomon_confine::Layer;
use gnomon_export::ExportMetrics;
use gnomon_intercept::Metrics;
use gnomon_ledger::LedgerCounts;
use gnomon_portal::upstream::ServerLayers;
use gnomon_watch::WatchMetrics;
use std::{
    fmt::Write as _,
    io::{self, Write},
    path::PathBuf,
};

#[derive(Subcommand)]
pub enum Reference {
    /// Field names
    Fields,
    /// Metrics
    Metrics,
    /// Configuration keys
    Config,
    /// Commands and their flags
    Cli,
    /// The JSON Schema of one event
    EventSchema,
    /// Completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Manual pages, one for each command, into a folder
    Man {
        /// The folder, which must exist
        dir: PathBuf,
    },
}

impl Reference {
    pub fn run(self) -> Result<()> {
        let page = match self {
            Self::Fields => gnomon_observe::field_reference(),
            Self::Metrics => metrics()?,
            Self::Config => keys::reference(),
            Self::Cli => cli(),
            Self::Completions { shell } => {
                clap_complete::generate(shell, &mut crate::Cli::command(), "gnomon", &mut io::stdout().lock());
                return Ok(());
            }
            Self::Man { dir } => return Ok(clap_mangen::generate_to(crate::Cli::command(), dir)?),
            Self::EventSchema => format!("{}\n", serde_json::to_string_pretty(&gnomon_observe::json_schema())?),
        };
        Ok(io::stdout().lock().write_all(page.as_bytes())?)
    }
}

/// Read off a registry as it stands before the first event.
fn metrics() -> Result<String> {
    let mut config = crate::config::Config::default();
    RuleFlags::default().apply(&mut config);
    let rules = rule_files::load(&config.rules)?;
    let metrics = Metrics::new(&rules, env!("CARGO_PKG_VERSION"))?;
    WatchMetrics::register(metrics.registry())?;
    ServerLayers::register(metrics.registry())?.tell("files", &[Layer::Files], &[]);
    let exports = ExportMetrics::register(metrics.registry())?;
    exports.show("otlp");
    exports.show("syslog");
    let text = metrics.render(&LedgerCounts::default());
    let mut page = String::from(
        "# Metrics\n\n\
         Generated from the code. Served as Prometheus text at `/metrics`. Every series of a loaded rule stands at 0 before its first \
         detection, so that the first one is an increase.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) else { continue };
        let kind = lines.next().and_then(|line| line.rsplit(' ').next()).unwrap_or_default();
        let labels = lines.peek().map(|line| labels(line)).unwrap_or_default();
        let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {help} |");
    }
    Ok(page)
}

/// The names of the labels of a series, bounds of histograms left out.
fn labels(series: &str) -> String {
    let Some((_, rest)) = series.split_once('{') else { return String::new() };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let names = inner.split("\",").filter_map(|label| label.split_once("=\"")).map(|(name, _)| name).filter(|name| *name != "le");
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn cli() -> String {
    let mut page = String::from("# Commands\n\nGenerated from the command's own help.\n");
    let mut root = crate::Cli::command().term_width(100);
    root.build();
    describe(&mut root, "gnomon", &mut page);
    page
}

fn describe(command: &mut clap::Command, name: &str, page: &mut String) {
    let help = command.render_long_help().to_string();
    let help = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    let _ = write!(page, "\n## {name}\n\n```text\n{}\n```\n", help.trim_end());
    for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let name = format!("{name} {}", sub.get_name());
        describe(sub, &name, page);
    }
}
