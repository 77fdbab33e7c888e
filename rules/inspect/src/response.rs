//! The answer side of an exchange: what the server said, judged before the client reads it where a
//! rule asks for that, and only watched otherwise.

use crate::{
    Enforcement, Gate, Refusal,
    answer::{Form, Target},
    call::{Call, Subject, Waits},
    exchange::{Exchange, interfering, same_id},
    inspector::{Endpoint, Named},
    request_body::codings,
    sighting::{Findings, MessageFinding},
};
use gnomon_engine::{Answer, Verdict};
use gnomon_observe::{Action, Family, Field, Phase};
use gnomon_wire::{
    coding::Decoder,
    jsonrpc::{ArgumentCapture, Kind, Likeness, Malformed, Message, Scanner},
    mcp::{self, Signature},
    sse::{Item, SseParser},
};
use http::{HeaderMap, header};
use smol_str::{SmolStr, ToSmolStr};
use std::sync::Arc;

/// How the caller must treat the answer's body.
#[derive(Clone, Debug)]
pub enum ResponsePlan {
    /// Forward at once; feed [`Exchange::response_bytes`] as it passes.
    Stream,
    /// Keep head and body; feed [`Exchange::response_bytes`] until the gate opens or the window is
    /// full.
    HoldBody,
    /// Forward the head; pass the body through [`Exchange::filter_events`].
    FilterEvents,
    /// Give this answer instead.
    Refuse(Box<Refusal>),
}

/// Whether an event stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFlow {
    /// It does.
    Continue,
    /// It must be broken off, without a clean end.
    Abort,
}

/// Most bytes of an `endpoint` event's data.
const ENDPOINT_BYTES: usize = 2048;
/// Longest session id that is remembered; those in use are UUIDs and tokens far shorter.
const MAX_SESSION: usize = 512;

/// The answer being read.
pub(crate) struct ResponseBody {
    content: Content,
    decoder: Option<Decoder>,
    /// Made when there is something to read: most answers have no body worth it.
    reader: Option<Box<Reader>>,
    broken: bool,
    /// Raw bytes of the current event that were not forwarded.
    held: Vec<u8>,
    /// Part of the current event was forwarded already.
    spilled: bool,
    pub session: Option<SmolStr>,
    pub bytes: u64,
    pub endpoint: Arc<Endpoint>,
}

/// What reads an answer's text.
struct Reader {
    scanner: Scanner,
    sse: SseParser,
    /// Data of the current event, for the `endpoint` event of the legacy transport.
    data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Json,
    Events,
    Opaque,
}

/// A step of reading an answer.
enum Step {
    Message(Box<Message>),
    /// Meant as a message, and two readers could take it for different ones.
    Unreadable,
    Endpoint(String),
    /// The event is over at this offset of the chunk.
    EventEnd(usize),
}

impl ResponseBody {
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Self {
            content: Content::Opaque,
            decoder: None,
            reader: None,
            broken: false,
            held: Vec::new(),
            spilled: false,
            session: None,
            bytes: 0,
            endpoint,
        }
    }

    /// Decodes and scans; what was found, in order. With `offsets`, the ends of events are told.
    fn read(&mut self, raw: &[u8], steps: &mut Vec<Step>) {
        self.bytes += raw.len() as u64;
        if self.broken || self.content == Content::Opaque {
            return;
        }
        let Self { decoder, reader, content, broken, .. } = self;
        let reader = reader.get_or_insert_with(|| Box::new(Reader { scanner: scanner(), sse: SseParser::new(), data: Vec::new() }));
        let Reader { scanner, sse, data } = &mut **reader;
        let mut out = Vec::with_capacity(1);
        let mut plain_text = |plain: &[u8]| match content {
            Content::Json => {
                let read = scanner.feed(plain, &mut out);
                steps.extend(out.drain(..).map(|m| Step::Message(Box::new(m))));
                if read.is_err_and(|malformed| malformed != Malformed::NotJson) {
                    steps.push(Step::Unreadable);
                }
                read
            }
            Content::Events => {
                read_events(sse, scanner, data, plain, &mut out, steps);
                Ok(())
            }
            Content::Opaque => Ok(()),
        };
        let failed = match decoder {
            None => plain_text(raw).is_err(),
            Some(decoder) => {
                let mut scanned: Result<(), Malformed> = Ok(());
                let decoded = decoder.feed(raw, &mut |plain| {
                    if scanned.is_ok() {
                        scanned = plain_text(plain);
                    }
                });
                if decoded.is_err() {
                    steps.push(Step::Unreadable);
                }
                scanned.is_err() || decoded.is_err()
            }
        };
        *broken = failed;
    }
}

