//! Why rules were refused: every error of every file, each with its place.

use crate::yaml::{Fault, Position};
use std::fmt;
use thiserror::Error;

/// After so many errors in one file the rest is left unsaid.
const MAX_ERRORS: usize = 100;

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
    /// The problem and its remedy.
    pub message: String,
}

/// All errors of all files (at most 100 of each), in the order of files. Displays one per line.
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

/// The errors of one file while it is read.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) file: &'a str,
    pub(crate) errors: Vec<LoadError>,
    /// Warnings: findings that do not keep a rule from loading.
    pub(crate) warnings: Vec<LoadError>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(file: &'a str) -> Self {
        Self { file, errors: Vec::new(), warnings: Vec::new() }
    }

    /// Notes an error; gives none, so that a reader can end with it.
    pub(crate) fn at<T>(&mut self, at: Position, message: impl Into<String>) -> Option<T> {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(LoadError { file: self.file.to_owned(), line: at.line, column: at.column, message: message.into() });
        }
        None
    }

    /// Notes advice on a rule.
    pub(crate) fn advise(&mut self, at: Position, message: impl Into<String>) {
        if self.warnings.len() < MAX_ERRORS {
            self.warnings.push(LoadError { file: self.file.to_owned(), line: at.line, column: at.column, message: message.into() });
        }
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.at::<()>(fault.at, fault.message);
    }
}

/// `; did you mean …?` with the nearest of the known words, else `; use one of …`.
pub(crate) fn hint(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!("; use one of: {}", known.join(", ")),
    }
}

/// The known word that is near enough to be meant.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    gnomon_kit::nearest(word, known.iter().copied(), 0.85)
}
