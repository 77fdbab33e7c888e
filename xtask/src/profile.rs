//! `cargo xtask profile`: records the profile by which the shipped build is optimised, from gnomon under load.
//!
//! The profile says which branches are taken and which functions are called together when a portal and the inline proxy are busy
//! (profile-guided optimisation, doc.rust-lang.org/rustc/profile-guided-optimization.html). It is committed, so that building a package
//! needs neither the load nor LLVM's tools, and two builds of the same sources are identical. It is valid for the compiler it was recorded
//! with; another compiler builds without it and says so. A function that changed since is compiled without a profile.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::bench::build_bench;
use crate::{cargo, root, run, target_dir};

/// The profile, below `deploy`.
const PROFILE: &str = "profile/gnomon.profdata";
/// The output of `rustc -vV` when it was recorded.
const COMPILER: &str = "profile/compiler";

/// Options of the profile; there are none.
#[derive(Args)]
pub struct Profile {}

impl Profile {
    /// Builds an instrumented gnomon, puts it under load, and stores the profile.
    ///
    /// # Errors
    /// Something does not build or start, or LLVM's tools are missing or older than the compiler.
    pub fn run(self) -> Result<ExitCode> {
        let compiler = Compiler::ask()?;
        let merge = compiler.llvm_profdata()?;
        let home = target_dir()?.join("profile");
        let counts = home.join("counts");
        let _ = fs::remove_dir_all(&counts);
        fs::create_dir_all(&counts)?;
        let gnomon = build(&compiler, &home, &[format!("-Cprofile-generate={}", counts.display())])?;
        let programs = build_bench()?;
        for (bench, flags) in LOADS {
            // The bench's limits are those of a build without instrumentation.
            let mut load = Command::new(programs.join(bench));
            load.arg("--gnomon").arg(&gnomon).args(flags.split(' ')).status().with_context(|| format!("starting the bench {bench}"))?;
        }
        let counted: Vec<PathBuf> = fs::read_dir(&counts)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        ensure!(!counted.is_empty(), "nothing was counted in {}: gnomon did not end by itself", counts.display());
        let profile = root()?.join("deploy").join(PROFILE);
        fs::create_dir_all(profile.parent().context("no folder")?)?;
        run(Command::new(merge).args(["merge", "--sparse", "-o"]).arg(&profile).args(&counted))?;
        fs::write(root()?.join("deploy").join(COMPILER), &compiler.says)?;
        println!("{}: {} bytes", profile.display(), fs::metadata(&profile)?.len());
        Ok(ExitCode::SUCCESS)
    }
}

/// The load: benches and their flags.
const LOADS: [(&str, &str); 2] = [("portal", "--only gnomon --rounds 6 --secs 2"), ("intercept", "--only gnomon --rounds 1 --secs 2")];

/// Builds the product as packages ship it, below `home`. Returns its path.
///
/// # Errors
/// It does not build.
pub fn build_to_ship(home: &Path) -> Result<PathBuf> {
    let compiler = Compiler::ask()?;
    let profile = root()?.join("deploy").join(PROFILE);
    let made_with = fs::read_to_string(root()?.join("deploy").join(COMPILER)).unwrap_or_default();
    if made_with != compiler.says {
        let made_with = made_with.lines().next().unwrap_or("nothing");
        println!("built without deploy/{PROFILE}, which is of {made_with} and not of this compiler: calls take more CPU time");
        return build(&compiler, home, &[]);
    }
    // Cargo compares flags, not the files they name, so the file name contains the profile's hash.
    let counted = fs::read(&profile).with_context(|| format!("reading {}", profile.display()))?;
    let mut hasher = DefaultHasher::new();
    counted.hash(&mut hasher);
    let named = home.join("profile").join(format!("{:016x}.profdata", hasher.finish()));
    put(&named, &counted)?;
    // No warning for functions that changed since.
    build(&compiler, home, &[format!("-Cprofile-use={}", named.display()), "-Cllvm-args=-no-pgo-warn-mismatch".to_owned()])
}

/// Writes the file only if its content differs: the compiler counts it as an input, so a newer file would rebuild the whole program.
fn put(file: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(file).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    fs::create_dir_all(file.parent().context("a file has a folder")?)?;
    fs::write(file, bytes).with_context(|| format!("writing {}", file.display()))
}

/// Passes these flags for the target only, and not for build scripts: hence the explicit target triple.
fn build(compiler: &Compiler, home: &Path, flags: &[String]) -> Result<PathBuf> {
    let mut build = cargo();
    build.current_dir(root()?).args(["build", "--profile", "dist", "-p", "gnomon", "--target", compiler.host()?, "--target-dir"]);
    build.arg(home);
    let given = std::env::var("RUSTFLAGS").unwrap_or_default();
    let flags: Vec<&str> = given.split_whitespace().chain(flags.iter().map(String::as_str)).collect();
    // Paths may have spaces.
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    run(&mut build)?;
    Ok(home.join(compiler.host()?).join("dist/gnomon"))
}

/// The compiler in use.
struct Compiler {
    /// `rustc -vV`.
    says: String,
}

impl Compiler {
    fn ask() -> Result<Self> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc).arg("-vV").output().context("starting rustc")?;
        ensure!(output.status.success(), "rustc -vV ended with {}", output.status);
        Ok(Self { says: String::from_utf8(output.stdout)? })
    }

    fn value(&self, key: &str) -> Result<&str> {
        self.says.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).with_context(|| format!("rustc -vV names no {key}"))
    }

    fn host(&self) -> Result<&str> {
        self.value("host")
    }

    /// The `llvm-profdata` of the compiler's own LLVM.
    fn llvm_profdata(&self) -> Result<PathBuf> {
        let version = self.value("LLVM version")?;
        let major = version.split('.').next().unwrap_or(version);
        let places =
            [PathBuf::from(format!("/usr/lib/llvm-{major}/bin/llvm-profdata")), PathBuf::from(format!("/usr/bin/llvm-profdata-{major}"))];
        let next = format!("counts are merged by the tool of the compiler's own LLVM: `apt install llvm-{major}`");
        places.into_iter().find(|place| place.exists()).context(next)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_second_build_to_ship_finds_the_profile_as_the_first_left_it() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("profile/00.profdata");
        put(&copy, b"counted").unwrap();
        let written = fs::File::open(&copy).unwrap();
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
        written.set_modified(long_ago).unwrap();
        put(&copy, b"counted").unwrap();
        assert_eq!(fs::metadata(&copy).unwrap().modified().unwrap(), long_ago);
        put(&copy, b"counted again").unwrap();
        assert_eq!(fs::read(&copy).unwrap(), b"counted again");
        assert_ne!(fs::metadata(&copy).unwrap().modified().unwrap(), long_ago);
    }

    #[test]
    fn the_profile_names_the_compiler_that_it_is_of() {
        let made_with = Compiler { says: fs::read_to_string(root().unwrap().join("deploy").join(COMPILER)).unwrap() };
        assert!(!made_with.host().unwrap().is_empty());
        assert!(!made_with.value("LLVM version").unwrap().is_empty());
        assert!(root().unwrap().join("deploy").join(PROFILE).exists());
    }
}
