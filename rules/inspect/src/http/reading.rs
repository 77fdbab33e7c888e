//! A body's bytes as text, and the messages in it.
//!
//! A `Content-Encoding` is a claim. A server may ignore it, so where one is announced the
//! bytes are read as they are, too; where several are, in each of the ways in which servers undo some of them ([`Codings`]); and a body
//! that begins as gzip or zlib does is read as such, whatever is announced, and so is what comes of undoing a coding, [`GUESSED`] layers
//! deep. All of these are judged by what they say: there is no telling which one a server acts on.
//!
//! Messages are handed on one at a time, decoders hand on 16 KiB at a time, and nothing of either is
//! kept: the cost of a body does not depend on how much is in it. What a few bytes decode to may be
//! hundreds of megabytes, which is read in steps: [`Reading::is_behind`].

use crate::{Bounds, dialogue::Ears};
use gnomon_wire::{
    coding::{Coding, DecodeError, DecodeLimits, Decoder, Pace, Unsupported, other_readings, parse_content_encoding},
    jsonrpc::{Finish, Likeness, Limits, Malformed, Message, Scanner},
};
use http::{HeaderMap, header};

/// An item read from a body, in order.
pub(crate) enum Piece<'a> {
    /// Decoded text, as the headers announce it.
    Text(&'a [u8]),
    /// A message in it.
    Message(&'a Message, Layer),
}

/// The layer in which a message was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// All content codings of the headers.
    Announced,
    /// In the raw bytes beneath a coding, behind some of the codings of the headers, or in a coding that no header announces.
    Unannounced,
}

/// The finding about a body so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing final: reading goes on.
    More,
    /// Meant as JSON-RPC, or JSON of which no more can be read, and two readers could take it for different things.
    Unreadable(&'static str),
    /// Broken JSON, or something else that is searched, which shows nothing of JSON-RPC so far.
    Faulty(Malformed),
    /// No JSON-RPC as far as its raw bytes tell, with the reason if it could not be read.
    Foreign(Option<&'static str>),
    /// More rows stand behind the first value, which was read ([`Values::Rows`]).
    Rows,
}

/// The extent to which a body that is not JSON is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// To its end: its head says that it is JSON, or a message of MCP.
    Whole,
    /// No further than to see that it is none: an upload of a transcript is not a call.
    Opening,
    /// Likewise, where bytes are expected (frames, compressed data): text that breaks behind a NUL is not JSON.
    Bytes,
}

/// The number of JSON values in a body: one, or many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// One value; a second one is a fault.
    One,
    /// One value per line, of which only the first may be a message: bulk uploads of documents.
    Rows,
}

/// The manner in which a body is read.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub limits: Limits,
    /// What looks at the texts in it.
    pub ears: Ears,
    pub decode: DecodeLimits,
    pub search: Search,
    pub values: Values,
}

impl Manner {
    /// The manner given by the bounds, with the first value counting.
    pub fn of(bounds: &Bounds, limits: Limits, search: Search) -> Self {
        Self { limits, ears: Ears::default(), decode: bounds.decode, search, values: Values::One }
    }
}

/// The codings that headers announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Codings {
    /// All of them, in the order in which they must be undone.
    pub chain: Result<Vec<Coding>, Unsupported>,
    /// The other readings that a receiver may take ([`other_readings`]).
    pub others: Vec<Vec<Coding>>,
}

impl Codings {
    /// No coding.
    pub const NONE: Self = Self { chain: Ok(Vec::new()), others: Vec::new() };

    /// Each reading of them.
    pub fn readings(&self) -> impl Iterator<Item = &[Coding]> {
        self.chain.iter().chain(&self.others).map(Vec::as_slice)
    }
}

/// A body being read.
pub(crate) struct Reading {
    /// The reader of the announced codings; none where one of them is unknown to us.
    announced: Option<Text>,
    /// The raw bytes beneath them, if there is a coding.
    beneath: Option<Text>,
    /// The readers of some of the announced codings, where there are several, as long as they may find something.
    others: Vec<Text>,
    manner: Manner,
    /// The readings that there are by the headers.
    known: Vec<Vec<Coding>>,
    /// Bytes that the readers made that are left no more.
    made: u64,
}

/// The first bytes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    Unseen,
    First(u8),
    Known,
}

/// The most codings that are guessed on top of each other.
const GUESSED: usize = 2;

