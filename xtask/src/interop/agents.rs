//! `cargo xtask interop --agents`: agents as their makers ship them, under `gnomon exec`.
//!
//! Not part of every run, as three packages of hundreds of megabytes are installed. The checks are in `tests/interop/agents`.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use super::install_node;
use crate::{pass_on, run};

/// Installs the agents that the lock file pins and runs the checks. The exit code is theirs.
pub(super) fn run_checks(gnomon: &Path, scripts: &Path, work: &Path, only: Option<&str>) -> Result<ExitCode> {
    install_node(scripts, work)?;
    // npm runs no install scripts here; this one is needed, as it puts the binary of this platform in its place.
    run(Command::new("node").arg("node_modules/@anthropic-ai/claude-code/install.cjs").current_dir(work))?;
    let mut checks = Command::new("python3");
    checks.arg(scripts.join("run.py")).arg("--gnomon").arg(gnomon).arg("--node").arg(work);
    if let Some(only) = only {
        checks.args(["--only", only]);
    }
    Ok(pass_on(checks.status().context("starting the checks of agents")?))
}
