//! `cargo xtask interop --portal`: the portal under the official conformance suites, before servers of every era, and
//! before servers that fail. The checks are in `tests/interop/portal`.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::pass_on;

/// Runs the checks with the packages installed in `work`. The exit code is theirs.
pub(super) fn run_checks(gnomon: Option<&Path>, scripts: &Path, work: &Path, only: Option<&str>) -> Result<ExitCode> {
    let suites = work.join("portal");
    let mut checks = Command::new("python3");
    checks.arg(scripts.join("run.py")).arg("--modules").arg(suites.join("node_modules")).arg("--sdks").arg(work);
    match gnomon {
        Some(binary) => checks.arg("--gnomon").arg(binary),
        None => checks.arg("--direct"),
    };
    if let Some(only) = only {
        checks.args(["--only", only]);
    }
    Ok(pass_on(checks.status().context("starting the checks of the portal")?))
}
