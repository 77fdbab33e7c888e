//! `cargo xtask tokens`: how many tokens the tools cost a model to read, through the portal with and without Code Mode.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use crate::{build_gnomon, cargo, pass_on, root, run, target_dir};

/// The npm packages of the servers whose tools are counted.
const SERVERS: [&str; 4] = [
    "@modelcontextprotocol/server-filesystem@2026.8.31",
    "@modelcontextprotocol/server-github@2025.4.8",
    "@modelcontextprotocol/server-slack@2025.4.25",
    "@modelcontextprotocol/server-memory@2026.8.31",
];

/// Options of the count.
#[derive(Args)]
pub struct Tokens {
    /// Ask this gnomon instead of building one
    #[arg(long)]
    gnomon: Option<PathBuf>,
}

impl Tokens {
    /// Installs the servers and counts.
    ///
    /// # Errors
    /// When something does not build, install or start.
    pub fn run(self) -> Result<ExitCode> {
        let gnomon = self.gnomon.map_or_else(build_gnomon, Ok)?;
        let target = target_dir()?;
        let packages = target.join("tokens");
        fs::create_dir_all(&packages)?;
        if !packages.join("node_modules/.package-lock.json").exists() {
            let mut install = Command::new("npm");
            install.args(["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts"]).args(SERVERS);
            run(install.current_dir(&packages))?;
        }
        let bench = target.join("bench");
        let mut build = cargo();
        // Nothing is measured in time, so a debug build will do.
        build.args(["build", "--locked", "--bin", "tokens", "--manifest-path"]).arg(root()?.join("bench/Cargo.toml"));
        run(build.arg("--target-dir").arg(&bench))?;
        println!("command: cargo xtask tokens\nservers: {}", SERVERS.join(" "));
        let status = Command::new(bench.join("debug/tokens")).arg("--gnomon").arg(gnomon).arg("--packages").arg(packages).status();
        Ok(pass_on(status.context("starting the count")?))
    }
}
