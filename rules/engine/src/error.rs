//! Why rules were refused: every error of every file, each with its place.

use std::fmt;
use thiserror::Error;

/// One error in one file. Displays as `file:line:column: cause; fix`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{file}:{line}:{column}: {message}")]
pub struct LoadError {
    /// The file as named by its [`Source`](crate::Source).
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What is wrong and how to put it right.
    pub message: String,
}

/// All errors of all files, in the order of files and lines. Displays one per line.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct LoadErrors(pub(crate) Vec<LoadError>);

impl LoadErrors {
    /// Each error; there is at least one.
    #[must_use]
    pub fn all(&self) -> &[LoadError] {
        &self.0
    }
}

impl fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}
