//! Verdicts of people on events. Events are never changed; a verdict is kept apart from its event.

use serde::{Deserialize, Serialize};

/// The verdict on an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictKind {
    /// No finding.
    Benign,
    /// A finding.
    Confirmed,
}

/// A person's verdict on an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The event's id.
    pub event: String,
    /// The verdict.
    pub kind: VerdictKind,
    /// Its author.
    pub owner: String,
    /// The reason.
    pub reason: String,
    /// The day of its end, as written.
    pub until: Option<String>,
    /// The exception that was written for it.
    pub file: Option<String>,
}
