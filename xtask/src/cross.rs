//! `cargo xtask cross`: checks that everything compiles for another processor.
//!
//! It neither links nor runs anything: there is no such machine here, and an emulated one would say little about eBPF. The eBPF object is
//! the same for all little-endian processors.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use clap::Args;

use crate::debian::output;
use crate::{cargo, root, run, target_dir};

/// Options of cross-checking.
#[derive(Args)]
pub struct Cross {
    /// The target triple
    #[arg(long, value_name = "TRIPLE", default_value = "aarch64-unknown-linux-gnu")]
    target: String,
    /// The C compiler for it
    #[arg(long, value_name = "PROGRAM", default_value = "aarch64-linux-gnu-gcc")]
    cc: String,
}

impl Cross {
    /// # Errors
    /// The compiler is missing, or something does not compile.
    pub fn run(self) -> Result<ExitCode> {
        let there = Command::new(&self.cc).arg("--version").output().is_ok_and(|output| output.status.success());
        ensure!(there, "{} is missing: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross", self.cc);
        standard_library(&self.target)?;
        let mut check = cargo();
        check.current_dir(root()?).args(["check", "--release", "--workspace", "--all-targets", "--locked", "--target", &self.target]);
        check.arg("--target-dir").arg(target_dir()?).env(format!("CC_{}", self.target.replace('-', "_")), &self.cc);
        run(&mut check)?;
        println!("everything compiles for {}; nothing was run there", self.target);
        Ok(ExitCode::SUCCESS)
    }
}

/// Has rustup download the standard library for the target, unless it is installed.
fn standard_library(target: &str) -> Result<()> {
    let folder = PathBuf::from(output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]))?.trim());
    if folder.exists() {
        return Ok(());
    }
    let added = Command::new("rustup").args(["target", "add", target]).status().is_ok_and(|status| status.success());
    let version = output(Command::new("rustc").arg("--version"))?;
    ensure!(
        added && folder.exists(),
        "there is no standard library for {target} beside {}, and `rustup target add {target}` fetches none; it comes from rustup's mirror alone, \
         as Debian's libstd-rust-dev belongs to Debian's own compiler",
        version.trim()
    );
    Ok(())
}
