//! A push parser for `text/event-stream` (WHATWG HTML, 9.2.6 "Interpreting an event stream").
//!
//! Data is handed on as it arrives, never collected: an event of any size costs a few hundred
//! bytes. What it does not do: remembering the id from one event to the next.

mod odd_ends;

pub use odd_ends::{OddEnd, odd_end};

/// Most bytes kept of an event name or id; longer ones are cut, and so equal no name we know.
pub const MAX_FIELD: usize = 256;

/// The presence of a `data` field in an event. Without one, clients do not dispatch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HasData {
    /// At least one `data` line, even an empty one.
    Yes,
    /// No event: the blank line only ends one.
    No,
}

/// A step of an event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The next bytes of the event's data. Lines are joined by `\n`, as clients see them.
    Data(&'a [u8]),
    /// The first line of the stream ends, and it is data behind a mark that some readers strip: for others it is an unknown field, and the
    /// event's data begins with the next line.
    MarkedLine,
    /// The blank line that ends an event.
    Dispatch {
        /// The event's name; empty stands for `message`.
        event: &'a str,
        /// The id, if this event set one.
        id: Option<&'a str>,
        /// Clients dispatch only events with data.
        has_data: HasData,
        /// The reconnection time, milliseconds, if this event set one.
        retry: Option<u32>,
    },
}

/// The fields that matter (WHATWG HTML, 9.2.6); unknown ones are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Data,
    Event,
    Id,
    Retry,
    Skipped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    /// Within one of the [`MARKS`] that may begin a stream; so many of its bytes are read.
    Mark(usize, usize),
    LineStart,
    Name,
    /// After the colon: one space is not part of the value.
    Colon(Field),
    Value(Field),
}

/// A line that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// It ends an event.
    Blank,
    Filled,
}

/// The marks that readers strip from the beginning of a stream, in this order: the byte order mark, and its bytes as characters, which clients
/// in JavaScript take for one (eventsource-parser).
const MARKS: [&[u8]; 2] = [b"\xEF\xBB\xBF", b"\xC3\xAF\xC2\xBB\xC2\xBF"];
/// The longest field name that matters is `event` or `retry`; one byte more tells "longer".
const MAX_NAME: usize = 6;

/// The parser of one stream. Memory: the event's name and id, at most [`MAX_FIELD`] bytes each.
#[derive(Clone, Debug)]
pub struct SseParser {
    state: LineState,
    /// The last byte was a carriage return: a line feed now belongs to it.
    after_cr: AfterCr,
    name: Vec<u8>,
    event: Vec<u8>,
    id: Option<Vec<u8>>,
    has_data: HasData,
    retry: Retry,
    first: FirstLine,
}

/// The first line of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstLine {
    Plain,
    /// It begins with one of the [`MARKS`], and has not ended.
    Marked,
    Over,
}

/// A reconnection time being read: ASCII digits only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    Unset,
    Millis(u32),
    Invalid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterCr {
    Yes,
    No,
}

impl Default for SseParser {
    fn default() -> Self {
        Self::new()
    }
}

impl SseParser {
    /// A parser at the start of a stream.
    pub fn new() -> Self {
        Self {
            state: LineState::Mark(0, 0),
            after_cr: AfterCr::No,
            name: Vec::with_capacity(MAX_NAME),
            event: Vec::new(),
            id: None,
            has_data: HasData::No,
            retry: Retry::Unset,
            first: FirstLine::Plain,
        }
    }

    /// A parser at the start of a line within a stream, and of an event.
    pub fn within() -> Self {
        Self { state: LineState::LineStart, first: FirstLine::Over, ..Self::new() }
    }

