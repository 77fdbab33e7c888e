//! The messages of a request: each is judged before it may leave, and so is what cannot be read.

use super::{
    Ahead, Dialogue, Form, Held, Refused, Target,
    answer::unread_answer,
    call::{Call, Heard, Subject, Waits, describe, describe_malformed, note, set_signatures, without_body},
};
use crate::{
    passage::{Asked, Signs},
    shadow::interfering,
};
use gnomon_engine::{Answer, Verdict};
use gnomon_observe::{Action, Field, Observation, Phase};
use gnomon_wire::{
    jsonrpc::{Message, MessageKind, Shape, Version},
    mcp::{self, Signature},
};

/// Most messages of one body that are judged one by one: no server that batches is sent more, and each costs
/// more than the few bytes that it may have. Past it a body counts as unreadable; its messages are only counted.
pub const MAX_MESSAGES: u32 = 4096;
/// Most refused messages of one body that are answered each by its id, and most calls that are kept while nothing has left.
const MAX_TARGETS: usize = 512;

/// Most pages of lists that one request asks for whose cursors are known.
const MAX_PAGES: usize = 64;

/// The number of messages, against the most that are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overflow {
    No,
    /// More, and that was not decided on yet.
    Due,
    Decided,
}

impl Dialogue {
    /// Judges one message of the request. `contradicts` notes a disagreement between it and what surrounds it.
    pub(crate) fn take_message(&mut self, message: &Message, contradicts: impl FnOnce(&mut Observation)) {
        if self.judged < MAX_MESSAGES {
            self.judged += 1;
            self.judge_message(message, contradicts);
            return;
        }
        // Long arrays of other APIs' objects are none of our business.
        if message.jsonrpc == Version::Absent && !message.method.as_deref().is_some_and(mcp::is_mcp_method) {
            return;
        }
        if self.overflow == Overflow::No {
            self.overflow = Overflow::Due;
        }
        self.count_unjudged(message);
    }

    pub(crate) fn judge_message(&mut self, message: &Message, contradicts: impl FnOnce(&mut Observation)) {
        self.form = if message.shape == Shape::Batch { Form::Batch } else { Form::Single };
        let (mut seen, mut findings) = (self.base.clone(), self.base_findings);
        describe(&mut seen, &mut findings, message);
        contradicts(&mut seen);
        set_signatures(&mut seen, &findings);
        let (id, method) = (message.id.clone(), message.method.clone());
        if let Some(cursor) = message.cursor.as_ref().filter(|_| self.pages.len() < MAX_PAGES) {
            self.pages.push((id.clone(), cursor.clone()));
        }
        self.judge_call(Heard { seen, findings, subject: Subject::Message(message.kind), id, method });
    }

    /// Decides, once for everything read together, on a request with more messages than are judged.
    pub(crate) fn settle_overflow(&mut self) {
        if self.overflow == Overflow::Due {
            self.overflow = Overflow::Decided;
            self.judge_unreadable("too_many_messages");
        }
    }

    /// Judges a body that is meant as JSON-RPC and cannot be read unambiguously: all of its fields are unreadable.
    pub(crate) fn judge_unreadable(&mut self, reason: &'static str) {
        let (mut seen, mut findings) = (self.base.clone(), self.base_findings);
        describe_malformed(&mut seen, &mut findings, reason);
        set_signatures(&mut seen, &findings);
        if self.form == Form::Foreign {
            self.form = Form::Unreadable;
        }
        self.judge_call(Heard { seen, findings, subject: Subject::Malformed, id: None, method: None });
    }

    /// True if neither a message nor the exchange as such was judged yet.
    pub(crate) fn nothing_judged(&self) -> bool {
        self.calls.is_empty() && self.targets.is_empty() && self.calls_reported == 0
    }

    /// Judges the exchange as such, as there was no message.
    pub(crate) fn judge_exchange(&mut self) {
        let mut findings = self.base_findings;
        findings.signatures = without_body(findings.signatures);
        let mut seen = self.base.clone();
        set_signatures(&mut seen, &findings);
        self.judge_call(Heard { seen, findings, subject: Subject::Exchange, id: None, method: None });
    }

