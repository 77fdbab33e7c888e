//! The messages of an answer: paired with the calls that they answer, and judged before the client reads them where a rule asks
//! for that.

use super::{
    Dialogue, Form, Refusal, Target,
    call::{Call, Subject, Waits, describe_malformed, forget_request, names, note, same_id},
    listener::{findings, joined},
    pairing::Answers,
};
use crate::{
    Enforcement, Passage,
    inspector::Named,
    passage::{Asked, Signs},
    shadow::interfering,
    sighting::{Findings, MessageFinding},
};
use gnomon_engine::{Answer, Origin, Progress, Rule, RuleSet, Verdict};
use gnomon_observe::{Action, Field, Observation, Phase};
use gnomon_wire::{
    jsonrpc::{Id, Malformed, Message, MessageKind, Version},
    mcp::{self, Signature, SignatureSet},
};
use smol_str::{SmolStr, ToSmolStr};

/// Why an answer was not read to its end where a bound of ours is the reason, and not what the server sent.
pub(crate) mod bound {
    /// There was no room for what had to be kept of it.
    pub(crate) const NO_ROOM: &str = "bound_no_room";
    /// It had more messages than are judged.
    pub(crate) const TOO_MANY_MESSAGES: &str = "bound_too_many_messages";
}

/// An answer that must not pass.
pub(super) struct Withheld {
    pub verdict: Verdict,
    pub target: Target,
    pub call: Call,
}

impl Dialogue {
    /// The answer has begun, with this status where its channel has one. `describe` writes down what stands before its messages.
    pub(crate) fn answer_begins_with(&mut self, status: Option<u16>, describe: impl Fn(&RuleSet, &mut Observation, &mut SignatureSet)) {
        for call in &mut self.pairing.calls {
            call.seen.set_some(Field::HttpStatus, status.map(u64::from));
            if let Some(status) = status.filter(|status| *status >= 400) {
                call.seen.set(Field::ErrorType, status.to_smolstr());
            }
            describe(&self.basis.rules, &mut call.seen, &mut call.findings.response_signatures);
        }
        // For calls that are still to come: the server answered before them.
        self.basis.has_status(status);
        if self.enforcement() == Enforcement::Enforce && self.basis.rules.judges_answers {
            self.server.judge_strays();
        } else {
            self.server.pass_strays();
        }
    }

    /// True if a rule could refuse an answer by its content, whatever it answers.
    pub(crate) fn judges_strays(&self) -> bool {
        self.server.judges_strays()
    }

    /// True if an interfering rule waits for the answer to a call.
    pub(crate) fn waits_for_answer(&self) -> bool {
        self.pairing.waits_for_answer()
    }

    /// True if any rule in force could refuse a message.
    pub(crate) fn may_refuse_messages(&self) -> bool {
        self.enforcement() == Enforcement::Enforce && self.basis.rules.interferes
    }

    /// Judges one message of the answer; the refusal to send instead if it must not pass.
    pub(crate) fn take_answer(&mut self, message: &Message) -> Option<Box<Refusal>> {
        if let Some(refusal) = self.take_input_requests(message) {
            return Some(refusal);
        }
        let withheld = if message.method.is_some() { self.take_server_message(message) } else { self.pair(message) };
        withheld.map(|withheld| self.withhold(withheld))
    }

    /// A message of the answer that cannot be read as one thing, whatever it answers.
    pub(crate) fn take_unreadable_answer(&mut self, why: &'static str) -> Option<Box<Refusal>> {
        self.answer_is_unreadable(why);
        self.judge_waiting().or_else(|| {
            let withheld = self.judge_stray(None)?;
            Some(self.withhold(withheld))
        })
    }

    /// The answer to `initialize` names the session; later requests do not name the client.
    pub(crate) fn remember_session(&self, session: &str) {
        let Some(call) = self.pairing.calls.iter().find(|c| c.method.as_deref().map(mcp::canonical_method) == Some("initialize")) else {
            return;
        };
        let text = |field| call.seen.text(field).map(SmolStr::new);
        let named = Named { name: text(Field::McpClientName), version: text(Field::McpClientVersion) };
        if named.name.is_some() {
            self.basis.inspector.begin_session(text(Field::ServerAddress).unwrap_or_default(), session.into(), named);
        }
    }

    /// Reports at once what the answer shows the exchange as such to be.
    pub(crate) fn answer_shows(&mut self, signature: Signature) {
        let Some(mut call) = self.pairing.take(|call| call.subject == Subject::Exchange) else { return };
        call.findings.response_signatures.insert(signature);
        let _ = self.judge_answered(&mut call);
        self.report(call, None);
    }

