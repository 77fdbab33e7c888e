//! `cargo xtask quality`: how well MCP is told from what resembles it, over every corpus.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::{cargo, pass_on, root};

/// Options of the quality run: none yet.
#[derive(Args)]
pub struct Quality {}

impl Quality {
    /// Runs the quality tests with their tables shown, and passes their verdict on.
    ///
    /// # Errors
    /// When cargo cannot be started.
    pub fn run(self) -> Result<ExitCode> {
        let mut tests = cargo();
        tests.current_dir(root()?).args(["test", "--release", "--test", "e2e", "--", "quality", "--nocapture"]);
        // One after the other, so that the tables do not interleave.
        tests.arg("--test-threads=1");
        Ok(pass_on(tests.status().context("starting cargo test")?))
    }
}
