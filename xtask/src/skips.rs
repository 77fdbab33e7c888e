//! Checks skipped tests: every `SKIPPED name: reason` of a run must be listed in `tests/allowed-skips.toml`, with the reason why that is
//! acceptable.

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::{collections::BTreeSet, fs, path::PathBuf};

/// Options of the check.
#[derive(Args)]
pub struct Skips {
    /// The file with the `SKIPPED` lines of a run
    file: PathBuf,
}

impl Skips {
    /// Compares the skips of a CI run with the list. In CI no program is missing.
    ///
    /// # Errors
    /// A skip is not on the list.
    pub fn run(&self) -> Result<std::process::ExitCode> {
        let seen = fs::read_to_string(&self.file).with_context(|| format!("reading {}", self.file.display()))?;
        let list = list()?;
        let allowed: Vec<(&str, &str)> = entries(list.split("\n[").next().unwrap_or_default()).collect();
        let names: BTreeSet<&str> = skipped(&seen).map(|(name, _)| name).collect();
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

/// Prints the skips of a run on a system that lacks programs. Each must say what to do: install a package that the list names, or be root.
///
/// # Errors
/// A skip says neither, and is not on the list.
pub fn told(seen: &str) -> Result<()> {
    let list = list()?;
    let packages: BTreeSet<&str> =
        entries(list.split_once("\n[programs]\n").map_or("", |(_, listed)| listed)).map(|(_, package)| package).collect();
    let allowed: Vec<&str> = entries(&list).map(|(name, _)| name).collect();
    let says = |why: &str| {
        let named = why.split_once("apt-get install ").map(|(_, named)| named.split(' ').all(|package| packages.contains(package)));
        named.unwrap_or_else(|| why.contains("needs root"))
    };
    let all: BTreeSet<(&str, &str)> = skipped(seen).collect();
    let unknown: Vec<String> =
        all.iter().filter(|(name, why)| !says(why) && !allowed.contains(name)).map(|(name, why)| format!("{name}: {why}")).collect();
    println!("{} skipped", all.len());
    ensure!(unknown.is_empty(), "skipped without saying what to install:\n{}", unknown.join("\n"));
    Ok(())
}

fn list() -> Result<String> {
    fs::read_to_string(crate::root()?.join("tests/allowed-skips.toml")).context("tests/allowed-skips.toml")
}

/// Lines of the form `name = "value"`; comments begin with `#`. The file uses no more of TOML except for one heading.
fn entries(list: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = list.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(|line| line.split_once(" = "));
    lines.map(|(name, value)| (name.trim().trim_matches('"'), value.trim().trim_matches('"')))
}

/// Test and reason of each skip.
fn skipped(seen: &str) -> impl Iterator<Item = (&str, &str)> {
    seen.lines().filter_map(|line| line.strip_prefix("SKIPPED ")).map(|line| line.split_once(": ").unwrap_or((line, "")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_skip_for_want_of_a_program_says_what_to_install() {
        told("SKIPPED a: needs curl and ip: apt-get install curl iproute2\nSKIPPED b: needs root\n").unwrap();
        told("SKIPPED a: no curl\n").unwrap_err();
        told("SKIPPED a: needs x: apt-get install no-such-package\n").unwrap_err();
    }

    /// README names in one line all packages that the tests need. podman is left out, as it takes 86 MB for one test.
    #[test]
    fn readme_names_every_package_that_tests_need() {
        let readme = fs::read_to_string(crate::root().unwrap().join("README.md")).unwrap();
        let line = readme.lines().find_map(|line| line.strip_prefix("sudo apt-get install ")).unwrap();
        let said: BTreeSet<&str> = line.split(' ').filter(|word| !word.starts_with('-')).collect();
        let list = list().unwrap();
        let listed = entries(list.split_once("\n[programs]\n").unwrap().1).map(|(_, package)| package);
        // These are installed on every Debian system.
        let needed: BTreeSet<&str> = listed.filter(|package| !["podman", "util-linux", "bsdutils"].contains(package)).collect();
        assert_eq!(said, needed);
    }
}
