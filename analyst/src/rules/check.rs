//! `gnomon rules check` and `gnomon rules test`: what is wrong with rules, before they bite.

use super::{Chosen, history};
use anyhow::Result;
use clap::Args;
use gnomon_cli::{
    Complaint,
    line::{clean, counted},
    rule_files::{self, RuleText},
    when,
};
use gnomon_engine::{Expectation, Lint, Origin, RuleSet, Source, Subject, TestResult};
use std::{
    collections::HashSet,
    io::{self, Write},
    path::PathBuf,
    time::SystemTime,
};

#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    chosen: Chosen,
    /// Count recorded events from then on: 90s, 15m, 1h, 7d ago, or a moment as 2026-11-20T09:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = when::parse, default_value = "7d")]
    since: SystemTime,
    /// Folders or files to check; without any, everything that would be loaded
    #[arg(value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
}

#[derive(Args)]
pub struct Test {
    #[command(flatten)]
    chosen: Chosen,
    /// Folders or files whose tests are run; without any, everything that would be loaded
    #[arg(value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
}

/// Rules that are looked at, among those that they act with.
struct Looked {
    set: RuleSet,
    /// The files that were named; all, where none was.
    files: Option<HashSet<String>>,
}

impl Looked {
    fn at(chosen: &Chosen, paths: &[PathBuf], lint: Lint) -> Result<Self, Complaint> {
        let config = chosen.settle()?;
        if paths.is_empty() {
            return Ok(Self { set: RuleText::of(&config.rules)?.compile(lint)?, files: None });
        }
        let named = rule_files::own(paths)?;
        let files = Some(named.iter().map(|source| source.name.clone()).collect());
        let alone = RuleText { sources: named.clone(), ..RuleText::default() }.compile(lint)?;
        let mut all = RuleText::of(&config.rules)?;
        let whole = |name: &str| std::fs::canonicalize(name).unwrap_or_else(|_| name.into());
        let known: HashSet<PathBuf> = named.iter().map(|source| whole(&source.name)).collect();
        let ids: HashSet<&str> = alone.rules().iter().chain(alone.disabled()).map(|rule| rule.id.as_str()).collect();
        let own = |source: &&Source| matches!(source.origin, Origin::Admin);
        let loaded: HashSet<PathBuf> = all.sources.iter().filter(own).map(|source| whole(&source.name)).collect();
        // What ships, looked at where a package puts it, is not beside itself. A copy of it in a folder that is loaded is.
        let shipped: HashSet<String> =
            named.iter().filter(|source| !loaded.contains(&whole(&source.name))).map(|source| source.text.clone()).collect();
        // A draft takes the place of a rule of one's own that is loaded; where it would be beside one, a start refuses both.
        let stays = |source: &Source| match source.origin {
            Origin::Vendor => !shipped.contains(&source.text),
            Origin::Admin => !known.contains(&whole(&source.name)) && !has_one_of(source, &ids),
        };
        all.sources.retain(stays);
        all.sources.extend(named);
        Ok(Self { set: all.compile(lint)?, files })
    }

    fn looks_at(&self, file: &str) -> bool {
        self.files.as_ref().is_none_or(|files| files.contains(file))
    }

    fn results(&self) -> Vec<TestResult> {
        self.set.run_tests().into_iter().filter(|result| self.looks_at(&result.file)).collect()
    }

    fn rules(&self) -> u64 {
        self.set.rules().iter().chain(self.set.disabled()).filter(|rule| self.looks_at(&rule.file)).count() as u64
    }

    fn filters(&self) -> u64 {
        self.set.filters().iter().filter(|filter| self.looks_at(&filter.file)).count() as u64
    }

    fn title(&self, subject: Subject) -> String {
        let title = match subject {
            Subject::Rule(index) => self.set.rule(index).map(|rule| &rule.title),
            Subject::Filter(place) => self.set.filters().get(place).map(|filter| &filter.title),
        };
        title.map(|title| clean(title)).unwrap_or_default()
    }

    fn failed(&self, results: &[TestResult]) -> Result<(), Complaint> {
        let failed: Vec<String> = results
            .iter()
            .filter(|result| !result.passed)
            .map(|result| {
                let (expected, found) = match result.expected {
                    Expectation::Match => ("a match", "none"),
                    Expectation::NoMatch => ("no match", "one"),
                };
                let title = self.title(result.subject);
                let TestResult { file, line, column, number, .. } = result;
                format!("{file}:{line}:{column}: test {} of `{title}` expects {expected} and found {found}", number + 1)
            })
            .collect();
        if failed.is_empty() { Ok(()) } else { Err(Complaint::input(failed.join("\n")).next("change the rule or its test")) }
    }
}

/// True if this file has a rule of one of these ids.
fn has_one_of(source: &Source, ids: &HashSet<&str>) -> bool {
    // One that does not compile is told with all others.
    let set = RuleSet::compile(std::slice::from_ref(source));
    set.is_ok_and(|set| set.rules().iter().chain(set.disabled()).any(|rule| ids.contains(rule.id.as_str())))
}

/// Runs the tests that these rules and exceptions carry.
///
/// # Errors
/// The tests that fail.
pub fn passed(set: &RuleSet) -> Result<(), Complaint> {
    let looked = Looked { set: set.clone(), files: None };
    looked.failed(&looked.results())
}

impl Check {
    pub fn run(self) -> Result<()> {
        let looked = Looked::at(&self.chosen, &self.paths, Lint::Run)?;
        let results = looked.results();
        let mut out = io::stdout().lock();
        for warning in looked.set.warnings().iter().filter(|warning| looked.looks_at(&warning.file)) {
            writeln!(out, "warning: {warning}")?;
        }
        looked.failed(&results)?;
        let exceptions = match looked.filters() {
            0 => String::new(),
            filters => format!("{}, ", counted(filters, "exception")),
        };
        let (rules, tests) = (counted(looked.rules(), "rule"), counted(results.len() as u64, "test"));
        writeln!(out, "{rules}, {exceptions}{tests}: all as expected")?;
        let tested: HashSet<_> =
            results.iter().map(|result| result.subject).filter(|subject| matches!(subject, Subject::Rule(_))).collect();
        let active = looked.set.rules().iter().filter(|rule| looked.looks_at(&rule.file)).count();
        if active > tested.len() {
            let bare = counted((active - tested.len()) as u64, "rule");
            writeln!(out, "without a test: {bare}; `gnomon.tests` in the rule is where they go")?;
        }
        let own = looked.set.rules().iter().filter(|rule| rule.origin == Origin::Admin && looked.looks_at(&rule.file));
        let own: Vec<_> = own.map(|rule| rule.id.clone()).collect();
        drop(out);
        history::tell(&self.chosen, &looked.set, &own, self.since)
    }
}

impl Test {
    pub fn run(self) -> Result<()> {
        let looked = Looked::at(&self.chosen, &self.paths, Lint::Skip)?;
        let results = looked.results();
        let mut out = io::stdout().lock();
        for result in &results {
            let outcome = if result.passed { "ok    " } else { "FAILED" };
            let expected = match result.expected {
                Expectation::Match => "match",
                Expectation::NoMatch => "no match",
            };
            let TestResult { file, line, column, .. } = result;
            writeln!(out, "{outcome}  {}:{line}:{column}  {expected:<8}  {}", clean(file), looked.title(result.subject))?;
        }
        looked.failed(&results)?;
        Ok(writeln!(out, "{}: all as expected", counted(results.len() as u64, "test"))?)
    }
}
