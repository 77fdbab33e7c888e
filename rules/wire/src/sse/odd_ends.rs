//! Characters at which a line of an event stream ends for some readers and not for others.
//!
//! The format knows CR LF, LF and CR (WHATWG HTML, 9.2.6). Readers that split text as Python's `str.splitlines` does, httpx-sse up to
//! 0.4.0 among them, also end a line at U+000B, U+000C, U+001C, U+001D, U+001E, U+0085, U+2028 and U+2029.

/// A character that ends a line for some readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OddEnd {
    /// It stands at this offset and has so many bytes.
    Whole {
        /// Offset of its first byte.
        at: usize,
        /// Bytes of it.
        length: usize,
    },
    /// The bytes from this offset on are the beginning of one, or of another character.
    Begun {
        /// Offset of its first byte.
        at: usize,
    },
}

const NEXT_LINE: u8 = 0x85;
const BLOCK: usize = 64;

/// The first such character of UTF-8 text of which `before` is the byte in front. A byte 0x85 that is no part of a UTF-8 sequence counts
/// as well: it is U+0085 in ISO 8859-1.
#[must_use]
pub fn odd_end(bytes: &[u8], before: Option<u8>) -> Option<OddEnd> {
    let mut begin = 0;
    loop {
        begin += plain_blocks(bytes.get(begin..)?);
        let block = bytes.get(begin..)?;
        let end = block.len().min(BLOCK);
        for at in begin..begin + end {
            let before = if at == 0 { before } else { bytes.get(at - 1).copied() };
            let found = match (bytes.get(at)?, bytes.get(at + 1), bytes.get(at + 2)) {
                (0x0B | 0x0C | 0x1C..=0x1E, ..) => OddEnd::Whole { at, length: 1 },
                (0xC2, Some(&NEXT_LINE), _) => OddEnd::Whole { at, length: 2 },
                (0xE2, Some(0x80), Some(0xA8 | 0xA9)) => OddEnd::Whole { at, length: 3 },
                (0xC2 | 0xE2, None, _) | (0xE2, Some(0x80), None) => OddEnd::Begun { at },
                (&NEXT_LINE, ..) if before.is_none_or(|before| before.is_ascii()) => OddEnd::Whole { at, length: 1 },
                _ => continue,
            };
            return Some(found);
        }
        if end == block.len() {
            return None;
        }
        begin += end;
    }
}

/// Bytes of the blocks at the beginning that have no byte of such a character. Without a way out in the middle of a block the compiler
/// looks at many bytes at once.
fn plain_blocks(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let is_plain = |block: &&[u8; BLOCK]| {
        let mut odd = false;
        for &byte in *block {
            odd |= (byte < 0x20 && byte != b'\n' && byte != b'\r' && byte != b'\t') || byte == NEXT_LINE || byte == 0xC2 || byte == 0xE2;
        }
        !odd
    };
    blocks.iter().take_while(is_plain).count() * BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_character_that_splitlines_ends_a_line_at_is_found() {
        for odd in ["\u{b}", "\u{c}", "\u{1c}", "\u{1d}", "\u{1e}", "\u{85}", "\u{2028}", "\u{2029}"] {
            for front in ["", "a", "é", "\n", &"x".repeat(63), &"x".repeat(64), &"x".repeat(200)] {
                let text = format!("{front}{odd}b");
                assert_eq!(odd_end(text.as_bytes(), None), Some(OddEnd::Whole { at: front.len(), length: odd.len() }), "{text:?}");
                let cut = &text.as_bytes()[..front.len() + odd.len() - 1];
                let expected = (odd.len() > 1).then_some(OddEnd::Begun { at: front.len() });
                assert_eq!(odd_end(cut, None), expected, "{cut:?}");
            }
        }
    }

    #[test]
    fn a_byte_of_another_character_is_none() {
        for text in ["Å", "\u{2026}", "\u{205}", "한글", "\t\r\n\u{1f}\0"] {
            assert_eq!(odd_end(text.as_bytes(), None), None, "{text:?}");
        }
        assert_eq!(odd_end(b"\x85", Some(0xC3)), None);
        assert_eq!(odd_end(b"\x85", Some(b'a')), Some(OddEnd::Whole { at: 0, length: 1 }));
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_look_at_each_character_finds(text in "(\\PC|[\u{b}\u{c}\u{1c}-\u{1e}\u{85}\u{2028}\u{2029}\r\n]){0,100}") {
            let plain = text.char_indices().find(|(_, c)| matches!(c, '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'));
            let expected = plain.map(|(at, c)| OddEnd::Whole { at, length: c.len_utf8() });
            prop_assert_eq!(odd_end(text.as_bytes(), None), expected);
        }
    }
}