/// The coding that a text begins like: gzip (RFC 1952 section 2.3.1), zlib of any window (RFC 1950 section 2.2).
fn coding_of(opening: [u8; 2]) -> Option<Coding> {
    match opening {
        [0x1F, 0x8B] => Some(Coding::Gzip),
        [first, _] if first & 0x0F == 8 && first >> 4 <= 7 && u16::from_be_bytes(opening).is_multiple_of(31) => Some(Coding::Deflate),
        _ => None,
    }
}

struct Text {
    /// What is undone to get it, in this order.
    chain: Vec<Coding>,
    /// How many of these were guessed.
    guessed: usize,
    decoder: Option<Coded>,
    scanner: Scanner,
    standing: Standing,
    opening: Opening,
    /// The same as what its first bytes say that it is, if that is no reading anyway: lenient servers guess, too.
    within: Option<Box<Text>>,
}

/// A decoder with its unread input.
pub(crate) struct Coded {
    decoder: Decoder,
    rest: Vec<u8>,
    pace: Pace,
}

impl Coded {
    pub fn new(codings: &[Coding], limits: DecodeLimits) -> Self {
        Self { decoder: Decoder::new(codings, limits), rest: Vec::new(), pace: Pace::Through }
    }

    /// True if input is buffered that was not read yet.
    pub fn is_behind(&self) -> bool {
        self.pace == Pace::Behind
    }

    /// Bytes of memory that it takes, with what came and was not read yet.
    pub fn kept(&self) -> usize {
        self.decoder.memory() + self.rest.len()
    }

    /// Bytes that it has made so far.
    pub fn made(&self) -> u64 {
        self.decoder.made()
    }

    /// Keeps what came for the next step.
    fn keep(&mut self, raw: &[u8]) {
        if !raw.is_empty() {
            self.rest.extend_from_slice(raw);
            self.pace = Pace::Behind;
        }
    }

