//! Generates the reference pages, the recording of the demonstration and the pictures from the program itself, or checks that
//! they are current; and checks the tests, links and numbers that documents have.

mod claims;
mod examples;
mod numbers;
mod pictures;
mod recording;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::{fs, process::Command};

/// Each page and the command that prints it.
const PAGES: [(&str, &[&str]); 7] = [
    ("docs/reference/fields.md", &["reference", "fields"]),
    ("docs/reference/audit.md", &["reference", "audit"]),
    ("docs/reference/metrics.md", &["reference", "metrics"]),
    ("docs/reference/config.md", &["reference", "config"]),
    ("docs/reference/cli.md", &["reference", "cli"]),
    ("docs/reference/runbook.md", &["reference", "runbook"]),
    ("docs/reference/event.schema.json", &["reference", "event-schema"]),
];

#[derive(Args)]
pub struct Docs {
    /// Write nothing; fail where a page differs from what the program prints
    #[arg(long)]
    check: bool,
    /// Compile the sources with all changes that docs/contributing shows, in a copy, and do nothing else
    #[arg(long, conflicts_with = "check")]
    examples: bool,
    /// Take the README's picture of the weekly report anew; needs Chromium
    #[arg(long, conflicts_with_all = ["check", "examples"])]
    pictures: bool,
}

impl Docs {
    pub fn run(&self) -> Result<std::process::ExitCode> {
        let root = crate::root()?;
        if self.examples {
            examples::compile(root)?;
            return Ok(std::process::ExitCode::SUCCESS);
        }
        let gnomon = crate::build_gnomon()?;
        examples::check(root)?;
        let mut pages = Vec::new();
        for (page, command) in PAGES {
            let output = Command::new(&gnomon).args(command).output().with_context(|| format!("gnomon {}", command.join(" ")))?;
            ensure!(output.status.success(), "gnomon {} failed: {}", command.join(" "), String::from_utf8_lossy(&output.stderr));
            pages.push((page, String::from_utf8(output.stdout).with_context(|| format!("{page} is not text"))?));
        }
        let report = pictures::report(&gnomon)?;
        pages.extend(recording::pages(&gnomon)?);
        pages.push((pictures::REPORT, report.clone()));
        let mut stale = Vec::new();
        for (page, text) in pages {
            let path = root.join(page);
            if fs::read(&path).ok().as_deref() == Some(text.as_bytes()) {
                continue;
            }
            if self.check {
                stale.push(page);
            } else {
                fs::create_dir_all(path.parent().context("a page has a folder")?)?;
                fs::write(&path, text).with_context(|| format!("writing {page}"))?;
                println!("wrote {page}");
            }
        }
        if !stale.is_empty() {
            bail!("out of date: {}; run `cargo xtask docs` and commit the result", stale.join(", "));
        }
        if self.pictures {
            pictures::take(root, &report)?;
        }
        // They may name what was just written.
        claims::check(root)?;
        numbers::check(root)?;
        pictures::is_of(root, &report)?;
        Ok(std::process::ExitCode::SUCCESS)
    }
}
