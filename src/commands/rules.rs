//! `gnomon rules`: check rules before they bite, and list those that would be loaded.

use crate::{
    complaint::Complaint,
    options::{ConfigFlag, Format, FormatFlag, RuleFlags},
    rule_files,
};
use anyhow::Result;
use clap::{Args, Subcommand};
use gnomon_engine::{Expectation, Origin, Rule, RuleSet};
use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
};

#[derive(Subcommand)]
pub enum Rules {
    /// Compile rules and run the tests they carry
    Check(Check),
    /// List the rules that would be loaded
    List(List),
}

#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    rules: RuleFlags,
    /// Folders or files to check; without any, everything that would be loaded
    #[arg(value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    rules: RuleFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Rules {
    pub fn run(self) -> Result<()> {
        match self {
            Self::Check(Check { config, rules, paths }) => {
                let set = if paths.is_empty() { load(&config, rules)? } else { rule_files::compile(&rule_files::own(&paths)?)? };
                Ok(check(&set)?)
            }
            Self::List(List { config, rules, format }) => {
                let set = load(&config, rules)?;
                let mut out = BufWriter::new(io::stdout().lock());
                match format.format() {
                    Format::Json => {
                        let rules: Vec<_> = set.rules().iter().map(json).collect();
                        writeln!(out, "{}", serde_json::to_string_pretty(&rules)?)?;
                    }
                    Format::Text => set.rules().iter().try_for_each(|rule| row(&mut out, rule))?,
                }
                Ok(out.flush()?)
            }
        }
    }
}

fn load(config: &ConfigFlag, flags: RuleFlags) -> Result<RuleSet, Complaint> {
    let mut config = config.load()?;
    flags.apply(&mut config);
    rule_files::load(&config.rules)
}

fn check(set: &RuleSet) -> Result<(), Complaint> {
    let results = set.run_tests();
    let failed: Vec<String> = results
        .iter()
        .filter(|result| !result.passed)
        .map(|result| {
            let title = set.rule(result.rule).map_or("", |rule| rule.title.as_str());
            let (expected, found) = match result.expected {
                Expectation::Match => ("a match", "none"),
                Expectation::NoMatch => ("no match", "one"),
            };
            format!("{}:{}:1: test {} of `{title}` expects {expected} and found {found}", result.file, result.line, result.number + 1)
        })
        .collect();
    if !failed.is_empty() {
        return Err(Complaint::input(failed.join("\n")).next("change the rule or its test"));
    }
    let mut out = io::stdout().lock();
    // Nobody reading the summary changes nothing about the check.
    let _ = writeln!(out, "{} rules, {} tests: all as expected", set.rules().len(), results.len());
    let untested = set.rules().len() - results.iter().map(|result| result.rule).collect::<std::collections::HashSet<_>>().len();
    if untested > 0 {
        let _ = writeln!(out, "{untested} rules carry no test; `gnomon.tests` in the rule is where they go");
    }
    Ok(())
}

fn row(out: &mut impl Write, rule: &Rule) -> io::Result<()> {
    let words = (rule.level.as_str(), rule.class.as_str(), rule.response.action.as_str(), rule.phase.as_str());
    let (level, class, action, phase) = words;
    writeln!(out, "{}  {level:<13}  {class:<6}  {action:<8}  {phase:<8}  {}", rule.id, crate::line::clean(&rule.title))
}

fn json(rule: &Rule) -> serde_json::Value {
    serde_json::json!({
        "id": rule.id,
        "title": rule.title,
        "description": rule.description,
        "level": rule.level,
        "class": rule.class,
        "action": rule.response.action,
        "phase": rule.phase,
        "origin": match rule.origin { Origin::Vendor => "vendor", Origin::Admin => "admin" },
        "fields": rule.fields.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "tags": rule.tags,
        "references": rule.references,
        "file": rule.file,
        "line": rule.line,
    })
}
