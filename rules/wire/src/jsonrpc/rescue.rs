//! Looks for JSON-RPC in what follows a fault.
//!
//! A lenient server may read past a comment or a single-quoted key that strict JSON forbids, or take
//! every document of a row of them. After the fault the structure is lost, so this is a plain search:
//! the word `jsonrpc` followed by a quote or a colon, or a quoted method of MCP with a slash in it
//! (`"tools/call"`), NUL bytes skipped. What stands escaped inside a string (`\"jsonrpc\"`) is a
//! quotation and does not count. It makes a broken body suspicious, no more.

use crate::mcp_names;

const NEEDLE: &[u8] = b"jsonrpc";
/// No method of MCP is longer.
const METHOD: usize = 48;

/// The search, over any chunking. Memory: one name.
#[derive(Clone, Debug)]
pub(super) struct Rescue {
    matched: usize,
    /// The text between the quotes, if a quote is open.
    name: [u8; METHOD],
    /// Its length in bytes; none between names, or where it is too long.
    len: Option<usize>,
    after_backslash: bool,
}

/// The search result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Yes,
    NotYet,
}

impl Default for Rescue {
    fn default() -> Self {
        Self { matched: 0, name: [0; METHOD], len: None, after_backslash: false }
    }
}

impl Rescue {
    pub fn feed(&mut self, bytes: &[u8]) -> Found {
        for &byte in bytes {
            if byte == 0 {
                continue;
            }
            if self.word(byte) == Found::Yes || self.quoted(byte) == Found::Yes {
                return Found::Yes;
            }
        }
        Found::NotYet
    }

    fn word(&mut self, byte: u8) -> Found {
        match byte {
            b'"' | b'\'' | b':' if self.matched == NEEDLE.len() => return Found::Yes,
            b' ' | b'\t' | b'\r' | b'\n' if self.matched == NEEDLE.len() => {}
            _ if NEEDLE.get(self.matched) == Some(&byte) => self.matched += 1,
            // No prefix of the needle repeats inside it, so a mismatch starts over.
            _ => self.matched = usize::from(NEEDLE.first() == Some(&byte)),
        }
        Found::NotYet
    }

    fn quoted(&mut self, byte: u8) -> Found {
        let escaped = std::mem::replace(&mut self.after_backslash, byte == b'\\');
        match (byte, self.len) {
            (b'"' | b'\'', Some(len)) if !escaped => {
                let name = std::str::from_utf8(self.name.get(..len).unwrap_or_default()).unwrap_or_default();
                if name.contains('/') && mcp_names::is_mcp_method(name) {
                    return Found::Yes;
                }
                // It is no longer known which quote opens and which closes.
                self.len = Some(0);
            }
            (b'"' | b'\'', None) if !escaped => self.len = Some(0),
            // `tools\/call` is the same name.
            (b'\\', Some(_)) => {}
            (_, Some(len)) => {
                self.len = self.name.get_mut(len).map(|place| {
                    *place = byte;
                    len + 1
                });
            }
            (_, None) => {}
        }
        Found::NotYet
    }
}
