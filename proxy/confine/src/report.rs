//! The report of a start: one line of JSON on standard error, before the program can write anything.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    io::{self, Write as _},
};

/// The first line on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The program is executed next.
    Ready {
        /// The layers in force.
        layers: Vec<Layer>,
        /// The layers that are missing, and why.
        missing: Vec<Missing>,
    },
    /// The program is not executed.
    Refused(LaunchError),
}

/// A layer of confinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// A session and process group of its own.
    Session,
    /// A user of its own.
    User,
    /// No capabilities, nor a way to get any.
    Capabilities,
    /// `no_new_privs`.
    NoNewPrivileges,
    /// A control group: resource limits for all of its processes together.
    Group,
    /// Resource limits of each process.
    Limits,
    /// Access to files (Landlock).
    Files,
    /// System calls that it may not make, sockets among them (seccomp).
    Calls,
    /// Its signals and abstract sockets end at its own processes (Landlock, Linux 6.12).
    Scope,
    /// The end of its keeper is its own.
    Lifeline,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "session",
            Self::User => "user",
            Self::Capabilities => "capabilities",
            Self::NoNewPrivileges => "no_new_privs",
            Self::Group => "cgroup",
            Self::Limits => "limits",
            Self::Files => "files",
            Self::Calls => "system calls",
            Self::Scope => "signals",
            Self::Lifeline => "lifeline",
        })
    }
}

/// A layer that could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The missing layer.
    pub layer: Layer,
    /// The cause.
    pub why: String,
    /// Its importance to an operator.
    pub weight: Weight,
}

/// The importance of a missing layer to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// The host, or how gnomon is run there, could be better.
    Remarkable,
    /// Most hosts are like this.
    Ordinary,
}

/// An error that keeps a program from being executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{why}")]
pub struct LaunchError {
    /// The cause without paths, for readers who should learn nothing of this host.
    pub told: String,
    /// The cause, for the log.
    pub why: String,
}

impl LaunchError {
    /// An error; `told` is its cause in general terms.
    pub(crate) fn new(told: &str, why: impl fmt::Display) -> Self {
        Self { told: told.to_owned(), why: why.to_string() }
    }
}

impl Report {
    /// Reads a line.
    #[must_use]
    pub fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    /// Writes it to standard error.
    ///
    /// # Errors
    /// If standard error has no reader.
    pub fn write(&self) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        io::stderr().write_all(&line)
    }
}
