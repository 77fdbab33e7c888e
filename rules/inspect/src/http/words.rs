//! What an answer says that is no message: the body of an HTTP error, and one that is announced as JSON and is none. SDKs put its text
//! into the error that they throw (`Error POSTing to endpoint: …`), and agents show that to their model.
//!
//! It is heard as the `error.message` of a JSON-RPC error without an id, which is how it reaches its reader, and judged as that where
//! the body ends. It is matched as it passes and not kept, but for an object that is announced as JSON: that is a message as a rule, so it is
//! kept, up to [`DOCUMENT_BYTES`], and matched where no message comes of it.

use super::reading::{Coded, Codings};
use crate::dialogue::Ears;
use gnomon_wire::{
    coding::DecodeLimits,
    jsonrpc::{Mark, Message, MessageKind, Part, Scanner},
};
use std::{borrow::Cow, str::from_utf8};

/// Most bytes that are kept of a document that may be no message.
pub(super) const DOCUMENT_BYTES: usize = 64 << 10;

/// A body that is heard as words.
pub(crate) struct Words {
    kind: WordsOf,
    /// The body in each reading of its codings.
    texts: Vec<Text>,
    /// Raw bytes that are still to come, where its head tells.
    left: Option<u64>,
}

/// The reason that a body may be words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WordsOf {
    /// Its status says that it is an error: clients show it whatever it is.
    Error,
    /// It says that it is JSON: clients show it where it is not.
    Json,
}

/// Text heard as the message of an error.
pub(super) fn said(ears: &Ears, text: &[u8]) -> Option<Message> {
    let mut said = Said::new(WordsOf::Error, ears);
    said.feed(text);
    said.end()
}

struct Text {
    decoder: Option<Coded>,
    said: Said,
    over: bool,
}

/// One text, as the message of an error.
#[derive(Clone)]
struct Said {
    kind: WordsOf,
    ears: Ears,
    /// Reads it, from its first letter on.
    scanner: Option<Scanner>,
    /// Bytes of a character that is not whole.
    begun: Vec<u8>,
    opening: Opening,
    /// The document, as far as it is kept.
    kept: Vec<u8>,
    /// Whether that is all of it.
    extent: Extent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Whole,
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// White space so far.
    Unknown,
    /// Begins as an object does.
    Document,
    /// Begins as an array does.
    List,
    Words,
}

impl Words {
    /// A body in these codings; `length` is what its head says of its length.
    pub fn new(kind: WordsOf, codings: &Codings, limits: DecodeLimits, ears: &Ears, length: Option<u64>) -> Self {
        let text = |codings: &[_]| Text {
            decoder: (!codings.is_empty()).then(|| Coded::new(codings, limits)),
            said: Said::new(kind, ears),
            over: false,
        };
        // A client that knows none of the codings takes the bytes as they are.
        let raw = kind == WordsOf::Error && !codings.readings().any(<[_]>::is_empty);
        let texts = codings.readings().chain(raw.then_some(&[][..])).map(text).collect();
        Self { kind, texts, left: length }
    }

    /// Hears more of it.
    pub fn feed(&mut self, raw: &[u8]) {
        self.left = self.left.map(|left| left.saturating_sub(raw.len() as u64));
        self.texts.iter_mut().for_each(|text| text.feed(raw));
    }

    /// True of what is words only as long as there is no message in it.
    pub fn are_of_a_document(&self) -> bool {
        self.kind == WordsOf::Json && !self.are_of_a_list()
    }

    /// True of a list that is announced as JSON.
    pub fn are_of_a_list(&self) -> bool {
        self.kind == WordsOf::Json && self.texts.iter().any(|text| text.said.opening == Opening::List)
    }

    /// True if nothing of it was too much to keep.
    pub fn are_all_kept(&self) -> bool {
        self.texts.iter().all(|text| text.said.extent == Extent::Whole)
    }

    pub fn kind(&self) -> WordsOf {
        self.kind
    }

    /// True if input is buffered that was not heard yet.
    pub fn is_behind(&self) -> bool {
        self.texts.iter().any(Text::is_behind)
    }

    /// True if it is known that no more will come.
    pub fn are_whole(&self) -> bool {
        self.left == Some(0) && !self.is_behind()
    }

    /// Bytes that decoders and scanners take.
    pub fn kept(&self) -> usize {
        self.texts.iter().map(|text| text.decoder.as_ref().map_or(0, Coded::kept) + text.said.kept()).sum()
    }

    /// Bytes that decoders have made of it so far.
    pub fn made(&self) -> u64 {
        self.texts.iter().map(Text::made).fold(0, u64::saturating_add)
    }

