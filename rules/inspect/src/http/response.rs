//! The answer side of an exchange: what the server said, judged before the client reads it where a
//! rule asks for that, and only watched otherwise.

use crate::{
    Enforcement, Gate, Refusal,
    dialogue::call::{Call, Early, Subject, Waits, note},
    dialogue::outcome::Answers,
    dialogue::refusal::{Form, Target},
    http::answer_body::{Awaited, Content, Event, Left, Step, content_of},
    http::exchange::{Exchange, interfering, same_id, unread_answer},
    http::reading::codings,
    http::request::MAX_MESSAGES,
    inspector::Named,
    sighting::{Findings, MessageFinding},
};
use gnomon_engine::{Answer, Verdict};
use gnomon_observe::{Action, Family, Field, Phase};
use gnomon_wire::{
    jsonrpc::{Kind, Message},
    mcp::{self, Signature},
};
use http::{HeaderMap, header};
use smol_str::{SmolStr, ToSmolStr};

/// How the caller must treat the answer's body.
#[derive(Clone, Debug)]
pub enum ResponsePlan {
    /// Forward at once; feed [`Exchange::response_bytes`] as it passes.
    Stream,
    /// Keep head and body; feed [`Exchange::response_bytes`] until the gate opens or the window is
    /// full.
    HoldBody,
    /// Forward the head without its length and content coding; pass the body through [`Exchange::filter_events`].
    FilterEvents,
    /// Give this answer instead.
    Refuse(Box<Refusal>),
}

/// Whether an event stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFlow {
    /// It does.
    Continue,
    /// It does, and what came is not all looked at: to be called again with no bytes.
    Behind,
    /// It must be broken off, without a clean end.
    Abort,
}

/// Longest session id that is remembered; those in use are UUIDs and tokens far shorter.
const MAX_SESSION: usize = 512;

/// An answer that must not pass.
pub(crate) struct Refused {
    verdict: Verdict,
    target: Target,
    call: Call,
}

impl Exchange {
    /// The answer's head.
    pub fn response_head(&mut self, status: u16, headers: &HeaderMap) -> ResponsePlan {
        // The server need not have waited for what it must not have.
        if let Gate::Refuse(refusal) = self.gate() {
            return ResponsePlan::Refuse(refusal);
        }
        let challenge = headers.get_all(header::WWW_AUTHENTICATE).iter().find_map(|v| mcp::challenge_signature(v.to_str().ok()?));
        let session = headers.get("mcp-session-id").and_then(|v| v.to_str().ok()).filter(|s| s.len() <= MAX_SESSION);
        if let Some(session) = session {
            self.remember_session(session);
        }
        let wanted = self.rules.wanted().response_headers.clone();
        for call in &mut self.calls {
            call.seen.set(Field::HttpStatus, u64::from(status));
            if status >= 400 {
                call.seen.set(Field::ErrorType, status.to_smolstr());
            }
            if let Some(signature) = challenge {
                call.findings.response_signatures.insert(signature);
            }
            if session.is_some() {
                call.findings.response_signatures.insert(Signature::H2);
            }
            for name in &wanted {
                for value in headers.get_all(name.as_str()) {
                    call.seen.set_member(Family::ResponseHeader, name.clone(), String::from_utf8_lossy(value.as_bytes()).into_owned());
                }
            }
        }
        // For calls that are still to come: the server answered before them.
        self.base.set(Field::HttpStatus, u64::from(status));
        self.judges_strays = self.enforcement() == Enforcement::Enforce
            && self.rules.rules().iter().any(|r| r.phase == Phase::Response && r.acts().interferes());
        // A server may answer before the request is over: then what it answers is not known, and the answer is judged by what
        // it says itself. The request is judged as it comes.
        let early = self.judges_strays && !self.request_over;
        let waits = early || self.waits_for_answer();
        let content = match content_of(headers) {
            Content::Opaque if waits => Content::Unlabelled,
            Content::Framed if !waits => Content::Opaque,
            content => content,
        };
        let codings = codings(headers);
        let content = if codings.is_err() && content != Content::Opaque {
            self.answer_is_unreadable();
            Content::Opaque
        } else {
            content
        };
        self.response.begin(content, codings);
        match (content, waits) {
            // A server may send requests of its own on a stream, which rules may refuse.
            (Content::Events, false) if self.may_refuse_messages() => ResponsePlan::FilterEvents,
            (_, false) => ResponsePlan::Stream,
            (Content::Json | Content::Unlabelled | Content::Framed, true) => ResponsePlan::HoldBody,
            (Content::Events, true) => ResponsePlan::FilterEvents,
            // Nothing in it can be read as a message, so all there is to know is known.
            (Content::Opaque, true) => match self.judge_waiting() {
                Some(refusal) => ResponsePlan::Refuse(Box::new(refusal)),
                None => ResponsePlan::Stream,
            },
        }
    }

