//! The tokenizer: RFC 8259 as a push machine. Depth is a bounded stack, strings go past eight bytes
//! at a time, and only what [`Collector`] asks for is decoded.

use super::collect::{Collector, Ending, Nth};
use super::digest::Digest;
use super::leading::{Leading, Next};
use super::listening::Listening;
use super::number::Number;
use super::places::{Container, ContainerRole, Slot, Word};
use super::rescue::{Found, Rescue};
use super::text::Text;
use super::texts::{Parts, TextSink};
use super::wide::{Doubt, Opening, Resolved};
use super::{Finish, Likeness, Limits, Malformed, Message, Shape};

mod strings;

/// Nesting at which even a body known to be too deep is no longer followed.
const DEPTH_FOLLOWED: usize = 4096;
/// Bytes of white space that are looked at at once, where there is a lot.
const BLOCK: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScanState {
    /// Before the first object or array.
    Top,
    Value,
    FirstItem,
    FirstKey,
    Key,
    Colon,
    AfterValue,
    Text(Role),
    Escape(Role),
    Hex(Role, u8, u16),
    Number(Number),
    Word(Word, usize),
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Key,
    Value,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    container: Container,
    place: ContainerRole,
    /// Length of the argument path, inside arguments.
    path: u16,
    /// Length of the path of what is listened to.
    heard: u16,
    /// The element of an array that is read.
    index: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Between,
    Inside,
}

/// Receives each message as it completes; the message is only lent for the call.
pub type Sink<'a> = dyn FnMut(&Message) + 'a;

/// Reads one body. Memory: a few KiB, whatever the body's size and however many messages it has.
#[derive(Clone, Debug)]
pub struct Scanner {
    limits: Limits,
    opening: Opening,
    /// Set while the body is read as UTF-16 or UTF-32 and may still be UTF-8.
    doubt: Doubt,
    leading: Leading,
    state: ScanState,
    stack: Vec<Frame>,
    slot: Slot,
    text: Text,
    collector: Collector,
    progress: Progress,
    shape: Option<Shape>,
    max_depth: usize,
    items: usize,
    offset: u64,
    failed: Option<Malformed>,
    rescue: Option<Rescue>,
    digest: Digest,
    /// What looks at the texts of answers, if anything does.
    listening: Option<Box<Listening>>,
}

