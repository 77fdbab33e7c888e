//! Decoding of JSON strings that arrive in pieces: escapes, surrogates, UTF-8 over chunk borders.

use std::borrow::Cow;

use super::Truncation;

/// Valid UTF-8 or not, for the bytes of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Utf8 {
    Valid,
    Invalid,
}

/// The bytes of a run that need no decoding, and why the run ended.
pub(super) struct Run {
    /// Index of the first byte that is `"`, `\` or a control character; the length if none is.
    pub end: usize,
    /// True if every byte before it is ASCII.
    pub ascii: bool,
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;
/// Bytes in a block.
const BLOCK: usize = 64;

/// Finds the end of the run that begins at `from`.
#[inline]
pub(super) fn plain_run(bytes: &[u8], from: usize) -> Run {
    let rest = bytes.get(from..).unwrap_or_default();
    let (block, far) = rest.split_at(rest.len().min(BLOCK));
    let near = by_words(block);
    if near.end < block.len() || far.is_empty() {
        return Run { end: from + near.end, ascii: near.ascii };
    }
    let far = by_blocks(far);
    Run { end: from + block.len() + far.end, ascii: near.ascii && far.ascii }
}

/// Eight bytes at a time.
#[inline]
fn by_words(bytes: &[u8]) -> Run {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut high = 0;
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let marks = marks(word);
        if marks != 0 {
            let bits = marks.trailing_zeros() & !7;
            high |= word & ((1 << bits) - 1);
            return Run { end: index * 8 + (bits / 8) as usize, ascii: high & HIGH == 0 };
        }
        high |= word;
    }
    let mut end = words.len() * 8;
    for &byte in tail {
        if ends_run(byte) {
            break;
        }
        high |= u64::from(byte);
        end += 1;
    }
    Run { end, ascii: high & HIGH == 0 }
}

/// The same, three times as fast where nothing ends for long: without a way out in the middle of a block the compiler looks at
/// many bytes at once.
#[inline(never)]
fn by_blocks(bytes: &[u8]) -> Run {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let mut all = 0;
    let is_plain = |block: &&[u8; BLOCK]| {
        let (mut ends, mut seen) = (false, 0);
        for &byte in *block {
            ends |= ends_run(byte);
            seen |= byte;
        }
        all |= if ends { 0 } else { seen };
        !ends
    };
    let plain = blocks.iter().take_while(is_plain).count() * BLOCK;
    let last = by_words(bytes.get(plain..).unwrap_or_default());
    Run { end: plain + last.end, ascii: all.is_ascii() && last.ascii }
}

/// The high bit of each byte that ends a run, though of those above the lowest only perhaps.
///
/// The borrow of the subtractions only travels upwards, so the lowest marked byte is always right
/// (Warren, Hacker's Delight, 6-1).
#[inline]
fn marks(word: u64) -> u64 {
    let quote = word ^ (LOW * b'"' as u64);
    let slash = word ^ (LOW * b'\\' as u64);
    ((quote.wrapping_sub(LOW) & !quote) | (slash.wrapping_sub(LOW) & !slash) | (word.wrapping_sub(LOW * 0x20) & !word)) & HIGH
}

fn ends_run(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || byte < 0x20
}

/// The character of a high and a low surrogate.
pub(super) fn joined(high: u16, low: u16) -> char {
    let c = 0x10000 + ((u32::from(high) - 0xD800) << 10) + (u32::from(low) - 0xDC00);
    char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// One string in progress: keeps at most `limit` decoded bytes, validates all of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    kept: Vec<u8>,
    limit: usize,
    truncation: Truncation,
    /// The beginning of a UTF-8 sequence whose rest is still to come.
    partial: [u8; 4],
    partial_len: usize,
    /// A high surrogate whose low one is still to come.
    high: Option<u16>,
}

