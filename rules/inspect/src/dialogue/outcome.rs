//! The outcome of an exchange so far: a report is made as soon as a call is judged, and the answer may go on long after.

use super::{Dialogue, call::same_id};
use gnomon_observe::{Field, Lookup};
use gnomon_wire::jsonrpc::{Id, Message};
use smol_str::{SmolStr, ToSmolStr};

/// The outcome of an exchange so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The HTTP status of the answer, once it has begun over HTTP.
    pub status: Option<i64>,
    /// Bytes of the request's body that were read.
    pub request_bytes: u64,
    /// Bytes of the answer's body that were read.
    pub response_bytes: u64,
    /// Why it failed, if it did: a word for `error.type`, and the detail.
    pub failure: Option<(SmolStr, SmolStr)>,
}

impl Outcome {
    /// True if no answer has begun and no failure is known.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.status.is_none() && self.failure.is_none()
    }
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

impl Pending {
    /// True if it is the call of this number.
    pub(crate) fn is_of(&self, call: u32) -> bool {
        self.call == call
    }

    fn take(&mut self, message: &Message) {
        let result = &message.result;
        self.answer = match (result.error_code, result.is_error) {
            (Some(code), _) => LateAnswer::Error(code.to_smolstr()),
            (None, Some(true)) => LateAnswer::Error(SmolStr::new_static("tool_error")),
            (None, Some(false) | None) => LateAnswer::Good,
        };
    }
}

/// The answer to a call that was reported before it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LateAnswer {
    /// No answer so far.
    Missing,
    /// A result.
    Good,
    /// An error: a word for `error.type`.
    Error(SmolStr),
}

/// The call that a late message answers, if it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// A call for whose answer no rule waited, reported already.
    AReportedCall,
    /// No call of this exchange.
    NothingKnown,
}

impl Dialogue {
    /// Keeps in mind that this call is reported without its answer; false where as many are already.
    pub(crate) fn await_answer(&mut self, call: u32, id: Option<Id>) -> bool {
        let room = self.pending.len() < MAX_PENDING;
        if room {
            self.pending.push(Pending { call, id, answer: LateAnswer::Missing });
        }
        room
    }

    /// Takes this message as the late answer to the call of that number, which was reported without it.
    pub(crate) fn answered_late(&mut self, call: u32, message: &Message) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.call == call) {
            pending.take(message);
        }
    }

    /// Takes a message that answers none of the calls that wait to be reported.
    pub(crate) fn take_late_answer(&mut self, message: &Message) -> Answers {
        match self.pending.iter_mut().find(|pending| same_id(pending.id.as_ref(), message.id.as_ref())) {
            Some(pending) => {
                pending.take(message);
                Answers::AReportedCall
            }
            None => Answers::NothingKnown,
        }
    }

    /// The late answer to the call of this number ([`crate::Sighting::call`]), if the call was reported before its answer came.
    #[must_use]
    pub fn late_answer(&self, call: u32) -> Option<&LateAnswer> {
        self.pending.iter().find(|pending| pending.call == call).map(|pending| &pending.answer)
    }

    /// The outcome so far.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let status = match self.base.get(Field::HttpStatus) {
            Lookup::Value(value) => value.as_int(),
            Lookup::Absent | Lookup::Unreadable => None,
        };
        Outcome { status, request_bytes: self.asked, response_bytes: self.answered, failure: self.failure.clone() }
    }

    /// True if calls wait for their answer, or to be reported.
    #[must_use]
    pub fn has_open_calls(&self) -> bool {
        !self.calls.is_empty()
    }
}