pub(crate) fn scanner() -> Scanner {
    Scanner::new(gnomon_wire::jsonrpc::Limits { arguments: ArgumentCapture::Off, ..Default::default() })
}

fn read_events(
    sse: &mut SseParser,
    scanner: &mut Scanner,
    data: &mut Vec<u8>,
    plain: &[u8],
    out: &mut Vec<Message>,
    steps: &mut Vec<Step>,
) {
    sse.feed(plain, &mut |item, offset| match item {
        Item::Data(bytes) => {
            let room = ENDPOINT_BYTES.saturating_sub(data.len());
            data.extend_from_slice(&bytes[..bytes.len().min(room)]);
            // A malformed event stays failed until the next one begins.
            let read = scanner.feed(bytes, out);
            steps.extend(out.drain(..).map(|m| Step::Message(Box::new(m))));
            if read.is_err_and(|malformed| malformed != Malformed::NotJson) && scanner.likeness() > Likeness::None {
                steps.push(Step::Unreadable);
            }
        }
        Item::Dispatch { event, .. } => {
            if let Ok(text) = std::str::from_utf8(data)
                && let Some(endpoint) = mcp::endpoint_event(event, text)
            {
                steps.push(Step::Endpoint(endpoint.path_and_query().to_owned()));
            }
            data.clear();
            *scanner = self::scanner();
            steps.push(Step::EventEnd(offset));
        }
    });
}

impl Exchange {
    /// The answer's head.
    pub fn response_head(&mut self, status: u16, headers: &HeaderMap) -> ResponsePlan {
        self.request_over_for_answer();
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
        let content = content_of(headers);
        self.response.content = content;
        match codings(headers) {
            Ok(codings) if codings.is_empty() => {}
            Ok(codings) => self.response.decoder = Some(Decoder::new(&codings, self.inspector.bounds.decode)),
            Err(_) => {
                self.response.content = Content::Opaque;
                if content != Content::Opaque {
                    self.answer_is_unreadable();
                }
            }
        }
        let waits = self.calls.iter().any(|c| c.waits == Waits::ForAnswer);
        match (self.response.content, waits) {
            // A server may send requests of its own on a stream, which rules may refuse.
            (Content::Events, false) if self.may_refuse_messages() => ResponsePlan::FilterEvents,
            (_, false) => ResponsePlan::Stream,
            (Content::Json, true) => ResponsePlan::HoldBody,
            (Content::Events, true) => ResponsePlan::FilterEvents,
            // Nothing in it can be read as a message, so all there is to know is known.
            (Content::Opaque, true) => match self.judge_waiting() {
                Some(refusal) => ResponsePlan::Refuse(Box::new(refusal)),
                None => ResponsePlan::Stream,
            },
        }
    }

    /// Feeds bytes of the answer's body. A refusal means: give that answer instead, or break off if
    /// the head has left.
    pub fn response_bytes(&mut self, raw: &[u8]) -> Gate {
        let mut steps = Vec::new();
        self.response.read(raw, &mut steps);
        for step in steps {
            if let Step::Message(message) = &step
                && let Some((verdict, target)) = self.take_answer(message)
            {
                return self.refuse_answer(verdict, target);
            }
            match step {
                Step::Endpoint(path) => self.take_endpoint(path),
                Step::Unreadable => {
                    self.answer_is_unreadable();
                    if let Some(refusal) = self.judge_waiting() {
                        return Gate::Refuse(Box::new(refusal));
                    }
                }
                Step::Message(_) | Step::EventEnd(_) => {}
            }
        }
        if self.calls.iter().any(|c| c.waits == Waits::ForAnswer) && self.response.content == Content::Json && !self.response.broken {
            Gate::Hold
        } else {
            Gate::Stream
        }
    }

