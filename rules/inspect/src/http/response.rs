//! The answer side of an exchange: what the server said, judged before the client reads it where a
//! rule asks for that, and only watched otherwise.

use super::{
    answer_body::{Awaited, Content, Event, Questions, content_of},
    answer_steps::{Broken, Left, Step},
    charset,
    exchange::{Exchange, Gate, Said},
    reading::{Codings, codings},
    words::{Words, WordsOf},
};
use crate::{
    MAX_MESSAGES, Passage, Refusal,
    dialogue::{Form, bound},
};
use gnomon_observe::{Family, Field};
use gnomon_wire::mcp::{self, Signature};
use http::{HeaderMap, header};

/// Instructions to the caller for the answer's body.
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

/// The state of an event stream after a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFlow {
    /// The stream goes on.
    Continue,
    /// The stream goes on, and not all input was read: call again with no bytes.
    Behind,
    /// The stream must be broken off, without a clean end.
    Abort,
}

/// A comment in place of an event that is left out at the beginning of a stream: what follows must not become the beginning of the client's,
/// where a mark is stripped that is part of a name elsewhere.
const LEFT_OUT: &[u8] = b":\n\n";

/// Longest session id that is remembered; those in use are UUIDs and tokens far shorter.
const MAX_SESSION: usize = 512;

impl Exchange {
    /// The answer's head.
    pub fn response_head(&mut self, status: u16, headers: &HeaderMap) -> ResponsePlan {
        // The server need not have waited for what it must not have.
        if let Gate::Refuse(refusal) = self.gate() {
            return ResponsePlan::Refuse(refusal);
        }
        self.hear_head(status, headers);
        // A server may answer before the request has ended: then the answered call is not known, and the answer is judged by what
        // it says itself. The request is judged as it comes.
        if self.dialogue.may_refuse_input_requests() {
            self.response.questions = Questions::Judged;
        }
        let waits = self.waits_for_early_answer() || self.waits();
        let heard = self.heard_as_words(status, headers);
        let content = match content_of(headers) {
            Content::Opaque if waits => Content::Unlabelled,
            Content::Framed if !waits => Content::Opaque,
            // Its client shows an error whole, whatever is in it.
            Content::Events if waits && heard == Some(WordsOf::Error) => Content::Unlabelled,
            content => content,
        };
        let codings = codings(headers);
        if let Some(kind) = heard {
            self.hear_words(kind, &codings, headers);
        }
        let undecodable = match content {
            Content::Opaque => None,
            _ if codings.chain.is_err() => Some("content_coding"),
            _ => charset::is_hidden(headers, content == Content::Events).then_some("charset"),
        };
        if let Some(why) = undecodable {
            self.response.begin(Content::Opaque, codings);
            let refused = self.take_undecodable(why, content, if waits { Awaited::Yes } else { Awaited::No });
            return refused.map_or(ResponsePlan::Stream, ResponsePlan::Refuse);
        }
        self.response.begin(content, codings);
        match (content, waits) {
            // A server may send requests of its own on a stream, which rules may refuse.
            (Content::Events, false) if self.dialogue.may_refuse_messages() => ResponsePlan::FilterEvents,
            (_, false) => ResponsePlan::Stream,
            (Content::Json | Content::Unlabelled | Content::Framed, true) => ResponsePlan::HoldBody,
            (Content::Events, true) => ResponsePlan::FilterEvents,
            // Nothing in it can be read as a message, so all there is to know is known.
            (Content::Opaque, true) => self.dialogue.judge_waiting().map_or(ResponsePlan::Stream, ResponsePlan::Refuse),
        }
    }

    /// Whether its body may be words that a client shows, which some rule looks at.
    fn heard_as_words(&self, status: u16, headers: &HeaderMap) -> Option<WordsOf> {
        let kind = match content_of(headers) {
            _ if status >= 400 => WordsOf::Error,
            Content::Json => WordsOf::Json,
            _ => return None,
        };
        let wanted = self.dialogue.rules().texts().is_some_and(|patterns| patterns.fields().any(|field| field == Field::ErrorMessage));
        let answers = self.dialogue.form() != Form::Foreign || self.waits_for_early_answer();
        (wanted && answers).then_some(kind)
    }

