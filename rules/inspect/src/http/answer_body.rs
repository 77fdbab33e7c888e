//! The body of an answer: as JSON, or as a stream of events with a message in each.

use super::{
    answer_steps::{Broken, Left, Step, break_off},
    event_text::{EventText, Opening, UNDECODABLE},
    reading::{Coded, Codings, Found, Manner, Piece, Reading, Search, says_frames},
    words::Words,
};
use crate::{
    Bounds, Passage,
    dialogue::{Ears, answer_limits},
};
use gnomon_wire::{
    coding::DecodeLimits,
    jsonrpc::{Likeness, Malformed, Message},
};
use http::{HeaderMap, header};
use smol_str::SmolStr;
use std::borrow::Cow;

/// Decoded bytes of an answer that no call waits for and that shows nothing of JSON-RPC, after which it is left unread.
const IDLE_BYTES: usize = 1 << 20;

/// The answer being read.
pub(crate) struct AnswerBody {
    pub content: Content,
    codings: Codings,
    /// Hears it as words, where it may be no message.
    words: Option<Box<Words>>,
    /// The reader, made when there is something to read: most answers have no body worth it.
    reader: Option<Reader>,
    over: bool,
    /// Raw bytes of the current event that were not forwarded.
    pub held: Vec<u8>,
    /// Bytes that were forwarded of a stream, or in place of what it had.
    passed_on: u64,
    pub event: Event,
    pub session: Option<SmolStr>,
    /// Messages in it so far.
    pub messages: u32,
    pub questions: Questions,
    /// The passage by which it passes unread.
    pub passed: Option<Passage>,
}

/// The treatment of requests that the server puts into the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Questions {
    Pass,
    Judged,
}

/// The progress of reading the current event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Buffered until its end.
    Held,
    /// Part of it was forwarded already.
    Begun,
    /// Refused; the rest of the event is dropped.
    Refused,
}

/// The format that an answer is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Declared as JSON.
    Json,
    /// Not declared as JSON, but read in case it is.
    Unlabelled,
    /// The same for messages in frames: its client may wait for each.
    Framed,
    /// A stream of events.
    Events,
    /// Not read.
    Opaque,
}

enum Reader {
    Json(Box<Document>),
    Events(Box<Streams>),
}

impl Reader {
    fn kept(&self) -> usize {
        match self {
            Self::Json(document) => document.reading.as_ref().map_or(0, Reading::kept) + document.events.as_ref().map_or(0, Streams::kept),
            Self::Events(events) => events.kept(),
        }
    }

    fn made(&self) -> u64 {
        match self {
            Self::Json(document) => {
                let text = document.reading.as_ref().map_or(0, Reading::made);
                text.saturating_add(document.events.as_ref().map_or(0, Streams::made))
            }
            Self::Events(events) => events.made(),
        }
    }
}

/// An answer that is read as one text.
struct Document {
    /// The JSON reader; none once the text is known not to be JSON.
    reading: Option<Reading>,
    idle: usize,
    /// The same bytes as an event stream, as long as they may be one: not all clients go by the declared type.
    events: Option<Streams>,
}

/// An answer that is read as a stream of events.
struct Streams {
    /// By all the codings of its headers; none once that is known to be something else.
    announced: Option<EventText>,
    /// The same by some of them, as a client may ([`Codings`]).
    others: Vec<EventText>,
}

/// An awaited answer, or one that no call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    Yes,
    No,
}

impl AnswerBody {
    pub fn new() -> Self {
        Self {
            content: Content::Opaque,
            codings: Codings::NONE,
            words: None,
            reader: None,
            over: false,
            held: Vec::new(),
            passed_on: 0,
            event: Event::Held,
            session: None,
            messages: 0,
            questions: Questions::Pass,
            passed: None,
        }
    }

    /// The head has come.
    pub fn begin(&mut self, content: Content, codings: Codings) {
        (self.content, self.codings) = (content, codings);
    }