    /// Judges a call by all that is known of it. The request's size is final only here: its body may still have been on its
    /// way when its message was judged.
    pub(super) fn judge_answered(&self, call: &mut Call) -> Answer {
        call.seen.set(Field::RequestSize, self.traffic.asked);
        self.judge(&call.seen, Phase::Response, &mut call.progress)
    }

    /// Pairs an answer with its call.
    fn pair(&mut self, message: &Message) -> Option<Withheld> {
        let asked = |call: &Call| !call.is_answer() && same_id(call.id.as_ref(), message.id.as_ref());
        let mut call = match self.pairing.take(asked) {
            Some(call) => call,
            None => {
                if self.pairing.take_late_answer(message) == Answers::AReportedCall {
                    return None;
                }
                let only = self.pairing.only().filter(|only| only.id.is_none() || message.kind == MessageKind::Error);
                if only.is_none_or(|only| self.may_answer_another(message, only))
                    && let Some(withheld) = self.judge_stray(Some(message))
                {
                    return Some(withheld);
                }
                self.pairing.take_only(|only| only.id.is_none() || message.kind == MessageKind::Error)?
            }
        };
        if let Some(early) = &call.early {
            let number = early.number;
            self.pairing.answered_late(number, message);
        }
        read_result(&mut call, message);
        self.compare_tools(&mut call, message);
        let answer = self.judge_answered(&mut call);
        match interfering(answer).filter(|_| call.waits == Waits::ForAnswer) {
            Some(verdict) => {
                let id = call.id.clone().or_else(|| message.id.clone());
                let target = Target { id, method: call.method.clone(), kind: MessageKind::Request };
                Some(Withheld { verdict, target, call })
            }
            None => {
                call.settle(answer);
                self.report(call, None);
                None
            }
        }
    }

    /// Holds a list of tools against the one that its server gave before.
    fn compare_tools(&self, call: &mut Call, message: &Message) {
        let Some(hash) = message.result.tools_hash else { return };
        if call.method.as_deref().map(mcp::canonical_method) != Some("tools/list") {
            return;
        }
        let page = self.pairing.page(call.id.as_ref());
        let server = call.seen.text(Field::ServerId).map(SmolStr::new);
        let before = self.basis.tools_listed(server.unwrap_or_default(), page.unwrap_or_default(), hash);
        call.seen.set_some(Field::ToolsHashBefore, before.map(hex::encode));
    }

    /// True if a message that answers the only call there is, and not by its id, may answer something that is not known here. A foreign
    /// API's response to a request without a message is that request's answer.
    fn may_answer_another(&self, message: &Message, only: &Call) -> bool {
        match only.subject {
            Subject::Exchange => message.jsonrpc != Version::Absent || self.basis.says_mcp(),
            Subject::Malformed => false,
            Subject::Message(_) => !matches!(message.id, None | Some(Id::Null)),
        }
    }

    /// True if a rule waits for the answer to a call that asks nothing by itself: it may bring answers to what was asked elsewhere (the
    /// stream of a session, one that was resumed), which rules may refuse whatever was asked.
    pub(super) fn waits_for_others(&self, subject: Subject, findings: &Findings) -> bool {
        let judged = |rule: &Rule| rule.phase == Phase::Response && SAID.iter().any(|field| rule.names(*field));
        !subject.is_question()
            && (findings.message != MessageFinding::None || self.basis.says_mcp())
            && self.enforcement() == Enforcement::Enforce
            && self.basis.rules.open_rules(&self.basis.progress).any(|(_, rule)| judged(rule))
    }

    /// The answer is in a coding, or in characters, that cannot be undone.
    pub(crate) fn take_undecodable_answer(&mut self, why: &'static str) -> Option<Box<Refusal>> {
        self.answer_is_unreadable(why);
        let others = self.pairing.calls.iter().any(|call| call.waits == Waits::ForAnswer && !call.subject.is_question());
        self.judge_waiting().or_else(|| {
            let withheld = self.judge_stray(None).filter(|_| others)?;
            Some(self.withhold(withheld))
        })
    }