    /// Reads the next bytes. `sink` gets each item and the offset in `bytes` just after it.
    ///
    /// An event ends at the first byte of its blank line's terminator: of CR LF, the LF comes after
    /// the [`Item::Dispatch`], as it may be in the next chunk. There are no errors: what is not a
    /// known field is skipped, as clients do. An event that the stream's end cuts off is not
    /// dispatched.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Item<'_>, usize)) {
        let mut at = 0;
        while at < bytes.len() {
            let begin = at;
            at += self.feed_event(bytes.get(begin..).unwrap_or_default(), &mut |item, after| sink(item, begin + after));
        }
    }

    /// The same up to the end of the event at hand: gives the number of bytes read, at least one of those there are.
    pub fn feed_event(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Item<'_>, usize)) -> usize {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.after_cr == AfterCr::Yes {
                self.after_cr = AfterCr::No;
                if byte == b'\n' {
                    at += 1;
                    continue;
                }
            }
            if matches!(byte, b'\r' | b'\n') {
                if byte == b'\r' {
                    self.after_cr = AfterCr::Yes;
                }
                at += 1;
                if self.end_line(at, sink) == Line::Blank {
                    break;
                }
                continue;
            }
            at = self.in_line(bytes, at, byte, sink);
        }
        at
    }

    /// Reads at least one byte of a line, or changes the state; gives the index of the next.
    fn in_line(&mut self, bytes: &[u8], at: usize, byte: u8, sink: &mut dyn FnMut(Item<'_>, usize)) -> usize {
        match self.state {
            LineState::Mark(which, read) => self.in_mark(which, read, byte, at),
            LineState::LineStart => {
                self.name.clear();
                self.state = LineState::Name;
                at
            }
            LineState::Name if byte == b':' => {
                let field = self.field();
                self.begin(field, at + 1, sink);
                self.state = LineState::Colon(field);
                at + 1
            }
            LineState::Name => {
                if self.name.len() < MAX_NAME {
                    self.name.push(byte);
                    return at + 1;
                }
                // It is none that matters.
                let rest = bytes.get(at..).unwrap_or_default();
                at + memchr::memchr3(b':', b'\r', b'\n', rest).unwrap_or(rest.len())
            }
            LineState::Colon(field) => {
                self.state = LineState::Value(field);
                if byte == b' ' { at + 1 } else { at }
            }
            LineState::Value(field) => {
                let rest = bytes.get(at..).unwrap_or_default();
                let length = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                let value = rest.get(..length).unwrap_or_default();
                let next = at + length;
                match field {
                    Field::Data => sink(Item::Data(value), next),
                    Field::Event => extend(&mut self.event, value),
                    Field::Id => extend(self.id.get_or_insert_default(), value),
                    Field::Retry => self.retry = self.retry.read(value),
                    Field::Skipped => {}
                }
                next
            }
        }
    }

    fn in_mark(&mut self, which: usize, read: usize, byte: u8, at: usize) -> usize {
        let mark = MARKS.get(which).copied().unwrap_or_default();
        let next = if which + 1 < MARKS.len() { LineState::Mark(which + 1, 0) } else { LineState::LineStart };
        if mark.get(read) != Some(&byte) {
            // Not a mark after all: its beginning is the beginning of an unknown field.
            self.name.clear();
            self.name.extend(mark.get(..read).unwrap_or_default());
            self.state = if read == 0 { next } else { LineState::Name };
            return at;
        }
        if read + 1 < mark.len() {
            self.state = LineState::Mark(which, read + 1);
        } else {
            (self.state, self.first) = (next, FirstLine::Marked);
        }
        at + 1
    }

    fn field(&self) -> Field {
        match self.name.as_slice() {
            b"data" => Field::Data,
            b"event" => Field::Event,
            b"id" => Field::Id,
            b"retry" => Field::Retry,
            // Comments have an empty name.
            _ => Field::Skipped,
        }
    }

    /// A field of this event begins; its value may be empty.
    fn begin(&mut self, field: Field, after: usize, sink: &mut dyn FnMut(Item<'_>, usize)) {
        match field {
            Field::Data => {
                if self.has_data == HasData::Yes {
                    sink(Item::Data(b"\n"), after);
                }
                self.has_data = HasData::Yes;
            }
            // The last one counts.
            Field::Event => self.event.clear(),
            Field::Id => self.id.get_or_insert_default().clear(),
            Field::Retry => self.retry = Retry::Unset,
            Field::Skipped => {}
        }
    }

    fn end_line(&mut self, after: usize, sink: &mut dyn FnMut(Item<'_>, usize)) -> Line {
        let state = std::mem::replace(&mut self.state, LineState::LineStart);
        match state {
            LineState::Mark(_, 0) | LineState::LineStart => {
                self.first = FirstLine::Over;
                self.dispatch(after, sink);
                return Line::Blank;
            }
            LineState::Name => {
                // A line without a colon is a field with an empty value.
                let field = self.field();
                self.begin(field, after, sink);
            }
            LineState::Mark(..) | LineState::Colon(_) | LineState::Value(_) => {}
        }
        let first = std::mem::replace(&mut self.first, FirstLine::Over);
        if first == FirstLine::Marked && self.has_data == HasData::Yes {
            sink(Item::MarkedLine, after);
        }
        Line::Filled
    }

    fn dispatch(&mut self, after: usize, sink: &mut dyn FnMut(Item<'_>, usize)) {
        let event = String::from_utf8_lossy(&self.event);
        // An id with NUL is ignored.
        let id = self.id.as_deref().filter(|id| !id.contains(&0));
        let id = id.map(String::from_utf8_lossy);
        let retry = match self.retry {
            Retry::Millis(millis) => Some(millis),
            Retry::Unset | Retry::Invalid => None,
        };
        let item = Item::Dispatch { event: &event, id: id.as_deref(), has_data: self.has_data, retry };
        sink(item, after);
        self.event.clear();
        self.id = None;
        self.has_data = HasData::No;
        self.retry = Retry::Unset;
    }
}

impl Retry {
    fn read(self, digits: &[u8]) -> Self {
        digits.iter().fold(self, |read, byte| match (read, byte) {
            (Self::Unset, b'0'..=b'9') => Self::Millis(u32::from(byte - b'0')),
            (Self::Millis(millis), b'0'..=b'9') => Self::Millis(millis.saturating_mul(10).saturating_add(u32::from(byte - b'0'))),
            (Self::Unset | Self::Millis(_) | Self::Invalid, _) => Self::Invalid,
        })
    }
}

fn extend(field: &mut Vec<u8>, value: &[u8]) {
    let room = MAX_FIELD - field.len();
    field.extend_from_slice(value.get(..room).unwrap_or(value));
}

#[cfg(test)]
mod tests;