    /// Passes bytes of an event stream; what may be forwarded is appended to `out`. A refused event
    /// is replaced by one that says so.
    pub fn filter_events(&mut self, raw: &[u8], out: &mut Vec<u8>) -> EventFlow {
        let coded = self.response.decoder.is_some();
        let mut steps = Vec::new();
        self.response.read(raw, &mut steps);
        let (mut start, mut replacement): (usize, Option<String>) = (0, None);
        for step in steps {
            match step {
                Step::Message(message) => {
                    if let Some((verdict, target)) = self.take_answer(&message) {
                        let Gate::Refuse(refusal) = self.refuse_answer(verdict, target) else { continue };
                        // Nothing can be put into a compressed stream, nor instead of what has left.
                        if coded || self.response.spilled {
                            return EventFlow::Abort;
                        }
                        replacement = Some(refusal.targets.iter().filter_map(|t| refusal.event_for(t)).collect());
                    }
                }
                Step::Endpoint(path) => self.take_endpoint(path),
                Step::Unreadable => {
                    self.answer_is_unreadable();
                    if let Some(refusal) = self.judge_waiting() {
                        if coded || self.response.spilled {
                            return EventFlow::Abort;
                        }
                        replacement = Some(refusal.targets.iter().filter_map(|t| refusal.event_for(t)).collect());
                    }
                }
                Step::EventEnd(end) if !coded => {
                    match replacement.take() {
                        Some(event) => out.extend_from_slice(event.as_bytes()),
                        None => {
                            out.append(&mut self.response.held);
                            out.extend_from_slice(&raw[start..end]);
                        }
                    }
                    self.response.held.clear();
                    self.response.spilled = false;
                    start = end;
                }
                Step::EventEnd(_) => {}
            }
        }
        if coded {
            out.extend_from_slice(raw);
            return EventFlow::Continue;
        }
        if replacement.is_some() {
            // The rest of the refused event is still to come; what was held of it is dropped, and
            // the remainder cannot be told from it: end here.
            out.extend_from_slice(replacement.unwrap_or_default().as_bytes());
            return EventFlow::Abort;
        }
        self.response.held.extend_from_slice(&raw[start..]);
        if self.response.held.len() > self.inspector.bounds.window {
            out.append(&mut self.response.held);
            self.response.spilled = true;
        }
        EventFlow::Continue
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
    }

