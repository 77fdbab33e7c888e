//! `cargo xtask bench`: build what is measured, then hand over to the bench workspace.
//!
//! The measuring itself is in `bench/`, a workspace with a lockfile of its own: the programs that gnomon is compared with are dependencies
//! there, and whoever only builds gnomon should not have to compile them.

mod portal;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::{build_gnomon_to_ship, cargo, pass_on, root, run, target_dir};

/// What can be measured.
#[derive(Subcommand)]
pub enum Bench {
    /// The inline proxy: CPU per request, new connections, streaming, memory
    Intercept(Intercept),
    /// The sensor: observed connections beside others, kernel time per connection, owner lookups, memory. Needs root and cgroup2
    Sensor(Sensor),
    /// What redirecting adds until a program hears a server that speaks first. Needs root and cgroup2
    ServerFirst(ServerFirst),
    /// The portal beside nginx and two peers: latency, CPU, throughput, memory, start. Needs nginx
    Portal(portal::Portal),
    /// Code Mode through the portal: scripts, searches, chains of calls, hostile neighbours
    Codemode(Codemode),
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

/// Options of the Code Mode bench; those left out take the bench's own defaults.
#[derive(Args)]
pub struct Codemode {
    /// Executions of one caller
    #[arg(long)]
    runs: Option<usize>,
    /// Length of a closed-loop load, seconds
    #[arg(long)]
    secs: Option<f64>,
    /// Measure this gnomon instead of building one
    #[arg(long)]
    gnomon: Option<PathBuf>,
}

/// Options of the sensor bench; those left out take the bench's own defaults.
#[derive(Args)]
pub struct Sensor {
    /// How often each kind of block has its turns
    #[arg(long)]
    rounds: Option<u32>,
    /// Length of the loads that show what being attached costs everybody else, seconds
    #[arg(long)]
    secs: Option<f64>,
    /// Measure this gnomon instead of building one
    #[arg(long)]
    gnomon: Option<PathBuf>,
}

/// Options of the bench of servers that speak first.
#[derive(Args)]
pub struct ServerFirst {
    /// How often each way has its turn of ten connections
    #[arg(long)]
    rounds: Option<u32>,
    /// Measure this gnomon instead of building one
    #[arg(long)]
    gnomon: Option<PathBuf>,
}

impl Bench {
    /// Builds and runs the bench. The exit code is the bench's own, which says whether its limits were met.
    ///
    /// # Errors
    /// When something does not build or start.
    pub fn run(self) -> Result<ExitCode> {
        let programs = build_bench()?;
        match self {
            Self::Intercept(options) => {
                let wants_gnomon = options.only.is_empty() || options.only.iter().any(|name| name == "gnomon");
                let gnomon = match &options.gnomon {
                    Some(given) => given.clone(),
                    None if wants_gnomon => build_gnomon_to_ship()?,
                    None => PathBuf::from("gnomon"),
                };
                hand_over(&programs, "intercept", &options.flags(), &gnomon)
            }
            Self::Sensor(options) => {
                let gnomon = options.gnomon.clone().map_or_else(build_gnomon_to_ship, Ok)?;
                hand_over(&programs, "sensor", &options.flags(), &gnomon)
            }
            Self::ServerFirst(options) => {
                let gnomon = options.gnomon.map_or_else(build_gnomon_to_ship, Ok)?;
                hand_over(&programs, "server_first", &flags([("--rounds", options.rounds.map(|rounds| rounds.to_string()))]), &gnomon)
            }
            Self::Codemode(options) => {
                let gnomon = options.gnomon.map_or_else(build_gnomon_to_ship, Ok)?;
                let given = [("--runs", options.runs.map(|runs| runs.to_string())), ("--secs", options.secs.map(|secs| secs.to_string()))];
                hand_over(&programs, "codemode", &flags(given), &gnomon)
            }
            Self::Portal(options) => {
                let peers = options.install_peers(&target_dir()?.join("bench/peers"))?;
                let gnomon = options.gnomon.clone().map_or_else(build_gnomon_to_ship, Ok)?;
                hand_over(&programs, "portal", &[options.flags(), peers].concat(), &gnomon)
            }
        }
    }
}

/// Builds the bench workspace. Returns the folder with its programs.
pub fn build_bench() -> Result<PathBuf> {
    let target = target_dir()?.join("bench");
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--bins", "--manifest-path"]).arg(root()?.join("bench/Cargo.toml"));
    run(build.arg("--target-dir").arg(&target))?;
    Ok(target.join("release"))
}

/// Prints the command, so that the numbers can be reproduced, and runs it.
fn hand_over(programs: &Path, bench: &str, flags: &[String], gnomon: &Path) -> Result<ExitCode> {
    println!("command: cargo xtask bench {bench} {}", flags.join(" "));
    println!("gnomon: {}", gnomon.display());
    let status = Command::new(programs.join(bench)).arg("--gnomon").arg(gnomon).args(flags).status().context("starting the bench")?;
    Ok(pass_on(status))
}

impl Intercept {
    fn flags(&self) -> Vec<String> {
        flags([
            ("--rounds", self.rounds.map(|rounds| rounds.to_string())),
            ("--secs", self.secs.map(|secs| secs.to_string())),
            ("--only", list(&self.only)),
            ("--loads", list(&self.loads)),
            ("--json", self.json.as_ref().map(|path| path.display().to_string())),
        ])
    }
}

impl Sensor {
    fn flags(&self) -> Vec<String> {
        flags([("--rounds", self.rounds.map(|rounds| rounds.to_string())), ("--secs", self.secs.map(|secs| secs.to_string()))])
    }
}

/// The flags that were given a value.
fn flags<const N: usize>(all: [(&str, Option<String>); N]) -> Vec<String> {
    all.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?])).flatten().collect()
}

fn list(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| names.join(","))
}
