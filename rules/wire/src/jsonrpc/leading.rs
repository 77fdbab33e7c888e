//! The bytes that may stand before the first object or array of a body.
//!
//! Strict parsers take white space only. Others skip comments (JSON5, Hjson, YAML), the guards
//! against cross-site inclusion (`)]}'`), further byte order marks and the white space of Unicode
//! (whatever trims text does), NUL bytes, record separators (RFC 7464), or read a row of values of which the
//! call is not the first. A message that follows any of this must not pass for something else.

/// The meaning of the next byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The byte is skipped.
    More,
    /// The byte ended a skipped token: examine it once more.
    Again,
    /// The byte opens the value.
    Value,
    /// A byte that no known reader skips: the body is not JSON.
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    Space,
    /// After a slash.
    Slash,
    /// To the end of the line.
    Line,
    Block,
    /// In a block comment, after an asterisk.
    BlockStar,
    /// `)]}'`, so many of its bytes.
    Guard(usize),
    Text,
    TextEscape,
    Number,
    /// `true`, `false`, `null`, so many of its bytes.
    Word(&'static [u8], usize),
}

const GUARD: &[u8] = b")]}'";

/// The reader of that text; memory: one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leading {
    within: Within,
    /// True if anything but JSON's own white space was skipped.
    text: bool,
    /// True if control characters, or bytes beyond ASCII, were skipped.
    bytes: bool,
    /// True if NUL bytes were skipped.
    nul: bool,
}

impl Leading {
    pub const fn new() -> Self {
        Self { within: Within::Space, text: false, bytes: false, nul: false }
    }

    /// True if nothing but JSON's own white space was skipped.
    pub const fn is_empty(&self) -> bool {
        !self.text
    }

    /// True if white space is skipped here whatever it is followed by.
    pub const fn is_in_space(&self) -> bool {
        matches!(self.within, Within::Space)
    }

    /// True if bytes were skipped that plain text hardly begins with.
    pub const fn is_binary(&self) -> bool {
        self.bytes
    }

    /// True if NUL bytes were skipped.
    pub const fn has_nul(&self) -> bool {
        self.nul
    }

    pub fn step(&mut self, byte: u8) -> Next {
        let (within, next) = match (self.within, byte) {
            (Within::Space, b' ' | b'\t' | b'\r' | b'\n') => return Next::More,
            (Within::Space, b'{' | b'[') => return Next::Value,
            (Within::Space, _) => match self.begin(byte) {
                Some(within) => (within, Next::More),
                None => return Next::Foreign,
            },
            (Within::Slash, b'/') | (Within::Line, _) if byte != b'\n' && byte != b'\r' => (Within::Line, Next::More),
            (Within::Slash, b'*') => (Within::Block, Next::More),
            (Within::Line, _) => (Within::Space, Next::More),
            (Within::Block, b'*') | (Within::BlockStar, b'*') => (Within::BlockStar, Next::More),
            (Within::BlockStar, b'/') => (Within::Space, Next::More),
            (Within::Block | Within::BlockStar, _) => (Within::Block, Next::More),
            (Within::Guard(read), _) => match GUARD.get(read) {
                Some(expected) if *expected == byte => (Within::Guard(read + 1), Next::More),
                None => (Within::Space, if byte == b',' { Next::More } else { Next::Again }),
                Some(_) => return Next::Foreign,
            },
            (Within::Text, b'"') => (Within::Space, Next::More),
            (Within::Text, b'\\') => (Within::TextEscape, Next::More),
            (Within::Text | Within::TextEscape, _) => (Within::Text, Next::More),
            (Within::Number, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') => (Within::Number, Next::More),
            (Within::Number, _) => (Within::Space, Next::Again),
            (Within::Word(word, read), _) => match word.get(read) {
                Some(expected) if *expected == byte => (Within::Word(word, read + 1), Next::More),
                None => (Within::Space, Next::Again),
                Some(_) => return Next::Foreign,
            },
            (Within::Slash, _) => return Next::Foreign,
        };
        self.within = within;
        next
    }

    /// Consumes this byte, however often it has to be looked at.
    pub fn skip(&mut self, byte: u8) -> Next {
        loop {
            match self.step(byte) {
                Next::Again => {}
                next => return next,
            }
        }
    }

    fn begin(&mut self, byte: u8) -> Option<Within> {
        let within = match byte {
            b'/' => Within::Slash,
            b'#' => Within::Line,
            b')' => Within::Guard(1),
            b'"' => Within::Text,
            b'-' | b'0'..=b'9' => Within::Number,
            b't' => Within::Word(b"true", 1),
            b'f' => Within::Word(b"false", 1),
            b'n' => Within::Word(b"null", 1),
            // Between two values of a row.
            b',' | b';' if self.text => Within::Space,
            // Control characters, and all white space and marks beyond ASCII.
            0..0x20 | 0x7F.. => {
                self.bytes = true;
                self.nul |= byte == 0;
                Within::Space
            }
            _ => return None,
        };
        self.text = true;
        Some(within)
    }
}
