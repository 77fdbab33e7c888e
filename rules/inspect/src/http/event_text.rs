//! The text of an event stream: its events with a message in each, by either way of telling where a line ends.

use super::{
    answer_steps::{Broken, Left, Step, break_off},
    reading::Coded,
    words::{DOCUMENT_BYTES, said},
};
use crate::dialogue::Ears;
use gnomon_wire::{
    jsonrpc::{Likeness, Scanner},
    mcp,
    sse::{HasData, Item, OddEnd, SseParser, odd_end},
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
    /// The event at hand as readers have it that take its first line for an unknown field ([`Item::MarkedLine`]).
    unmarked: Option<Box<Lines>>,
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
    event: EventData,
}

/// What is read of the event at hand.
#[derive(Clone)]
struct EventData {
    scanner: Scanner,
    told: Told,
    /// Its data, for the `endpoint` event of the legacy transport, and as words where it is no message.
    data: Vec<u8>,
    /// Messages in it.
    messages: u32,
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
        const MARKS: [&[u8]; 2] = [b"\xef\xbb\xbf", b"\xc3\xaf\xc2\xbb\xc2\xbf"];
        let text = if begin.is_empty() { blank_start(text) } else { text };
        begin.extend_from_slice(text.get(..16).unwrap_or(text));
        let unmarked = MARKS.iter().fold(begin.as_slice(), |text, mark| text.strip_prefix(*mark).unwrap_or(text));
        let text = blank_start(unmarked);
        match text.first() {
            _ if begin.len() > 64 => Self::Other,
            _ if MARKS.iter().any(|mark| mark.starts_with(text)) => Self::Unknown,
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
        let lines = Lines::new(SseParser::new(), &ears);
        let (fork, opening, begin) = (Fork::None, Opening::Unknown, Vec::new());
        Self { decoder, ears, lines, unmarked: None, fork, last: None, opening, begin, document: None }
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
        let unmarked = self.unmarked.as_ref().map_or(0, |lines| lines.kept());
        self.lines.kept() + unmarked + fork + self.document.as_ref().map_or(0, Scanner::kept) + coded
    }

    pub fn made(&self) -> u64 {
        self.decoder.as_ref().map_or(0, Coded::made)
    }

