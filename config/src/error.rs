//! Errors in a configuration or in what it refers to, for the person who has to mend it.

use std::{io, path::Path, sync::OnceLock};
use thiserror::Error;

/// An error in the configuration.
#[derive(Debug, Error)]
#[error("{cause}")]
pub struct ConfigError {
    /// Several lines where several things are wrong.
    pub cause: String,
    /// The remedy, where that is not plain from the cause.
    pub next: Option<String>,
}

impl ConfigError {
    pub(crate) fn new(cause: impl ToString) -> Self {
        Self { cause: cause.to_string(), next: None }
    }

    pub(crate) fn next(mut self, step: impl Into<String>) -> Self {
        self.next = Some(step.into());
        self
    }
}

/// The command that would let this process read a file that it may not. None where rights are not what is missing.
pub type Remedy = fn(&Path, &io::Error) -> Option<String>;

/// Set once for the process, as it depends on the user that the process became.
static REMEDY: OnceLock<Remedy> = OnceLock::new();

/// Sets the remedy that errors about unreadable files name from now on. Only the first call counts.
pub fn remedies_from(remedy: Remedy) {
    let _ = REMEDY.set(remedy);
}

/// The next step for a file that cannot be read, from the function that [`remedies_from`] was given; none without one, or where permissions
/// are not the cause.
pub fn remedy(path: &Path, error: &io::Error) -> Option<String> {
    REMEDY.get().and_then(|remedy| remedy(path, error))
}
