//! `cargo xtask ebpf`: builds the kernel half's object reproducibly, or checks that the committed one is current.
//!
//! The object is committed, so that nobody needs this toolchain to build or test the product. It is built by the stable compiler named in
//! `sensor-ebpf/toolchain`, with paths remapped, so that two machines get the same bytes. The check compares hashes first, and needs the
//! toolchain only if they differ.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::debian::{Suite, output};
use crate::{cargo, root, run, target_dir};

/// The object, below `sensor-ebpf`.
const OBJECT: &str = "object/gnomon.bpf.o";
const OBJECT_HASH: &str = "object/gnomon.bpf.o.sha256";
/// The hash of each source, as `sha256sum` writes it.
const SOURCES_HASH: &str = "object/sources.sha256";
const TARGET: &str = "bpfel-unknown-none";
/// The Debian suites that may have the sources of the standard library, the likeliest first.
const SUITES: [&str; 5] = ["trixie-backports", "forky", "sid", "experimental", "trixie"];
const REPAIR: &str = "run `cargo xtask ebpf` and commit sensor-ebpf/object";

/// Options of the object's build.
#[derive(Args)]
pub struct Ebpf {
    /// Change nothing; fail when the committed object is not what the sources give
    #[arg(long)]
    check: bool,
    /// Build in two different directories and fail when the objects differ
    #[arg(long, conflicts_with = "check")]
    twice: bool,
}

impl Ebpf {
    /// Builds or checks.
    ///
    /// # Errors
    /// When the toolchain cannot be prepared, the build fails, or the object is out of date.
    pub fn run(self) -> Result<ExitCode> {
        let home = root()?.join("sensor-ebpf");
        if self.check {
            return check(&home);
        }
        let toolchain = Toolchain::prepare(&home)?;
        let built = toolchain.build(&home, &target_dir()?.join("ebpf"))?;
        if self.twice {
            let copy = target_dir()?.join("ebpf-twice/a-copy-of-the-sources");
            copy_sources(&home, &copy)?;
            let second = toolchain.build(&copy, &target_dir()?.join("ebpf-twice/target"))?;
            ensure!(fs::read(&built)? == fs::read(&second)?, "{} and {} differ", built.display(), second.display());
            println!("the same in two directories");
        }
        fs::copy(&built, home.join(OBJECT)).with_context(|| format!("copying {}", built.display()))?;
        fs::write(home.join(OBJECT_HASH), sha256(&home, &[OBJECT.into()])?)?;
        fs::write(home.join(SOURCES_HASH), sha256(&home, &sources(&home)?)?)?;
        println!("sensor-ebpf/{OBJECT}: {} bytes", fs::metadata(home.join(OBJECT))?.len());
        Ok(ExitCode::SUCCESS)
    }
}

/// Checks that the committed object was built from the sources.
fn check(home: &Path) -> Result<ExitCode> {
    let object = sha256(home, &[OBJECT.into()]).with_context(|| REPAIR)?;
    ensure!(read(&home.join(OBJECT_HASH))? == object, "sensor-ebpf/{OBJECT} is not the one that was hashed; {REPAIR}");
    let sources = sha256(home, &sources(home)?)?;
    if read(&home.join(SOURCES_HASH))? == sources {
        println!("sensor-ebpf/{OBJECT} belongs to its sources");
        return Ok(ExitCode::SUCCESS);
    }
    println!("the sources of sensor-ebpf changed: rebuilding to compare");
    let built = Toolchain::prepare(home)?.build(home, &target_dir()?.join("ebpf"))?;
    let same = fs::read(&built)? == fs::read(home.join(OBJECT))?;
    bail!("sensor-ebpf/{OBJECT} {}; {REPAIR}", if same { "is current, but the hashes of the sources are not" } else { "is out of date" })
}

/// The sources, relative to `home`, in order.
fn sources(home: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = ["Cargo.toml", "Cargo.lock", "toolchain", "abi/Cargo.toml"].map(PathBuf::from).to_vec();
    for folder in ["src", "abi/src"] {
        for entry in fs::read_dir(home.join(folder)).with_context(|| format!("reading {folder}"))? {
            found.push(Path::new(folder).join(entry?.file_name()));
        }
    }
    found.sort();
    Ok(found)
}

/// The lines that `sha256sum` prints for these files below `home`.
fn sha256(home: &Path, files: &[PathBuf]) -> Result<String> {
    output(Command::new("sha256sum").current_dir(home).arg("--").args(files))
}

/// Copies the sources to another folder, to build them there.
fn copy_sources(home: &Path, to: &Path) -> Result<()> {
    for source in sources(home)? {
        let into = to.join(&source);
        fs::create_dir_all(into.parent().context("a source without folder")?)?;
        fs::copy(home.join(&source), into).with_context(|| format!("copying {}", source.display()))?;
    }
    Ok(())
}

/// The toolchain that builds the object.
struct Toolchain {
    /// The compiler's folder, with the standard library's sources in it.
    sysroot: PathBuf,
    /// The folder of bpf-linker.
    bin: PathBuf,
}