    pub fn feed(&mut self, raw: &[u8], on: &mut dyn FnMut(Step<'_>)) -> Left {
        let Self { decoder, ears, lines, unmarked, fork, last, opening, begin, document } = self;
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
            read_events((lines, unmarked), (fork, *last, ears), plain, &mut on_event);
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
fn read_events(
    (lines, unmarked): (&mut Lines, &mut Option<Box<Lines>>),
    (fork, last, ears): (&mut Fork, Option<u8>, &Ears),
    plain: &[u8],
    on: &mut dyn FnMut(Step<'_>),
) {
    // What the second reading has read already.
    let mut ahead = fork.decide(plain, ears, on);
    let mut at = 0;
    // The next odd end, looked for once: there may be an event for each byte.
    let mut odd = NextOdd::Unknown;
    while let Some(rest) = plain.get(at..).filter(|rest| !rest.is_empty()) {
        let mut until = rest;
        if matches!(fork, Fork::None) {
            let before = if at == 0 { last } else { plain.get(at - 1).copied() };
            match odd.from(at, rest, before) {
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
        let (mut ended, mut marked) = (None, None);
        let Lines { sse, event } = lines;
        let read = sse.feed_event(until, &mut |item, offset| match item {
            Item::Data(bytes) => event.hear(bytes, ears, on),
            Item::MarkedLine => marked = Some(at + offset),
            Item::Dispatch { event: name, has_data, .. } => {
                event.end((name, has_data), ears, on);
                ended = Some(at + offset);
            }
        });
        let end = ended.unwrap_or(at + read);
        if marked.is_some() {
            *unmarked = Some(Box::new(Lines::new(SseParser::within(), ears)));
        }
        if let Some(second) = unmarked {
            second.read(plain.get(marked.unwrap_or(at)..end).unwrap_or_default(), ears, on);
        }
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
            (*fork, *unmarked) = (Fork::None, None);
            on(Step::EventEnd { text: plain, end });
        }
        at += read;
    }
}

/// The first odd end from some place of a text on, as far as it was looked for.
enum NextOdd {
    Unknown,
    None,
    At(usize, OddEnd),
}

impl NextOdd {
    /// The first from `at` on, where `rest` begins behind the byte `before`; its offset is in `rest`.
    fn from(&mut self, at: usize, rest: &[u8], before: Option<u8>) -> Option<OddEnd> {
        let is_behind = |next: &Self| matches!(next, Self::Unknown) || matches!(next, Self::At(place, _) if *place < at);
        if is_behind(self) {
            *self = match odd_end(rest, before) {
                None => Self::None,
                Some(odd @ (OddEnd::Whole { at: begin, .. } | OddEnd::Begun { at: begin })) => Self::At(at + begin, odd),
            };
        }
        let Self::At(place, odd) = *self else { return None };
        Some(match odd {
            OddEnd::Whole { length, .. } => OddEnd::Whole { at: place - at, length },
            OddEnd::Begun { .. } => OddEnd::Begun { at: place - at },
        })
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
    fn new(sse: SseParser, ears: &Ears) -> Self {
        Self { sse, event: EventData::new(ears) }
    }

    fn kept(&self) -> usize {
        self.event.scanner.kept() + self.event.data.len()
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
        let Self { sse, event } = self;
        sse.feed(text, &mut |item, _| match item {
            Item::Data(bytes) => event.hear(bytes, ears, on),
            Item::MarkedLine => {}
            Item::Dispatch { event: name, has_data, .. } => event.end((name, has_data), ears, on),
        });
    }
}

/// True of data that begins as a list does: many clients read none, whatever is in it.
fn is_list(data: &[u8]) -> bool {
    blank_start(data).first() == Some(&b'[')
}

impl EventData {
    fn new(ears: &Ears) -> Self {
        Self { scanner: ears.scanner(), told: Told::No, data: Vec::new(), messages: 0 }
    }

    /// Reads data of the event.
    fn hear(&mut self, bytes: &[u8], ears: &Ears, on: &mut dyn FnMut(Step<'_>)) {
        let Self { scanner, told, data, messages } = self;
        let bound = if ears.hear_errors() { DOCUMENT_BYTES } else { ENDPOINT_BYTES };
        if *messages == 0 || is_list(data) {
            let room = bound.saturating_sub(data.len());
            data.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        // A malformed event stays failed until the next one begins.
        let read = scanner.feed(bytes, &mut |message| {
            *messages = messages.saturating_add(1);
            on(Step::Message(message));
        });
        if let Err(malformed) = read
            && *told == Told::No
            && scanner.likeness() > Likeness::None
        {
            *told = Told::Yes;
            break_off(scanner.partial(), malformed.as_str(), on);
        }
    }

    /// It ends: an endpoint, if it names one, or words that its client shows as an error, if there is no message in it. The next one begins;
    /// where there was no data, there is nothing to begin anew.
    fn end(&mut self, (name, has_data): (&str, HasData), ears: &Ears, on: &mut dyn FnMut(Step<'_>)) {
        if has_data == HasData::No {
            return;
        }
        if let Ok(text) = std::str::from_utf8(&self.data[..self.data.len().min(ENDPOINT_BYTES)])
            && let Some(endpoint) = mcp::endpoint_event(name, text)
        {
            on(Step::Endpoint(endpoint.path_and_query()));
        }
        if (self.messages == 0 || is_list(&self.data)) && matches!(name, "" | "message") {
            if self.scanner.depth() > 0 && self.scanner.likeness() > Likeness::None {
                on(Step::CutOff);
            }
            if ears.hear_errors()
                && let Some(said) = said(ears, &self.data).filter(|said| !said.heard.marks.is_empty())
            {
                on(Step::Message(&said));
            }
        }
        let mut data = std::mem::take(&mut self.data);
        data.clear();
        data.shrink_to(ENDPOINT_BYTES);
        *self = Self { data, ..Self::new(ears) };
    }
}