    fn waits_for_answer(&self) -> bool {
        self.calls.iter().any(|c| c.waits == Waits::ForAnswer)
    }

    /// Feeds bytes of the answer's body. A refusal means: give that answer instead, or break off if
    /// the head has left.
    pub fn response_bytes(&mut self, raw: &[u8]) -> Gate {
        let mut gate = self.response_some(raw);
        loop {
            match gate {
                Some(gate) => return gate,
                None => gate = self.response_some(&[]),
            }
        }
    }

    /// The same in steps, as [`Exchange::request_some`] has it.
    pub fn response_some(&mut self, raw: &[u8]) -> Option<Gate> {
        let mut refused = None;
        self.read_answer(raw, &mut |exchange, step| {
            if refused.is_none() {
                refused = exchange.take_step(&step);
            }
        });
        let waits = self.waits_for_answer() || self.judges_strays && !self.request_over;
        Some(match refused {
            Some(refusal) => Gate::Refuse(refusal),
            None if self.response.is_behind() => return None,
            None if waits && self.response.may_be_json() => Gate::Hold,
            // What was waited for has come; what comes behind it may have to be withheld as well, and with it.
            None if self.judges_strays && self.response.may_go_on_as_json() => Gate::Hold,
            None => Gate::Stream,
        })
    }

