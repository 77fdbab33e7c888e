//! The request body as it streams: decoded, scanned, and the first bytes kept if a rule asks.

use crate::inspector::Bounds;
use gnomon_engine::{Arguments, Wanted};
use gnomon_wire::{
    coding::{Coding, DecodeError, Decoder, Unsupported, parse_content_encoding},
    jsonrpc::{ArgumentCapture, Likeness, Malformed, Message, Scanner, Shape},
};
use http::{HeaderMap, header};

/// Bytes of decoded body that `http.request.body.text` shows.
const TEXT_BYTES: usize = 1024;

/// A body being read.
pub(crate) struct RequestBody {
    decoder: Option<Decoder>,
    scanner: Scanner,
    pub state: State,
    /// Raw bytes read.
    pub bytes: u64,
    pub text: Option<Vec<u8>>,
}

/// Where the reading stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Messages may come.
    Scanning,
    /// Nothing more to learn: not JSON, unreadable, or over.
    Done,
}

/// What stopped the reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Not JSON: no message can come.
    Foreign,
    /// JSON, or what should be, that cannot be read.
    Malformed(Malformed),
    /// The content coding cannot be undone.
    Undecodable(&'static str),
}

impl RequestBody {
    pub fn new(headers: &HeaderMap, wanted: &Wanted, bounds: &Bounds) -> (Self, Option<Stop>) {
        let arguments = match wanted.arguments {
            Arguments::Unwanted => ArgumentCapture::Off,
            _ => ArgumentCapture::On { max_bytes: bounds.max_arguments, max_leaves: 1024 },
        };
        let (decoder, stop) = match codings(headers) {
            Ok(codings) if codings.is_empty() => (None, None),
            Ok(codings) => (Some(Decoder::new(&codings, bounds.decode)), None),
            Err(_) => (None, Some(Stop::Undecodable("unsupported_coding"))),
        };
        let state = if stop.is_some() { State::Done } else { State::Scanning };
        let scanner = Scanner::new(bounds.scanner(arguments));
        (Self { decoder, scanner, state, bytes: 0, text: wanted.body_text.then(Vec::new) }, stop)
    }

    /// Reads on. Complete messages go to `out`, also those before a stop.
    pub fn feed(&mut self, raw: &[u8], out: &mut Vec<Message>) -> Option<Stop> {
        self.bytes += raw.len() as u64;
        if self.state == State::Done {
            return None;
        }
        let mut scanned = Ok(());
        let (scanner, text) = (&mut self.scanner, &mut self.text);
        let mut read = |plain: &[u8]| {
            if let Some(text) = text {
                let room = TEXT_BYTES.saturating_sub(text.len());
                text.extend_from_slice(&plain[..plain.len().min(room)]);
            }
            // After a fault the scanner goes on looking for what kind of body this is.
            let read = scanner.feed(plain, out);
            if scanned.is_ok() {
                scanned = read;
            }
        };
        let decoded = match &mut self.decoder {
            None => {
                read(raw);
                Ok(())
            }
            Some(decoder) => decoder.feed(raw, &mut read),
        };
        let stop = stop_of(scanned, decoded);
        // A fault in the JSON is told again with each piece, until the caller says that it is enough: what
        // the body is may show later than where it breaks.
        if matches!(stop, Some(Stop::Foreign | Stop::Undecodable(_))) {
            self.state = State::Done;
        }
        stop
    }

    /// The body is over.
    pub fn end(&mut self, out: &mut Vec<Message>) -> Option<Stop> {
        if self.state == State::Done {
            return None;
        }
        self.state = State::Done;
        let mut scanned = Ok(());
        let scanner = &mut self.scanner;
        let decoded = match &mut self.decoder {
            None => Ok(()),
            Some(decoder) => decoder.finish(&mut |plain| {
                if scanned.is_ok() {
                    scanned = scanner.feed(plain, out);
                }
            }),
        };
        let scanned = scanned.and_then(|()| self.scanner.finish(out).map(|_| ()));
        stop_of(scanned, decoded)
    }

    pub fn is_batch(&self) -> bool {
        self.scanner.shape() == Some(Shape::Batch)
    }

    pub fn likeness(&self) -> Likeness {
        self.scanner.likeness()
    }

    /// What is known of the message that is not complete.
    pub fn partial(&self) -> Option<&Message> {
        self.scanner.partial()
    }
}

fn stop_of(scanned: Result<(), Malformed>, decoded: Result<(), DecodeError>) -> Option<Stop> {
    match (scanned, decoded) {
        (Err(Malformed::NotJson), _) => Some(Stop::Foreign),
        (Err(malformed), _) => Some(Stop::Malformed(malformed)),
        (Ok(()), Err(error)) => Some(Stop::Undecodable(error.as_str())),
        (Ok(()), Ok(())) => None,
    }
}

/// The codings of a body, in the order in which they must be undone.
pub(crate) fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, Unsupported> {
    if !headers.contains_key(header::CONTENT_ENCODING) {
        return Ok(Vec::new());
    }
    // A value that is not text is no coding we know: let it fail as one.
    parse_content_encoding(headers.get_all(header::CONTENT_ENCODING).iter().map(|v| v.to_str().unwrap_or("?")))
}
