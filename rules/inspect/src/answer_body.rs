//! The body of an answer: as JSON, or as a stream of events with a message in each.

use crate::{
    inspector::{Bounds, Endpoint},
    reading::{Found, Manner, Piece, Reading, Search},
};
use gnomon_wire::{
    coding::{Coding, DecodeLimits, Decoder, Unsupported},
    jsonrpc::{ArgumentCapture, Likeness, Limits, Malformed, Message, Scanner},
    mcp,
    sse::{Item, SseParser},
};
use http::{HeaderMap, header};
use smol_str::SmolStr;
use std::sync::Arc;

/// Most bytes of an `endpoint` event's data.
const ENDPOINT_BYTES: usize = 2048;
/// Decoded bytes of an answer that nobody asks for and that shows nothing of JSON-RPC, after which it is left unread.
const IDLE_BYTES: usize = 1 << 20;

/// The answer being read.
pub(crate) struct AnswerBody {
    pub content: Content,
    codings: Result<Vec<Coding>, Unsupported>,
    /// Made when there is something to read: most answers have no body worth it.
    reader: Option<Reader>,
    over: bool,
    /// Raw bytes of the current event that were not forwarded.
    pub held: Vec<u8>,
    pub event: Event,
    pub session: Option<SmolStr>,
    pub bytes: u64,
    pub endpoint: Arc<Endpoint>,
}

/// What became of the current event so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It is kept until it is over.
    Held,
    /// Part of it was forwarded already.
    Begun,
    /// It is refused, and what is left of it is dropped.
    Refused,
}

/// What an answer is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// It says that it is JSON.
    Json,
    /// It does not say so, and is read in case it is.
    Unlabelled,
    /// A stream of events.
    Events,
    /// Not read.
    Opaque,
}

/// A step of reading an answer.
pub(crate) enum Step<'a> {
    Message(&'a Message),
    /// Meant as a message, and two readers could take it for different ones.
    Unreadable,
    Endpoint(&'a str),
    /// An event is over at this offset of the decoded text.
    EventEnd {
        text: &'a [u8],
        end: usize,
    },
    /// All of this decoded text of a stream was looked at.
    TextEnd {
        text: &'a [u8],
    },
    /// The stream cannot be decoded any further.
    Undecodable,
}

enum Reader {
    Json { reading: Box<Reading>, idle: usize },
    Events(Box<EventText>),
}

/// Whether the answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    Yes,
    No,
}

impl AnswerBody {
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Self {
            content: Content::Opaque,
            codings: Ok(Vec::new()),
            reader: None,
            over: false,
            held: Vec::new(),
            event: Event::Held,
            session: None,
            bytes: 0,
            endpoint,
        }
    }

    /// The head has come.
    pub fn begin(&mut self, content: Content, codings: Result<Vec<Coding>, Unsupported>) {
        (self.content, self.codings) = (content, codings);
    }

    /// Whether it may still be the JSON that somebody waits for.
    pub fn may_be_json(&self) -> bool {
        let reads = |reader: &Reader| matches!(reader, Reader::Json { reading, .. } if reading.may_be_json());
        matches!(self.content, Content::Json | Content::Unlabelled) && !self.over && self.reader.as_ref().is_none_or(reads)
    }

    /// Takes the reader out, for feeding.
    pub fn take(&mut self, bounds: &Bounds) -> Option<AnswerReader> {
        if self.over || self.content == Content::Opaque {
            return None;
        }
        let made = self.reader.take().unwrap_or_else(|| self.make_reader(bounds));
        Some(AnswerReader { reader: made, content: self.content })
    }

    /// Puts it back.
    pub fn put(&mut self, reader: AnswerReader, left: Left) {
        match left {
            Left::More => self.reader = Some(reader.reader),
            Left::Nothing => self.over = true,
        }
    }

    fn make_reader(&mut self, bounds: &Bounds) -> Reader {
        let codings = std::mem::replace(&mut self.codings, Ok(Vec::new()));
        match self.content {
            Content::Events => {
                let codings = codings.unwrap_or_default();
                // A stream may go on for days: its length is no sign of a bomb.
                let limits = DecodeLimits { max_output: u64::MAX, ..bounds.decode };
                Reader::Events(Box::new(EventText::new((!codings.is_empty()).then(|| Decoder::new(&codings, limits)))))
            }
            _ => Reader::Json { reading: Box::new(Reading::new(codings, Manner::of(bounds, limits(), Search::Opening))), idle: 0 },
        }
    }
}

