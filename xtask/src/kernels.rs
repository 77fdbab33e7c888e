//! `cargo xtask kernels`: tests everything that depends on the kernel on the kernels that people run, in emulated machines.
//!
//! Debian's cloud kernels are downloaded as packages and unpacked, never installed. Each boots with an initramfs of busybox, the test
//! programs `kernel` of gnomon-sensor and `group` of gnomon-confine, and their libraries. It does not test the rest of gnomon there, nor
//! other distributions' patches, nor other processors. The trade-off: plain emulation is slow (a test takes about ten times as long) but
//! needs neither KVM nor privileges, so it runs wherever CI does.

mod guest;
mod image;
mod package;
mod report;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{cargo, root, target_dir};
use report::Column;

/// A kernel under test, and the Debian suite that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its name for `--only`.
    name: &'static str,
    suite: &'static str,
}

/// The oldest supported kernel, the long-term kernels since, and the newest release. Release candidates, which Debian has in experimental,
/// are left out: their faults are not ours to find.
const KERNELS: [Kernel; 4] = [
    Kernel { name: "5.10", suite: "bullseye" },
    Kernel { name: "6.1", suite: "bookworm" },
    Kernel { name: "6.12", suite: "trixie" },
    Kernel { name: "newest", suite: "sid" },
];

/// The number of guests that run at the same time; each keeps one processor busy.
const AT_ONCE: usize = 2;

/// The programs that must be installed, with their Debian packages.
const NEEDED: [(&str, &str); 5] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("apt-get", "apt (the kernels are Debian's)"),
    ("dpkg", "dpkg"),
];

/// Options of the kernel matrix.
#[derive(Args)]
pub struct Kernels {
    /// Only these, comma-separated: 5.10, 6.1, 6.12, newest
    #[arg(long, value_delimiter = ',', value_parser = named)]
    only: Vec<Kernel>,
}

/// The kernel of this name.
///
/// # Errors
/// No kernel has this name; the error lists those that exist.
pub fn named(name: &str) -> Result<Kernel, String> {
    let all = || KERNELS.map(|kernel| kernel.name).join(", ");
    KERNELS.into_iter().find(|kernel| kernel.name == name).ok_or_else(|| format!("there are {}", all()))
}

impl Kernels {
    /// Downloads and boots the kernels, and prints the table. Fails when a test or a feature fails; exit code 2 says that a tool is
    /// missing.
    ///
    /// # Errors
    /// A kernel cannot be downloaded, or something does not build or start.
    pub fn run(self) -> Result<ExitCode> {
        if let Some(missing) = missing() {
            eprintln!("cargo xtask kernels needs {missing}");
            return Ok(ExitCode::from(2));
        }
        let kernels = if self.only.is_empty() { KERNELS.to_vec() } else { self.only };
        let home = target_dir()?.join("kernels");
        let sources = fetch(&kernels)?;
        let image = image::build(&home, &programs()?)?;
        let columns = boot_all(&kernels, &sources, &image, &home)?;
        print!("{}", report::table(&columns));
        Ok(if columns.iter().all(Column::passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The files of the kernels, downloaded unless an earlier run did so.
///
/// # Errors
/// The mirror has no such kernel.
pub fn fetch(kernels: &[Kernel]) -> Result<Vec<PathBuf>> {
    let home = target_dir()?.join("kernels");
    kernels.iter().map(|kernel| package::fetch(&home, *kernel)).collect()
}

/// The missing programs in one line; `None` if all are installed.
fn missing() -> Option<String> {
    if std::env::consts::ARCH != "x86_64" {
        return Some("an x86-64 machine: the guests run its programs".into());
    }
    let found = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    let packages: Vec<&str> = NEEDED.iter().filter(|(program, _)| !found(program)).map(|(_, package)| *package).collect();
    (!packages.is_empty()).then(|| format!("these packages: {}", packages.join(" ")))
}

/// The programs that run in the guests.
struct Programs {
    /// The sensor's tests.
    sensor: PathBuf,
    /// The tests of control groups.
    groups: PathBuf,
    /// Prints which features the kernel has.
    features: PathBuf,
}

fn programs() -> Result<Programs> {
    let target = target_dir()?;
    let build = |what: &[&str]| {
        let mut cargo = cargo();
        cargo.current_dir(root()?).args(what).args(["--message-format=json", "--target-dir"]).arg(&target);
        let built = cargo.stderr(Stdio::inherit()).output().context("starting cargo")?;
        if !built.status.success() {
            bail!("what the guests run does not build");
        }
        String::from_utf8(built.stdout).context("what cargo says")
    };
    let messages = build(&["test", "--release", "--test", "kernel", "--test", "group", "--no-run"])?;
    // `cargo test` would build it as a test.
    build(&["build", "--release", "--example", "features"])?;
    let built = |begin: &str| {
        let mut built = messages.lines().filter_map(executable).map(PathBuf::from);
        built.find(|path| named_like(path, begin)).with_context(|| format!("cargo built no test program {begin}*"))
    };
    Ok(Programs { sensor: built("kernel-")?, groups: built("group-")?, features: target.join("release/examples/features") })
}

fn named_like(path: &Path, begin: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(begin))
}

/// The program that a message of cargo names. Paths that contain quotes are not supported.
fn executable(message: &str) -> Option<&str> {
    message.split_once(r#""executable":""#)?.1.split('"').next()
}

/// Boots all kernels, some at the same time. The results are in the order of `kernels`.
fn boot_all(kernels: &[Kernel], sources: &[PathBuf], image: &Path, home: &Path) -> Result<Vec<Column>> {
    let started = Instant::now();
    let waiting = Mutex::new(kernels.iter().zip(sources).enumerate());
    let next = || waiting.lock().ok()?.next();
    let work = || {
        let mut done = Vec::new();
        while let Some((place, (kernel, source))) = next() {
            let ending = guest::run(source, image, &home.join(format!("{}.log", kernel.name)))?;
            eprintln!("{}: {} ({} s)", kernel.name, ending.in_a_word(), started.elapsed().as_secs());
            done.push((place, Column { name: kernel.name, ending }));
        }
        Ok::<_, anyhow::Error>(done)
    };
    let mut columns = Vec::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            columns.extend(worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??);
        }
        Ok::<_, anyhow::Error>(())
    })?;
    columns.sort_by_key(|(place, _)| *place);
    Ok(columns.into_iter().map(|(_, column)| column).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_program_is_found_among_the_messages_of_cargo() {
        assert_eq!(
            executable(r#"{"reason":"compiler-artifact","executable":"/t/deps/kernel-0a","fresh":true}"#),
            Some("/t/deps/kernel-0a")
        );
        assert_eq!(executable(r#"{"reason":"compiler-artifact","executable":null}"#), None);
    }

    #[test]
    fn kernels_are_known_by_name_only() {
        assert_eq!(named("6.1").map(|kernel| kernel.suite), Ok("bookworm"));
        assert_eq!(named("6").map_err(|why| why.contains("6.12")), Err(true));
    }
}
