//! The text of an event stream: its events with a message in each, by either way of telling where a line ends.

use super::{
    answer_steps::{Broken, Left, Step, break_off},
    reading::Coded,
};
use crate::dialogue::Ears;
use gnomon_wire::{
    jsonrpc::{Likeness, Scanner},
    mcp,
    sse::{Item, OddEnd, SseParser, odd_end},
};

/// The reason that a stream cannot be read whose coding cannot be undone.
pub(super) const UNDECODABLE: &str = "content_coding";

/// Most bytes of an `endpoint` event's data.
const ENDPOINT_BYTES: usize = 2048;

/// A stream of events in one layer of codings.
pub(super) struct EventText {
    decoder: Option<Coded>,
    ears: Ears,
    lines: Lines,
    fork: Fork,
    /// The last byte of the text so far.
    last: Option<u8>,
    opening: Opening,
    /// The text from its first letter on, as long as it does not tell how it begins.
    begin: Vec<u8>,
    /// Reads it as one JSON text besides, where it begins like one.
    document: Option<Scanner>,
}

/// One reading of the lines of a stream.
#[derive(Clone)]
struct Lines {
    sse: SseParser,
    scanner: Scanner,
    told: Told,
    /// Data of the current event, for the `endpoint` event of the legacy transport.
    data: Vec<u8>,
}

/// Set once the current event was reported as unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    No,
    Yes,
}

/// A second reading of the event at hand, by readers that end lines at more characters ([`odd_end`]). At the blank line that all of them
/// take for one, they agree again.
enum Fork {
    None,
    /// Such a character may have begun; the reading in front of it, and its bytes.
    Begun(Box<Lines>, Vec<u8>),
    /// They read differently; the bytes of a character that has begun.
    Split(Box<Lines>, Vec<u8>),
}

/// The beginning of a decoded text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// White space so far, or part of a field's name.
    Unknown,
    /// Begins as an event stream does.
    Field,
    /// Begins as JSON does.
    Document,
    Other,
}

impl Opening {
    /// The beginning of a text of which `begin` was seen before.
    fn of(begin: &mut Vec<u8>, text: &[u8]) -> Self {
        const FIELDS: [&[u8]; 4] = [b"data", b"event", b"id", b"retry"];
        const MARK: &[u8] = b"\xef\xbb\xbf";
        let text = if begin.is_empty() { blank_start(text) } else { text };
        begin.extend_from_slice(text.get(..16).unwrap_or(text));
        let text = blank_start(begin.strip_prefix(MARK).unwrap_or(begin));
        match text.first() {
            _ if begin.len() > 64 => Self::Other,
            _ if MARK.starts_with(text) => Self::Unknown,
            None => Self::Unknown,
            Some(b'{' | b'[') => Self::Document,
            Some(b':') => Self::Field,
            Some(_) if FIELDS.iter().any(|field| text.starts_with(field)) => Self::Field,
            Some(_) if FIELDS.iter().any(|field| field.starts_with(text)) => Self::Unknown,
            Some(_) => Self::Other,
        }
    }
}

/// The text behind white space, and behind NUL bytes, which some clients trim as well.
fn blank_start(text: &[u8]) -> &[u8] {
    text.iter().position(|b| *b != 0 && !b.is_ascii_whitespace()).map_or(&[], |begin| &text[begin..])
}

impl EventText {
    pub fn new(decoder: Option<Coded>, ears: Ears) -> Self {
        let lines = Lines { sse: SseParser::new(), scanner: ears.scanner(), told: Told::No, data: Vec::new() };
        let (fork, opening, begin) = (Fork::None, Opening::Unknown, Vec::new());
        Self { decoder, ears, lines, fork, last: None, opening, begin, document: None }
    }

    /// The same, read as one JSON text besides, if it begins like one.
    pub fn or_one_document(mut self) -> Self {
        self.document = Some(self.ears.scanner());
        self
    }

