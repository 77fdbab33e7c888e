//! What an answer says that is no message: the body of an HTTP error, and one that is announced as JSON and is none. SDKs put its text
//! into the error that they throw (`Error POSTing to endpoint: …`), and agents show that to their model.
//!
//! It is heard as the `error.message` of a JSON-RPC error without an id, which is how it reaches its reader, and judged as that where
//! the body ends. It is matched as it passes and not kept.

use super::reading::{Coded, Codings};
use crate::dialogue::Ears;
use gnomon_wire::{
    coding::DecodeLimits,
    jsonrpc::{Mark, Message, MessageKind, Part, Scanner},
};
use std::{borrow::Cow, str::from_utf8};

/// A body that is heard as words.
pub(crate) struct Words {
    kind: WordsOf,
    /// The body in each reading of its codings.
    texts: Vec<Text>,
    /// Raw bytes that are still to come, where its head tells.
    left: Option<u64>,
    /// Bytes made by readings that have ended.
    made: u64,
}

/// The reason that a body may be words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WordsOf {
    /// Its status says that it is an error: clients show it whatever it is.
    Error,
    /// It says that it is JSON: clients show it where it is not.
    Json,
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// White space so far.
    Unknown,
    /// Begins as an object or array does.
    Document,
    Words,
}

impl Words {
    /// A body in these codings; `length` is what its head says of its length.
    pub fn new(kind: WordsOf, codings: &Codings, limits: DecodeLimits, ears: &Ears, length: Option<u64>) -> Self {
        let text = |codings: &[_]| Text {
            decoder: (!codings.is_empty()).then(|| Coded::new(codings, limits)),
            said: Said { kind, ears: ears.clone(), scanner: None, begun: Vec::new(), opening: Opening::Unknown },
            over: false,
        };
        // A client that knows none of the codings takes the bytes as they are.
        let raw = kind == WordsOf::Error && !codings.readings().any(<[_]>::is_empty);
        let texts = codings.readings().chain(raw.then_some(&[][..])).map(text).collect();
        Self { kind, texts, left: length, made: 0 }
    }

    /// Hears more of it; false where there is nothing to hear in it.
    pub fn feed(&mut self, raw: &[u8]) -> bool {
        self.left = self.left.map(|left| left.saturating_sub(raw.len() as u64));
        let Self { texts, made, .. } = self;
        texts.retain_mut(|text| {
            text.feed(raw);
            let heard = text.said.is_heard();
            if !heard {
                *made = made.saturating_add(text.made());
            }
            heard
        });
        !self.texts.is_empty()
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
        let scanner = |said: &Said| said.scanner.as_ref().map_or(0, Scanner::kept);
        self.texts.iter().map(|text| text.decoder.as_ref().map_or(0, Coded::kept) + scanner(&text.said)).sum()
    }

    /// Bytes that decoders have made of it so far.
    pub fn made(&self) -> u64 {
        self.texts.iter().map(Text::made).fold(self.made, u64::saturating_add)
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
    }
}

impl Said {
    /// False of JSON that is announced as such.
    fn is_heard(&self) -> bool {
        self.kind == WordsOf::Error || self.opening != Opening::Document
    }

    fn feed(&mut self, plain: &[u8]) {
        let mut text = plain;
        if self.opening == Opening::Unknown {
            let Some(begin) = plain.iter().position(|byte| *byte != 0 && !byte.is_ascii_whitespace()) else { return };
            text = &plain[begin..];
            self.opening = if matches!(text[0], b'{' | b'[') { Opening::Document } else { Opening::Words };
            self.scanner = self.is_heard().then(|| self.ears.scanner());
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
        if !self.begun.is_empty() {
            self.say("\u{fffd}");
        }
        let mut said = None;
        let _ = self.scanner?.feed(br#""}}"#, &mut |message| said = Some(message.clone()));
        said
    }
}
