//! Failures that a person can mend: what is wrong, what to do next, and the exit code that says
//! whose move it is.

use std::{io, path::Path, process::ExitCode};
use thiserror::Error;

/// The cause of a failure, as scripts see it. The numbers are documented in `docs/exit-codes.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// gnomon or the system it runs on failed: exit code 1.
    #[default]
    Own,
    /// The command was called wrongly: exit code 2, as clap has it.
    Usage,
    /// A file that was handed in (configuration, rules, recording) is bad: exit code 3.
    Input,
    /// `gnomon exec` did not come to start its program: exit code 125, as of env(1) and timeout(1).
    NotStarted,
    /// The program of `gnomon exec` cannot be executed: exit code 126, as of shells.
    NotExecutable,
    /// No such program: exit code 127, as of shells.
    NotFound,
}

impl From<Fault> for ExitCode {
    fn from(fault: Fault) -> Self {
        ExitCode::from(match fault {
            Fault::Own => 1,
            Fault::Usage => 2,
            Fault::Input => 3,
            Fault::NotStarted => 125,
            Fault::NotExecutable => 126,
            Fault::NotFound => 127,
        })
    }
}

/// A cause in one line, and the next step in another.
#[derive(Debug, Error)]
#[error("{cause}")]
pub struct Complaint {
    /// The kind of fault.
    pub fault: Fault,
    /// The cause. It may have several lines where several things are wrong.
    pub cause: String,
    /// The next step, where it is not plain from the cause.
    pub next: Option<String>,
}

impl Complaint {
    /// A file that was handed in is bad.
    pub fn input(cause: impl ToString) -> Self {
        Self { fault: Fault::Input, cause: cause.to_string(), next: None }
    }

    /// A file or folder that was named cannot be read. `next` is what to do where no command of root's would help.
    pub fn unreadable(what: impl std::fmt::Display, path: &Path, error: &io::Error, next: &str) -> Self {
        Self::input(format!("cannot read {what}: {error}")).next(gnomon_config::remedy(path, error).unwrap_or_else(|| next.to_owned()))
    }

    /// The command was called wrongly.
    pub fn usage(cause: impl ToString) -> Self {
        Self { fault: Fault::Usage, cause: cause.to_string(), next: None }
    }

    /// A failure of gnomon itself or of the system.
    pub fn own(cause: impl ToString) -> Self {
        Self { fault: Fault::Own, cause: cause.to_string(), next: None }
    }

    /// Adds the next step.
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next = Some(step.into());
        self
    }
}

/// A configuration is a file that was handed in.
impl From<gnomon_config::ConfigError> for Complaint {
    fn from(error: gnomon_config::ConfigError) -> Self {
        Self { fault: Fault::Input, cause: error.cause, next: error.next }
    }
}