    /// Its body is heard as words besides.
    pub fn hears(&mut self, words: Words) {
        self.words = Some(Box::new(words));
    }

    /// True if its words are not over.
    pub fn is_heard(&self) -> bool {
        self.words.is_some()
    }

    /// Its next bytes, as words.
    pub fn hear(&mut self, raw: &[u8]) {
        if let Some(words) = &mut self.words {
            words.feed(raw);
        }
    }

    /// A message in it, with what its words say besides.
    pub fn with_words<'m>(&self, message: &'m Message) -> Cow<'m, Message> {
        self.words.as_ref().map_or(Cow::Borrowed(message), |words| words.beside(message))
    }

    /// A message was found in it: a document that is one is not shown as words.
    pub fn has_message(&mut self) {
        self.messages = self.messages.saturating_add(1);
        self.words.take_if(|words| words.are_of_a_document());
    }

    /// True if JSON in it has begun and not ended.
    pub fn is_within_json(&self) -> bool {
        let Some(Reader::Json(document)) = &self.reader else { return false };
        let is_json = |reading: &Reading| self.content == Content::Json || reading.likeness() > Likeness::None;
        document.reading.as_ref().is_some_and(|reading| is_json(reading) && reading.is_within_json())
    }

    /// Its words, if no more of them will come and all of it is read.
    pub fn whole_words(&mut self) -> Option<Box<Words>> {
        if self.is_behind() {
            return None;
        }
        self.words.take_if(|words| words.are_whole())
    }

    /// Its words as far as they came.
    pub fn last_words(&mut self) -> Option<Box<Words>> {
        self.words.take()
    }

    /// True if it may still be the JSON that a call waits for.
    pub fn may_be_json(&self) -> bool {
        let reads = |reader: &Reader| matches!(reader, Reader::Json(document) if document.may_be_read());
        self.is_one_text() && !self.over && self.reader.as_ref().is_none_or(reads)
    }

    /// The same, and more of it may come that is not known yet: of a stream of events the next may be long in coming.
    pub fn may_go_on_as_json(&self) -> bool {
        let reads = |reader: &Reader| matches!(reader, Reader::Json(document) if document.may_be_json());
        self.is_one_text() && !self.over && self.reader.as_ref().is_none_or(reads)
    }

    fn is_one_text(&self) -> bool {
        matches!(self.content, Content::Json | Content::Unlabelled | Content::Framed)
    }

    /// True if nothing of a stream has been forwarded, nor in its place.
    pub fn is_at_its_beginning(&self) -> bool {
        self.passed_on == 0
    }

    /// Forwards bytes of a stream.
    pub fn passes_on(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.passed_on += bytes.len() as u64;
        out.extend_from_slice(bytes);
    }

    /// Forwards what is held of it.
    pub fn passes_on_held(&mut self, out: &mut Vec<u8>) {
        self.passed_on += self.held.len() as u64;
        out.append(&mut self.held);
    }

    /// True if input is buffered that was not read yet: feed it with nothing until this is false.
    pub fn is_behind(&self) -> bool {
        let reader_is = |reader: &Reader| match reader {
            Reader::Json(document) => document.is_behind(),
            Reader::Events(events) => events.is_behind(),
        };
        !self.over && self.reader.as_ref().is_some_and(reader_is) || self.words.as_ref().is_some_and(|words| words.is_behind())
    }

    /// Bytes that are kept of what is not whole, or waits for the rest of its event.
    pub fn kept(&self) -> usize {
        self.held.capacity() + self.reader.as_ref().map_or(0, Reader::kept) + self.words.as_ref().map_or(0, |words| words.kept())
    }

    /// Bytes that decoders have made of it so far.
    pub fn made(&self) -> u64 {
        self.reader.as_ref().map_or(0, Reader::made).saturating_add(self.words.as_ref().map_or(0, |words| words.made()))
    }

    /// Leaves what is still to come unread.
    pub fn leaves_unread(&mut self) {
        (self.reader, self.words, self.over) = (None, None, true);
    }

    /// Takes the reader out, for feeding.
    pub fn take(&mut self, bounds: &Bounds, awaited: Awaited, ears: impl FnOnce() -> Ears) -> Option<AnswerReader> {
        if self.over || self.content == Content::Opaque {
            return None;
        }
        let made = self.reader.take().unwrap_or_else(|| self.make_reader(bounds, awaited, ears()));
        Some(AnswerReader { reader: made, content: self.content })
    }

    /// Puts it back.
    pub fn put(&mut self, reader: AnswerReader, left: Left) {
        match left {
            Left::More => self.reader = Some(reader.reader),
            Left::Nothing => self.over = true,
        }
    }

    fn make_reader(&mut self, bounds: &Bounds, awaited: Awaited, ears: Ears) -> Reader {
        let codings = std::mem::replace(&mut self.codings, Codings::NONE);
        // A stream may go on for days: its length is no sign of a bomb.
        let limits = DecodeLimits { max_output: u64::MAX, ..bounds.decode };
        match self.content {
            // Clients that take it for one JSON text do not ask what it says it is.
            Content::Events => Reader::Events(Box::new(Streams::new(&codings, limits, &ears, EventText::or_one_document))),
            _ => {
                let awaited = awaited == Awaited::Yes && codings.chain.is_ok();
                let events = awaited.then(|| Streams::new(&codings, limits, &ears, |text| text));
                let search = if self.content == Content::Framed { Search::Bytes } else { Search::Opening };
                let manner = Manner { ears, ..Manner::of(bounds, answer_limits(), search) };
                let reading = Some(Reading::new(codings, manner));
                Reader::Json(Box::new(Document { reading, idle: 0, events }))
            }
        }
    }
}

