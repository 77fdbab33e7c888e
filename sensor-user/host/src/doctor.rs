//! Checks of this host's fitness for gnomon, with remedies.
//!
//! Each [`Check`] says what was seen, and what to do next unless all is well. Features of the kernel
//! are not judged by its version: the sensor tries them and hands the outcome in
//! ([`Options::features`]), as are the answers that only bpf(2) can give. Nothing here changes the
//! host, uses the network or runs a program it finds; it takes two seconds at the very most, and a
//! few milliseconds on most hosts.

mod cgroups;
mod clock;
mod kernel;
mod ports;
mod process;
mod room;
mod runtimes;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use ports::is_listened_on;
pub use process::{CAPABILITIES, Capability, Need, missing_capabilities};

/// No file of `/proc` and `/sys` that is read for a single value is longer.
const MAX_VALUE: u64 = 64 << 10;

/// A check and its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its id in JSON and in scripts; stable.
    pub id: String,
    /// Its title, for people.
    pub title: &'static str,
    /// Its status.
    pub state: CheckStatus,
    /// The finding.
    pub seen: String,
    /// The remedy, unless all is well.
    pub next: Option<String>,
}

/// The status of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// Passed.
    Ok,
    /// Not applicable here, or not accessible.
    NotApplicable,
    /// gnomon works, but sees or does less.
    Warn,
    /// gnomon, or its kernel half, does not work.
    Fail,
}

/// A feature of the kernel, as the sensor found it by trying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// The sensor's name for it.
    pub name: String,
    /// The result of trying it.
    pub state: CheckStatus,
    /// The reason, and what is lost without it.
    pub reason: String,
}

/// A program that is attached to the cgroup where ours go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The hook: `connect4`, `egress` and so on.
    pub hook: String,
    /// Its name in the kernel; ours begin with `gn_`.
    pub name: String,
    /// Its number.
    pub id: u32,
    /// True if it lets no other program attach beside it.
    pub alone: bool,
    /// The folder of its cgroup, where that is one above.
    pub above: Option<String>,
}

/// A port that gnomon listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its purpose: `proxy`, `metrics`.
    pub name: &'static str,
    /// The address.
    pub address: SocketAddr,
}

/// A file or folder that gnomon writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Its purpose: `state`.
    pub name: &'static str,
    /// The path, which need not exist yet.
    pub path: PathBuf,
}

/// Input to the checks. The default is this host and nothing that others know of it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The features that the sensor found by trying; none if it was not asked.
    pub features: Vec<Feature>,
    /// The answer of bpf(2), or its error; `None` if it was not called.
    pub bpf: Option<Result<(), String>>,
    /// The programs attached to the cgroup below which connections are seen, and those above it that would stop running for it beside
    /// ours, or the reason that they are unknown; `None` if not asked for.
    pub attached: Option<Result<Vec<Attached>, String>>,
    /// Our authority's certificate, if there is one by now.
    pub authority: Option<PathBuf>,
    /// The addresses on which gnomon is configured to listen.
    pub ports: Vec<Port>,
    /// The process that serves with the state that is looked at, if one does.
    pub serving: Option<u32>,
    /// Where gnomon writes.
    pub rooms: Vec<Room>,
    /// The environment that programs get.
    pub environment: Vec<(OsString, OsString)>,
    /// The root of the host's files, but for `/proc` and `/sys`: `/`.
    pub root: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            features: Vec::new(),
            bpf: None,
            attached: None,
            authority: None,
            ports: Vec::new(),
            serving: None,
            rooms: Vec::new(),
            environment: std::env::vars_os().collect(),
            root: PathBuf::from("/"),
        }
    }
}

impl Options {
    fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_os_str())
    }

    /// The path below the root.
    fn below_root(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path.as_ref().strip_prefix("/").unwrap_or(path.as_ref()))
    }
}

/// Runs all checks, in the order in which people should read them.
pub fn examine(options: &Options) -> Vec<Check> {
    let mut checks = kernel::examine(options);
    checks.extend(options.features.iter().map(feature));
    checks.extend(cgroups::examine(options));
    checks.extend(process::examine(options));
    checks.extend(clock::examine());
    checks.extend(ports::examine(options));
    checks.extend(room::examine(options));
    checks.extend(runtimes::examine(options));
    checks
}

/// The worst of them; [`CheckStatus::NotApplicable`] counts as well.
pub fn worst(checks: &[Check]) -> CheckStatus {
    match checks.iter().map(|check| check.state).max() {
        None | Some(CheckStatus::NotApplicable) => CheckStatus::Ok,
        Some(state) => state,
    }
}

fn feature(feature: &Feature) -> Check {
    let next = (feature.state >= CheckStatus::Warn).then(|| "gnomon runs without it; docs/sensor.md says what is not seen then".to_owned());
    Check { id: format!("feature.{}", feature.name), title: "kernel feature", state: feature.state, seen: feature.reason.clone(), next }
}

impl Check {
    /// A check with this finding.
    pub fn new(id: impl Into<String>, title: &'static str, state: CheckStatus, seen: impl Into<String>) -> Self {
        Self { id: id.into(), title, state, seen: seen.into(), next: None }
    }

    /// One that passed.
    pub fn ok(id: impl Into<String>, title: &'static str, seen: impl Into<String>) -> Self {
        Self::new(id, title, CheckStatus::Ok, seen)
    }

    /// One that does not apply here, or could not be made.
    pub fn not_applicable(id: impl Into<String>, title: &'static str, seen: impl Into<String>) -> Self {
        Self::new(id, title, CheckStatus::NotApplicable, seen)
    }

    /// Adds the remedy.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// A file of one value, trimmed.
fn value(path: &str) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_VALUE).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}