    pub fn opening(&self) -> Opening {
        self.opening
    }

    pub fn is_behind(&self) -> bool {
        self.decoder.as_ref().is_some_and(Coded::is_behind)
    }

    pub fn kept(&self) -> usize {
        let coded = self.decoder.as_ref().map_or(0, Coded::kept);
        let fork = match &self.fork {
            Fork::None => 0,
            Fork::Begun(lines, _) | Fork::Split(lines, _) => lines.kept(),
        };
        self.lines.kept() + fork + self.document.as_ref().map_or(0, Scanner::kept) + coded
    }

    pub fn made(&self) -> u64 {
        self.decoder.as_ref().map_or(0, Coded::made)
    }

    pub fn feed(&mut self, raw: &[u8], on: &mut dyn FnMut(Step<'_>)) -> Left {
        let Self { decoder, ears, lines, fork, last, opening, begin, document } = self;
        let mut read = |plain: &[u8]| {
            if *opening == Opening::Unknown {
                *opening = Opening::of(begin, plain);
            }
            if matches!(opening, Opening::Field | Opening::Other) {
                *document = None;
            }
            if let Some(whole) = document {
                let read = whole.feed(plain, &mut |message| on(Step::Message(message)));
                if let Err(malformed) = read {
                    if whole.likeness() > Likeness::None {
                        break_off(whole.partial(), malformed.as_str(), on);
                    }
                    *document = None;
                }
            }
            // A text that may be one document ends only with the body.
            let is_document = document.is_some() && *opening == Opening::Document;
            let mut on_event = |step: Step<'_>| {
                if !(is_document && matches!(step, Step::EventEnd { .. })) {
                    on(step);
                }
            };
            read_events(lines, (fork, *last, ears), plain, &mut on_event);
            *last = plain.last().copied().or(*last);
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
        on(Step::Unreadable(Broken::Unknown(UNDECODABLE)));
        on(Step::Undecodable);
        Left::Nothing
    }
}

/// Reads text by both ways of telling where a line ends; `last` is the byte in front of it.
fn read_events(lines: &mut Lines, (fork, last, ears): (&mut Fork, Option<u8>, &Ears), plain: &[u8], on: &mut dyn FnMut(Step<'_>)) {
    // What the second reading has read already.
    let mut ahead = fork.decide(plain, ears, on);
    let mut at = 0;
    while let Some(rest) = plain.get(at..).filter(|rest| !rest.is_empty()) {
        let before = if at == 0 { last } else { plain.get(at - 1).copied() };
        let mut until = rest;
        if matches!(fork, Fork::None) {
            match odd_end(rest, before) {
                None => {}
                // Up to it, the readings are one.
                Some(OddEnd::Whole { at: begin, .. } | OddEnd::Begun { at: begin }) if begin > 0 => until = &rest[..begin],
                Some(OddEnd::Whole { length, .. }) => {
                    let mut second = Box::new(lines.clone());
                    second.end_line(ears, on);
                    *fork = Fork::Split(second, Vec::new());
                    ahead = at + length;
                }
                Some(OddEnd::Begun { .. }) => *fork = Fork::Begun(Box::new(lines.clone()), rest.to_vec()),
            }
        }
        let mut ended = None;
        let Lines { sse, scanner, told, data } = lines;
        let read = sse.feed_event(until, &mut |item, offset| match item {
            Item::Data(bytes) => hear((scanner, told, data), bytes, on),
            Item::Dispatch { event, .. } => {
                point((data, event), on);
                ended = Some(at + offset);
            }
        });
        let end = ended.unwrap_or(at + read);
        if let Fork::Split(second, begun) = fork {
            second.read_odd(
                begun,
                plain.get(ahead..end).unwrap_or_default(),
                plain.get(..ahead).and_then(|read| read.last().copied()),
                ears,
                on,
            );
            ahead = ahead.max(end);
        }
        if ended.is_some() {
            lines.begin(ears);
            *fork = Fork::None;
            on(Step::EventEnd { text: plain, end });
        }
        at += read;
    }
}

impl Fork {
    /// The next bytes tell whether a character has begun that ends a line for some: gives how many of them belong to it.
    fn decide(&mut self, next: &[u8], ears: &Ears, on: &mut dyn FnMut(Step<'_>)) -> usize {
        let Self::Begun(_, begun) = self else { return 0 };
        let known = begun.len();
        begun.extend(next.iter().take(3 - known));
        match odd_end(begun, None) {
            Some(OddEnd::Begun { at: 0 }) => 0,
            Some(OddEnd::Whole { at: 0, length }) => {
                if let Self::Begun(mut second, _) = std::mem::replace(self, Self::None) {
                    second.end_line(ears, on);
                    *self = Self::Split(second, Vec::new());
                }
                length - known
            }
            _ => {
                *self = Self::None;
                0
            }
        }
    }
}

impl Lines {
    fn kept(&self) -> usize {
        self.scanner.kept() + self.data.len()
    }

    /// The next event.
    fn begin(&mut self, ears: &Ears) {
        self.data.clear();
        self.told = Told::No;
        self.scanner = ears.scanner();
    }

    /// Reads text of which `before` is the byte in front, each line ended by whatever ends one for some reader. `begun` are bytes of a character that
    /// has begun.
    fn read_odd(&mut self, begun: &mut Vec<u8>, text: &[u8], before: Option<u8>, ears: &Ears, on: &mut dyn FnMut(Step<'_>)) {
        let joined = (!begun.is_empty()).then(|| [begun.as_slice(), text].concat());
        begun.clear();
        let (mut rest, mut before) = (joined.as_deref().unwrap_or(text), before);
        while let Some(odd) = odd_end(rest, before) {
            match odd {
                OddEnd::Whole { at, length } => {
                    self.read(&rest[..at], ears, on);
                    self.end_line(ears, on);
                    before = rest.get(at + length - 1).copied();
                    rest = &rest[at + length..];
                }
                OddEnd::Begun { at } => {
                    begun.extend_from_slice(&rest[at..]);
                    rest = &rest[..at];
                    break;
                }
            }
        }
        self.read(rest, ears, on);
    }

    fn end_line(&mut self, ears: &Ears, on: &mut dyn FnMut(Step<'_>)) {
        self.read(b"\n", ears, on);
    }

    /// Reads text whose events end for no other reading.
    fn read(&mut self, text: &[u8], ears: &Ears, on: &mut dyn FnMut(Step<'_>)) {
        let Self { sse, scanner, told, data } = self;
        sse.feed(text, &mut |item, _| match item {
            Item::Data(bytes) => hear((scanner, told, data), bytes, on),
            Item::Dispatch { event, .. } => {
                point((data, event), on);
                data.clear();
                *told = Told::No;
                *scanner = ears.scanner();
            }
        });
    }
}

/// Reads data of an event.
fn hear((scanner, told, data): (&mut Scanner, &mut Told, &mut Vec<u8>), bytes: &[u8], on: &mut dyn FnMut(Step<'_>)) {
    let room = ENDPOINT_BYTES.saturating_sub(data.len());
    data.extend_from_slice(&bytes[..bytes.len().min(room)]);
    // A malformed event stays failed until the next one begins.
    let read = scanner.feed(bytes, &mut |message| on(Step::Message(message)));
    if let Err(malformed) = read
        && *told == Told::No
        && scanner.likeness() > Likeness::None
    {
        *told = Told::Yes;
        break_off(scanner.partial(), malformed.as_str(), on);
    }
}

/// An event ends: an endpoint, if it names one.
fn point((data, event): (&[u8], &str), on: &mut dyn FnMut(Step<'_>)) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(endpoint) = mcp::endpoint_event(event, text)
    {
        on(Step::Endpoint(endpoint.path_and_query()));
    }
}