impl Scanner {
    /// A scanner at the start of a body.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            opening: Opening::new(),
            doubt: Doubt::Settled,
            leading: Leading::new(),
            state: ScanState::Top,
            stack: Vec::with_capacity(16),
            slot: Slot::Top,
            text: Text::default(),
            collector: Collector::new(limits),
            progress: Progress::Between,
            shape: None,
            max_depth: usize::from(limits.max_depth).min(DEPTH_FOLLOWED),
            items: 0,
            offset: 0,
            failed: None,
            rescue: None,
            digest: Digest::default(),
            listening: None,
        }
    }

    /// The same, which hands the texts of these parts of answers to `sink` as it decodes them. What the sink finds is in
    /// [`Message::heard`].
    #[must_use]
    pub fn listening(self, parts: Parts, sink: Box<dyn TextSink>) -> Self {
        Self { listening: Some(Box::new(Listening::new(parts, sink))), ..self }
    }

    /// Reads the next bytes and lends `sink` each message that they complete. An object that is no
    /// JSON-RPC message (neither `jsonrpc`, `method`, `result` nor `error`) is read and dropped.
    ///
    /// # Errors
    /// The body is malformed. Messages completed before the fault went to `sink`. Further calls give
    /// the same error; they may still raise [`Scanner::likeness`].
    pub fn feed(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), Malformed> {
        let mut rest = bytes;
        if let Opening::Collecting(head) = &mut self.opening {
            rest = head.take(bytes);
            if head.is_full() {
                // A fault stays, and comes again for the rest, which is looked through all the same.
                let _ = self.begin_text(sink);
            }
        }
        self.decoded(rest, sink)
    }

    /// Reads the collected bytes, once the encoding is known, or as well known as it will be.
    fn begin_text(&mut self, sink: &mut Sink<'_>) -> Result<(), Malformed> {
        let Opening::Collecting(head) = std::mem::replace(&mut self.opening, Opening::Utf8) else { return Ok(()) };
        let (opening, head) = head.open();
        self.opening = opening;
        self.offset = head.mark();
        if let Opening::Wide(_) = self.opening {
            self.doubt = Doubt::Before(Leading::new());
            // Few parsers read UTF-16, and differently: its messages are recognised but not relied on.
            self.collector.fault(Malformed::Utf16);
        }
        self.decoded(head.bytes(), sink)
    }

    fn decoded(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), Malformed> {
        let mut wide = match &self.opening {
            Opening::Collecting(_) => return self.failed.map_or(Ok(()), Err),
            Opening::Utf8 => return self.read(bytes, sink),
            Opening::Wide(transcoder) => *transcoder,
        };
        if let Resolved::Utf8 { leading, open, rest } = self.doubt.feed(bytes) {
            let (offset, listening) = (self.offset, self.listening.take());
            *self = Self { opening: Opening::Utf8, leading, offset, listening, ..Self::new(self.limits) };
            self.collector.fault(Malformed::LeadingText);
            let _ = self.read(&[open], sink);
            return self.read(bytes.get(bytes.len() - rest..).unwrap_or_default(), sink);
        }
        let mut read = self.failed.map_or(Ok(()), Err);
        wide.feed(bytes, &mut |text| read = self.read(text, sink));
        self.opening = Opening::Wide(wide);
        // Bytes that are not valid in one encoding may be valid in the other.
        if self.doubt.is_open() { Ok(()) } else { read }
    }

    /// Reads UTF-8.
    fn read(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), Malformed> {
        if let Some(failed) = self.failed {
            self.look_for_likeness(bytes);
            return Err(failed);
        }
        let mut at = 0;
        while at < bytes.len() {
            match self.step(bytes, at, sink) {
                Ok(next) => at = next,
                Err(malformed) => {
                    self.fail(malformed);
                    self.look_for_likeness(bytes.get(at..).unwrap_or_default());
                    return Err(malformed);
                }
            }
        }
        self.digest.chunk(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Ends the body. Calling it twice gives the same answer.
    ///
    /// # Errors
    /// As [`Scanner::feed`], and [`Malformed::Truncated`].
    pub fn finish(&mut self, sink: &mut Sink<'_>) -> Result<Finish, Malformed> {
        if let Opening::Collecting(_) = self.opening {
            self.begin_text(sink)?;
        }
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        match (self.state, self.shape) {
            (ScanState::Top, _) if self.leading.is_empty() => self.collector.pending().map_or(Ok(Finish::Empty), Err),
            (ScanState::Top, _) => Err(self.fail(Malformed::NotJson)),
            (ScanState::Done, Some(shape)) => Ok(Finish::Complete { shape }),
            _ => Err(self.fail(Malformed::Truncated)),
        }
    }

    /// The likeness of the body to JSON-RPC so far.
    pub fn likeness(&self) -> Likeness {
        self.collector.likeness()
    }

    /// The facts of the message in progress, or of the one in which the body broke.
    pub fn partial(&self) -> Option<&Message> {
        (self.progress == Progress::Inside).then(|| self.collector.message())
    }

    /// The number of objects and arrays that are open.
    pub fn depth(&self) -> usize {
        self.stack.len()
    }

    /// Bytes that are kept of the message in progress.
    pub fn kept(&self) -> usize {
        self.partial().map_or(0, |message| message.kept() + self.text.kept() + self.digest.kept())
    }

    /// True if the body began with bytes that plain text hardly begins with. It says nothing of one that is JSON from its first byte.
    pub fn looks_binary(&self) -> bool {
        self.leading.is_binary()
    }

    /// True if NUL bytes precede the value, as in compressed data and in frames of other protocols.
    pub fn begins_with_nul(&self) -> bool {
        self.leading.has_nul()
    }

    /// Object or array, once known.
    pub fn shape(&self) -> Option<Shape> {
        self.shape
    }

    fn fail(&mut self, malformed: Malformed) -> Malformed {
        self.failed = Some(malformed);
        // A lenient server may read past the fault, or read every document of a row of them.
        self.rescue = Some(Rescue::default());
        malformed
    }

    fn look_for_likeness(&mut self, bytes: &[u8]) {
        if let Some(rescue) = &mut self.rescue
            && rescue.feed(bytes) == Found::Yes
        {
            self.rescue = None;
            self.collector.liken(Likeness::JsonRpc);
        }
    }

    /// Reads at least one byte, or changes the state; gives the index of the next.
    #[inline]
    fn step(&mut self, bytes: &[u8], at: usize, sink: &mut Sink<'_>) -> Result<usize, Malformed> {
        let Some(&byte) = bytes.get(at) else {
            return Ok(at);
        };
        match self.state {
            ScanState::Text(role) => self.in_text(role, bytes, at),
            ScanState::Number(number) => self.in_number(number, bytes, at),
            ScanState::Escape(role) => self.in_escape(role, byte, at).map(|()| at + 1),
            ScanState::Hex(role, count, unit) => self.in_hex(role, (count, unit), byte, at).map(|()| at + 1),
            ScanState::Word(word, matched) => self.in_word(word, matched, byte).map(|()| at + 1),
            ScanState::Top => self.before_value(byte, bytes, at),
            _ => self.structural(byte, bytes, at, sink),
        }
    }

    /// Skips white space and what some servers skip, up to the first object or array.
    fn before_value(&mut self, byte: u8, bytes: &[u8], at: usize) -> Result<usize, Malformed> {
        match self.leading.step(byte) {
            Next::More if self.leading.is_in_space() => Ok(skip_whitespace(bytes, at + 1)),
            Next::More => Ok(at + 1),
            Next::Again => Ok(at),
            Next::Value => {
                if !self.leading.is_empty() {
                    self.collector.fault(Malformed::LeadingText);
                }
                self.shape = Some(if byte == b'{' { Shape::Single } else { Shape::Batch });
                self.value(byte, bytes, at)
            }
            Next::Foreign => Err(Malformed::NotJson),
        }
    }

    #[inline]
    fn structural(&mut self, byte: u8, bytes: &[u8], at: usize, sink: &mut Sink<'_>) -> Result<usize, Malformed> {
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            return Ok(skip_whitespace(bytes, at + 1));
        }
        match (self.state, byte) {
            (ScanState::Colon, b':') => {
                self.state = ScanState::Value;
                Ok(at + 1)
            }
            (ScanState::FirstKey | ScanState::Key, b'"') => Ok(self.string(Role::Key, bytes, at + 1)),
            (ScanState::Value | ScanState::FirstItem, _) if byte != b']' => self.value(byte, bytes, at),
            (ScanState::AfterValue, b',') => {
                self.after_comma();
                Ok(at + 1)
            }
            (ScanState::AfterValue | ScanState::FirstKey, b'}') if self.inside() == Container::Object => {
                self.close(bytes, at, sink).map(|()| at + 1)
            }
            (ScanState::AfterValue | ScanState::FirstItem, b']') if self.inside() == Container::Array => {
                self.close(bytes, at, sink).map(|()| at + 1)
            }
            (ScanState::Done, _) => Err(Malformed::TrailingData),
            _ => Err(Malformed::Syntax),
        }
    }

    fn inside(&self) -> Container {
        self.stack.last().map_or(Container::Array, |frame| frame.container)
    }

    fn after_comma(&mut self) {
        self.state = match self.stack.last_mut() {
            Some(frame) if frame.container == Container::Array => {
                frame.index = frame.index.saturating_add(1);
                let Frame { place, path, index, .. } = *frame;
                self.slot = self.collector.element(place, usize::from(path), Nth::Further);
                self.follow_element(index);
                ScanState::Value
            }
            _ => ScanState::Key,
        };
    }

    /// Begins a value.
    #[inline]
    fn value(&mut self, byte: u8, bytes: &[u8], at: usize) -> Result<usize, Malformed> {
        if self.slot == Slot::BatchItem {
            self.items += 1;
        }
        match byte {
            b'"' => return Ok(self.string(Role::Value, bytes, at + 1)),
            b'{' => self.open(Container::Object, at)?,
            b'[' => self.open(Container::Array, at)?,
            b'-' => self.start_number(Number::Minus, byte),
            b'0' => self.start_number(Number::Zero, byte),
            b'1'..=b'9' => self.start_number(Number::Integer, byte),
            b't' => self.state = ScanState::Word(Word::True, 1),
            b'f' => self.state = ScanState::Word(Word::False, 1),
            b'n' => self.state = ScanState::Word(Word::Null, 1),
            // Lenient parsers take these for numbers; the message must still be recognised.
            b'N' => self.odd_number(Word::NaN),
            b'I' => self.odd_number(Word::Infinity),
            b'+' | b'.' => return Err(Malformed::NumberInvalid),
            _ => return Err(Malformed::Syntax),
        }
        Ok(at + 1)
    }

    fn open(&mut self, container: Container, at: usize) -> Result<(), Malformed> {
        if self.stack.len() >= self.max_depth {
            self.collector.fault(Malformed::DepthExceeded);
            if self.stack.len() >= DEPTH_FOLLOWED {
                return Err(Malformed::DepthExceeded);
            }
        }
        let (place, path) = self.collector.open(self.slot, container);
        if place == ContainerRole::Message {
            self.collector.begin(self.items.saturating_sub(1), self.shape.unwrap_or_default());
            self.progress = Progress::Inside;
            self.digest.message();
        }
        match place {
            ContainerRole::Tools => self.digest.list(),
            ContainerRole::Tool => self.digest.begin(at),
            _ => {}
        }
        let heard = match &mut self.listening {
            Some(listening) if place == ContainerRole::Message => {
                listening.message(self.stack.len());
                0
            }
            Some(listening) if listening.is_inside() => listening.path_len(),
            _ => 0,
        };
        // A path is at most MAX_PATH bytes.
        let [path, heard] = [path, heard].map(|length| u16::try_from(length).unwrap_or(u16::MAX));
        self.stack.push(Frame { container, place, path, heard, index: 0 });
        self.state = match container {
            Container::Object => ScanState::FirstKey,
            Container::Array => {
                self.slot = self.collector.element(place, usize::from(path), Nth::First);
                self.follow_element(0);
                ScanState::FirstItem
            }
        };
        Ok(())
    }

    fn close(&mut self, bytes: &[u8], at: usize, sink: &mut Sink<'_>) -> Result<(), Malformed> {
        let empty = matches!(self.state, ScanState::FirstKey | ScanState::FirstItem);
        let place = self.stack.pop().map(|frame| frame.place);
        if place == Some(ContainerRole::Arguments) && empty {
            self.collector.empty_leaf();
        }
        if place == Some(ContainerRole::Tool) {
            self.digest.end(bytes, at);
        }
        self.end_value();
        if place == Some(ContainerRole::Message) {
            let end = self.offset + at as u64 + 1;
            let heard = self.listening.as_mut().map(|listening| listening.over()).unwrap_or_default();
            self.collector.over(heard, self.digest.over());
            if self.collector.finish(end)? == Ending::Message {
                sink(self.collector.message());
            }
            self.progress = Progress::Between;
        }
        match self.collector.pending() {
            Some(fault) if self.stack.is_empty() => Err(fault),
            _ => Ok(()),
        }
    }

    #[inline]
    fn end_value(&mut self) {
        self.slot = Slot::None;
        self.state = if self.stack.is_empty() { ScanState::Done } else { ScanState::AfterValue };
    }

    fn start_number(&mut self, number: Number, byte: u8) {
        let limit = self.collector.value_limit(self.slot);
        self.text.start(limit);
        self.text.digit(byte);
        self.state = ScanState::Number(number);
    }

    fn in_number(&mut self, mut number: Number, bytes: &[u8], mut at: usize) -> Result<usize, Malformed> {
        if number == Number::Minus && bytes.get(at) == Some(&b'I') {
            self.odd_number(Word::Infinity);
            return Ok(at + 1);
        }
        while let Some(&byte) = bytes.get(at) {
            if !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E') {
                self.end_number(number)?;
                return Ok(at);
            }
            number = number.step(byte).ok_or(Malformed::NumberInvalid)?;
            self.text.digit(byte);
            at += 1;
        }
        self.state = ScanState::Number(number);
        Ok(at)
    }

    fn odd_number(&mut self, word: Word) {
        self.collector.fault(Malformed::Syntax);
        self.state = ScanState::Word(word, 1);
    }

    fn end_number(&mut self, number: Number) -> Result<(), Malformed> {
        if !number.is_whole() {
            return Err(Malformed::NumberInvalid);
        }
        if self.slot != Slot::None {
            let text = std::mem::take(&mut self.text);
            let (raw, truncation) = text.captured();
            self.collector.number(self.slot, &raw, truncation);
            drop(raw);
            self.text = text;
        }
        self.end_value();
        Ok(())
    }

    fn in_word(&mut self, word: Word, matched: usize, byte: u8) -> Result<(), Malformed> {
        let expected = word.as_str().as_bytes();
        if expected.get(matched) != Some(&byte) {
            return Err(Malformed::Syntax);
        }
        if matched + 1 == expected.len() {
            self.collector.word(self.slot, word);
            self.end_value();
        } else {
            self.state = ScanState::Word(word, matched + 1);
        }
        Ok(())
    }
}

#[inline]
fn skip_whitespace(bytes: &[u8], at: usize) -> usize {
    let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let rest = bytes.get(at..).unwrap_or_default();
    let few = rest.iter().take(BLOCK).take_while(is_space).count();
    if few < BLOCK {
        return at + few;
    }
    // Where there is a lot, many bytes at once: a block is looked at without a way out in its middle.
    let (blocks, _) = rest.as_chunks::<BLOCK>();
    let blank = blocks.iter().take_while(|block| block.iter().fold(true, |all, byte| all & is_space(&byte))).count() * BLOCK;
    at + blank + rest.get(blank..).unwrap_or_default().iter().take_while(is_space).count()
}
