//! The changes that `docs/contributing` shows: each still applies, touches as few files as it says, and compiles.

use crate::{cargo, run, target_dir};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The folder of the patches.
const FOLDER: &str = "docs/contributing";
/// The most files that a patch which adds one thing may change.
const MOST: usize = 2;
/// What a copy of the sources has no use for.
const LEFT_OUT: [&str; 2] = ["target", ".git"];

/// Checks each patch against the sources, without changing them.
///
/// # Errors
/// Patches that do not apply or change too many files; all of them are listed.
pub fn check(root: &Path) -> Result<()> {
    let mut wrong = Vec::new();
    for patch in patches(root)? {
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
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Applies all of them to a copy of the sources and compiles that. Dependencies are taken from where the workspace's own
/// are; its crates are compiled anew, which takes minutes.
///
/// # Errors
/// They do not apply together, or the sources do not compile with them.
pub fn compile(root: &Path) -> Result<()> {
    let target = target_dir()?;
    let copy = target.join("examples-of-changes");
    let _ = fs::remove_dir_all(&copy);
    fs::create_dir_all(&copy).with_context(|| format!("making {}", copy.display()))?;
    let entries = fs::read_dir(root)?.collect::<std::io::Result<Vec<_>>>()?;
    let wanted = entries.iter().map(fs::DirEntry::path).filter(|path| {
        let left_out = path.file_name().is_some_and(|name| LEFT_OUT.iter().any(|left| name == *left));
        !left_out && !target.starts_with(path)
    });
    run(Command::new("cp").arg("-a").args(wanted).arg(&copy))?;
    for patch in patches(root)? {
        // Else git looks for a repository above, and leaves out what is not in it.
        run(Command::new("git").arg("apply").arg(&patch).current_dir(&copy).env("GIT_CEILING_DIRECTORIES", &target))?;
    }
    let mut check = cargo();
    check.current_dir(&copy).args(["check", "--release", "--workspace", "--locked", "--target-dir"]).arg(&target);
    let compiled = run(&mut check);
    fs::remove_dir_all(&copy)?;
    compiled
}

fn patches(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(FOLDER)).with_context(|| format!("reading {FOLDER}"))? {
        let patch = entry?.path();
        if patch.extension().is_some_and(|ending| ending == "patch") {
            found.push(patch);
        }
    }
    ensure!(!found.is_empty(), "no change is shown in {FOLDER}");
    found.sort();
    Ok(found)
}
