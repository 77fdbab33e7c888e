//! Shared by the tests of all crates: reporting that a test cannot run here, and looking for the programs that it needs.
//!
//! A skip is printed to standard error past the test harness, which hides the output of passing tests, and appended to the file that
//! `GNOMON_SKIPS` names, which `cargo xtask skips` checks against `tests/allowed-skips.toml`. That file also names the Debian package of
//! each program, for these messages, for the README and for CI.

pub mod foreign;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

const ALLOWED: &str = include_str!("../../allowed-skips.toml");

/// Reports that a test cannot run, where people and CI see it.
///
/// # Panics
/// The file that `GNOMON_SKIPS` names cannot be written: a skip that is not recorded would go unnoticed.
pub fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}\n");
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
    if let Some(file) = std::env::var_os("GNOMON_SKIPS") {
        let written = OpenOptions::new().append(true).create(true).open(&file).and_then(|mut file| file.write_all(line.as_bytes()));
        assert!(written.is_ok(), "{}: {written:?}", file.display());
    }
}

/// A loopback address on which nobody listens. Its port is outside of the range from which the kernel assigns ports, so no other test gets
/// it in between; each is returned once.
///
/// # Panics
/// All 20,000 were returned.
#[must_use]
pub fn free_port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(12_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < 32_000, "no port is left");
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

/// Whether all of these programs are installed; reports a skip if not, with the packages to install.
///
/// # Panics
/// A missing program is not in `tests/allowed-skips.toml`.
#[must_use]
pub fn has(test: &str, programs: &[&str]) -> bool {
    let mut missing = programs.iter().copied().filter(|program| find(program).is_none()).peekable();
    if missing.peek().is_none() {
        return true;
    }
    skip(test, &lacks(missing));
    false
}

fn lacks<'a>(missing: impl Iterator<Item = &'a str>) -> String {
    let (mut programs, mut packages) = (Vec::new(), Vec::new());
    for program in missing {
        let Some(package) = package(program) else { panic!("{program} is missing, and tests/allowed-skips.toml names no package of it") };
        programs.push(program);
        if !packages.contains(&package) {
            packages.push(package);
        }
    }
    format!("needs {}: apt-get install {}", programs.join(" and "), packages.join(" "))
}

/// The file of a program, given by name or path.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Server programs are in folders that are not on an ordinary user's PATH.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).chain(postgres());
    let executable = |file: &PathBuf| file.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    folders.map(|folder| folder.join(program)).find(executable)
}

/// The folders in which Debian has the programs of PostgreSQL, one for each version, the newest first.
fn postgres() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort_by_key(|bin| std::cmp::Reverse(bin.parent().and_then(|version| version.file_name()?.to_str()?.parse::<u32>().ok())));
    versions
}

/// The Debian package of a program, given by name or path.
#[must_use]
pub fn package(program: &str) -> Option<&'static str> {
    let program = program.rsplit('/').next().unwrap_or(program);
    programs().find(|(name, _)| *name == program).map(|(_, package)| package)
}

/// The programs that tests need, with their Debian packages.
pub fn programs() -> impl Iterator<Item = (&'static str, &'static str)> {
    let listed = ALLOWED.split_once("\n[programs]\n").map_or("", |(_, listed)| listed);
    let lines = listed.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    lines.map(|(program, package)| (program.trim_matches('"'), package.trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_the_package_to_install() {
        assert_eq!(
            lacks(["promtool", "prometheus", "ip"].into_iter()),
            "needs promtool and prometheus and ip: apt-get install prometheus iproute2"
        );
    }

    #[test]
    #[should_panic(expected = "names no package")]
    fn a_missing_program_without_a_known_package_is_a_failure_not_a_skip() {
        lacks(std::iter::once("no-such-program"));
    }

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        assert!(find("sh").is_some() && find("/bin/sh").is_some());
        assert!(find("no-such-program").is_none() && find("/etc/passwd").is_none() && find("/usr").is_none());
    }
}
