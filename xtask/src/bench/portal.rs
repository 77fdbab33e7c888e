//! `cargo xtask bench portal`: its options, and the peers that it installs.
//!
//! The crate mcp-proxy is built as gnomon is shipped (LTO, one codegen unit): a peer without it would be half as fast.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::Args;

use super::{flags, list};
use crate::{cargo, run};

const MCP_PROXY: &str = "0.6.0";
const FASTMCP: &str = "fastmcp==4.1.2";

/// Options of the portal bench; those left out take the bench's own defaults.
#[derive(Args)]
pub struct Portal {
    /// How often each contender has its turn
    #[arg(long)]
    rounds: Option<usize>,
    /// Calls in a turn
    #[arg(long)]
    calls: Option<usize>,
    /// Length of a closed-loop load, seconds
    #[arg(long)]
    secs: Option<f64>,
    /// Contenders, comma-separated: direct, nginx, mcp-proxy, fastmcp, gnomon, gnomon-durable
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Measure this gnomon instead of building one
    #[arg(long)]
    pub(super) gnomon: Option<PathBuf>,
}

impl Portal {
    pub(super) fn flags(&self) -> Vec<String> {
        flags([
            ("--rounds", self.rounds.map(|rounds| rounds.to_string())),
            ("--calls", self.calls.map(|calls| calls.to_string())),
            ("--secs", self.secs.map(|secs| secs.to_string())),
            ("--only", list(&self.only)),
        ])
    }

    /// Installs the peers that take part and are not installed yet. Returns the flags that name their files.
    pub(super) fn install_peers(&self, peers: &Path) -> Result<Vec<String>> {
        let takes_part = |name: &str| self.only.is_empty() || self.only.iter().any(|one| one == name);
        let (mcp_proxy, python) = (peers.join("bin/mcp-proxy"), peers.join("fastmcp/bin/python"));
        if takes_part("mcp-proxy") && !mcp_proxy.exists() {
            let mut install = cargo();
            install.args([
                "install",
                "mcp-proxy",
                "--version",
                MCP_PROXY,
                "--locked",
                "--no-default-features",
                "--features",
                "yaml",
                "--root",
            ]);
            install.arg(peers).env("CARGO_TARGET_DIR", peers.join("build"));
            run(install.env("CARGO_PROFILE_RELEASE_LTO", "fat").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"))?;
        }
        if takes_part("fastmcp") && !peers.join("fastmcp/bin/fastmcp").exists() {
            run(Command::new("python3").args(["-m", "venv"]).arg(peers.join("fastmcp")))?;
            run(Command::new(&python).args(["-m", "pip", "install", "-q", "--disable-pip-version-check", FASTMCP]))?;
        }
        Ok(flags([("--mcp-proxy", Some(mcp_proxy.display().to_string())), ("--python", Some(python.display().to_string()))]))
    }
}
