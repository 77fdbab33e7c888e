//! `gnomon reference`: the reference pages, generated from the code so that they cannot drift.

use anyhow::Result;
use clap::{CommandFactory, Subcommand};
use gnomon_cli::{options::RuleFlags, rule_files};
use gnomon_codemode::{Limits, SandboxConfig};
use gnomon_config::keys;
use gnomon_confine::Layer;
use gnomon_export::ExportMetrics;
use gnomon_http::UpstreamBudget;
use gnomon_ledger::LedgerCounts;
use gnomon_portal::{CodeModeWorks, PortalMetrics};
use gnomon_record::Metrics;
use gnomon_serve::{auditing::AuditCounters, descriptors::UpstreamMetrics, logging::LogMetrics};
use gnomon_upstream::ServerLayers;
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
    /// Fields of the audit
    Audit,
    /// Metrics
    Metrics,
    /// Configuration keys
    Config,
    /// Commands and their flags
    Cli,
    /// The runbook: what each shipped rule means, the first commands, usual false positives
    Runbook,
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
            Self::Audit => gnomon_audit::record_reference(),
            Self::Metrics => metrics()?,
            Self::Config => keys::reference(),
            Self::Cli => cli(),
            Self::Runbook => gnomon_analyst::runbook()?,
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
    let mut config = gnomon_config::Config::default();
    RuleFlags::default().apply(&mut config);
    let rules = rule_files::load(&config.rules)?;
    let metrics = Metrics::new(&rules, env!("CARGO_PKG_VERSION"))?;
    WatchMetrics::register(metrics.registry())?;
    PortalMetrics::register(metrics.registry())?.show("files");
    let programs = ServerLayers::register(metrics.registry())?;
    programs.tell("files", &[Layer::Files], &[]);
    programs.runs("files");
    UpstreamMetrics::register(UpstreamBudget::unbounded(), metrics.registry())?;
    LogMetrics::register(metrics.registry())?;
    let exports = ExportMetrics::register(metrics.registry())?;
    exports.show("otlp");
    exports.show("syslog");
    AuditCounters::register(metrics.registry())?;
    CodeModeWorks::new(SandboxConfig::new("/proc/self/exe", [""]), Limits::default(), metrics.registry())?.show();
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    /// The names that literals in the code register: `"gnomon_..."` as the first argument of whatever makes a metric.
    fn registered(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if !["tests", "target"].iter().any(|skipped| path.ends_with(skipped)) {
                    registered(&path, found);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                for (at, _) in code.match_indices("\"gnomon_") {
                    let called = code[..at].trim_end().strip_suffix('(').is_some_and(|before| {
                        let word = before.rsplit(|c: char| !(c.is_alphanumeric() || "_:".contains(c))).next().unwrap_or_default();
                        word.ends_with("::new") || ["counter", "gauge", "gauges", "metric", "histogram"].contains(&word)
                    });
                    if called {
                        found.insert(code[at + 1..].split('"').next().unwrap_or_default().to_owned());
                    }
                }
            }
        }
    }

    /// Whoever reaches the address may read metrics: no label has a person, a program of theirs, or a server that is no portal's
    /// (docs/privacy.md). An incident is a number.
    #[test]
    fn no_label_of_a_metric_names_a_person_a_program_or_a_server_but_those_of_portals() {
        let known = [
            "action",
            "channel",
            "class",
            "direction",
            "feature",
            "incident",
            "lacking",
            "layer",
            "level",
            "list",
            "method",
            "outcome",
            "pack",
            "part",
            "portal",
            "program",
            "reason",
            "rule",
            "sanctioned",
            "severity",
            "sink",
            "state",
            "status",
            "title",
            "tls",
            "tool",
            "version",
            "what",
        ];
        for row in metrics().unwrap().lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<_> = row.split('|').map(|cell| cell.trim().replace('`', "")).collect();
            for label in cells[3].split(", ").filter(|label| !label.is_empty()) {
                let of_portals = label == "server" && (cells[1].starts_with("gnomon_portal_") || cells[1].starts_with("gnomon_server_"));
                assert!(of_portals || known.contains(&label), "{}: what does `{label}` say, and of whom?", cells[1]);
            }
        }
    }

    #[test]
    fn every_metric_that_any_part_registers_is_on_the_page() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = BTreeSet::new();
        for folder in ["serve", "proxy", "ledger", "rules", "sensor-user"] {
            registered(&root.join(folder), &mut found);
        }
        assert!(found.len() > 30 && found.contains("gnomon_audit_records_total"), "the search finds too little: {found:?}");
        let page = metrics().unwrap();
        let missing: Vec<_> = found.iter().filter(|name| !page.contains(&format!("| `{name}` |"))).collect();
        assert!(missing.is_empty(), "served live and not on docs/reference/metrics.md: {missing:?}");
    }
}
