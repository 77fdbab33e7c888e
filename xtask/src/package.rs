//! `cargo xtask package`: builds what people install. A Debian package with systemd units for both halves, manual pages and completions; a
//! tarball for other distributions; and the test of both.
//!
//! The package is laid out here and built with `dpkg-deb`, not by cargo-deb: the maintainer scripts are our own in any case (purge must
//! leave nothing behind), and no further program is needed. It does not sign, publish, or build for another architecture.

mod deb;
mod guest;
mod image;
mod journal;
mod layout;
mod pages;
mod root;
mod snapshot;
mod tarball;
mod test;

pub use root::Root;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::{build_gnomon, build_gnomon_to_ship, root as workspace, target_dir};

/// Options of packaging.
#[derive(Args)]
pub struct Package {
    /// `dist` is what is shipped; `release` is built already where tests ran, and takes seconds
    #[arg(long, value_enum, default_value_t = Profile::Dist)]
    profile: Profile,
    /// Package this program instead of building one
    #[arg(long, value_name = "FILE", conflicts_with = "profile")]
    program: Option<PathBuf>,
    /// The package's revision, which follows the version of gnomon
    #[arg(long, default_value_t = 1)]
    revision: u32,
    /// The tarball for other distributions as well
    #[arg(long)]
    tarball: bool,
    /// The container image as well; needs buildah, and the base image from its registry or --base
    #[arg(long)]
    image: bool,
    /// A root file system of this release of Debian's as the base of the image, made here with mmdebstrap
    #[arg(long, value_name = "RELEASE", requires = "image")]
    base: Option<String>,
    /// Install, use, upgrade and purge it in throw-away Debian systems, with a systemd of their own; needs root
    #[arg(long)]
    test: bool,
    /// Debian's releases to test on
    #[arg(long, value_delimiter = ',', default_values = ["bookworm", "trixie"])]
    on: Vec<String>,
}

/// How the program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    Release,
    Dist,
}

impl Package {
    /// # Errors
    /// Something does not build, or the test of a package fails.
    pub fn run(self) -> Result<ExitCode> {
        let program = match (self.program, self.profile) {
            (Some(program), _) => program,
            (None, Profile::Release) => build_gnomon()?,
            (None, Profile::Dist) => build_gnomon_to_ship()?,
        };
        let home = target_dir()?.join("package");
        let deb = deb::build(&home, &program, self.revision)?;
        println!("{}", deb.display());
        let tarball = self.tarball.then(|| tarball::build(&home, &program)).transpose()?;
        let base = self.base.map(|suite| root::archive(&home, &suite)).transpose()?;
        let image = self.image.then(|| image::build(&home, &deb, base.as_deref())).transpose()?;
        for made in tarball.iter().chain(&image) {
            println!("{}", made.display());
        }
        if self.test {
            if let Some((tarball, oldest)) = tarball.as_deref().zip(self.on.first()) {
                tarball::test(&home, oldest, tarball)?;
            }
            if let Some(image) = &image {
                image::test(&home, image)?;
            }
            let next = deb::build(&home, &program, self.revision + 1)?;
            for suite in &self.on {
                test::run(&home, suite, &deb, &next)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Creates the root file systems of these Debian releases, unless they exist.
///
/// # Errors
/// The mirror does not answer, or has no such release.
pub fn fetch(releases: &[String]) -> Result<()> {
    let home = target_dir()?.join("package");
    std::fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    releases.iter().try_for_each(|release| root::archive(&home, release).map(drop))
}

/// The version of gnomon, from the workspace.
fn version() -> Result<String> {
    let manifest = std::fs::read_to_string(workspace()?.join("Cargo.toml"))?;
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = \"")).context("Cargo.toml names no version")?;
    Ok(line.trim_end_matches('"').to_owned())
}

/// When the sources were last changed, in seconds since 1970. Every file in a package gets this time, so that two builds of the same
/// sources are identical.
fn source_date() -> Result<u64> {
    if let Some(date) = std::env::var_os("SOURCE_DATE_EPOCH") {
        return date.to_string_lossy().parse().context("SOURCE_DATE_EPOCH is not a number");
    }
    let git = Command::new("git").current_dir(workspace()?).args(["log", "-1", "--format=%ct"]).output();
    let said = git.ok().filter(|output| output.status.success()).map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    // A checkout without its history gets the time 0.
    Ok(said.and_then(|date| date.parse().ok()).unwrap_or(0))
}

/// The output of a command. A failure is an error that names the command.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {:?}", command.get_program()))?;
    let told = || String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{command:?} ended with {}:\n{}", output.status, told());
    String::from_utf8(output.stdout).context("a command's output is not text")
}

/// Creates an empty folder, in place of one that exists.
fn fresh(folder: PathBuf) -> Result<PathBuf> {
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}