impl Text {
    /// Bytes that are kept of the string in progress.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    pub fn start(&mut self, limit: usize) {
        self.kept.clear();
        self.limit = limit;
        self.truncation = Truncation::Whole;
        self.partial_len = 0;
        self.high = None;
    }

    /// Adds unescaped bytes.
    pub fn run(&mut self, bytes: &[u8], ascii: bool) -> Utf8 {
        if bytes.is_empty() {
            return Utf8::Valid;
        }
        self.flush_surrogate();
        self.keep(bytes);
        if ascii && self.partial_len == 0 {
            return Utf8::Valid;
        }
        self.validate(bytes)
    }

    /// Adds a byte of a number, which is ASCII by its grammar.
    pub fn digit(&mut self, byte: u8) {
        if self.limit > 0 {
            self.keep(&[byte]);
        }
    }

    /// Adds the character of a short escape.
    pub fn escape(&mut self, c: char) -> Utf8 {
        let utf8 = self.end_sequence();
        self.flush_surrogate();
        self.keep_char(c);
        utf8
    }

    /// Adds a `\uXXXX` escape: a character, or half of one.
    pub fn unit(&mut self, unit: u16) -> Utf8 {
        let utf8 = self.end_sequence();
        match (self.high.take(), unit) {
            (Some(high), 0xDC00..=0xDFFF) => {
                self.keep_char(joined(high, unit));
            }
            (lone, _) => {
                if lone.is_some() {
                    self.keep_char(char::REPLACEMENT_CHARACTER);
                }
                match unit {
                    0xD800..=0xDBFF => self.high = Some(unit),
                    _ => self.keep_char(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER)),
                }
            }
        }
        utf8
    }

    /// Ends the string.
    pub fn end(&mut self) -> Utf8 {
        self.flush_surrogate();
        self.end_sequence()
    }

    /// The kept text, never more than the limit. Invalid UTF-8 reads as U+FFFD; a cut never splits a character.
    pub fn captured(&self) -> (Cow<'_, str>, Truncation) {
        let kept = match std::str::from_utf8(&self.kept) {
            Ok(text) => return (Cow::Borrowed(text), self.truncation),
            // The cut went through a character.
            Err(error) if error.error_len().is_none() && self.truncation.is_cut() => {
                self.kept.get(..error.valid_up_to()).unwrap_or_default()
            }
            Err(_) => &self.kept,
        };
        let mut text = String::from_utf8_lossy(kept).into_owned();
        if text.len() <= self.limit {
            return (Cow::Owned(text), self.truncation);
        }
        // A replacement character is longer than the byte it stands for.
        text.truncate(text.floor_char_boundary(self.limit));
        (Cow::Owned(text), Truncation::Cut)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.limit - self.kept.len();
        if let Some(head) = bytes.get(..room)
            && bytes.len() > room
        {
            self.kept.extend_from_slice(head);
            self.truncation = Truncation::Cut;
        } else {
            self.kept.extend_from_slice(bytes);
        }
    }

    fn keep_char(&mut self, c: char) {
        if self.limit > 0 {
            self.keep(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    fn flush_surrogate(&mut self) {
        if self.high.take().is_some() {
            self.keep_char(char::REPLACEMENT_CHARACTER);
        }
    }

    fn end_sequence(&mut self) -> Utf8 {
        if std::mem::take(&mut self.partial_len) == 0 { Utf8::Valid } else { Utf8::Invalid }
    }

    fn validate(&mut self, mut bytes: &[u8]) -> Utf8 {
        while self.partial_len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else {
                return Utf8::Valid;
            };
            bytes = rest;
            let Some(place) = self.partial.get_mut(self.partial_len) else {
                return Utf8::Invalid;
            };
            *place = byte;
            self.partial_len += 1;
            let sequence = self.partial.get(..self.partial_len).unwrap_or_default();
            match std::str::from_utf8(sequence) {
                Ok(_) => self.partial_len = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => {
                    self.partial_len = 0;
                    return Utf8::Invalid;
                }
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => Utf8::Valid,
            Err(error) if error.error_len().is_none() => {
                let tail = bytes.get(error.valid_up_to()..).unwrap_or_default();
                for (place, byte) in self.partial.iter_mut().zip(tail) {
                    *place = *byte;
                }
                self.partial_len = tail.len();
                Utf8::Valid
            }
            Err(_) => Utf8::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_where_byte_for_byte_it_does() {
        for length in 0..300 {
            for (byte, ends) in
                [(b'"', true), (b'\\', true), (0x1f, true), (0, true), (b' ', false), (0x7f, false), (0x80, false), (0xff, false)]
            {
                let mut bytes = vec![b'x'; 300];
                bytes[length] = byte;
                for from in [0, 1, 9, length.saturating_sub(70)] {
                    let run = plain_run(&bytes, from);
                    let expected = if ends && from <= length { length } else { bytes.len() };
                    let ascii = bytes[from..expected].is_ascii();
                    assert_eq!((run.end, run.ascii), (expected, ascii), "{byte:#x} at {length} from {from}");
                }
            }
        }
        assert_eq!(plain_run(b"abc", 3).end, 3);
    }
}
