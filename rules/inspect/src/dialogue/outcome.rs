//! The outcome of an exchange so far: a report is made as soon as a call is judged, and the answer may go on long after.

use super::{Dialogue, LateAnswer};
use gnomon_observe::{Field, Lookup, Observation};
use smol_str::SmolStr;

/// The outcome of an exchange so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExchangeOutcome {
    /// The HTTP status of the answer, once it has begun over HTTP.
    pub status: Option<i64>,
    /// Bytes of the request's body that were read.
    pub request_bytes: u64,
    /// Bytes of the answer's body that were read.
    pub response_bytes: u64,
    /// Why it failed, if it did: a word for `error.type`, and the detail.
    pub failure: Option<(SmolStr, SmolStr)>,
}

impl ExchangeOutcome {
    /// True if no answer has begun and no failure is known.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.status.is_none() && self.failure.is_none()
    }
}

/// How much was read, and why it broke off.
#[derive(Default)]
pub(super) struct Traffic {
    /// Bytes of the request.
    pub asked: u64,
    /// Bytes of the answer.
    pub answered: u64,
    /// Why no answer came or none was finished, with the detail.
    pub failure: Option<(SmolStr, SmolStr)>,
}

impl Traffic {
    /// Notes the sizes so far.
    pub fn describe(&self, seen: &mut Observation) {
        seen.set(Field::RequestSize, self.asked);
        if self.answered > 0 {
            seen.set(Field::ResponseSize, self.answered);
        }
    }
}

impl Dialogue {
    /// The late answer to the call of this number ([`crate::Sighting::call`]), if the call was reported before its answer came.
    #[must_use]
    pub fn late_answer(&self, call: u32) -> Option<&LateAnswer> {
        self.pairing.late_answer(call)
    }

    /// The outcome so far.
    #[must_use]
    pub fn outcome(&self) -> ExchangeOutcome {
        let status = match self.basis.seen.get(Field::HttpStatus) {
            Lookup::Value(value) => value.as_int(),
            Lookup::Absent | Lookup::Unreadable => None,
        };
        let Traffic { asked, answered, failure } = &self.traffic;
        ExchangeOutcome { status, request_bytes: *asked, response_bytes: *answered, failure: failure.clone() }
    }

    /// True if calls wait for their answer, or to be reported.
    #[must_use]
    pub fn has_open_calls(&self) -> bool {
        !self.pairing.calls.is_empty()
    }
}