    /// Decodes a step of what is left and of what came. What is left of it is kept: no more than came at once.
    pub fn feed(&mut self, raw: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<(), DecodeError> {
        let mut input = raw;
        if self.rest.is_empty() {
            let pace = self.decoder.feed_some(&mut input, read);
            self.pace = *pace.as_ref().unwrap_or(&Pace::Through);
            self.rest.extend_from_slice(if self.is_behind() { input } else { &[] });
            return pace.map(|_| ());
        }
        self.rest.extend_from_slice(raw);
        input = &self.rest;
        let pace = self.decoder.feed_some(&mut input, read);
        self.pace = *pace.as_ref().unwrap_or(&Pace::Through);
        let taken = if self.is_behind() { self.rest.len() - input.len() } else { self.rest.len() };
        self.rest.drain(..taken);
        pace.map(|_| ())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Open,
    /// Reading has ended.
    Over(Ending),
    /// JSON that broke, or text that is searched for JSON-RPC.
    Broken(Malformed),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The body was JSON throughout.
    Json,
    /// Its first row was.
    Row,
    /// Something else.
    Foreign,
    /// The coding could not be undone, and its output was no JSON.
    Undecodable(&'static str),
    /// Likewise, in the middle of JSON.
    CutOff(&'static str),
}

impl Opening {
    /// The next bytes: the coding that the text begins like, once both are seen.
    fn take(&mut self, bytes: &[u8]) -> Option<Coding> {
        let (opening, coding) = match (*self, bytes) {
            (known, []) => (known, None),
            (Self::Known, _) => (Self::Known, None),
            (Self::Unseen, [first]) => (Self::First(*first), None),
            (Self::Unseen, [first, second, ..]) => (Self::Known, coding_of([*first, *second])),
            (Self::First(first), [second, ..]) => (Self::Known, coding_of([first, *second])),
        };
        *self = opening;
        coding
    }
}

impl Reading {
    /// A body of these codings ([`codings`]).
    pub fn new(codings: Codings, manner: Manner) -> Self {
        let text = |codings: &[Coding]| Text::new((codings.to_vec(), 0), &manner);
        let (announced, beneath) = match &codings.chain {
            Ok(chain) if chain.is_empty() => (Some(text(&[])), None),
            Ok(chain) => (Some(text(chain)), Some(text(&[]))),
            Err(_) => (None, Some(text(&[]))),
        };
        let others = codings.others.iter().map(|codings| text(codings)).collect();
        let known = codings.readings().map(<[_]>::to_vec).collect();
        Self { announced, beneath, others, manner, known, made: 0 }
    }

    /// Reads on. Everything that these bytes complete is handed to `on` before this returns, unless it [is
    /// behind](Reading::is_behind).
    pub fn feed(&mut self, raw: &[u8], on: &mut dyn FnMut(Piece<'_>)) -> Found {
        let how = (&self.manner, self.known.as_slice());
        if let Some(text) = &mut self.announced {
            text.feed(raw, how, self.manner.search, Layer::Announced, on);
        }
        if let Some(text) = &mut self.beneath {
            // Beneath a coding that can be undone are no words, only bytes.
            let search = if self.announced.is_some() { Search::Bytes } else { self.manner.search };
            text.feed(raw, how, search, Layer::Unannounced, on);
        }
        self.leave_what_is_none();
        for text in &mut self.others {
            text.feed(raw, (&self.manner, self.known.as_slice()), Search::Opening, Layer::Unannounced, on);
        }
        self.found()
    }

    /// True if input is buffered that was not read yet: feed it with nothing until this is false.
    pub fn is_behind(&self) -> bool {
        self.outer().any(Text::is_behind)
    }

    /// True if what comes is decoded, or will be with these bytes.
    pub fn is_coded(&self, raw: &[u8]) -> bool {
        let begins_coded = |mut opening: Opening| opening.take(raw).is_some();
        self.outer().any(|text| text.decoder.is_some() || text.within.is_some() || begins_coded(text.opening))
    }

    /// Leaves the readings in which there was nothing: most of several, after a few bytes.
    fn leave_what_is_none(&mut self) {
        let made = &mut self.made;
        self.others.retain(|text| {
            let left = text.layers().all(|text| matches!(text.standing, Standing::Over(Ending::Foreign | Ending::Undecodable(_))));
            if left {
                *made = text.layers().map(Text::made).fold(*made, u64::saturating_add);
            }
            !left
        });
    }

    /// Leaves what was not decoded yet of what came.
    pub fn breaks_off(&mut self) {
        self.announced.iter_mut().chain(&mut self.beneath).chain(&mut self.others).for_each(Text::breaks_off);
    }

    /// Ends the body.
    pub fn end(&mut self, on: &mut dyn FnMut(Piece<'_>)) -> Found {
        while self.is_behind() {
            let _ = self.feed(&[], on);
        }
        let beneath = if self.announced.is_some() { Search::Bytes } else { self.manner.search };
        let announced = self.announced.iter_mut().map(|text| (text, self.manner.search, Layer::Announced));
        let beneath = self.beneath.iter_mut().map(|text| (text, beneath, Layer::Unannounced));
        let others = self.others.iter_mut().map(|text| (text, Search::Opening, Layer::Unannounced));
        for (text, search, layer) in announced.chain(beneath).chain(others) {
            text.end(search, layer, &mut |message, layer| on(Piece::Message(message, layer)));
        }
        self.found()
    }

    /// The likeness to JSON-RPC so far.
    pub fn likeness(&self) -> Likeness {
        self.texts().map(|text| text.scanner.likeness()).max().unwrap_or_default()
    }

    /// Bytes of memory that decoders take, with what they have not read yet.
    pub fn decoders(&self) -> usize {
        self.texts().map(|text| text.decoder.as_ref().map_or(0, Coded::kept)).sum()
    }

    /// The same, and what is kept of messages that are not whole.
    pub fn kept(&self) -> usize {
        self.decoders() + self.texts().map(|text| text.scanner.kept()).sum::<usize>()
    }

    /// Bytes that decoders have made so far.
    pub fn made(&self) -> u64 {
        self.texts().map(Text::made).fold(self.made, u64::saturating_add)
    }

    /// The facts known of the incomplete message.
    pub fn partial(&self) -> Option<&Message> {
        self.texts().find_map(|text| text.scanner.partial())
    }

    /// True if it may still turn out to be JSON. Where frames are expected, false unless it began as they do: a client that waits for the
    /// answer to one must not be kept waiting for more.
    pub fn may_be_json(&self) -> bool {
        let framed = |text: &Text| self.manner.search == Search::Bytes && text.scanner.looks_binary();
        self.texts().any(|text| text.standing == Standing::Open && !framed(text))
    }

    /// True if JSON in it has begun and not ended.
    pub fn is_within_json(&self) -> bool {
        self.texts().any(|text| text.standing == Standing::Open && text.scanner.depth() > 0)
    }

    /// True if NUL bytes stand before what may be JSON.
    pub fn begins_with_nul(&self) -> bool {
        self.texts().any(|text| text.scanner.begins_with_nul())
    }

    /// The texts by the headers.
    fn outer(&self) -> impl Iterator<Item = &Text> {
        self.announced.iter().chain(&self.beneath).chain(&self.others)
    }

    /// All of them.
    fn texts(&self) -> impl Iterator<Item = &Text> {
        self.outer().flat_map(Text::layers)
    }

    fn found(&self) -> Found {
        let (mut faulty, mut open, mut rows) = (None, false, false);
        for text in self.texts() {
            let like = text.scanner.likeness() > Likeness::None;
            match text.standing {
                Standing::Broken(malformed) if like => return Found::Unreadable(malformed.as_str()),
                Standing::Over(Ending::CutOff(reason)) => return Found::Unreadable(reason),
                Standing::Over(Ending::Undecodable(reason)) if like => return Found::Unreadable(reason),
                Standing::Broken(malformed) => faulty = faulty.or(Some(malformed)),
                Standing::Open | Standing::Over(Ending::Json) => open = true,
                Standing::Over(Ending::Row) => rows = true,
                Standing::Over(Ending::Foreign | Ending::Undecodable(_)) => {}
            }
        }
        match faulty {
            Some(malformed) => Found::Faulty(malformed),
            None if rows => Found::Rows,
            None if open => Found::More,
            None => Found::Foreign(self.unread()),
        }
    }

    /// The reason that a body without JSON could not be read; none if it could.
    fn unread(&self) -> Option<&'static str> {
        let Some(text) = &self.announced else { return Some("unsupported_coding") };
        match text.standing {
            Standing::Over(Ending::Undecodable(reason)) => Some(reason),
            _ => text.scanner.looks_binary().then_some("binary"),
        }
    }
}

impl Text {
    fn new((chain, guessed): (Vec<Coding>, usize), manner: &Manner) -> Self {
        let decoder = (!chain.is_empty()).then(|| Coded::new(&chain, manner.decode));
        Self::of(decoder, (chain, guessed), manner)
    }

    fn of(decoder: Option<Coded>, (chain, guessed): (Vec<Coding>, usize), manner: &Manner) -> Self {
        let scanner = manner.ears.on(Scanner::new(manner.limits));
        Self { chain, guessed, decoder, scanner, standing: Standing::Open, opening: Opening::Unseen, within: None }
    }

    fn made(&self) -> u64 {
        self.decoder.as_ref().map_or(0, Coded::made)
    }

    /// This text, and those within it.
    fn layers(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |text| text.within.as_deref())
    }

    /// True as long as something may be found in it, or within it.
    fn is_read(&self) -> bool {
        self.layers().any(|text| !matches!(text.standing, Standing::Over(_)))
    }

    fn is_behind(&self) -> bool {
        self.is_read() && self.decoder.as_ref().is_some_and(Coded::is_behind) || self.within.as_ref().is_some_and(|text| text.is_behind())
    }

    fn breaks_off(&mut self) {
        if let Some(decoder) = &mut self.decoder {
            (decoder.rest, decoder.pace) = (Vec::new(), Pace::Through);
        }
        self.within.iter_mut().for_each(|text| text.breaks_off());
    }

    /// A step of reading. What comes of it is read within it before more is made: neither keeps more than a step of the other.
    fn feed(
        &mut self,
        raw: &[u8],
        (manner, known): (&Manner, &[Vec<Coding>]),
        search: Search,
        layer: Layer,
        on: &mut dyn FnMut(Piece<'_>),
    ) {
        if !self.is_read() {
            return;
        }
        let is_over = matches!(self.standing, Standing::Over(_));
        let waits = self.within.as_ref().is_some_and(|text| text.is_behind());
        let Self { chain, guessed, decoder, scanner, opening, within, .. } = self;
        let mut scanned = Ok(());
        let mut read = |plain: &[u8]| {
            if !is_over {
                if layer == Layer::Announced {
                    on(Piece::Text(plain));
                }
                // After a fault the scanner goes on looking for what kind of body this is.
                let read = scanner.feed(plain, &mut |message| on(Piece::Message(message, layer)));
                if scanned.is_ok() {
                    scanned = read;
                }
            }
            let first = if let Opening::First(first) = opening { Some(*first) } else { None };
            if let Some(coding) = opening.take(plain)
                && *guessed < GUESSED
            {
                let chain: Vec<Coding> = chain.iter().copied().chain([coding]).collect();
                if !known.contains(&chain) {
                    let mut coded = Coded::new(&[coding], manner.decode);
                    coded.keep(first.as_slice());
                    *within = Some(Box::new(Self::of(Some(coded), (chain, *guessed + 1), manner)));
                }
            }
            if let Some(coded) = within.as_mut().filter(|text| text.is_read()).and_then(|text| text.decoder.as_mut()) {
                coded.keep(plain);
            }
        };
        let decoded = match decoder {
            None => {
                read(raw);
                Ok(())
            }
            Some(decoder) if waits => {
                decoder.keep(raw);
                Ok(())
            }
            Some(decoder) => decoder.feed(raw, &mut read),
        };
        if !is_over {
            self.standing = match (scanned, decoded) {
                (Err(Malformed::TrailingData), _) if manner.values == Values::Rows => Standing::Over(Ending::Row),
                (_, Err(error)) => Standing::Over(self.cut(error, layer)),
                (Err(malformed), Ok(())) => self.broken(malformed, search),
                (Ok(()), Ok(())) if waits => self.standing,
                (Ok(()), Ok(())) => Standing::Open,
            };
        }
        if let Some(text) = &mut self.within {
            text.feed(&[], (manner, known), Search::Opening, Layer::Unannounced, on);
        }
    }

    /// The state of a text that broke, or that was not JSON from its beginning on.
    fn broken(&self, malformed: Malformed, search: Search) -> Standing {
        let is_none = match (search, malformed) {
            (Search::Whole, _) => false,
            (Search::Opening | Search::Bytes, Malformed::NotJson) => true,
            (Search::Opening, _) => false,
            (Search::Bytes, _) => self.scanner.begins_with_nul() && self.scanner.likeness() == Likeness::None,
        };
        if is_none { Standing::Over(Ending::Foreign) } else { Standing::Broken(malformed) }
    }

    fn end(&mut self, search: Search, layer: Layer, sink: &mut dyn FnMut(&Message, Layer)) {
        self.end_itself(search, layer, &mut |message| sink(message, layer));
        if let Some(text) = &mut self.within {
            text.end(Search::Opening, Layer::Unannounced, sink);
        }
    }

    fn end_itself(&mut self, search: Search, layer: Layer, sink: &mut dyn FnMut(&Message)) {
        if let Standing::Over(_) = self.standing {
            return;
        }
        if let Some(decoder) = &mut self.decoder
            && let Err(error) = decoder.decoder.finish(&mut |_| ())
            && error != DecodeError::Truncated
        {
            self.standing = Standing::Over(self.cut(error, layer));
            return;
        }
        // A body truncated in its coding is truncated in its text, or after it.
        self.standing = match self.scanner.finish(sink) {
            // A coding that may have been meant and in which there is nothing does not tell what the body is.
            Ok(Finish::Empty) if layer == Layer::Unannounced && self.decoder.is_some() => Standing::Over(Ending::Foreign),
            Ok(Finish::Empty | Finish::Complete { .. }) => Standing::Over(Ending::Json),
            Err(Malformed::NotJson) if self.scanner.likeness() == Likeness::None => Standing::Over(Ending::Foreign),
            Err(malformed) => self.broken(malformed, search),
        };
    }

    /// The coding gives no more: a receiver with other bounds may read on.
    fn cut(&mut self, error: DecodeError, layer: Layer) -> Ending {
        match self.scanner.finish(&mut |_| ()) {
            Ok(Finish::Complete { .. }) => Ending::Json,
            // Of a coding that is not the body's, noise may begin as JSON does.
            Err(Malformed::Truncated)
                if layer == Layer::Unannounced && error == DecodeError::Corrupt && self.scanner.likeness() == Likeness::None =>
            {
                Ending::Undecodable(error.as_str())
            }
            Err(Malformed::Truncated) => Ending::CutOff(error.as_str()),
            // White space up to our bound: a reader with a larger bound reads on.
            Ok(Finish::Empty) if error != DecodeError::Corrupt => Ending::CutOff(error.as_str()),
            Ok(Finish::Empty) | Err(_) => Ending::Undecodable(error.as_str()),
        }
    }
}

/// True for the media types of gRPC.
pub(crate) fn says_grpc(content_type: &str) -> bool {
    begins_with(content_type, "application/grpc")
}

/// True for media types with messages in frames, each of which may be answered before the next (gRPC, Connect): most begin with a NUL.
pub(crate) fn says_frames(content_type: &str) -> bool {
    says_grpc(content_type) || begins_with(content_type, "application/connect+")
}

fn begins_with(content_type: &str, kind: &str) -> bool {
    content_type.trim_ascii_start().as_bytes().get(..kind.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(kind.as_bytes()))
}

/// The codings of a body.
pub(crate) fn codings(headers: &HeaderMap) -> Codings {
    if !headers.contains_key(header::CONTENT_ENCODING) {
        return Codings::NONE;
    }
    let values = || headers.get_all(header::CONTENT_ENCODING).iter();
    // A value that is not text is no coding we know: let it fail as one.
    let chain = parse_content_encoding(values().map(|value| value.to_str().unwrap_or("?")));
    let others = other_readings(values().map(http::HeaderValue::as_bytes), &chain);
    Codings { chain, others }
}
