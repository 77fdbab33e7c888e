//! The changes that `docs/contributing` shows: each still applies, and touches as few files as it says.

use anyhow::{Context, Result, ensure};
use std::{fs, path::Path, process::Command};

/// Where they are.
const FOLDER: &str = "docs/contributing";
/// Most files that adding one thing may touch.
const MOST: usize = 2;

/// Tries each against the sources, and changes nothing.
///
/// # Errors
/// One does not apply, or touches too many files; all such are named.
pub fn check(root: &Path) -> Result<()> {
    let mut wrong = Vec::new();
    let mut tried = 0;
    for entry in fs::read_dir(root.join(FOLDER)).with_context(|| format!("reading {FOLDER}"))? {
        let patch = entry?.path();
        if patch.extension().is_none_or(|ending| ending != "patch") {
            continue;
        }
        tried += 1;
        let name = patch.display();
        let tried =
            Command::new("git").args(["apply", "--check", "--numstat"]).arg(&patch).current_dir(root).output().context("git apply")?;
        let files = String::from_utf8_lossy(&tried.stdout).lines().count();
        if !tried.status.success() {
            wrong.push(format!("{name} does not apply: {}", String::from_utf8_lossy(&tried.stderr).trim()));
        } else if files > MOST {
            wrong.push(format!("{name} touches {files} files, of at most {MOST}"));
        }
    }
    ensure!(tried > 0, "no change is shown in {FOLDER}");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