impl Toolchain {
    /// Locates the toolchain, and downloads what is missing.
    fn prepare(home: &Path) -> Result<Self> {
        let pins = read(&home.join("toolchain"))?;
        let (rust, linker) = (pin(&pins, "rust")?, pin(&pins, "bpf-linker")?);
        let place = target_dir()?.join("ebpf-toolchain");
        fs::create_dir_all(&place)?;
        let version = output(Command::new("rustc").arg("--version"))?;
        ensure!(version.starts_with(&format!("rustc {rust} ")), "the object is built with rustc {rust}; this is {version}");
        let sysroot = PathBuf::from(output(Command::new("rustc").args(["--print", "sysroot"]))?.trim());
        library_sources(&sysroot, &place, rust)?;
        bpf_linker(&place, linker)?;
        Ok(Self { sysroot, bin: place.join("bin") })
    }

    /// Builds the sources at `home` below `target`, and strips what a loader does not need.
    fn build(&self, home: &Path, target: &Path) -> Result<PathBuf> {
        let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")));
        let cargo_home = cargo_home.context("neither CARGO_HOME nor a home directory")?;
        let library = self.sysroot.join("lib/rustlib/src/rust");
        let mut flags = vec!["-Cdebuginfo=2".into(), "-Clink-arg=--btf".into()];
        for (from, to) in [(home, "/src"), (&*cargo_home, "/cargo"), (&*library, "/rust-src"), (target, "/target")] {
            flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        }
        // rustc looks the linker up by name.
        let path = std::env::join_paths(
            std::iter::once(self.bin.clone()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
        )?;
        let mut build = cargo();
        build.current_dir(home).args(["build", "--release", "--locked", "--bin", "gnomon-bpf", "-Zbuild-std=core", "--target", TARGET]);
        build.arg("--target-dir").arg(target).env("PATH", path).env_remove("RUSTFLAGS");
        // RUSTC_BOOTSTRAP allows a target without a precompiled core; the pinned compiler keeps its behaviour from changing.
        build.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        run(&mut build)?;
        let stripped = target.join("gnomon.bpf.o");
        let tools = self.sysroot.join("lib/rustlib").join(host()?).join("bin/rust-objcopy");
        let mut strip = Command::new(tools);
        strip.arg("--strip-debug").arg(target.join(TARGET).join("release/gnomon-bpf")).arg(&stripped);
        run(strip.env("LD_LIBRARY_PATH", self.sysroot.join("lib")))?;
        Ok(stripped)
    }
}

/// The target triple of the building machine.
fn host() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// Installs bpf-linker below `place`, unless it is there.
fn bpf_linker(place: &Path, version: &str) -> Result<()> {
    let installed = output(Command::new(place.join("bin/bpf-linker")).arg("--version")).unwrap_or_default();
    if installed.trim() == format!("bpf-linker {version}") {
        return Ok(());
    }
    println!("installing bpf-linker {version}: some minutes, once");
    run(cargo().args(["install", "bpf-linker", "--version", version, "--locked", "--quiet", "--root"]).arg(place))
}

/// Makes the standard library's sources available where cargo looks for them: by rustup, otherwise from a Debian package of the same
/// version.
fn library_sources(sysroot: &Path, place: &Path, version: &str) -> Result<()> {
    let wanted = sysroot.join("lib/rustlib/src/rust");
    if wanted.join("library/Cargo.lock").exists() {
        return Ok(());
    }
    let rustup = Command::new("rustup").args(["component", "add", "rust-src"]).stderr(Stdio::null()).status();
    if rustup.is_ok_and(|status| status.success()) && wanted.join("library/Cargo.lock").exists() {
        return Ok(());
    }
    println!("rustup has no rust-src: looking for Debian's");
    let unpacked = place.join(format!("rust-src-{version}"));
    debian_sources(place, version, &unpacked)?;
    fs::create_dir_all(wanted.parent().context("no folder for the sources")?)?;
    // A link of an earlier run may be left whose files are gone.
    let _ = fs::remove_file(&wanted);
    std::os::unix::fs::symlink(unpacked.join(format!("usr/src/rustc-{version}")), &wanted)
        .with_context(|| format!("linking {}", wanted.display()))?;
    ensure!(wanted.join("library/Cargo.lock").exists(), "{} has no library", unpacked.display());
    Ok(())
}

/// Unpacks the package `rust-src` of this version from whichever suite has it.
fn debian_sources(place: &Path, version: &str, into: &Path) -> Result<()> {
    for name in SUITES {
        let Ok(suite) = Suite::open(&place.join(format!("apt-{name}")), name) else { continue };
        if let Some(found) = suite.version("rust-src", &format!("{version}+"))? {
            return suite.unpack(&format!("rust-src={found}"), into);
        }
    }
    bail!("no Debian suite has rust-src {version}; `rustup component add rust-src` would do, too")
}

/// The value of `name = value` in a file of pins.
fn pin<'a>(pins: &'a str, name: &str) -> Result<&'a str> {
    let lines = pins.lines().filter_map(|line| line.split_once('='));
    let mut found = lines.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim());
    found.next().with_context(|| format!("sensor-ebpf/toolchain has no {name}"))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("reading {}; {REPAIR}", file.display()))
}
