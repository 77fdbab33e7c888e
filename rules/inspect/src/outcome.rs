//! What has come of an exchange, as far as it went: a report is made as soon as a call is judged, and
//! the answer may go on long after.

use crate::{Exchange, exchange::same_id};
use gnomon_observe::{Field, Lookup, Observation};
use gnomon_wire::jsonrpc::{Id, Message};
use smol_str::{SmolStr, ToSmolStr};

/// What has come of an exchange so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The HTTP status of the answer, once it has begun.
    pub status: Option<i64>,
    /// Bytes of the request's body that were read.
    pub request_bytes: u64,
    /// Bytes of the answer's body that were read.
    pub response_bytes: u64,
    /// Why it failed, if it did: a word for `error.type`, and the detail.
    pub failure: Option<(SmolStr, SmolStr)>,
}

/// Most calls of an exchange whose answers are awaited after their reports were made.
const MAX_PENDING: usize = 16;

/// A call that was reported before its answer came.
#[derive(Debug)]
pub(crate) struct Pending {
    call: u32,
    id: Option<Id>,
    answer: LateAnswer,
}

/// What has come of a call that was reported before its answer came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LateAnswer {
    /// Nothing.
    Missing,
    /// A result.
    Good,
    /// An error: a word for `error.type`.
    Error(SmolStr),
}

impl Exchange {
    /// Keeps in mind that this call is reported without its answer.
    pub(crate) fn await_answer(&mut self, call: u32, id: Option<Id>) {
        if self.pending.len() < MAX_PENDING {
            self.pending.push(Pending { call, id, answer: LateAnswer::Missing });
        }
    }

    /// A message that answers none of the calls that wait to be reported.
    pub(crate) fn take_late_answer(&mut self, message: &Message) {
        let Some(pending) = self.pending.iter_mut().find(|pending| same_id(pending.id.as_ref(), message.id.as_ref())) else { return };
        let result = &message.result;
        pending.answer = match (result.error_code, result.is_error) {
            (Some(code), _) => LateAnswer::Error(code.to_smolstr()),
            (None, Some(true)) => LateAnswer::Error(SmolStr::new_static("tool_error")),
            (None, Some(false) | None) => LateAnswer::Good,
        };
    }

    /// What has come of the call of this number ([`crate::Sighting::call`]), if it was reported before its answer
    /// came.
    #[must_use]
    pub fn late_answer(&self, call: u32) -> Option<&LateAnswer> {
        self.pending.iter().find(|pending| pending.call == call).map(|pending| &pending.answer)
    }

    /// What has come of it so far.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let status = match self.base.get(Field::HttpStatus) {
            Lookup::Value(value) => value.as_int(),
            Lookup::Absent | Lookup::Unreadable => None,
        };
        Outcome { status, request_bytes: self.body.bytes, response_bytes: self.response.bytes, failure: self.failure.clone() }
    }

    /// What holds of every message of it: its connection and its head.
    #[must_use]
    pub fn seen(&self) -> &Observation {
        &self.base
    }
}