/// The reader of an answer's text.
pub(crate) struct AnswerReader {
    reader: Reader,
    content: Content,
}

impl AnswerReader {
    /// Decodes and scans; the steps found go to `on`, in order.
    pub fn feed(&mut self, raw: &[u8], awaited: Awaited, on: &mut dyn FnMut(Step<'_>)) -> Left {
        match &mut self.reader {
            Reader::Json(document) => document.feed(raw, (awaited, self.content), on),
            Reader::Events(streams) => streams.feed(raw, on),
        }
    }
}

impl Streams {
    fn new(codings: &Codings, limits: DecodeLimits, ears: &Ears, manner: impl Fn(EventText) -> EventText) -> Self {
        let chain = codings.chain.as_deref().unwrap_or_default();
        let text = |codings: &[_]| manner(EventText::new((!codings.is_empty()).then(|| Coded::new(codings, limits)), ears.clone()));
        Self { announced: Some(text(chain)), others: codings.others.iter().map(|codings| text(codings)).collect() }
    }

    fn texts(&self) -> impl Iterator<Item = &EventText> {
        self.announced.iter().chain(&self.others)
    }

    fn kept(&self) -> usize {
        self.texts().map(EventText::kept).sum()
    }

    fn made(&self) -> u64 {
        self.texts().map(EventText::made).fold(0, u64::saturating_add)
    }

    fn is_behind(&self) -> bool {
        self.texts().any(EventText::is_behind)
    }

    /// True if one of them begins as events do.
    fn are_some(&self) -> bool {
        self.texts().any(|text| text.opening() == Opening::Field)
    }

    /// True if all of them begin otherwise.
    fn are_none(&self) -> bool {
        self.texts().all(|text| matches!(text.opening(), Opening::Document | Opening::Other))
    }

