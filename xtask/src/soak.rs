//! `cargo xtask soak`: a great many requests, with every fault among them that a client or a server can make.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::{cargo, pass_on, root};

/// Options of the soak.
#[derive(Args)]
pub struct Soak {
    /// How many requests
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000)]
    requests: usize,
}

impl Soak {
    /// Runs the end-to-end test that accounts for every call, with this number of requests. The exit code is its own.
    ///
    /// # Errors
    /// When cargo cannot be started.
    pub fn run(self) -> Result<ExitCode> {
        let mut tests = cargo();
        tests.current_dir(root()?).args(["test", "--release", "--workspace", "--test", "e2e", "--", "soak::", "--nocapture"]);
        tests.env("GNOMON_SOAK", self.requests.to_string());
        Ok(pass_on(tests.status().context("starting cargo test")?))
    }
}
