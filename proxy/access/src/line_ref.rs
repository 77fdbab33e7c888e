//! An entry of a policy, named for events and people.

use smol_str::SmolStr;
use std::{fmt, sync::Arc};

/// An entry of a policy, for events and people. Displays as `file:line:column`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineRef {
    /// The entry's index, from 0.
    pub index: u32,
    /// The file as it was named.
    pub file: Arc<str>,
    /// Its line, from 1.
    pub line: u64,
    /// Its column in characters, from 1.
    pub column: u64,
    /// The entry as one line of YAML, at most 240 characters.
    pub text: Arc<str>,
    /// Its `reason`: what the administrator wants people to be told.
    pub reason: Option<SmolStr>,
}

impl fmt::Display for LineRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
