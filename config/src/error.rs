//! What is wrong with a configuration or with what it refers to, for whoever has to mend it.

use std::{io, path::Path, sync::OnceLock};
use thiserror::Error;

/// What is wrong.
#[derive(Debug, Error)]
#[error("{cause}")]
pub struct ConfigError {
    /// Several lines where several things are wrong.
    pub cause: String,
    /// What to do about it, where that is not plain from the cause.
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

/// Whom a process became is a matter of the whole process, and so is what it needs because of that.
static REMEDY: OnceLock<Remedy> = OnceLock::new();

/// Errors about files that cannot be read name what this says, from now on. The first word stands.
pub fn remedies_from(remedy: Remedy) {
    let _ = REMEDY.set(remedy);
}

/// What whoever set up [`remedies_from`] would do about a file that cannot be read; none where nobody did, or rights are not what is missing.
pub fn remedy(path: &Path, error: &io::Error) -> Option<String> {
    REMEDY.get().and_then(|remedy| remedy(path, error))
}