    /// An answer to a request that is not known here: of another exchange, on the event stream of the legacy transport or
    /// on one that was taken up again; not complete yet; or never made. Judged by the rules on what answers say.
    /// Without a message: one that cannot be read.
    fn judge_stray(&mut self, message: Option<&Message>) -> Option<Withheld> {
        if !self.judges_strays() {
            return None;
        }
        let mut call = self.stray(message);
        match message {
            Some(message) => read_result(&mut call, message),
            None => unread_answer(&mut call.seen),
        }
        let _ = self.judge(&call.seen, Phase::Message, &mut call.progress);
        let _ = interfering(self.judge(&call.seen, Phase::Response, &mut call.progress))?;
        // Rules on the request alone were judged with the request.
        let verdict = undecided_by_answer(&self.basis.rules, &call.progress, &SAID)?;
        let target = Target { id: call.id.clone(), method: None, kind: MessageKind::Request };
        Some(Withheld { verdict, target, call })
    }

    /// The call that a message answers whose request is not known.
    pub(super) fn stray(&self, message: Option<&Message>) -> Call {
        let (seen, findings) = self.basis.begin();
        let mut call = Call {
            seen,
            progress: self.basis.progress.clone(),
            findings,
            subject: Subject::Message(message.map_or(MessageKind::Response, |message| message.kind)),
            id: message.and_then(|message| message.id.clone()),
            method: None,
            waits: Waits::No,
            action: Action::Allow,
            deciding: None,
            early: None,
            kept: 0,
        };
        forget_request(&mut call.seen);
        call
    }

    /// An event stream of which nothing can be read: what the server asks on it is not known, whether or not a call waits for it.
    pub(crate) fn take_unreadable_stream(&mut self, why: &'static str) -> Option<Box<Refusal>> {
        let passage = Passage::EventsUnreadable;
        let (mut seen, mut findings) = self.basis.begin();
        let mut progress = self.basis.progress.clone();
        let asked = Asked { rules: &self.basis.rules, signs: Signs::OfMcp, enforcement: self.enforcement(), phase: Phase::Response };
        if let Some(verdict) = interfering(passage.judge(asked, &mut seen, &mut progress)) {
            describe_malformed(&mut seen, &mut findings, why);
            let (action, deciding) = (verdict.action, verdict.rule);
            let (subject, waits) = (Subject::Malformed, Waits::No);
            let call = Call { seen, progress, findings, subject, id: None, method: None, waits, action, deciding, early: None, kept: 0 };
            let target = Target { id: None, method: None, kind: MessageKind::Notification };
            return Some(self.withhold(Withheld { verdict, target, call }));
        }
        for call in &mut self.pairing.calls {
            call.seen.set(Field::Passage, passage.reason());
            // Rules that name the passage took it for none.
            let mut progress = self.basis.progress.clone();
            let _ = self.basis.judge(&call.seen, Phase::Message, &mut progress);
            call.progress = progress;
        }
        None
    }

    /// The answer cannot be read as one thing: no rule may conclude anything from what it lacks, and
    /// one that would interfere refuses it. That it could not be read is said of each message that it may answer; not where it only broke
    /// off, which nobody reads otherwise.
    pub(crate) fn answer_is_unreadable(&mut self, why: &'static str) {
        let asks = |call: &&mut Call| matches!(call.subject, Subject::Message(_)) && !call.is_answer();
        if why != Malformed::Truncated.as_str() {
            self.pairing.calls.iter_mut().filter(asks).for_each(|call| call.seen.set(Field::ResponseMalformed, why));
        }
        for call in self.pairing.calls.iter_mut().filter(|c| c.waits == Waits::ForAnswer) {
            unread_answer(&mut call.seen);
        }
    }

    /// The answer is over, and a message in it is not: said of each call that it may answer. Nothing in it is read otherwise by anybody.
    pub(crate) fn answer_is_cut(&mut self) {
        let asks = |call: &&mut Call| matches!(call.subject, Subject::Message(_)) && !call.is_answer();
        self.pairing.calls.iter_mut().filter(asks).for_each(|call| call.seen.set(Field::ResponseMalformed, Malformed::Truncated.as_str()));
    }

    /// Judges the calls that wait for the answer by the evidence so far: no more will come.
    pub(crate) fn judge_waiting(&mut self) -> Option<Box<Refusal>> {
        let mut calls = self.pairing.take_all();
        let mut refused = None;
        for (index, call) in calls.iter_mut().enumerate().filter(|(_, call)| call.waits == Waits::ForAnswer) {
            call.waits = Waits::No;
            let answer = self.judge_answered(call);
            if let Some(verdict) = interfering(answer) {
                refused = Some((index, verdict));
                break;
            }
            call.settle(answer);
        }
        let refused = refused.map(|(index, verdict)| (calls.remove(index), verdict));
        self.pairing.calls = calls;
        let (call, verdict) = refused?;
        let target = Target { id: call.id.clone(), method: call.method.clone(), kind: MessageKind::Request };
        Some(self.withhold(Withheld { verdict, target, call }))
    }

