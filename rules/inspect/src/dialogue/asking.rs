//! What a server asks the client by a message of its own (sampling, elicitation …): its method, and its words.
//!
//! The words are what the server says within the call that is open: the call goes on, and what is found in them counts for it. By itself a
//! question is judged by its method. A rule that names both means the question, as does every rule on words where no call is known to
//! which they belong.

use super::{
    Dialogue, Refusal, Target,
    answer::{TEXTS, Withheld, undecided_by_answer, unread_answer},
    call::{Call, Heard, Subject, Waits, describe, describe_malformed},
    listener::{findings, joined},
};
use crate::{
    in_force::{WORDS, reads_questions},
    shadow::interfering,
    sighting::MessageFinding,
};
use gnomon_engine::{Answer, Progress, Rule, RuleIndex, Verdict};
use gnomon_observe::{Action, Field, Observation, Phase, TextFindings};
use gnomon_wire::jsonrpc::{Message, MessageKind};
use std::sync::Arc;

/// A question with what rules say of it.
pub(super) struct JudgedQuestion {
    pub seen: Observation,
    pub progress: Progress,
    pub refused: Option<Verdict>,
    pub answer: Answer,
}

impl Dialogue {
    /// Judges the words of a question that the server asks within the only open call, as of its answer: the call goes on, and what is found
    /// counts for it. If a rule forbids them, the call ends with them. Without a message: one whose words cannot be read.
    fn words_within_a_call(&mut self, message: Option<&Message>) -> Option<Withheld> {
        let only = self.pairing.only()?.clone();
        let (call, verdict) = self.judge_words(only, message)?;
        match verdict {
            Some(verdict) => {
                self.pairing.take_only(|_| true);
                let target = Target { id: call.id.clone(), method: call.method.clone(), kind: MessageKind::Request };
                Some(Withheld { verdict, target, call })
            }
            None => {
                if let ([open], Some(_)) = (&mut self.pairing.calls[..], message) {
                    open.seen = call.seen;
                }
                None
            }
        }
    }

    /// The verdict on the words of a question that belongs to no call that is known: by all rules on what answers say.
    fn words_outside_of_calls(&self, message: Option<&Message>) -> Option<Verdict> {
        let mut call = self.stray(None);
        let _ = self.judge(&call.seen, Phase::Message, &mut call.progress);
        self.judge_words(call, message)?.1
    }

    /// The call with the words of a question within it, and the verdict that forbids them; none where it has none that a rule looks at.
    fn judge_words(&self, mut call: Call, message: Option<&Message>) -> Option<(Call, Option<Verdict>)> {
        match message {
            // Whatever was asked: who is asked reads them.
            Some(message) => {
                let found = findings(message, None)?;
                call.seen.set_texts(joined(call.seen.texts(), Some(found)));
            }
            None => unread_answer(&mut call.seen),
        }
        let heard: Vec<Field> =
            TEXTS.into_iter().filter(|field| message.is_none() || call.seen.texts().is_some_and(|texts| texts.has(*field))).collect();
        let mut progress = call.progress.clone();
        let verdict = interfering(self.judge(&call.seen, Phase::Response, &mut progress))
            .and_then(|_| undecided_by_answer(&self.basis.rules, &progress, &heard));
        if verdict.is_some() {
            call.progress = progress;
        }
        Some((call, verdict))
    }

    /// A request or notification that the server sends to the client (sampling, elicitation …).
    pub(super) fn take_server_message(&mut self, message: &Message) -> Option<Withheld> {
        if message.kind != MessageKind::Request {
            return self.take_notification(message);
        }
        let (mut seen, mut findings) = self.basis.begin();
        describe(&mut seen, &mut findings, message);
        self.server.asks(message.method.as_ref());
        let (subject, id, method) = (Subject::Message(message.kind), message.id.clone(), message.method.clone());
        self.take_question(Heard { seen, findings, subject, id, method }, Some(message))
    }

    /// A request of the server's that cannot be read as one thing.
    pub(crate) fn take_unreadable_question(&mut self, reason: &'static str) -> Option<Box<Refusal>> {
        let (mut seen, mut findings) = self.basis.begin();
        describe_malformed(&mut seen, &mut findings, reason);
        let withheld = self.take_question(Heard { seen, findings, subject: Subject::Malformed, id: None, method: None }, None)?;
        Some(self.withhold(withheld))
    }

    fn take_question(&mut self, mut heard: Heard, message: Option<&Message>) -> Option<Withheld> {
        let is_mcp = heard.findings.message != MessageFinding::None;
        if self.pairing.only().is_some() {
            if let Some(withheld) = self.words_within_a_call(message) {
                return Some(withheld);
            }
            let by_words = message.and_then(|message| self.judge_by_words(&heard.seen, findings(message, None)?));
            let judged = by_words.or_else(|| is_mcp.then(|| self.judge_question(heard.seen.clone())))?;
            return self.tell_question(heard, judged);
        }
        let forbidden = self.words_outside_of_calls(message);
        if !is_mcp && forbidden.is_none() {
            return None;
        }
        heard.seen.set_texts(message.and_then(|message| findings(message, None)));
        let mut judged = self.judge_question(heard.seen.clone());
        judged.refused = judged.refused.or(forbidden);
        self.tell_question(heard, judged)
    }

    fn judge_question(&self, seen: Observation) -> JudgedQuestion {
        let mut progress = self.basis.progress.clone();
        let on_message = self.judge(&seen, Phase::Message, &mut progress);
        let answer = self.judge(&seen, Phase::Response, &mut progress);
        JudgedQuestion { seen, progress, refused: interfering(on_message).or(interfering(answer)), answer }
    }

    fn tell_question(&mut self, heard: Heard, judged: JudgedQuestion) -> Option<Withheld> {
        let Heard { findings, subject, id, method, .. } = heard;
        let JudgedQuestion { seen, progress, refused, answer } = judged;
        let (action, deciding) = match (refused, answer) {
            (Some(verdict), _) | (None, Answer::Decided(verdict)) => (verdict.action, verdict.rule),
            (None, Answer::Needs(_) | Answer::Undecidable(_)) => (Action::Allow, None),
        };
        let call = Call { seen, progress, findings, subject, id, method, waits: Waits::No, action, deciding, early: None, kept: 0 };
        match refused {
            None => {
                self.report(call, None);
                None
            }
            // The client is not told: it never learns that it was asked.
            Some(verdict) => {
                let target = Target { id: call.id.clone(), method: call.method.clone(), kind: MessageKind::Notification };
                Some(Withheld { verdict, target, call })
            }
        }
    }

    /// Judges a question by its words as well, where a rule on both means it. What rules on words alone say of them is said of the call.
    pub(super) fn judge_by_words(&self, seen: &Observation, found: Arc<TextFindings>) -> Option<JudgedQuestion> {
        if !self.basis.rules.reads_questions || !WORDS.into_iter().any(|field| found.has(field)) {
            return None;
        }
        let mut seen = seen.clone();
        seen.set_texts(Some(found));
        let mut judged = self.judge_question(seen);
        let rule = |index: RuleIndex| self.basis.rules.rule(index);
        let of_words_alone = |rule: &Rule| !reads_questions(rule) && WORDS.into_iter().any(|field| rule.names(field));
        judged.refused = judged.refused.filter(|verdict| !verdict.rule.and_then(rule).is_some_and(of_words_alone));
        let tells = |index: RuleIndex| rule(index).is_some_and(|rule| reads_questions(rule) && rule.acts() != Action::Allow);
        (judged.refused.is_some() || judged.progress.matched().any(tells)).then_some(judged)
    }
}
