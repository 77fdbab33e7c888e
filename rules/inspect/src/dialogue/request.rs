//! The messages of a request: each is judged before it may leave, and so is what cannot be read.

use super::{
    Dialogue, Target,
    answer::unread_answer,
    call::{Call, Heard, Subject, Waits, describe, describe_malformed, set_signatures, without_body},
    verdicts::MAX_TARGETS,
    within,
};
use crate::{Passage, shadow::interfering};
use gnomon_observe::{Observation, Phase};
use gnomon_wire::{
    jsonrpc::{Message, MessageKind, Version},
    mcp::{self, Signature},
};

/// Most messages of one body that are judged one by one: no server that batches is sent more, and each costs
/// more than the few bytes that it may have. Past it a body counts as unreadable; its messages are only counted.
pub const MAX_MESSAGES: u32 = 4096;

/// The number of messages, against the most that are judged.
#[derive(Default)]
pub(super) struct MessageCount {
    judged: u32,
    overflow: Overflow,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Overflow {
    #[default]
    No,
    /// More, and that was not decided on yet.
    Due,
    Decided,
}

impl MessageCount {
    /// True if one more is judged.
    fn admits(&mut self) -> bool {
        let admits = self.judged < MAX_MESSAGES;
        self.judged += u32::from(admits);
        admits
    }

    /// There is one more than is judged.
    fn overflows(&mut self) {
        if self.overflow == Overflow::No {
            self.overflow = Overflow::Due;
        }
    }

    /// True, once, if that there are more is to be decided on.
    fn decides(&mut self) -> bool {
        let due = self.overflow == Overflow::Due;
        if due {
            self.overflow = Overflow::Decided;
        }
        due
    }
}

impl Dialogue {
    /// Judges one message of the request. `contradicts` notes a disagreement between it and what surrounds it.
    pub(crate) fn take_message(&mut self, message: &Message, contradicts: impl FnOnce(&mut Observation)) {
        if self.count.admits() {
            self.judge_message(message, contradicts);
            return;
        }
        // Long arrays of other APIs' objects are none of our business.
        if message.jsonrpc == Version::Absent && !message.method.as_deref().is_some_and(mcp::is_mcp_method) {
            return;
        }
        self.count.overflows();
        self.count_unjudged(message);
    }

    pub(crate) fn judge_message(&mut self, message: &Message, contradicts: impl FnOnce(&mut Observation)) {
        self.verdicts.is_shaped(message.shape);
        let (mut seen, mut findings) = self.basis.begin();
        describe(&mut seen, &mut findings, message);
        within::add(&mut seen, message, &self.basis.rules.wanted().arguments);
        if self.basis.rules.wanted().meaning {
            gnomon_meaning::describe(&mut seen, &message.arguments);
        }
        contradicts(&mut seen);
        set_signatures(&mut seen, &findings);
        let (id, method) = (message.id.clone(), message.method.clone());
        if let Some(cursor) = &message.cursor {
            self.pairing.asks_for_page(id.as_ref(), cursor);
        }
        self.judge_call(Heard { seen, findings, subject: Subject::Message(message.kind), id, method });
    }

    /// Decides, once for everything read together, on a request with more messages than are judged.
    pub(crate) fn settle_overflow(&mut self) {
        if self.count.decides() {
            self.judge_unreadable("too_many_messages");
        }
    }

    /// Judges a body that is meant as JSON-RPC and cannot be read unambiguously: all of its fields are unreadable.
    pub(crate) fn judge_unreadable(&mut self, reason: &'static str) {
        let (mut seen, mut findings) = self.basis.begin();
        describe_malformed(&mut seen, &mut findings, reason);
        set_signatures(&mut seen, &findings);
        self.verdicts.is_unreadable();
        self.judge_call(Heard { seen, findings, subject: Subject::Malformed, id: None, method: None });
    }

    /// True if neither a message nor the exchange as such was judged yet.
    pub(crate) fn nothing_judged(&self) -> bool {
        self.pairing.calls.is_empty() && self.verdicts.targets().is_empty() && self.reports.are_none()
    }

    /// Judges the exchange as such, as there was no message.
    pub(crate) fn judge_exchange(&mut self) {
        let (mut seen, mut findings) = self.basis.begin();
        findings.signatures = without_body(findings.signatures);
        set_signatures(&mut seen, &findings);
        self.judge_call(Heard { seen, findings, subject: Subject::Exchange, id: None, method: None });
    }

    /// Judges the exchange as such anew, now that it is known to show this signature.
    pub(crate) fn judge_exchange_again(&mut self, signature: Signature) {
        self.basis.shows(signature);
        self.pairing.calls.retain(|call| call.subject != Subject::Exchange);
        self.judge_exchange();
    }

    /// Judges the exchange as such anew, now that it is known to pass by this passage if it passes.
    pub(crate) fn judge_exchange_as(&mut self, passage: Passage) {
        self.basis.passes_as(passage);
        self.pairing.calls.retain(|call| call.subject != Subject::Exchange);
        self.judge_exchange();
    }

    fn judge_call(&mut self, heard: Heard) {
        let Heard { mut seen, findings, subject, id, method } = heard;
        let mut progress = self.basis.progress.clone();
        let answer = self.basis.judge_request(subject, &findings, &mut seen, &mut progress);
        let (mut waits, action, deciding) = self.verdicts.take(answer);
        let (stands, _) = self.basis.as_it_stands((action, deciding), &progress);
        self.verdicts.lets_pass(stands);
        if waits == Waits::No && !self.is_refused() && self.waits_for_others(subject, &findings) {
            waits = Waits::ForAnswer;
        }
        let kind = match subject {
            Subject::Message(kind) => kind,
            Subject::Exchange | Subject::Malformed => MessageKind::Other,
        };
        self.verdicts.concerns(|| Target { id: id.clone(), method: method.clone(), kind });
        let kept = size_of::<Call>() + seen.bytes();
        self.pairing.calls.push(Call { seen, progress, findings, subject, id, method, waits, action, deciding, early: None, kept });
        self.bound_calls();
        self.verdicts.forget_those_gone();
    }

    /// An answer is awaited for so many calls and no more. The first that no rule waits with are reported as they are; where
    /// rules wait with all of them, the answers could not all be judged, and what cannot be judged is decided now.
    fn bound_calls(&mut self) {
        // While nothing has left, a call further on may still have all of them refused.
        let most = if self.withholds() { MAX_TARGETS } else { self.bounds().max_open_calls };
        if let Some(call) = self.pairing.take_excess(most) {
            self.gives_up(call);
        }
    }

    /// There is no room for the calls whose answers are awaited: they are told as they are, and their answers are not known.
    pub(crate) fn gives_calls_up(&mut self) {
        for call in self.pairing.take_all() {
            self.gives_up(call);
        }
    }

    fn gives_up(&mut self, mut call: Call) {
        if call.waits == Waits::ForAnswer {
            unread_answer(&mut call.seen);
            if let Some(verdict) = interfering(self.judge(&call.seen, Phase::Response, &mut call.progress)) {
                self.refuse_by(verdict);
            }
        }
        if let Some(verdict) = self.refused() {
            (call.action, call.deciding) = (verdict.action, verdict.rule);
        }
        self.report(call, None);
    }
}