    /// What is found by the other readings comes first; that they cannot be decoded says nothing.
    fn feed(&mut self, raw: &[u8], on: &mut dyn FnMut(Step<'_>)) -> Left {
        self.others.retain_mut(|text| {
            let left = text.feed(raw, &mut |step| match step {
                Step::Unreadable(Broken::Unknown(UNDECODABLE)) => {}
                Step::Message(_) | Step::Unreadable(_) => on(step),
                _ => {}
            });
            left == Left::More
        });
        if let Some(text) = &mut self.announced
            && text.feed(raw, on) == Left::Nothing
        {
            self.announced = None;
        }
        if self.announced.is_none() && self.others.is_empty() { Left::Nothing } else { Left::More }
    }
}

impl Document {
    /// True if it may still be an answer that a call waits for.
    fn may_be_read(&self) -> bool {
        self.may_be_json() || self.events.as_ref().is_some_and(Streams::are_some)
    }

    fn is_behind(&self) -> bool {
        self.reading.as_ref().is_some_and(Reading::is_behind) || self.events.as_ref().is_some_and(Streams::is_behind)
    }

    fn may_be_json(&self) -> bool {
        self.reading.as_ref().is_some_and(Reading::may_be_json)
    }

    fn feed(&mut self, raw: &[u8], (awaited, content): (Awaited, Content), on: &mut dyn FnMut(Step<'_>)) -> Left {
        if let Some(events) = &mut self.events {
            let left = events.feed(raw, &mut |step| {
                if matches!(step, Step::Message(_) | Step::Unreadable(_)) {
                    on(step);
                }
            });
            if left == Left::Nothing || events.are_none() {
                self.events = None;
            }
        }
        if self.reading.is_some() && self.read(raw, (awaited, content), on) == Left::Nothing {
            self.reading = None;
        }
        if self.reading.is_some() || self.events.is_some() { Left::More } else { Left::Nothing }
    }

    fn read(&mut self, raw: &[u8], (awaited, content): (Awaited, Content), on: &mut dyn FnMut(Step<'_>)) -> Left {
        let (Some(reading), idle) = (&mut self.reading, &mut self.idle) else { return Left::Nothing };
        let found = reading.feed(raw, &mut |piece| match piece {
            Piece::Message(message, _) => on(Step::Message(message)),
            Piece::Text(text) => *idle += text.len(),
        });
        let why = match found {
            Found::More if awaited == Awaited::No && *idle > IDLE_BYTES && reading.likeness() == Likeness::None => {
                return Left::Nothing;
            }
            // Answers have one value.
            Found::More | Found::Rows => return Left::More,
            Found::Unreadable(reason) => Some(reason),
            // Some other text that begins like JSON.
            Found::Faulty(_) if content != Content::Json => return Left::More,
            Found::Faulty(malformed) => Some(malformed.as_str()).filter(|_| malformed != Malformed::NotJson),
            Found::Foreign(reason) => reason.filter(|reason| *reason != "binary"),
        };
        if let Some(why) = why {
            break_off(reading.partial(), why, on);
        }
        Left::Nothing
    }
}

/// True if some client would read an answer as a stream of events: many look for the name anywhere in the header, whatever else is in it.
#[must_use]
pub fn says_events(headers: &HeaderMap) -> bool {
    const NAME: &[u8] = b"text/event-stream";
    let kinds = headers.get_all(header::CONTENT_TYPE).iter();
    kinds.map(http::HeaderValue::as_bytes).any(|kind| kind.windows(NAME.len()).any(|part| part.eq_ignore_ascii_case(NAME)))
}

/// The format of an answer by its headers.
pub(crate) fn content_of(headers: &HeaderMap) -> Content {
    if says_events(headers) {
        return Content::Events;
    }
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Content::Opaque };
    let kind = String::from_utf8_lossy(kind.as_bytes());
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if says_frames(kind) {
        return Content::Framed;
    }
    if ["application/json", "text/json"].iter().any(|json| kind.eq_ignore_ascii_case(json))
        || kind.len() > 5 && kind[kind.len() - 5..].eq_ignore_ascii_case("+json")
    {
        Content::Json
    } else {
        Content::Opaque
    }
}