    /// Judges the exchange as such anew, now that it is known to show this signature.
    pub(crate) fn judge_exchange_again(&mut self, signature: Signature) {
        self.base_findings.signatures.insert(signature);
        self.calls.retain(|call| call.subject != Subject::Exchange);
        self.judge_exchange();
    }

    /// True if a verdict from before the message, or on another one, may apply to the next.
    fn may_be_refused(&self) -> bool {
        self.ahead != Ahead::Open || self.refused != Refused::No
    }

    fn judge_call(&mut self, heard: Heard) {
        let Heard { mut seen, findings, subject, id, method } = heard;
        for word in self.mismatches.into_iter().flatten() {
            note(&mut seen, Field::Mismatch, word);
        }
        if let Some(text) = self.text.as_ref().filter(|t| !t.is_empty()) {
            seen.set(Field::BodyText, String::from_utf8_lossy(text).into_owned());
        }
        let mut progress = self.base_progress.clone();
        let answer = match (subject, self.unread) {
            (Subject::Exchange, Some(passage)) => {
                let signs = Signs::among(findings.signatures, seen.text(Field::UrlPath).unwrap_or_default());
                let asked = Asked { rules: &self.rules, signs, enforcement: self.enforcement(), phase: Phase::Message };
                passage.judge(asked, &mut seen, &mut progress)
            }
            _ => self.judge(&seen, Phase::Message, &mut progress),
        };
        let (mut waits, mut action, mut deciding) = (Waits::No, Action::Allow, None);
        match (self.ahead, answer) {
            (Ahead::Decided(verdict), _) | (_, Answer::Undecidable(verdict)) => self.refuse_by(verdict),
            (_, Answer::Decided(verdict)) if verdict.action.interferes() => self.refuse_by(verdict),
            (_, Answer::Decided(Verdict { action: decided, rule })) => (action, deciding) = (decided, rule),
            (_, Answer::Needs(_)) => waits = Waits::ForAnswer,
        }
        if waits == Waits::No && self.refused == Refused::No && self.waits_for_others(subject, &findings) {
            waits = Waits::ForAnswer;
        }
        let kind = match subject {
            Subject::Message(kind) => kind,
            Subject::Exchange | Subject::Malformed => MessageKind::Other,
        };
        // Kept only where a refusal can come of it, and as far as the window reaches: a batch may be long.
        if self.may_be_refused() && self.targets.len() < MAX_TARGETS {
            self.targets.push(Target { id: id.clone(), method: method.clone(), kind });
        }
        let kept = size_of::<Call>() + seen.bytes();
        self.calls.push(Call { seen, progress, findings, subject, id, method, waits, action, deciding, early: None, kept });
        self.bound_calls();
        if self.held == Held::Gone && self.refused == Refused::No {
            self.targets.clear();
        }
    }

    /// An answer is awaited for so many calls and no more. The first that no rule waits with are reported as they are; where
    /// rules wait with all of them, the answers could not all be judged, and what cannot be judged is decided now.
    fn bound_calls(&mut self) {
        // While nothing has left, a call further on may still have all of them refused.
        let most = if self.withholds() { MAX_TARGETS } else { self.bounds().max_open_calls };
        if self.calls.len() <= most {
            return;
        }
        let index = self.calls.iter().position(|call| call.waits == Waits::No).unwrap_or_default();
        let call = self.calls.remove(index);
        self.gives_up(call);
    }

    /// Bytes of memory that the calls take whose answers are awaited, about.
    pub(crate) fn calls_keep(&self) -> usize {
        self.calls.iter().map(|call| call.kept).sum()
    }

    /// True if a call further on may still have those before it refused, so that none is told of as it is.
    pub(crate) fn withholds(&self) -> bool {
        self.held == Held::Back && self.may_be_refused()
    }

    /// There is no room for the calls whose answers are awaited: they are told as they are, and their answers are not known.
    pub(crate) fn gives_calls_up(&mut self) {
        for call in std::mem::take(&mut self.calls) {
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
