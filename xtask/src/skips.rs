//! What was skipped must be allowed to be: each skip printed as `SKIPPED name: reason` has to stand
//! in `tests/allowed-skips.toml` with the reason why that is acceptable.

use anyhow::{Context, Result, bail};
use clap::Args;
use std::{collections::BTreeSet, fs, path::PathBuf};

#[derive(Args)]
pub struct Skips {
    /// The file with the `SKIPPED` lines of a run
    file: PathBuf,
}

impl Skips {
    pub fn run(&self) -> Result<std::process::ExitCode> {
        let seen = fs::read_to_string(&self.file).with_context(|| format!("reading {}", self.file.display()))?;
        let allowed = fs::read_to_string(crate::root()?.join("tests/allowed-skips.toml")).context("tests/allowed-skips.toml")?;
        // Lines of the form `name = "reason"`; comments begin with `#`. No more of TOML is used there.
        let allowed: Vec<(&str, &str)> = allowed
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(name, reason)| (name.trim(), reason.trim()))
            .collect();
        let names: BTreeSet<&str> =
            seen.lines().filter_map(|l| l.strip_prefix("SKIPPED ")).map(|l| l.split(':').next().unwrap_or(l).trim()).collect();
        let mut unknown = Vec::new();
        for name in &names {
            match allowed.iter().find(|(allowed, _)| allowed == name) {
                Some((_, reason)) => println!("skipped {name}: {reason}"),
                None => unknown.push(*name),
            }
        }
        if !unknown.is_empty() {
            bail!("skipped without leave: {}; list them with a reason in tests/allowed-skips.toml, or make them run", unknown.join(", "));
        }
        println!("{} skipped, all allowed", names.len());
        Ok(std::process::ExitCode::SUCCESS)
    }
}