    pub(super) fn withhold(&mut self, withheld: Withheld) -> Box<Refusal> {
        let Withheld { verdict, target, mut call } = withheld;
        let form = if target.id.is_some() { Form::Single } else { Form::Foreign };
        let refusal = self.refusal(verdict, vec![target], form);
        (call.action, call.deciding) = (verdict.action, verdict.rule);
        self.report(call, Some(&refusal));
        Box::new(refusal)
    }
}

fn read_result(call: &mut Call, message: &Message) {
    let result = &message.result;
    if let Some(signature) = mcp::response_signature(message) {
        call.findings.response_signatures.insert(signature);
    }
    let seen = &mut call.seen;
    seen.set_some(Field::McpServerName, result.server_name.clone());
    seen.set_some(Field::McpServerVersion, result.server_version.clone());
    if !result.tools.is_empty() {
        seen.set(Field::Tools, result.tools.clone());
    }
    seen.set_some(Field::ToolsHash, result.tools_hash.map(hex::encode));
    let found = joined(seen.texts(), findings(message, call.method.as_deref()));
    seen.set_texts(found);
    if result.tools_overflow.is_cut() {
        if result.tools.is_empty() {
            seen.set_unreadable(Field::Tools);
        }
        seen.set_partial(Field::Tools);
        note(seen, Field::Truncated, "tools");
    }
    // Clients make of a text, or of a number, what they like.
    if result.is_error_given.is_present() && result.is_error.is_none() {
        seen.set_unreadable(Field::ErrorType);
        // An error type from the HTTP status stays beside it.
        seen.set_partial(Field::ErrorType);
    }
    if result.error_code_given.is_present() && result.error_code.is_none() {
        seen.set_unreadable(Field::RpcStatus);
        seen.set_unreadable(Field::ErrorType);
        seen.set_partial(Field::ErrorType);
    }
    if let Some(code) = result.error_code {
        seen.set(Field::RpcStatus, code.to_smolstr());
        seen.set(Field::ErrorType, code.to_smolstr());
    }
    if result.is_error == Some(true) {
        seen.set(Field::ErrorType, "tool_error");
    }
    if !call.findings.response_signatures.is_empty() {
        seen.set(Field::ResponseSignatures, names(call.findings.response_signatures));
    }
}

/// The strictest of the rules on what an answer says (these fields) that match it, or could as far as the request is not known. An
/// administrator's `allow` sets vendors' rules aside here too.
pub(super) fn undecided_by_answer(rules: &RuleSet, progress: &Progress, said: &[Field]) -> Option<Verdict> {
    let exempt = |rule: &Rule| rule.origin == Origin::Admin && rule.acts() == Action::Allow;
    let matched = || progress.matched().filter_map(|index| Some((index, rules.rule(index)?)));
    let exempted = matched().any(|(_, rule)| exempt(rule));
    let judged = |rule: &Rule| {
        rule.phase == Phase::Response
            && rule.acts().interferes()
            && said.iter().any(|field| rule.names(*field))
            && (rule.origin == Origin::Admin || !exempted)
    };
    let all = matched().chain(rules.open_rules(progress)).filter(|(_, rule)| judged(rule));
    let verdicts = all.map(|(index, rule)| Verdict { action: rule.acts(), rule: Some(index) });
    verdicts.reduce(|best, next| if next.action > best.action { next } else { best })
}

/// The fields that the message of an answer fills.
const SAID: [Field; 14] = [
    Field::McpServerName,
    Field::McpServerVersion,
    Field::Tools,
    Field::ToolsHash,
    Field::ToolsHashBefore,
    Field::RpcStatus,
    Field::ResponseSignatures,
    Field::ErrorType,
    Field::ToolResult,
    Field::ToolDescription,
    Field::ErrorMessage,
    Field::ServerInstructions,
    Field::PromptText,
    Field::ResourceText,
];

/// Those of them that are filled with the texts of an answer.
pub(super) const TEXTS: [Field; 7] = [
    Field::Tools,
    Field::ToolResult,
    Field::ToolDescription,
    Field::ErrorMessage,
    Field::ServerInstructions,
    Field::PromptText,
    Field::ResourceText,
];

/// Marks the answer's fields as unreadable, so that no rule concludes anything from their absence.
pub(super) fn unread_answer(seen: &mut Observation) {
    seen.set_texts(None);
    for field in SAID {
        seen.clear(field);
        seen.set_unreadable(field);
    }
}
