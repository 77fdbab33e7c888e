//! `cargo xtask bench`: build what is measured, then hand over to the bench workspace.
//!
//! The measuring itself lives in `bench/`, which has its own lockfile: rivals are dependencies
//! there, and a newcomer who only builds gnomon should never compile them.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::{build_gnomon_to_ship, cargo, pass_on, root, run, target_dir};

/// What can be measured.
#[derive(Subcommand)]
pub enum Bench {
    /// The inline proxy: CPU per request, new connections, streaming, memory
    Intercept(Intercept),
}

/// Options of the intercept bench; those left out take the bench's own defaults.
#[derive(Args)]
pub struct Intercept {
    /// How often each load is run against each contender
    #[arg(long)]
    rounds: Option<u32>,
    /// Length of a closed-loop load, seconds
    #[arg(long)]
    secs: Option<f64>,
    /// Contenders, comma-separated: direct, floor-http, hudsucker, gnomon
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Loads, comma-separated: ka32-plain, ka32-mcp, nc16, nc1, h2c32, sse, up, down, slowup
    #[arg(long, value_delimiter = ',')]
    loads: Vec<String>,
    /// Write every sample to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure this gnomon instead of building one
    #[arg(long)]
    gnomon: Option<PathBuf>,
}

impl Bench {
    /// Builds, measures, and passes the verdict of the gates on as the exit code.
    ///
    /// # Errors
    /// When something does not build or start.
    pub fn run(self) -> Result<ExitCode> {
        let Self::Intercept(options) = self;
        let bench_target = target_dir()?.join("bench");
        run(cargo()
            .args(["build", "--release", "--locked", "--bins", "--manifest-path"])
            .arg(root()?.join("bench/Cargo.toml"))
            .arg("--target-dir")
            .arg(&bench_target))?;
        let wants_gnomon = options.only.is_empty() || options.only.iter().any(|name| name == "gnomon");
        let gnomon = match &options.gnomon {
            Some(given) => given.clone(),
            None if wants_gnomon => build_gnomon_to_ship()?,
            None => PathBuf::from("gnomon"),
        };
        let mut bench = Command::new(bench_target.join("release/intercept"));
        let flags = options.flags();
        let given = options.gnomon.map(|path| format!(" --gnomon {}", path.display())).unwrap_or_default();
        println!("command: cargo xtask bench intercept {}{given}", flags.join(" "));
        let status = bench.arg("--gnomon").arg(gnomon).args(flags).status().context("starting the bench")?;
        Ok(pass_on(status))
    }
}

impl Intercept {
    fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        let mut flag = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                flags.extend([name.to_owned(), value]);
            }
        };
        flag("--rounds", self.rounds.map(|rounds| rounds.to_string()));
        flag("--secs", self.secs.map(|secs| secs.to_string()));
        flag("--only", list(&self.only));
        flag("--loads", list(&self.loads));
        flag("--json", self.json.as_ref().map(|path| path.display().to_string()));
        flags
    }
}

fn list(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| names.join(","))
}
