//! What people made of events. Events are never changed; a verdict is kept apart from its event.

use serde::{Deserialize, Serialize};

/// What an event was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictKind {
    /// No finding.
    Benign,
    /// A finding.
    Confirmed,
}

/// Somebody's word on an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The event's id.
    pub event: String,
    /// What it was found to be.
    pub kind: VerdictKind,
    /// Who says so.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// How long, as written.
    pub until: Option<String>,
    /// The exception that was written for it.
    pub file: Option<String>,
}
