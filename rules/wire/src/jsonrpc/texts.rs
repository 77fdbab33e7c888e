//! The texts of an answer, decoded as they pass: what is said in them is looked at over their whole length, and nothing of it is kept.
//!
//! Whoever looks (rules today, detectors of secrets and personal data) implements [`TextSink`]: per text its part of the message, its
//! path and the place of each decoded piece among the bytes of the message, so that a piece can be told of, or replaced, without the text.
//! A key that stands twice is heard twice: whichever of them a client reads was looked at.

use smol_str::SmolStr;
use std::{fmt::Debug, ops::Range};

/// The part of an answer in which a text stands, by the member of `result`, `error` or `params`, whatever was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Part {
    /// Any member of `result` that is none of the parts below, as what a tool call gave: `content`, `structuredContent` (the names of its
    /// members as well) and whatever else stands there.
    Result,
    /// `name` of an entry of `result.tools`.
    ToolName,
    /// Anything else of an entry of `result.tools`: title, description, annotations, the texts of its schemas and the names of arguments.
    ToolDescription,
    /// `error`: its message and its data. `result.error` as well, as tasks have it.
    Error,
    /// `result.instructions`.
    Instructions,
    /// `result.prompts`, and `description` and `messages` of a prompt.
    Prompt,
    /// `result.resources`, `result.resourceTemplates` and `result.contents`.
    Resource,
    /// What is asked: `result.inputRequests` (2026-07-28), and `params` of a request or notification that stands among answers. Of its
    /// names those that whoever asks chose: keys of the questions, fields of forms, whatever stands in free members.
    Question,
}

impl Part {
    /// All parts.
    pub const ALL: [Part; 8] = [
        Part::Result,
        Part::ToolName,
        Part::ToolDescription,
        Part::Error,
        Part::Instructions,
        Part::Prompt,
        Part::Resource,
        Part::Question,
    ];
}

/// A set of parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts(u8);

impl Parts {
    /// Adds a part.
    pub fn insert(&mut self, part: Part) {
        self.0 |= 1 << part as u8;
    }

    /// True if it has the part.
    #[must_use]
    pub const fn contains(self, part: Part) -> bool {
        self.0 & (1 << part as u8) != 0
    }

    /// True if it has none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its parts.
    pub fn iter(self) -> impl Iterator<Item = Part> {
        Part::ALL.into_iter().filter(move |part| self.contains(*part))
    }
}

impl FromIterator<Part> for Parts {
    fn from_iter<T: IntoIterator<Item = Part>>(parts: T) -> Self {
        let mut set = Self::default();
        parts.into_iter().for_each(|part| set.insert(part));
        set
    }
}

/// The place of a text in its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextPlace<'a> {
    /// The part of the message.
    pub part: Part,
    /// The path from the message: `result.content[0].text`. At most [`super::MAX_PATH`] bytes; what is deeper is left out. A member whose
    /// name is not made of letters, digits, `_`, `-` and `$` alone, or is longer than 64 bytes, is `*`. Of the name of a member
    /// it is the path of its object.
    pub path: &'a str,
    /// Offset, in the bytes fed to the scanner, of the first byte behind the opening quote.
    pub at: u64,
}

/// Looks at the texts of messages as they are decoded.
pub trait TextSink: Debug + Send {
    /// A text begins.
    fn begin(&mut self, place: &TextPlace<'_>);

    /// The next decoded bytes of the text: valid UTF-8 over the whole of it, or the message is malformed; a character may be split. `span` is where they
    /// stand, in the bytes fed to the scanner: as many bytes as `decoded` has and the same, or those of one escape (two for a pair of surrogates).
    fn text(&mut self, decoded: &[u8], span: Range<u64>);

    /// The text has ended; `at` is the offset of the closing quote.
    fn end(&mut self, at: u64);

    /// The message has ended: what was found in it. The next one begins.
    fn over(&mut self) -> Heard;

    /// The same sink once more, for a second reading of what comes.
    fn fork(&self) -> Box<dyn TextSink>;
}

impl Clone for Box<dyn TextSink> {
    fn clone(&self) -> Self {
        self.as_ref().fork()
    }
}

/// The findings of a [`TextSink`] in one message: numbers, whose meaning is the sink's, and no text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The parts in which any text stood, of those that the sink asked for.
    pub parts: Parts,
    /// Each finding.
    pub marks: Vec<Mark>,
}

/// A match of a pattern in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The number of the pattern's question.
    pub number: u32,
    /// The part of the message that the text is in.
    pub part: Part,
    /// The path of the text ([`TextPlace::path`]).
    pub path: SmolStr,
}
