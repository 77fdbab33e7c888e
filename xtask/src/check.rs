//! `cargo xtask check`: the checks that a change breaks most often, in a few minutes. Everything else is in `.ci/run`.
//!
//! It formats nothing and builds no end-to-end tests: it asks rustfmt, clippy for the crates that changed and those that are made of them, and
//! runs the tests of the crates that changed, and looks for circles of imports in all. What changed is what git says: since the branch left main, and not committed yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{cargo, root, run};

/// The package at the workspace's root; its tests are the end-to-end tests.
const PRODUCT: &str = "gnomon";

/// Options of the quick check.
#[derive(Args)]
pub struct Check {
    /// The commit or branch to compare with
    #[arg(long, default_value = "origin/main")]
    since: String,
}

impl Check {
    /// Runs the checks, the quickest first.
    ///
    /// # Errors
    /// One of them fails, or git does not know the commit.
    pub fn run(&self) -> Result<ExitCode> {
        let began = Instant::now();
        run(cargo().current_dir(root()?).args(["fmt", "--all", "--check"]))?;
        let crates = Crates::read(root()?)?;
        let changed = crates.changed(&changed_files(&self.since)?);
        if changed.is_empty() {
            println!("no crate changed since {}", self.since);
            return Ok(ExitCode::SUCCESS);
        }
        let concerned = crates.made_of(&changed);
        println!("changed: {}; made of them: {}", names(&changed), names(&concerned));
        let packages = |of: &BTreeSet<&str>| of.iter().flat_map(|name| ["-p".to_owned(), (*name).to_owned()]).collect::<Vec<_>>();
        let mut clippy = cargo();
        clippy.current_dir(root()?).args(["clippy", "--release", "--locked", "--all-targets"]).args(packages(&concerned));
        run(clippy.args(["--", "-D", "warnings"]))?;
        run(cargo().current_dir(root()?).args(["test", "--release", "--locked", "-q", "-p", "xtask", "--test", "circles"]))?;
        let tested: BTreeSet<&str> = changed.iter().copied().filter(|name| *name != PRODUCT).collect();
        if !tested.is_empty() {
            run(cargo().current_dir(root()?).args(["test", "--release", "--locked", "-q"]).args(packages(&tested)))?;
        }
        let left = if changed.contains(PRODUCT) { "; end-to-end tests: cargo test --release --workspace --test e2e -- WORD" } else { "" };
        println!("checked in {:.0} s{left}", began.elapsed().as_secs_f64());
        Ok(ExitCode::SUCCESS)
    }
}

/// Files that differ from the commit at which this branch left `since`, and files that git does not track yet.
fn changed_files(since: &str) -> Result<Vec<String>> {
    let base = git(&["merge-base", since, "HEAD"])?;
    let mut files = git(&["diff", "--name-only", base.trim()])?;
    files.push_str(&git(&["ls-files", "--others", "--exclude-standard"])?);
    Ok(files.lines().map(str::to_owned).collect())
}

fn git(args: &[&str]) -> Result<String> {
    let output = Command::new("git").current_dir(root()?).args(args).output().context("starting git")?;
    ensure!(output.status.success(), "git {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8(output.stdout).context("git answers with bytes that are no text")
}

fn names(of: &BTreeSet<&str>) -> String {
    of.iter().copied().collect::<Vec<_>>().join(" ")
}

/// The workspace's crates: the name, the folder, and the crates of the workspace that each depends on.
struct Crates(BTreeMap<String, Known>);

struct Known {
    folder: String,
    made_of: BTreeSet<String>,
}

impl Crates {
    /// Reads the manifests of the workspace's members.
    fn read(root: &Path) -> Result<Self> {
        let manifest = |folder: &str| {
            let path = root.join(folder).join("Cargo.toml");
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let workspace = manifest("")?;
        let members = between(&workspace, "members = [", "]").context("Cargo.toml names no members")?;
        let folders = members.split(',').filter_map(|member| between(member, "\"", "\"")).filter(|member| *member != ".");
        let mut known = BTreeMap::new();
        for folder in std::iter::once("").chain(folders) {
            let text = manifest(folder)?;
            let package = text.split("\n[package]").nth(1).or_else(|| text.strip_prefix("[package]")).unwrap_or_default();
            let Some(name) = package.lines().find_map(|line| between(line, "name = \"", "\"")) else { continue };
            let ours = |line: &str| line.split(['.', ' ', '=']).next().filter(|name| name.starts_with(PRODUCT)).map(str::to_owned);
            let made_of = package.lines().filter_map(ours).collect();
            known.insert(name.to_owned(), Known { folder: folder.to_owned(), made_of });
        }
        Ok(Self(known))
    }

    /// The crates that contain one of these files; a file belongs to the innermost folder.
    fn changed(&self, files: &[String]) -> BTreeSet<&str> {
        let within = |file: &str, folder: &str| file.strip_prefix(folder).is_some_and(|rest| folder.is_empty() || rest.starts_with('/'));
        let ours = |file: &str| file.ends_with(".rs") || file.ends_with(".toml") || file.ends_with(".yml") || file.ends_with(".json");
        let of = |file: &String| {
            let all = self.0.iter().filter(|(_, known)| within(file, &known.folder));
            all.max_by_key(|(_, known)| known.folder.len()).map(|(name, _)| name.as_str())
        };
        files.iter().filter(|file| ours(file)).filter_map(of).collect()
    }

    /// These crates, and those that depend on them, directly or not.
    fn made_of<'a>(&'a self, changed: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
        let mut concerned = changed.clone();
        loop {
            let next = self.0.iter().filter(|(_, known)| known.made_of.iter().any(|part| concerned.contains(part.as_str())));
            let before = concerned.len();
            concerned.extend(next.map(|(name, _)| name.as_str()).collect::<Vec<_>>());
            if concerned.len() == before {
                return concerned;
            }
        }
    }
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_concerns_its_crate_and_those_that_are_made_of_it() {
        let crates = Crates::read(root().unwrap()).unwrap();
        let files = ["ledger/model/src/event.rs".to_owned(), "docs/rules.md".to_owned()];
        let changed = crates.changed(&files);
        assert_eq!(changed, BTreeSet::from(["gnomon-ledger-model"]));
        let concerned = crates.made_of(&changed);
        for name in ["gnomon-ledger", "gnomon-ledger-sqlite", "gnomon-record", PRODUCT] {
            assert!(concerned.contains(name), "{concerned:?} lacks {name}");
        }
        assert!(!concerned.contains("gnomon-wire"));
        assert_eq!(crates.changed(&["src/main.rs".to_owned(), "tests/e2e/main.rs".to_owned()]), BTreeSet::from([PRODUCT]));
    }
}
