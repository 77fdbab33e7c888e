//! `cargo xtask interop`: real clients and servers through the proxy, real agents under `gnomon exec`, or the portal
//! under the official conformance suites.

mod agents;
mod portal;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use crate::{build_gnomon, pass_on, root, run, target_dir};

/// Options of the interop run.
#[derive(Args)]
pub struct Interop {
    /// Run every check without a proxy, to prove that servers and clients work by themselves
    #[arg(long)]
    direct: bool,
    /// Run only the checks whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Drive this gnomon instead of building one
    #[arg(long, conflicts_with = "direct")]
    gnomon: Option<PathBuf>,
    /// Run the big agents instead, under `gnomon exec`, at the portal and with Code Mode, offline: 740 MB are installed, and root is needed
    #[arg(long, conflicts_with = "direct")]
    agents: bool,
    /// Judge the portal instead: conformance, both eras, servers that fail
    #[arg(long, conflicts_with = "agents")]
    portal: bool,
}

impl Interop {
    /// Installs the pinned SDKs below target/interop and runs the checks. The exit code is theirs.
    ///
    /// # Errors
    /// When a tool is missing or an installation fails.
    pub fn run(self) -> Result<ExitCode> {
        let scripts = root()?.join("tests/interop");
        let work = target_dir()?.join("interop");
        let gnomon = match self.gnomon {
            Some(given) => Some(given.canonicalize().with_context(|| format!("no gnomon at {}", given.display()))?),
            None if self.direct => None,
            None => Some(build_gnomon()?),
        };
        if let Some(gnomon) = gnomon.as_ref().filter(|_| self.agents) {
            return agents::run_checks(gnomon, &scripts.join("agents"), &work.join("agents"), self.only.as_deref());
        }
        let python = install()?;
        if self.portal {
            return portal::run_checks(gnomon.as_deref(), &scripts.join("portal"), &work, self.only.as_deref());
        }
        let mut harness = Command::new(&python);
        harness.arg(scripts.join("run.py")).arg("--work").arg(&work);
        match gnomon {
            Some(binary) => harness.arg("--gnomon").arg(binary),
            None => harness.arg("--direct"),
        };
        if let Some(only) = self.only {
            harness.arg("--only").arg(only);
        }
        Ok(pass_on(harness.status().context("starting the interop harness")?))
    }
}

/// Installs the SDKs and suites that the lock files pin, below target/interop. Returns the path of the Python that has them.
///
/// # Errors
/// When a tool is missing or an installation fails.
pub fn install() -> Result<PathBuf> {
    let scripts = root()?.join("tests/interop");
    let work = target_dir()?.join("interop");
    let venv = work.join("venv");
    let python = venv.join("bin/python");
    // The interpreter that the environment links to may have been removed.
    if !Command::new(&python).arg("--version").output().is_ok_and(|said| said.status.success()) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    }
    run(Command::new(&python)
        .args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r"])
        .arg(scripts.join("requirements.txt")))?;
    install_node(&scripts.join("node"), &work.join("node"))?;
    install_node(&scripts.join("portal"), &work.join("portal"))?;
    Ok(python)
}

/// Node resolves packages beside the scripts that import them, so the scripts go along.
pub fn install_node(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let mut lock_changed = !to.join("node_modules/.package-lock.json").exists();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, source) = (entry.file_name(), entry.path());
        if !entry.file_type()?.is_file() || fs::read(&source).ok() == fs::read(to.join(&name)).ok() {
            continue;
        }
        fs::copy(&source, to.join(&name))?;
        lock_changed |= name == "package-lock.json";
    }
    if lock_changed {
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(to))?;
    }
    Ok(())
}