    fn read_answer(&mut self, raw: &[u8], on: &mut dyn FnMut(&mut Self, Step<'_>)) {
        self.response.bytes += raw.len() as u64;
        let awaited = if self.judges_strays || self.waits_for_answer() { Awaited::Yes } else { Awaited::No };
        let Some(mut reader) = self.response.take(&self.inspector.bounds, awaited) else { return };
        let single = self.response.content != Content::Events;
        let mut left = reader.feed(raw, awaited, &mut |step| match step {
            // A stream may go on for days; one document has as many messages as a request may have.
            Step::Message(_) if single && self.answered >= MAX_MESSAGES => self.answered = self.answered.saturating_add(1),
            Step::Message(_) => {
                self.answered = self.answered.saturating_add(1);
                on(self, step);
            }
            _ => on(self, step),
        });
        if single && self.answered > MAX_MESSAGES && left == Left::More {
            on(self, Step::Unreadable);
            left = Left::Nothing;
        }
        self.response.put(reader, left);
    }

    /// What a step of the answer comes to, if it must not pass.
    fn take_step(&mut self, step: &Step<'_>) -> Option<Box<Refusal>> {
        match step {
            Step::Message(message) => {
                let refused = self.take_answer(message)?;
                Some(Box::new(self.refuse_answer(refused)))
            }
            Step::Unreadable => {
                self.answer_is_unreadable();
                if let Some(refusal) = self.judge_waiting() {
                    return Some(Box::new(refusal));
                }
                let refused = self.judge_stray(None)?;
                Some(Box::new(self.refuse_answer(refused)))
            }
            Step::Endpoint(path) => {
                self.take_endpoint(path);
                None
            }
            Step::EventEnd { .. } | Step::TextEnd { .. } | Step::Undecodable => None,
        }
    }

    /// Passes bytes of an event stream; what may be forwarded is appended to `out`, without the stream's content coding. A
    /// refused event is replaced by one that says so.
    pub fn filter_events(&mut self, raw: &[u8], out: &mut Vec<u8>) -> EventFlow {
        let mut flow = self.filter_some(raw, out);
        while flow == EventFlow::Behind {
            flow = self.filter_some(&[], out);
        }
        flow
    }

    /// The same in steps of a mebibyte of what the bytes decode to.
    pub fn filter_some(&mut self, raw: &[u8], out: &mut Vec<u8>) -> EventFlow {
        let window = self.inspector.bounds.window;
        let (mut start, mut flow) = (0, EventFlow::Continue);
        self.read_answer(raw, &mut |exchange, step| {
            if flow == EventFlow::Abort {
                return;
            }
            let body = &mut exchange.response;
            match step {
                Step::EventEnd { text, end } => {
                    if body.event != Event::Refused {
                        out.append(&mut body.held);
                        out.extend_from_slice(text.get(start..end).unwrap_or_default());
                    }
                    body.event = Event::Held;
                    start = end;
                }
                Step::TextEnd { text } => {
                    if body.event != Event::Refused {
                        body.held.extend_from_slice(text.get(start..).unwrap_or_default());
                        if body.held.len() > window {
                            out.append(&mut body.held);
                            body.event = Event::Begun;
                        }
                    }
                    start = 0;
                }
                Step::Undecodable => flow = EventFlow::Abort,
                Step::Message(_) | Step::Unreadable | Step::Endpoint(_) => {
                    // A refused event may hold more messages; none of them is forwarded, and one answer is enough.
                    if body.event == Event::Refused {
                        return;
                    }
                    let Some(refusal) = exchange.take_step(&step) else { return };
                    let body = &mut exchange.response;
                    // Nothing can be put in the place of what has left.
                    if body.event == Event::Begun {
                        flow = EventFlow::Abort;
                        return;
                    }
                    // Its answer goes at once, though the rest of the event may be long in coming.
                    out.extend(refusal.targets.iter().filter_map(|target| refusal.event_for(target)).flat_map(String::into_bytes));
                    body.held.clear();
                    body.event = Event::Refused;
                }
            }
        });
        if flow == EventFlow::Continue && self.response.is_behind() { EventFlow::Behind } else { flow }
    }

    /// The answer is over. What is still held of an event stream is appended to `out`.
    pub fn response_end(&mut self, out: &mut Vec<u8>) -> Gate {
        out.append(&mut self.response.held);
        if let Some(refusal) = self.judge_waiting() {
            return Gate::Refuse(Box::new(refusal));
        }
        self.flush();
        Gate::Stream
    }

    /// Reports every call as it stands: the answer is over, broken off, or long in coming.
    pub fn flush(&mut self) {
        let read_response = self.rules.wanted().response;
        for mut call in std::mem::take(&mut self.calls) {
            if read_response {
                let _ = self.judge_answered(&mut call);
            }
            self.report(call, None);
        }
        self.flush_tally();
    }

    /// Reports calls whose answer is long in coming, so that an alert does not wait for it. They stay open: what rules find in the
    /// answer is reported with the same number ([`Sighting::call`](crate::Sighting)).
    pub fn flush_overdue(&mut self) {
        for call in std::mem::take(&mut self.calls) {
            if call.early.is_some() {
                self.calls.push(call);
                continue;
            }
            let (number, reported) = (self.calls_reported, self.reports.len());
            let mut now = call.clone();
            // What nobody answers does not wait for an answer.
            let kept = call.id.is_none() || self.await_answer(number, call.id.clone());
            if call.id.is_some() {
                now.seen.set(Field::Pending, true);
            }
            self.report(now, None);
            let reports = self.reports.get(reported..).unwrap_or_default();
            let rules = (!reports.is_empty()).then(|| reports.iter().filter_map(|report| report.rule).collect());
            if kept || call.waits == Waits::ForAnswer {
                self.calls.push(Call { early: Some(Early { number, rules }), ..call });
            }
        }
    }

    /// No answer came: `cause` says why.
    pub fn failed(&mut self, cause: &str, detail: &str) {
        self.failure = Some((cause.into(), detail.into()));
        if self.nothing_judged() {
            self.judge_exchange();
        }
        for call in &mut self.calls {
            call.seen.set(Field::ErrorType, cause);
            call.seen.set(Field::Message, detail);
        }
        self.flush();
    }

    /// The path of the legacy transport's paired POSTs, once its stream has told it.
    #[must_use]
    pub fn paired_path(&self) -> Option<&str> {
        self.response.session.as_deref()
    }

    /// The answer to `initialize` names the session; later requests do not name the client.
    fn remember_session(&self, session: &str) {
        let Some(call) = self.calls.iter().find(|c| c.method.as_deref().map(mcp::canonical_method) == Some("initialize")) else { return };
        let text = |field| call.seen.text(field).map(SmolStr::new);
        let named = Named { name: text(Field::McpClientName), version: text(Field::McpClientVersion) };
        if named.name.is_some() {
            self.inspector.begin_session(text(Field::ServerAddress).unwrap_or_default(), session.into(), named);
        }
    }

    /// Whether any rule in force could refuse a message.
    fn may_refuse_messages(&self) -> bool {
        self.enforcement() == Enforcement::Enforce && self.rules.rules().iter().any(|rule| rule.acts().interferes())
    }

    fn take_endpoint(&mut self, path: &str) {
        self.response.session = Some(path.into());
        if let Some(mut call) = self.pop_exchange_call() {
            call.findings.response_signatures.insert(Signature::R2);
            let _ = self.judge_answered(&mut call);
            self.report(call, None);
        }
    }

    /// Judges a call by all that is known of it. The request's size is final only here: its body may still have been on its
    /// way when its message was judged.
    fn judge_answered(&self, call: &mut Call) -> Answer {
        call.seen.set(Field::RequestSize, self.body.bytes);
        self.judge(&call.seen, Phase::Response, &mut call.progress)
    }

    fn pop_exchange_call(&mut self) -> Option<Call> {
        let index = self.calls.iter().position(|c| c.subject == Subject::Exchange)?;
        Some(self.calls.remove(index))
    }

    /// One message of the answer, if it must not pass.
    pub(crate) fn take_answer(&mut self, message: &Message) -> Option<Refused> {
        if message.method.is_some() {
            return self.take_server_message(message);
        }
        let index = self.calls.iter().position(|c| same_id(c.id.as_ref(), message.id.as_ref())).or(match self.calls.len() {
            1 if self.calls[0].id.is_none() || message.kind == Kind::Error => Some(0),
            _ => None,
        });
        let Some(index) = index else {
            return match self.take_late_answer(message) {
                Answers::AReportedCall => None,
                Answers::NothingKnown => self.judge_stray(Some(message)),
            };
        };
        let mut call = self.calls.remove(index);
        if let Some(early) = &call.early {
            let number = early.number;
            self.answered_late(number, message);
        }
        read_result(&mut call, message);
        let answer = self.judge_answered(&mut call);
        match interfering(answer).filter(|_| call.waits == Waits::ForAnswer) {
            Some(verdict) => {
                let id = call.id.clone().or_else(|| message.id.clone());
                let target = Target { id, method: call.method.clone(), kind: Kind::Request };
                Some(Refused { verdict, target, call })
            }
            None => {
                let decided = match answer {
                    Answer::Decided(verdict) if !verdict.action.interferes() => Some(verdict),
                    _ => None,
                };
                if let Some(verdict) = decided {
                    (call.action, call.deciding) = (verdict.action, verdict.rule);
                }
                self.report(call, None);
                None
            }
        }
    }

    /// An answer to a request that is not known here: of another exchange, on the event stream of the legacy transport or
    /// on one that was taken up again; not complete yet; or never made. Judged by the rules on what answers say.
    /// Without a message: one that cannot be read.
    fn judge_stray(&mut self, message: Option<&Message>) -> Option<Refused> {
        if !self.judges_strays {
            return None;
        }
        let mut call = Call {
            seen: self.base.clone(),
            progress: self.base_progress.clone(),
            findings: self.base_findings,
            subject: Subject::Message(message.map_or(Kind::Response, |message| message.kind)),
            id: message.and_then(|message| message.id.clone()),
            method: None,
            waits: Waits::No,
            action: Action::Allow,
            deciding: None,
            early: None,
        };
        crate::dialogue::call::forget_request(&mut call.seen);
        match message {
            Some(message) => read_result(&mut call, message),
            None => unread_answer(&mut call.seen),
        }
        let _ = self.judge(&call.seen, Phase::Message, &mut call.progress);
        let _ = interfering(self.judge_answered(&mut call))?;
        // Rules on the request alone were judged with the request.
        let verdict = crate::http::exchange::undecided_by_answer(&self.rules, &call.progress)?;
        let target = Target { id: call.id.clone(), method: None, kind: Kind::Request };
        Some(Refused { verdict, target, call })
    }

    /// A request or notification that the server sends to the client (sampling, elicitation …).
    fn take_server_message(&mut self, message: &Message) -> Option<Refused> {
        if message.kind != Kind::Request {
            return None;
        }
        let (mut seen, mut findings): (_, Findings) = (self.base.clone(), self.base_findings);
        crate::dialogue::call::describe(&mut seen, &mut findings, message);
        if findings.message == MessageFinding::None {
            return None;
        }
        let mut progress = self.base_progress.clone();
        let on_message = self.judge(&seen, Phase::Message, &mut progress);
        let on_answer = self.judge(&seen, Phase::Response, &mut progress);
        let refused = interfering(on_message).or(interfering(on_answer));
        let (action, deciding) = match (refused, on_answer) {
            (Some(verdict), _) | (None, Answer::Decided(verdict)) => (verdict.action, verdict.rule),
            (None, Answer::Needs(_) | Answer::Undecidable(_)) => (Action::Allow, None),
        };
        let call = Call {
            seen,
            progress,
            findings,
            subject: Subject::Message(message.kind),
            id: message.id.clone(),
            method: message.method.clone(),
            waits: Waits::No,
            action,
            deciding,
            early: None,
        };
        match refused {
            None => {
                self.report(call, None);
                None
            }
            // The client is not told: it never learns that it was asked.
            Some(verdict) => {
                let target = Target { id: call.id.clone(), method: call.method.clone(), kind: Kind::Notification };
                Some(Refused { verdict, target, call })
            }
        }
    }

    /// The answer cannot be read as one thing: no rule may conclude anything from what it lacks, and
    /// one that would interfere refuses it.
    pub(crate) fn answer_is_unreadable(&mut self) {
        for call in self.calls.iter_mut().filter(|c| c.waits == Waits::ForAnswer) {
            unread_answer(&mut call.seen);
        }
    }

    /// Judges what waits for the answer by what is known now: no more will come.
    pub(crate) fn judge_waiting(&mut self) -> Option<Refusal> {
        let mut calls = std::mem::take(&mut self.calls);
        let mut refused = None;
        for (index, call) in calls.iter_mut().enumerate().filter(|(_, call)| call.waits == Waits::ForAnswer) {
            call.waits = Waits::No;
            let answer = self.judge_answered(call);
            if let Some(verdict) = interfering(answer) {
                refused = Some((index, verdict));
                break;
            }
        }
        let refused = refused.map(|(index, verdict)| (calls.remove(index), verdict));
        self.calls = calls;
        let (call, verdict) = refused?;
        let target = Target { id: call.id.clone(), method: call.method.clone(), kind: Kind::Request };
        Some(self.refuse_answer(Refused { verdict, target, call }))
    }

    pub(crate) fn refuse_answer(&mut self, refused: Refused) -> Refusal {
        let Refused { verdict, target, mut call } = refused;
        let form = if target.id.is_some() { Form::Single } else { Form::Foreign };
        let refusal = self.refusal(verdict, vec![target], form);
        (call.action, call.deciding) = (verdict.action, verdict.rule);
        self.report(call, Some(&refusal));
        refusal
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
    if result.tools_overflow.is_cut() {
        seen.set_partial(Field::Tools);
        note(seen, Field::Truncated, "tools");
    }
    // Clients make of a text, or of a number, what they like.
    if result.is_error_given.is_present() && result.is_error.is_none() {
        seen.set_unreadable(Field::ErrorType);
        // What the HTTP status said stands beside it.
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
        seen.set(Field::ResponseSignatures, crate::dialogue::call::names(call.findings.response_signatures));
    }
}
