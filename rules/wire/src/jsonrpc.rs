//! A streaming JSON-RPC scanner: any body size, constant memory, any chunking.
//!
//! The scanner checks that the bytes are JSON (RFC 8259) and keeps only the facts by which MCP traffic is
//! recognised and judged (JSON-RPC 2.0, MCP 2024-11-05 to 2026-07-28). It does not build a tree.
//!
//! Where two JSON parsers could read the same bytes differently (repeated keys, keys that differ in
//! case only, invalid UTF-8, a second document), the body is [`Malformed`] rather than guessed.
//! Such a fault is reported at the byte that closes the message, not where it stands, so that
//! [`Scanner::likeness`] can say what kind of message it was: a fault placed before the telling
//! keys must not make the message look harmless. UTF-16 and UTF-32, and text that some servers skip
//! before the value (comments, further byte order marks, `)]}'`), are read past in the same way.
//!
//! Texts of answers can be looked at as they pass, whatever their length ([`TextSink`]); nothing of them is kept.
//!
//! Messages are lent to a [`Sink`] one at a time and never collected: a body of a million small
//! objects costs what one of them does.

mod collect;
mod digest;
mod leading;
mod leaves;
mod listening;
mod message;
mod number;
mod places;
mod rescue;
mod scanner;
mod text;
mod texts;
mod wide;

pub use message::{Id, Message, MessageKind, Meta, ParamsShape, Presence, ResultFacts, Scalar, Truncation, Version};
pub use scanner::{Scanner, Sink};
pub use texts::{Heard, Mark, Part, Parts, TextPlace, TextSink};

/// Most bytes of a key that is looked at; longer keys are cut and match nothing we read.
pub const MAX_KEY: usize = 256;
/// Most tool names kept from one `tools/list` result.
pub const MAX_TOOLS: usize = 512;
/// Most methods kept of `result.inputRequests`.
pub const MAX_INPUT_REQUESTS: usize = 32;
/// Most `_meta` key names kept per message.
pub const MAX_META_KEYS: usize = 32;
/// Most bytes of one path: of an argument, or of a text in an answer.
pub const MAX_PATH: usize = 512;

/// Limits of one scanner, on captured bytes and on depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Deepest nesting that is well-formed; deeper is [`Malformed::DepthExceeded`]. `serde_json`
    /// stops at 128 as well.
    pub max_depth: u16,
    /// Most bytes kept of one captured string (decoded UTF-8).
    pub max_capture: usize,
    /// The capture of the leaves of `params.arguments`.
    pub arguments: ArgumentCapture,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_depth: 128, max_capture: 1024, arguments: ArgumentCapture::Off }
    }
}

/// The part of `params.arguments` that is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ArgumentCapture {
    /// Arguments are checked to be JSON and skipped.
    #[default]
    Off,
    /// Leaves are kept until one of the bounds is reached.
    On {
        /// Most bytes of paths and values together, per message.
        max_bytes: usize,
        /// Most leaves, per message.
        max_leaves: usize,
    },
}

/// One message, or an array of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Shape {
    /// A JSON object.
    #[default]
    Single,
    /// A JSON array (JSON-RPC batch; MCP 2025-03-26 only, but servers differ).
    Batch,
}

/// The result of scanning a whole body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// No byte but whitespace.
    Empty,
    /// One complete JSON value.
    Complete {
        /// Object or array.
        shape: Shape,
    },
}

/// The likeness of a body to JSON-RPC, judged by top-level keys only. Meant for malformed bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Likeness {
    /// No key of JSON-RPC was seen.
    #[default]
    None,
    /// A top-level `jsonrpc` key, whatever its value; or, after the JSON broke, that key's text.
    JsonRpc,
    /// A top-level `method` that names an MCP method.
    Mcp,
}

/// The reason that a body is not one JSON value that every parser reads alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The first significant byte is neither `{` nor `[`.
    #[error("not a JSON object or array")]
    NotJson,
    /// An object or array, but after text that strict JSON forbids there and some servers skip: a
    /// comment, a further byte order mark, another kind of white space, a scalar.
    #[error("text before the JSON value")]
    LeadingText,
    /// Not JSON (RFC 8259).
    #[error("JSON syntax error")]
    Syntax,
    /// A string is not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
    /// UTF-16 or UTF-32, by byte order mark or by NUL bytes between characters.
    #[error("UTF-16 or UTF-32 text")]
    Utf16,
    /// Nested deeper than [`Limits::max_depth`].
    #[error("nesting is too deep")]
    DepthExceeded,
    /// A key that decides something stands twice in its object, escapes included.
    #[error("a deciding key is repeated")]
    DuplicateKey,
    /// A deciding key is written in another case (`Method`): some parsers match it, others do not.
    #[error("a deciding key is written in another case")]
    AmbiguousKey,
    /// Several values stand where one method's name is due.
    #[error("several values for the method")]
    SeveralMethods,
    /// A batch inside a batch.
    #[error("an array inside a batch")]
    NestedBatch,
    /// Bytes other than whitespace after the value.
    #[error("data after the JSON value")]
    TrailingData,
    /// The body ended inside the value.
    #[error("the JSON value is truncated")]
    Truncated,
    /// A number outside the grammar (RFC 8259 section 6).
    #[error("invalid number")]
    NumberInvalid,
}

impl Malformed {
    /// The stable name used in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::LeadingText => "leading_text",
            Self::Syntax => "syntax",
            Self::Utf8 => "invalid_utf8",
            Self::Utf16 => "utf16",
            Self::DepthExceeded => "depth_exceeded",
            Self::DuplicateKey => "duplicate_key",
            Self::AmbiguousKey => "ambiguous_key",
            Self::SeveralMethods => "several_methods",
            Self::NestedBatch => "nested_batch",
            Self::TrailingData => "trailing_data",
            Self::Truncated => "truncated",
            Self::NumberInvalid => "invalid_number",
        }
    }
}

#[cfg(test)]
mod tests;
