//! Which calls are open, and which of them a message of the server's answers.
//!
//! A call is open until it is reported. One that is reported before its answer comes is remembered, so that the record learns how it
//! ended: the first [`MAX_PENDING`] of an exchange.

use super::call::{Call, Waits, same_id};
use gnomon_wire::jsonrpc::{Id, Message};
use smol_str::{SmolStr, ToSmolStr};

/// Most calls of an exchange whose answers are awaited after their reports were made.
const MAX_PENDING: usize = 16;

/// The calls of a dialogue.
#[derive(Default)]
pub(super) struct Pairing {
    /// Calls that wait for their answers.
    pub calls: Vec<Call>,
    /// Those that were reported before their answers came.
    pending: Vec<Pending>,
    /// The pages of lists that are asked for: the request's id, and its cursor.
    pages: Vec<(Option<Id>, SmolStr)>,
}

/// Most pages of lists that one request asks for whose cursors are known.
const MAX_PAGES: usize = 64;

/// A call that was reported before its answer came.
#[derive(Debug)]
struct Pending {
    call: u32,
    id: Option<Id>,
    answer: LateAnswer,
}

impl Pending {
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
pub(super) enum Answers {
    /// A call for whose answer no rule waited, reported already.
    AReportedCall,
    /// No call of this exchange.
    NothingKnown,
}

impl Pairing {
    /// Notes the page that the request of this id asks for.
    pub fn asks_for_page(&mut self, id: Option<&Id>, cursor: &SmolStr) {
        if self.pages.len() < MAX_PAGES {
            self.pages.push((id.cloned(), cursor.clone()));
        }
    }

    /// The page that the request of this id asked for.
    pub fn page(&self, id: Option<&Id>) -> Option<SmolStr> {
        self.pages.iter().find(|(asked, _)| same_id(asked.as_ref(), id)).map(|(_, cursor)| cursor.clone())
    }

    /// Takes out the first open call of which this is true.
    pub fn take(&mut self, is: impl Fn(&Call) -> bool) -> Option<Call> {
        let index = self.calls.iter().position(is)?;
        Some(self.calls.remove(index))
    }

    /// The only open call, if there is one.
    pub fn only(&self) -> Option<&Call> {
        match &self.calls[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Takes out the only open call, if there is one and this is true of it.
    pub fn take_only(&mut self, is: impl Fn(&Call) -> bool) -> Option<Call> {
        self.only().filter(|only| is(only))?;
        self.calls.pop()
    }

    /// True if an interfering rule waits for the answer to a call.
    pub fn waits_for_answer(&self) -> bool {
        self.calls.iter().any(|call| call.waits == Waits::ForAnswer)
    }

    /// The calls, all of which are to be reported.
    pub fn take_all(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls)
    }

    /// Where more than `most` calls are open: the first that no rule waits with, else the first.
    pub fn take_excess(&mut self, most: usize) -> Option<Call> {
        let index = self.calls.iter().position(|call| call.waits == Waits::No).unwrap_or_default();
        (self.calls.len() > most).then(|| self.calls.remove(index))
    }

    /// Bytes of memory that the open calls take, about.
    pub fn bytes(&self) -> usize {
        self.calls.iter().map(|call| call.kept).sum()
    }

    /// Remembers that this call is reported without its answer; false where as many are already.
    pub fn await_answer(&mut self, call: u32, id: Option<Id>) -> bool {
        let room = self.pending.len() < MAX_PENDING;
        if room {
            self.pending.push(Pending { call, id, answer: LateAnswer::Missing });
        }
        room
    }

    /// Awaits the answer to that call no longer.
    pub fn awaits_no_more(&mut self, call: u32) {
        self.pending.retain(|pending| pending.call != call);
    }

    /// Takes this message as the late answer to the call of that number, which was reported without it.
    pub fn answered_late(&mut self, call: u32, message: &Message) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.call == call) {
            pending.take(message);
        }
    }

    /// Takes a message that answers none of the open calls.
    pub fn take_late_answer(&mut self, message: &Message) -> Answers {
        match self.pending.iter_mut().find(|pending| same_id(pending.id.as_ref(), message.id.as_ref())) {
            Some(pending) => {
                pending.take(message);
                Answers::AReportedCall
            }
            None => Answers::NothingKnown,
        }
    }

    /// The late answer to the call of this number.
    pub fn late_answer(&self, call: u32) -> Option<&LateAnswer> {
        self.pending.iter().find(|pending| pending.call == call).map(|pending| &pending.answer)
    }
}