    fn hear_words(&mut self, kind: WordsOf, codings: &Codings, headers: &HeaderMap) {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.trim().parse().ok());
        let words = Words::new(kind, codings, self.dialogue.bounds().decode, &self.dialogue.ears(), length);
        self.response.hears(words);
    }

    /// Tells that the answer, which is over, ended within a message.
    fn take_cut(&mut self) {
        if self.response.messages == 0 && self.response.is_within_json() {
            self.dialogue.answer_is_cut();
        }
    }

    /// Judges the words of an answer, now that they are over: the error that its client makes of them.
    fn take_words(&mut self, words: Words) -> Option<Box<Refusal>> {
        // Where a message answered the call, the words beside it were judged with it. Of a list not: many clients read none, whatever is in it.
        let is_answered = !self.dialogue.has_open_calls() && self.said == Said::All;
        let has_message = words.kind() == WordsOf::Json && self.response.messages > 0;
        if (is_answered || has_message) && !words.are_of_a_list() {
            return None;
        }
        let is_whole = words.are_all_kept();
        let mut said = words.end();
        // Which reading its client takes is not known: any in which something was found, else the first.
        if said.iter().any(|message| !message.heard.marks.is_empty()) {
            said.retain(|message| !message.heard.marks.is_empty());
        } else if is_answered || has_message {
            return None;
        } else if !is_whole {
            return self.dialogue.take_unreadable_answer(bound::NO_ROOM);
        } else {
            said.truncate(1);
        }
        said.iter().find_map(|message| self.dialogue.take_answer(message))
    }

    /// An answer in a coding, or in characters, that cannot be undone: neither what it answers nor what its server asks is known.
    fn take_undecodable(&mut self, why: &'static str, content: Content, awaited: Awaited) -> Option<Box<Refusal>> {
        let refused = match awaited {
            Awaited::Yes => self.dialogue.take_undecodable_answer(why),
            Awaited::No => {
                self.dialogue.answer_is_unreadable(why);
                None
            }
        };
        let refused = refused.or_else(|| match (content, self.response.questions) {
            (Content::Events, _) => self.dialogue.take_unreadable_stream(why),
            (_, Questions::Judged) => self.dialogue.take_unreadable_question(why),
            (_, Questions::Pass) => None,
        });
        self.response.passed = (refused.is_none() && content == Content::Events).then_some(Passage::EventsUnreadable);
        refused
    }

    /// The passage by which the answer passes unread, if it does.
    #[must_use]
    pub fn answer_passed(&self) -> Option<Passage> {
        self.response.passed
    }

    /// Writes the facts of the head into the observation.
    fn hear_head(&mut self, status: u16, headers: &HeaderMap) {
        let challenge = headers.get_all(header::WWW_AUTHENTICATE).iter().find_map(|v| mcp::challenge_signature(v.to_str().ok()?));
        let session = headers.get("mcp-session-id").and_then(|v| v.to_str().ok()).filter(|s| s.len() <= MAX_SESSION);
        if let Some(session) = session {
            self.dialogue.remember_session(session);
        }
        self.dialogue.answer_begins_with(Some(status), |rules, seen, signatures| {
            signatures.extend(challenge.into_iter().chain(session.map(|_| Signature::H2)));
            // The session that begins with this call, so that its story has its beginning.
            if let Some(session) = session
                && seen.text(Field::McpMethod) == Some("initialize")
                && seen.text(Field::McpSessionId).is_none()
            {
                seen.set(Field::McpSessionId, session);
            }
            for name in &rules.wanted().response_headers {
                for value in headers.get_all(name.as_str()) {
                    seen.set_member(Family::ResponseHeader, name.clone(), String::from_utf8_lossy(value.as_bytes()).into_owned());
                }
            }
        });
    }

    /// True if a rule could refuse the answer to a call.
    fn waits(&self) -> bool {
        self.dialogue.waits_for_answer() || self.response.questions == Questions::Judged
    }

    /// True if the answer may be to a call that is still to come.
    fn waits_for_early_answer(&self) -> bool {
        self.dialogue.judges_strays() && self.said == Said::Some
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
        if refused.is_none()
            && let Some(words) = self.response.whole_words()
        {
            self.take_cut();
            refused = self.take_words(*words);
        }
        let waits = self.waits() || self.waits_for_early_answer();
        Some(match refused {
            Some(refusal) => Gate::Refuse(refusal),
            None if self.response.is_behind() => return None,
            None if waits && (self.response.may_be_json() || self.response.is_heard()) => Gate::Hold,
            // The awaited message has come; later bytes may have to be withheld as well, and with it.
            None if (self.dialogue.judges_strays() || self.response.questions == Questions::Judged)
                && self.response.may_go_on_as_json() =>
            {
                Gate::Hold
            }
            None => Gate::Stream,
        })
    }

    fn read_answer(&mut self, raw: &[u8], on: &mut dyn FnMut(&mut Self, Step<'_>)) {
        self.dialogue.answers(raw.len());
        self.response.hear(raw);
        let awaited = if self.dialogue.judges_strays() || self.waits() { Awaited::Yes } else { Awaited::No };
        let Some(mut reader) = self.response.take(self.dialogue.bounds(), awaited, || self.dialogue.ears()) else { return };
        let single = self.response.content != Content::Events;
        let mut left = reader.feed(raw, awaited, &mut |step| match step {
            // A stream may go on for days; one document has as many messages as a request may have.
            Step::Message(_) if single && self.response.messages >= MAX_MESSAGES => {
                self.response.messages = self.response.messages.saturating_add(1)
            }
            Step::Message(message) => {
                self.response.has_message();
                let message = self.response.with_words(message);
                on(self, Step::Message(&message));
            }
            _ => on(self, step),
        });
        if single && self.response.messages > MAX_MESSAGES && left == Left::More {
            on(self, Step::Unreadable(Broken::Unknown(bound::TOO_MANY_MESSAGES)));
            left = Left::Nothing;
        }
        self.response.put(reader, left);
    }

    /// The refusal that a step of the answer requires, if any.
    fn take_step(&mut self, step: &Step<'_>) -> Option<Box<Refusal>> {
        match step {
            Step::Message(message) => self.dialogue.take_answer(message),
            Step::Unreadable(Broken::Question(why)) => self.dialogue.take_unreadable_question(why),
            Step::Unreadable(Broken::Unknown(why)) => self.dialogue.take_unreadable_answer(why),
            Step::Endpoint(path) => {
                self.response.session = Some((*path).into());
                self.dialogue.answer_shows(Signature::R2);
                None
            }
            Step::CutOff => {
                self.dialogue.answer_is_cut();
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

    /// The same in steps of a mebibyte of decoded bytes.
    pub fn filter_some(&mut self, raw: &[u8], out: &mut Vec<u8>) -> EventFlow {
        let window = self.dialogue.bounds().window;
        let (mut start, mut flow) = (0, EventFlow::Continue);
        self.read_answer(raw, &mut |exchange, step| {
            if flow == EventFlow::Abort {
                return;
            }
            let body = &mut exchange.response;
            match step {
                Step::EventEnd { text, end } => {
                    if body.event != Event::Refused {
                        body.passes_on_held(out);
                        body.passes_on(text.get(start..end).unwrap_or_default(), out);
                    }
                    body.event = Event::Held;
                    start = end;
                }
                Step::TextEnd { text } => {
                    if body.event != Event::Refused {
                        body.held.extend_from_slice(text.get(start..).unwrap_or_default());
                        if body.held.len() > window {
                            body.passes_on_held(out);
                            body.event = Event::Begun;
                        }
                    }
                    start = 0;
                }
                Step::Undecodable => flow = EventFlow::Abort,
                Step::Message(_) | Step::Unreadable(_) | Step::Endpoint(_) | Step::CutOff => {
                    // A refused event may hold more messages; none of them is forwarded, and one answer is enough.
                    if body.event == Event::Refused {
                        return;
                    }
                    let Some(refusal) = exchange.take_step(&step) else { return };
                    let body = &mut exchange.response;
                    // An event whose beginning was forwarded cannot be replaced.
                    if body.event == Event::Begun {
                        flow = EventFlow::Abort;
                        return;
                    }
                    // Its answer goes at once, though the rest of the event may be long in coming.
                    let answers: String = refusal.targets.iter().filter_map(|target| refusal.event_for(target)).collect();
                    let answers = if answers.is_empty() && body.is_at_its_beginning() { LEFT_OUT } else { answers.as_bytes() };
                    body.passes_on(answers, out);
                    body.held.clear();
                    body.event = Event::Refused;
                }
            }
        });
        if flow == EventFlow::Continue && self.response.is_behind() { EventFlow::Behind } else { flow }
    }

    /// Ends the answer. What is still held of an event stream is appended to `out`.
    pub fn response_end(&mut self, out: &mut Vec<u8>) -> Gate {
        out.append(&mut self.response.held);
        self.take_cut();
        if let Some(words) = self.response.last_words()
            && let Some(refusal) = self.take_words(*words)
        {
            return Gate::Refuse(refusal);
        }
        match self.dialogue.answer_over() {
            Err(refusal) => Gate::Refuse(refusal),
            Ok(()) => Gate::Stream,
        }
    }

    /// Bytes of the answer that are kept until they can be judged: of messages that are not whole, and of an event that is not over.
    #[must_use]
    pub fn answer_keeps(&self) -> usize {
        self.response.kept()
    }

    /// Bytes that decoders have made of the answer so far; none any more once reading has ended.
    #[must_use]
    pub fn answer_decoded(&self) -> u64 {
        self.response.made()
    }

    /// There is no room for what is kept of the answer: it is judged as one that cannot be read, and left unread from now on. A refusal
    /// means: break off.
    pub fn answer_has_no_room(&mut self) -> Gate {
        self.response.leaves_unread();
        let refused = self.dialogue.take_unreadable_answer(bound::NO_ROOM).or_else(|| match self.response.questions {
            Questions::Judged => self.dialogue.take_unreadable_question(bound::NO_ROOM),
            Questions::Pass => None,
        });
        refused.map_or(Gate::Stream, Gate::Refuse)
    }

    /// The path of the legacy transport's paired POSTs, once its stream has told it.
    #[must_use]
    pub fn paired_path(&self) -> Option<&str> {
        self.response.session.as_deref()
    }
}
