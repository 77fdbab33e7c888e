//! Why a policy was refused: every mistake with its place.

use crate::yaml::cause;
use serde_saphyr::{Error, Location};
use std::fmt;
use thiserror::Error as ThisError;

/// After so many mistakes the rest is left unsaid.
const MAX_PROBLEMS: usize = 100;

/// One mistake. Displays as `file:line:column: cause; fix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The column in characters, from 1.
    pub column: u64,
    /// The problem and its remedy.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// All mistakes of a policy or of an authentication block, at most 100. Displays one per line.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub struct PolicyError(pub(crate) Vec<Problem>);

impl PolicyError {
    /// All errors; there is at least one.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            let separator = if n > 0 { "\n" } else { "" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

/// Mistakes while they are found.
#[derive(Debug)]
pub(crate) struct Report<'f> {
    file: &'f str,
    problems: Vec<Problem>,
}

impl<'f> Report<'f> {
    pub(crate) fn new(file: &'f str) -> Self {
        Self { file, problems: Vec::new() }
    }

    /// Notes a mistake; gives none, so that a reader can end with it.
    pub(crate) fn at<T>(&mut self, place: Location, message: impl Into<String>) -> Option<T> {
        if self.problems.len() < MAX_PROBLEMS {
            let (line, column) = (place.line().max(1), place.column().max(1));
            self.problems.push(Problem { file: self.file.to_owned(), line, column, message: message.into() });
        }
        None
    }

    /// `found`, or the errors noted on the way.
    pub(crate) fn finish<T>(self, found: T) -> Result<T, PolicyError> {
        if self.problems.is_empty() { Ok(found) } else { Err(PolicyError(self.problems)) }
    }
}

/// A mistake that the YAML reader found.
pub(crate) fn unread(file: &str, error: &Error) -> PolicyError {
    let error = error.without_snippet();
    let mut report = Report::new(file);
    report.at::<()>(error.location().unwrap_or(Location::UNKNOWN), cause(error));
    PolicyError(report.problems)
}
