//! Chores that are not cargo: one file per chore, run as `cargo xtask CHORE`.
//!
//! Chores use clap and anyhow only, so that they are never the slow part of a build. The further dependencies of this crate are libraries
//! that the workspace compiles anyway, with the features that its tests turn on (Cargo.toml says why).

mod bench;
mod check;
mod cross;
mod debian;
mod docs;
mod ebpf;
mod fetch;
mod fuzz;
mod interop;
mod kernels;
mod package;
mod profile;
mod quality;
mod readme;
mod skips;
mod soak;
mod tokens;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores that are not cargo", arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Measure what the inline proxy and the sensor cost
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Check what a change breaks most often, in a few minutes: format, clippy, tests of the crates that changed
    Check(check::Check),
    /// Check that everything compiles for arm64
    Cross(cross::Cross),
    /// Print the reference pages from the program, or check that they are up to date
    Docs(docs::Docs),
    /// Build the kernel half's object reproducibly, or check that the committed one is current
    Ebpf(ebpf::Ebpf),
    /// Fetch what other chores need from registries and mirrors, before they run
    Fetch(fetch::Fetch),
    /// Run every fuzz target for a bounded time
    Fuzz(fuzz::Fuzz),
    /// Drive real MCP clients and servers, git, curl and WebSocket through the proxy
    Interop(interop::Interop),
    /// Run the sensor's kernel tests on other kernels, in emulated machines
    Kernels(kernels::Kernels),
    /// Build the Debian package and the tarball, and try them on Debian systems
    Package(package::Package),
    /// Make anew what the shipped build is optimised by, from gnomon at work; needs LLVM's tools
    Profile(profile::Profile),
    /// Measure what is recognised, missed and mistaken, over every corpus, or how models get along with Code Mode
    Quality(quality::Quality),
    /// Run the README's two commands on a Debian system with Rust, a C compiler and CMake, and nothing else
    Readme(readme::Readme),
    /// Check that what a run skipped may be skipped
    Skips(skips::Skips),
    /// Make a million requests with every fault among them, and account for each at both ends
    Soak(soak::Soak),
    /// Count what tools cost a model to read, with Code Mode and without
    Tokens(tokens::Tokens),
}

fn main() -> Result<ExitCode> {
    match Args::parse().chore {
        Chore::Bench(bench) => bench.run(),
        Chore::Check(check) => check.run(),
        Chore::Cross(cross) => cross.run(),
        Chore::Docs(docs) => docs.run(),
        Chore::Ebpf(ebpf) => ebpf.run(),
        Chore::Fetch(fetch) => fetch.run(),
        Chore::Fuzz(fuzz) => fuzz.run(),
        Chore::Interop(interop) => interop.run(),
        Chore::Kernels(kernels) => kernels.run(),
        Chore::Package(package) => package.run(),
        Chore::Profile(profile) => profile.run(),
        Chore::Quality(quality) => quality.run(),
        Chore::Readme(readme) => readme.run(),
        Chore::Skips(skips) => skips.run(),
        Chore::Soak(soak) => soak.run(),
        Chore::Tokens(tokens) => tokens.run(),
    }
}

/// The workspace's root.
fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")
}

/// Where cargo puts what it builds; chores keep their own products below it too.
fn target_dir() -> Result<PathBuf> {
    let root = root()?;
    Ok(std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir)))
}

/// Builds the product and returns its path.
fn build_gnomon() -> Result<PathBuf> {
    let target = target_dir()?;
    run(cargo().current_dir(root()?).args(["build", "--release", "--bin", "gnomon", "--target-dir"]).arg(&target))?;
    Ok(target.join("release/gnomon"))
}

/// Builds the product as packages ship it.
fn build_gnomon_to_ship() -> Result<PathBuf> {
    profile::build_to_ship(&target_dir()?)
}

/// The cargo that runs this chore, without the variables that `cargo run` sets for its own package: build scripts watch them and would
/// rebuild many crates.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&*name);
        }
    }
    cargo
}

/// Runs a command to its end. A failure is an error that names the command.
fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {:?}", command.get_program()))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// The exit code of a child process, as our own.
fn pass_on(status: std::process::ExitStatus) -> ExitCode {
    ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
}
