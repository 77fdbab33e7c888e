//! In which encoding a text is, by its first bytes, and UTF-16 and UTF-32 made UTF-8.
//!
//! RFC 8259 section 8.1 asks for UTF-8 between systems; RFC 4627 section 3 told the others by their
//! NUL bytes, and parsers that do so still (Python's `json.loads` of bytes) act on what they read.
//! NUL bytes also stand before UTF-8 text that some server trims: which of the two it is shows only
//! where the value begins, and so a [`Doubt`] stays until then.

use super::leading::{Leading, Next};

/// The encoding found at the beginning of a text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Opening {
    /// The first bytes are not all there.
    Collecting(Head),
    Utf8,
    Wide(Transcoder),
}

/// The first bytes of a text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    bytes: [u8; 4],
    len: usize,
    /// The length of the byte order mark among them.
    mark: usize,
}

impl Opening {
    pub fn new() -> Self {
        Self::Collecting(Head::default())
    }
}

impl Head {
    /// Takes the bytes it needs from `bytes`; returns the rest.
    pub fn take<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let taken = room.len().min(bytes.len());
        for (place, byte) in room.iter_mut().zip(bytes) {
            *place = *byte;
        }
        self.len += taken;
        bytes.get(taken..).unwrap_or_default()
    }

    /// True if it tells the encoding.
    pub const fn is_full(&self) -> bool {
        self.len == self.bytes.len()
    }

    /// The length of its byte order mark.
    pub fn mark(&self) -> u64 {
        self.mark as u64
    }

    /// The collected bytes, without a byte order mark.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.mark..self.len).unwrap_or_default()
    }

    /// The encoding that the text goes on in, and the bytes collected of it.
    pub fn open(mut self) -> (Opening, Self) {
        let opens = |byte: u8| matches!(byte, b'{' | b'[' | b' ' | b'\t' | b'\r' | b'\n');
        let (width, order, mark) = match *self.bytes.get(..self.len).unwrap_or_default() {
            [0xEF, 0xBB, 0xBF, ..] => {
                self.mark = 3;
                return (Opening::Utf8, self);
            }
            [0xFF, 0xFE, 0, 0] => (Width::Four, Order::Little, 4),
            [0, 0, 0xFE, 0xFF] => (Width::Four, Order::Big, 4),
            [0xFF, 0xFE, ..] => (Width::Two, Order::Little, 2),
            [0xFE, 0xFF, ..] => (Width::Two, Order::Big, 2),
            [first, 0, 0, 0] if opens(first) => (Width::Four, Order::Little, 0),
            [0, 0, 0, first] if opens(first) => (Width::Four, Order::Big, 0),
            [first, 0, ..] if opens(first) => (Width::Two, Order::Little, 0),
            [0, first, ..] if opens(first) => (Width::Two, Order::Big, 0),
            _ => return (Opening::Utf8, self),
        };
        self.mark = mark;
        (Opening::Wide(Transcoder { width, order, unit: 0, read: 0, high: None }), self)
    }
}

/// The doubt that a text read as UTF-16 or UTF-32 is UTF-8 behind NUL bytes: then no NUL follows the byte that opens the value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doubt {
    /// Not yet at a value; this is what was skipped.
    Before(Leading),
    /// Behind the byte that opens it.
    Opened(Leading, u8),
    /// The body is UTF-16 or UTF-32.
    Settled,
}

/// The resolution of a doubt.
#[derive(Clone, Copy, Debug)]
pub(super) enum Resolved {
    Not,
    /// The body is UTF-8: the value began behind `leading`, with the byte `open`; `rest` bytes of the chunk follow it.
    Utf8 {
        leading: Leading,
        open: u8,
        rest: usize,
    },
}

impl Doubt {
    /// Feeds the raw bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Resolved {
        for (at, byte) in bytes.iter().copied().enumerate() {
            *self = match *self {
                Self::Settled => return Resolved::Not,
                Self::Opened(_, _) if byte == 0 => Self::Settled,
                Self::Opened(leading, open) => {
                    *self = Self::Settled;
                    return Resolved::Utf8 { leading, open, rest: bytes.len() - at };
                }
                Self::Before(mut leading) => match leading.skip(byte) {
                    Next::Value => Self::Opened(leading, byte),
                    Next::Foreign => Self::Settled,
                    Next::More | Next::Again => Self::Before(leading),
                },
            };
        }
        Resolved::Not
    }

    /// True if the doubt stays.
    pub const fn is_open(&self) -> bool {
        !matches!(self, Self::Settled)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Two,
    Four,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

/// Transcodes UTF-16 or UTF-32 to UTF-8, over any chunking. An invalid character reads as U+FFFD.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transcoder {
    width: Width,
    order: Order,
    /// The code unit in progress, and how many of its bytes are read.
    unit: u32,
    read: u32,
    /// A high surrogate whose low one is still to come.
    high: Option<u32>,
}

/// Bytes of UTF-8 that are handed on together.
const PIECE: usize = 1024;

impl Transcoder {
    pub fn feed(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) {
        let (mut piece, mut filled) = ([0; PIECE], 0);
        let width = match self.width {
            Width::Two => 2,
            Width::Four => 4,
        };
        for byte in bytes {
            let shift = match self.order {
                Order::Little => 8 * self.read,
                Order::Big => 8 * (width - 1 - self.read),
            };
            self.unit |= u32::from(*byte) << shift;
            self.read += 1;
            if self.read < width {
                continue;
            }
            self.read = 0;
            let unit = std::mem::take(&mut self.unit);
            let Some(character) = self.character(unit) else { continue };
            // Two characters at most: one that replaces a lone surrogate is followed by the next.
            for character in character.into_iter().flatten() {
                let mut utf8 = [0; 4];
                let utf8 = character.encode_utf8(&mut utf8).as_bytes();
                if let Some(place) = piece.get_mut(filled..filled + utf8.len()) {
                    place.copy_from_slice(utf8);
                    filled += utf8.len();
                }
            }
            if filled > PIECE - 8 {
                sink(piece.get(..filled).unwrap_or_default());
                filled = 0;
            }
        }
        if filled > 0 {
            sink(piece.get(..filled).unwrap_or_default());
        }
    }

    fn character(&mut self, unit: u32) -> Option<[Option<char>; 2]> {
        const NONE: char = char::REPLACEMENT_CHARACTER;
        match (self.high.take(), unit) {
            (Some(high), 0xDC00..=0xDFFF) if self.width == Width::Two => {
                let code = 0x10000 + ((high - 0xD800) << 10) + (unit - 0xDC00);
                Some([Some(char::from_u32(code).unwrap_or(NONE)), None])
            }
            (lone, 0xD800..=0xDBFF) if self.width == Width::Two => {
                self.high = Some(unit);
                lone.map(|_| [Some(NONE), None])
            }
            (lone, unit) => Some([lone.map(|_| NONE), Some(char::from_u32(unit).unwrap_or(NONE))]),
        }
    }
}