    /// A message in it, with what was heard up to its end: who shows an error whole shows all that stands in it.
    pub fn beside<'m>(&self, message: &'m Message) -> Cow<'m, Message> {
        let answers = matches!(message.kind, MessageKind::Response | MessageKind::Error);
        if self.kind != WordsOf::Error || !answers {
            return Cow::Borrowed(message);
        }
        let known = |mark: &Mark| message.heard.marks.iter().any(|known| known.number == mark.number);
        let heard = self.texts.iter().filter_map(|text| text.said.clone().end()).flat_map(|said| said.heard.marks);
        let marks: Vec<Mark> = heard.filter(|mark| !known(mark)).collect();
        if marks.is_empty() {
            return Cow::Borrowed(message);
        }
        let mut message = message.clone();
        message.heard.parts.insert(Part::Error);
        message.heard.marks.extend(marks);
        Cow::Owned(message)
    }

    /// What was heard in each reading that said anything, as the messages of errors.
    pub fn end(mut self) -> Vec<Message> {
        while self.is_behind() {
            self.texts.iter_mut().for_each(|text| text.feed(&[]));
        }
        self.texts.into_iter().filter_map(|text| text.said.end()).collect()
    }
}

impl Text {
    fn is_behind(&self) -> bool {
        !self.over && self.decoder.as_ref().is_some_and(Coded::is_behind)
    }

    fn made(&self) -> u64 {
        self.decoder.as_ref().map_or(0, Coded::made)
    }

    fn feed(&mut self, raw: &[u8]) {
        match &mut self.decoder {
            _ if self.over => {}
            None => self.said.feed(raw),
            Some(decoder) => self.over = decoder.feed(raw, &mut |plain| self.said.feed(plain)).is_err(),
        }
        // What is not kept need not be decoded.
        self.over |= self.said.extent == Extent::Cut;
    }
}

impl Said {
    fn new(kind: WordsOf, ears: &Ears) -> Self {
        let (ears, opening, extent) = (ears.clone(), Opening::Unknown, Extent::Whole);
        Self { kind, ears, scanner: None, begun: Vec::new(), opening, kept: Vec::new(), extent }
    }

    fn kept(&self) -> usize {
        self.scanner.as_ref().map_or(0, Scanner::kept) + self.kept.len()
    }

    fn feed(&mut self, plain: &[u8]) {
        let mut text = plain;
        if self.opening == Opening::Unknown {
            let Some(begin) = plain.iter().position(|byte| *byte != 0 && !byte.is_ascii_whitespace()) else { return };
            text = &plain[begin..];
            self.opening = match text[0] {
                b'{' => Opening::Document,
                b'[' => Opening::List,
                _ => Opening::Words,
            };
        }
        if self.kind == WordsOf::Json && self.opening == Opening::Document {
            let kept = text.len().min(DOCUMENT_BYTES - self.kept.len());
            self.kept.extend_from_slice(&text[..kept]);
            self.extent = if kept < text.len() { Extent::Cut } else { self.extent };
            return;
        }
        self.hear_some(text);
    }

    fn hear_some(&mut self, text: &[u8]) {
        if self.scanner.is_none() {
            self.scanner = Some(self.ears.scanner());
            self.scan(r#"{"error":{"message":""#);
        }
        if self.begun.is_empty() {
            self.hear(text);
        } else {
            let joined = [std::mem::take(&mut self.begun).as_slice(), text].concat();
            self.hear(&joined);
        }
    }

    /// Hears text as UTF-8, and what is not as U+FFFD, as clients do.
    fn hear(&mut self, mut text: &[u8]) {
        while !text.is_empty() {
            let error = match from_utf8(text) {
                Ok(valid) => return self.say(valid),
                Err(error) => error,
            };
            let (valid, rest) = text.split_at(error.valid_up_to());
            self.say(from_utf8(valid).unwrap_or_default());
            let Some(length) = error.error_len() else {
                self.begun.extend_from_slice(rest);
                return;
            };
            self.say("\u{fffd}");
            text = rest.get(length..).unwrap_or_default();
        }
    }

    fn say(&mut self, text: &str) {
        let is_escaped = |c: char| c < ' ' || matches!(c, '"' | '\\');
        let mut rest = text;
        while let Some(at) = rest.find(is_escaped) {
            let (plain, behind) = rest.split_at(at);
            self.scan(plain);
            let mut characters = behind.chars();
            if let Some(escaped) = characters.next() {
                self.scan(&format!("\\u{:04x}", u32::from(escaped)));
            }
            rest = characters.as_str();
        }
        self.scan(rest);
    }

    fn scan(&mut self, json: &str) {
        if let Some(scanner) = &mut self.scanner {
            // What is written here is JSON.
            let _ = scanner.feed(json.as_bytes(), &mut |_| ());
        }
    }

    fn end(mut self) -> Option<Message> {
        if !self.kept.is_empty() {
            let kept = std::mem::take(&mut self.kept);
            self.hear_some(&kept);
        }
        if !self.begun.is_empty() {
            self.say("\u{fffd}");
        }
        let mut said = None;
        let _ = self.scanner?.feed(br#""}}"#, &mut |message| said = Some(message.clone()));
        said
    }
}