/// Whether there is more to learn from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    More,
    Nothing,
}

/// What reads an answer's text.
pub(crate) struct AnswerReader {
    reader: Reader,
    content: Content,
}

impl AnswerReader {
    /// Decodes and scans; what is found goes to `on`, in order.
    pub fn feed(&mut self, raw: &[u8], awaited: Awaited, on: &mut dyn FnMut(Step<'_>)) -> Left {
        match &mut self.reader {
            Reader::Json { reading, idle } => {
                let found = reading.feed(raw, &mut |piece| match piece {
                    Piece::Message(message, _) => on(Step::Message(message)),
                    Piece::Text(text) => *idle += text.len(),
                });
                let unreadable = match found {
                    Found::More if awaited == Awaited::No && *idle > IDLE_BYTES && reading.likeness() == Likeness::None => {
                        return Left::Nothing;
                    }
                    Found::More => return Left::More,
                    Found::Unreadable(_) => true,
                    // Some other text that begins like JSON.
                    Found::Faulty(_) if self.content == Content::Unlabelled => return Left::More,
                    Found::Faulty(malformed) => malformed != Malformed::NotJson,
                    Found::Foreign(reason) => reason.is_some_and(|reason| reason != "binary"),
                };
                if unreadable {
                    on(Step::Unreadable);
                }
                Left::Nothing
            }
            Reader::Events(text) => text.feed(raw, on),
        }
    }
}

/// The scanner of an answer.
pub(crate) fn scanner() -> Scanner {
    Scanner::new(limits())
}

fn limits() -> Limits {
    Limits { arguments: ArgumentCapture::Off, ..Limits::default() }
}

/// A stream of events in one layer of codings.
struct EventText {
    decoder: Option<Decoder>,
    sse: SseParser,
    scanner: Scanner,
    /// Data of the current event, for the `endpoint` event of the legacy transport.
    data: Vec<u8>,
}

impl EventText {
    fn new(decoder: Option<Decoder>) -> Self {
        Self { decoder, sse: SseParser::new(), scanner: scanner(), data: Vec::new() }
    }

    fn feed(&mut self, raw: &[u8], on: &mut dyn FnMut(Step<'_>)) -> Left {
        let Self { decoder, sse, scanner, data } = self;
        let mut read = |plain: &[u8]| {
            read_events(sse, scanner, data, plain, on);
            on(Step::TextEnd { text: plain });
        };
        let decoded = match decoder {
            None => {
                read(raw);
                Ok(())
            }
            Some(decoder) => decoder.feed(raw, &mut read),
        };
        if decoded.is_ok() {
            return Left::More;
        }
        on(Step::Unreadable);
        on(Step::Undecodable);
        Left::Nothing
    }
}

fn read_events(sse: &mut SseParser, scanner: &mut Scanner, data: &mut Vec<u8>, plain: &[u8], on: &mut dyn FnMut(Step<'_>)) {
    sse.feed(plain, &mut |item, offset| match item {
        Item::Data(bytes) => {
            let room = ENDPOINT_BYTES.saturating_sub(data.len());
            data.extend_from_slice(&bytes[..bytes.len().min(room)]);
            // A malformed event stays failed until the next one begins.
            let read = scanner.feed(bytes, &mut |message| on(Step::Message(message)));
            if read.is_err() && scanner.likeness() > Likeness::None {
                on(Step::Unreadable);
            }
        }
        Item::Dispatch { event, .. } => {
            if let Ok(text) = std::str::from_utf8(data)
                && let Some(endpoint) = mcp::endpoint_event(event, text)
            {
                on(Step::Endpoint(endpoint.path_and_query()));
            }
            data.clear();
            *scanner = self::scanner();
            on(Step::EventEnd { text: plain, end: offset });
        }
    });
}

/// What an answer says that it is.
pub(crate) fn content_of(headers: &HeaderMap) -> Content {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else { return Content::Opaque };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("text/event-stream") {
        Content::Events
    } else if ["application/json", "text/json"].iter().any(|json| kind.eq_ignore_ascii_case(json))
        || kind.len() > 5 && kind[kind.len() - 5..].eq_ignore_ascii_case("+json")
    {
        Content::Json
    } else {
        Content::Opaque
    }
}
