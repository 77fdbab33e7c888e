//! The leaves of `params.arguments`, and of what else is an argument by another name: their dotted paths and values, kept within one budget of bytes and a number.
//!
//! What does not fit is left out, and the message says so.

use smol_str::SmolStr;

use super::{ArgumentCapture, MAX_PATH, Message, Truncation};

/// The leaves of one message after the other.
#[derive(Clone, Debug)]
pub(super) struct Leaves {
    capture: ArgumentCapture,
    /// The path of the value that is being read.
    path: String,
    /// Bytes of the paths and values that are kept.
    bytes: usize,
}

impl Leaves {
    pub const fn new(capture: ArgumentCapture) -> Self {
        Self { capture, path: String::new(), bytes: 0 }
    }

    /// Another message begins.
    pub fn begin(&mut self) {
        self.bytes = 0;
    }

    /// The value of `params.arguments` itself begins.
    pub fn root(&mut self) {
        self.path.clear();
    }

    /// A value beside `params.arguments` begins, under this key.
    pub fn beside(&mut self, key: &str, message: &mut Message) {
        self.root();
        self.member(0, key, message);
    }

    /// The length of the path so far; none where nothing is captured.
    pub fn path(&self) -> Option<usize> {
        match self.capture {
            ArgumentCapture::Off => None,
            ArgumentCapture::On { .. } => Some(self.path.len()),
        }
    }

    /// A member of the object whose path has this length.
    pub fn member(&mut self, base: usize, key: &str, message: &mut Message) {
        self.path.truncate(base);
        if base > 0 {
            self.path.push('.');
        }
        let room = MAX_PATH.saturating_sub(self.path.len());
        let kept = key.get(..key.floor_char_boundary(room)).unwrap_or_default();
        if kept.len() < key.len() {
            message.arguments_truncated = Truncation::Cut;
        }
        self.path.push_str(kept);
    }

    /// An element of the array whose path has this length: elements have none of their own.
    pub fn element(&mut self, base: usize) {
        self.path.truncate(base);
    }

    /// Most bytes wanted of the value that begins.
    pub fn room(&mut self, message: &mut Message) -> usize {
        let ArgumentCapture::On { max_bytes, .. } = self.capture else {
            return 0;
        };
        let room = max_bytes.saturating_sub(self.bytes + self.path.len());
        if room == 0 {
            message.arguments_truncated = Truncation::Cut;
        }
        room
    }

    /// Keeps a value under its path.
    pub fn keep(&mut self, value: &str, truncation: Truncation, message: &mut Message) {
        let ArgumentCapture::On { max_bytes, max_leaves } = self.capture else {
            return;
        };
        let bytes = self.bytes + self.path.len() + value.len();
        if message.arguments.len() >= max_leaves || bytes > max_bytes {
            message.arguments_truncated = Truncation::Cut;
            return;
        }
        if truncation.is_cut() {
            message.arguments_truncated = Truncation::Cut;
            if value.is_empty() {
                return;
            }
        }
        self.bytes = bytes;
        message.arguments.push((SmolStr::new(&self.path), SmolStr::new(value)));
    }
}
