//! Looks for the text `jsonrpc` in what follows a fault.
//!
//! A lenient server may read past a comment or a single-quoted key that strict JSON forbids, or take
//! every document of a row of them. After the fault the structure is lost, so this is a plain search: the word, followed by a quote or
//! a colon, NUL bytes skipped for UTF-16 and UTF-32. It makes a broken body suspicious, no more.

const NEEDLE: &[u8] = b"jsonrpc";

/// The search, over any chunking.
#[derive(Debug, Default)]
pub(super) struct Rescue {
    matched: usize,
}

/// Whether the text was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Yes,
    NotYet,
}

impl Rescue {
    pub fn feed(&mut self, bytes: &[u8]) -> Found {
        for &byte in bytes {
            match byte {
                0 => {}
                b'"' | b'\'' | b':' if self.matched == NEEDLE.len() => return Found::Yes,
                b' ' | b'\t' | b'\r' | b'\n' if self.matched == NEEDLE.len() => {}
                _ if NEEDLE.get(self.matched) == Some(&byte) => self.matched += 1,
                // No prefix of the needle repeats inside it, so a mismatch starts over.
                _ => self.matched = usize::from(NEEDLE.first() == Some(&byte)),
            }
        }
        Found::NotYet
    }
}