    /// Reports calls whose answer is long in coming, so that an alert does not wait for it. Calls
    /// that a rule still judges are kept.
    pub fn flush_overdue(&mut self) {
        let (waiting, mut due): (Vec<Call>, Vec<Call>) =
            std::mem::take(&mut self.calls).into_iter().partition(|c| c.waits == Waits::ForAnswer);
        for (number, call) in (self.calls_reported..).zip(&mut due) {
            // What nobody answers does not wait for an answer.
            if call.id.is_some() {
                call.seen.set(Field::Pending, true);
                self.await_answer(number, call.id.clone());
            }
        }
        self.calls = due;
        self.flush();
        self.calls = waiting;
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
        let Some(call) = self.calls.iter().find(|c| c.method.as_deref() == Some("initialize")) else { return };
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

    /// A server may answer before the request is over. Where a rule could refuse an answer for what it
    /// says, the request is judged by what came of it, so that no answer passes unjudged; elsewhere
    /// the request goes on and is judged as it comes.
    fn request_over_for_answer(&mut self) {
        let answers_are_judged = self.rules.rules().iter().any(|r| r.phase == Phase::Response && r.acts().interferes());
        if answers_are_judged && self.calls.is_empty() && !self.is_refused() {
            let _ = self.request_end();
        }
    }

    fn take_endpoint(&mut self, path: String) {
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

    /// One message of the answer. Gives the verdict if it must not pass.
    pub(crate) fn take_answer(&mut self, message: &Message) -> Option<(Verdict, Target)> {
        if message.method.is_some() {
            return self.take_server_message(message);
        }
        let index = self.calls.iter().position(|c| same_id(c.id.as_ref(), message.id.as_ref())).or(match self.calls.len() {
            1 if self.calls[0].id.is_none() || message.kind == Kind::Error => Some(0),
            _ => None,
        });
        let Some(index) = index else {
            self.take_late_answer(message);
            return None;
        };
        let mut call = self.calls.remove(index);
        read_result(&mut call, message);
        let answer = self.judge_answered(&mut call);
        match interfering(answer).filter(|_| call.waits == Waits::ForAnswer) {
            Some(verdict) => {
                let target = Target { id: call.id.clone(), method: call.method.clone(), kind: Kind::Request };
                self.calls.push(call);
                Some((verdict, target))
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

    /// A request or notification that the server sends to the client (sampling, elicitation …).
    fn take_server_message(&mut self, message: &Message) -> Option<(Verdict, Target)> {
        if message.kind != Kind::Request {
            return None;
        }
        let (mut seen, mut findings): (_, Findings) = (self.base.clone(), self.base_findings);
        crate::call::describe(&mut seen, &mut findings, message, false);
        if findings.message != MessageFinding::Mcp {
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
        };
        match refused {
            None => {
                self.report(call, None);
                None
            }
            // The client is not told: it never learns that it was asked.
            Some(verdict) => {
                let target = Target { id: call.id.clone(), method: call.method.clone(), kind: Kind::Notification };
                self.calls.push(call);
                Some((verdict, target))
            }
        }
    }

    /// The answer cannot be read as one thing: no rule may conclude anything from what it lacks, and
    /// one that would interfere refuses it.
    pub(crate) fn answer_is_unreadable(&mut self) {
        const SAID: [Field; 5] = [Field::McpServerName, Field::McpServerVersion, Field::Tools, Field::RpcStatus, Field::ResponseSignatures];
        for call in self.calls.iter_mut().filter(|c| c.waits == Waits::ForAnswer) {
            for field in SAID {
                call.seen.clear(field);
                call.seen.set_unreadable(field);
            }
        }
    }

    /// Judges what waits for the answer by what is known now: no more will come.
    pub(crate) fn judge_waiting(&mut self) -> Option<Refusal> {
        let mut calls = std::mem::take(&mut self.calls);
        let mut refused = None;
        for call in calls.iter_mut().filter(|call| call.waits == Waits::ForAnswer) {
            call.waits = Waits::No;
            let answer = self.judge_answered(call);
            if let Some(verdict) = interfering(answer) {
                refused = Some((verdict, Target { id: call.id.clone(), method: call.method.clone(), kind: Kind::Request }));
                break;
            }
        }
        self.calls = calls;
        let (verdict, target) = refused?;
        match self.refuse_answer(verdict, target) {
            Gate::Refuse(refusal) => Some(*refusal),
            Gate::Stream | Gate::Hold => None,
        }
    }

    pub(crate) fn refuse_answer(&mut self, verdict: Verdict, target: Target) -> Gate {
        let form = if target.id.is_some() { Form::Single } else { Form::Foreign };
        let refusal = self.refusal(verdict, vec![target.clone()], form);
        if let Some(index) = self.calls.iter().position(|c| c.id == target.id) {
            let mut call = self.calls.remove(index);
            (call.action, call.deciding) = (verdict.action, verdict.rule);
            self.report(call, Some(&refusal));
        }
        Gate::Refuse(Box::new(refusal))
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
    if let Some(code) = result.error_code {
        seen.set(Field::RpcStatus, code.to_smolstr());
        seen.set(Field::ErrorType, code.to_smolstr());
    }
    if result.is_error == Some(true) {
        seen.set(Field::ErrorType, "tool_error");
    }
    if !call.findings.response_signatures.is_empty() {
        seen.set(Field::ResponseSignatures, crate::call::names(call.findings.response_signatures));
    }
}

fn content_of(headers: &HeaderMap) -> Content {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else { return Content::Opaque };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("text/event-stream") {
        Content::Events
    } else if kind.eq_ignore_ascii_case("application/json") || kind.len() > 5 && kind[kind.len() - 5..].eq_ignore_ascii_case("+json") {
        Content::Json
    } else {
        Content::Opaque
    }
}
