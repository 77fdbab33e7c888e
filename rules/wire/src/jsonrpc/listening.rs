//! Where in an answer the scanner stands, as far as texts are listened to, and the decoded pieces of those that are.

use super::MAX_PATH;
use super::places::same_but_case;
use super::text::joined;
use super::texts::{Heard, Part, Parts, TextPlace, TextSink};
use std::{fmt::Write, ops::Range};

/// Longest name of a member that a path has as it is, in bytes.
const MAX_NAME: usize = 64;
/// Members of a JSON Schema whose own members' names are whoever's that wrote it.
const NAMING: [&str; 7] =
    [".properties", ".$defs", ".definitions", ".patternProperties", ".dependentSchemas", ".dependentRequired", ".dependencies"];
/// Members that hold data: all names below are whoever's that wrote it. The first four are JSON Schema's.
const DATA: [&str; 9] = ["default", "const", "enum", "examples", "structuredcontent", "input", "arguments", "metadata", "_meta"];

/// What a string is: the name of a member, or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StringKind {
    Name,
    Value,
}

/// The position of a container: how deep it lies below its message (0: the message itself), and the length of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    pub depth: usize,
    pub path: usize,
}

/// The member of the message that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Top {
    Aside,
    Result,
    Error,
    Params,
}

/// What the texts at hand are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Area {
    Whole(Part),
    /// `structuredContent`, of which names are heard as well.
    Structured,
    Tools,
    Questions,
}

/// Follows a message and hands the texts that are asked for to a sink.
#[derive(Clone, Debug)]
pub(super) struct Listening {
    sink: Box<dyn TextSink>,
    wanted: Parts,
    path: String,
    /// The place of the message among the open containers.
    root: usize,
    top: Top,
    area: Area,
    /// The value at hand is the `name` of a tool.
    names_tool: bool,
    /// The length of the path of the member at hand that holds data, in a schema or a question.
    data: Option<usize>,
    /// The text at hand is handed on.
    open: bool,
    /// Offset of the backslash of the escape at hand.
    escape: u64,
    /// A high surrogate whose low one is still to come, and its offset.
    half: Option<(u16, u64)>,
}

impl Listening {
    pub fn new(wanted: Parts, sink: Box<dyn TextSink>) -> Self {
        let (top, area) = (Top::Aside, Area::Whole(Part::Result));
        Self { sink, wanted, path: String::new(), root: 0, top, area, names_tool: false, data: None, open: false, escape: 0, half: None }
    }

    /// A message begins at this place among the open containers.
    pub fn message(&mut self, root: usize) {
        (self.root, self.top, self.data, self.open) = (root, Top::Aside, None, false);
        self.path.clear();
    }

    /// The message has ended.
    pub fn over(&mut self) -> Heard {
        self.top = Top::Aside;
        self.sink.over()
    }

    pub const fn root(&self) -> usize {
        self.root
    }

    /// True inside of `result`, `error` or `params`.
    pub fn is_inside(&self) -> bool {
        self.top != Top::Aside
    }

    /// The length of the path of the value at hand.
    pub const fn path_len(&self) -> usize {
        self.path.len()
    }

    /// The name of the next value.
    pub fn key(&mut self, level: Level, key: &str) {
        match (level.depth, self.top) {
            (0, _) => {
                (self.top, self.area) = match key {
                    _ if same_but_case(key, "result") => (Top::Result, Area::Whole(Part::Result)),
                    _ if same_but_case(key, "error") => (Top::Error, Area::Whole(Part::Error)),
                    _ if same_but_case(key, "params") => (Top::Params, Area::Questions),
                    _ => (Top::Aside, Area::Whole(Part::Result)),
                };
            }
            (1, Top::Result) => self.area = area(key),
            (3, _) => self.names_tool = self.area == Area::Tools && same_but_case(key, "name"),
            _ => {}
        }
        if self.is_inside() {
            self.back_to(level);
            let dot = if self.path.is_empty() { "" } else { "." };
            let is_plain = key.len() <= MAX_NAME && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'$'));
            self.extend(format_args!("{dot}{}", if is_plain { key } else { "*" }));
            // The name of an argument says nothing of it.
            if self.data.is_none() && !self.names_others(level) && DATA.iter().any(|name| same_but_case(key, name)) {
                self.data = Some(self.path.len());
            }
        }
    }

    /// The element of an array that comes next, from 0.
    pub fn element(&mut self, level: Level, index: u32) {
        if self.is_inside() {
            // Of an entry that is no object nothing is a name.
            self.names_tool &= level.depth > 3;
            self.back_to(level);
            self.extend(format_args!("[{index}]"));
        }
    }

    /// What follows stands in this container.
    fn back_to(&mut self, level: Level) {
        self.path.truncate(level.path);
        self.data = self.data.filter(|data| *data <= level.path);
    }

    /// Whatever does not fit whole is left out.
    fn extend(&mut self, part: std::fmt::Arguments<'_>) {
        let from = self.path.len();
        // Formatting a String cannot fail.
        let _ = self.path.write_fmt(part);
        if self.path.len() > MAX_PATH {
            self.path.truncate(from);
        }
    }

    /// A string begins in this container, at this offset.
    pub fn begin(&mut self, kind: StringKind, level: Level, at: u64) {
        let Some(part) = self.part(kind, level).filter(|part| self.wanted.contains(*part)) else { return };
        if kind == StringKind::Name {
            self.path.truncate(level.path);
        }
        self.open = true;
        self.sink.begin(&TextPlace { part, path: &self.path, at });
    }

    fn part(&self, kind: StringKind, level: Level) -> Option<Part> {
        if !self.is_inside() {
            return None;
        }
        match (kind, self.area) {
            (StringKind::Value, Area::Whole(part)) => Some(part),
            (StringKind::Value, Area::Structured) => Some(Part::Result),
            (StringKind::Value, Area::Tools) if level.depth == 3 && self.names_tool => Some(Part::ToolName),
            (StringKind::Value, Area::Tools) => Some(Part::ToolDescription),
            (StringKind::Name, Area::Structured) => (level.depth > 1).then_some(Part::Result),
            (StringKind::Value, Area::Questions) => Some(Part::Question),
            (StringKind::Name, Area::Tools) => (level.depth > 3 && self.is_chosen(level)).then_some(Part::ToolDescription),
            // The names of the questions within a result are their server's.
            (StringKind::Name, Area::Questions) => {
                (self.is_chosen(level) || self.top == Top::Result && level.depth == 2).then_some(Part::Question)
            }
            (StringKind::Name, Area::Whole(_)) => None,
        }
    }

    /// True if names in this container are whoever's that wrote it, and not the protocol's.
    fn is_chosen(&self, level: Level) -> bool {
        // Where the path is cut it does not tell.
        level.path + MAX_NAME >= MAX_PATH || self.data.is_some_and(|data| data <= level.path) || self.names_others(level)
    }

    /// True if this container is one of a schema that has a member for each of what it describes.
    fn names_others(&self, level: Level) -> bool {
        let path = self.path.get(..level.path).unwrap_or_default().as_bytes();
        NAMING.iter().any(|name| {
            let end = path.len().checked_sub(name.len()).and_then(|from| path.get(from..));
            end.is_some_and(|end| end.eq_ignore_ascii_case(name.as_bytes()))
        })
    }

    /// Bytes of a string as they stand, from this offset.
    pub fn plain(&mut self, bytes: &[u8], at: u64) {
        if self.open && !bytes.is_empty() {
            self.lone_half();
            self.sink.text(bytes, at..at + bytes.len() as u64);
        }
    }

    /// An escape begins at this offset.
    pub fn escape(&mut self, at: u64) {
        self.escape = at;
    }

    /// The character of a short escape, which ends before this offset.
    pub fn escaped(&mut self, c: char, end: u64) {
        if self.open {
            self.lone_half();
            self.char(c, self.escape..end);
        }
    }

    /// A `\uXXXX` escape, which ends before this offset: a character, or half of one.
    pub fn unit(&mut self, unit: u16, end: u64) {
        if !self.open {
            return;
        }
        match (self.half, unit) {
            (Some((high, at)), 0xDC00..=0xDFFF) => {
                self.half = None;
                self.char(joined(high, unit), at..end);
            }
            (_, 0xD800..=0xDBFF) => {
                self.lone_half();
                self.half = Some((unit, self.escape));
            }
            _ => {
                self.lone_half();
                self.char(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER), self.escape..end);
            }
        }
    }

    /// The string has ended; its quote stands at this offset.
    pub fn end(&mut self, at: u64) {
        if std::mem::take(&mut self.open) {
            self.lone_half();
            self.sink.end(at);
        }
    }

    fn lone_half(&mut self) {
        if let Some((_, at)) = self.half.take() {
            self.char(char::REPLACEMENT_CHARACTER, at..at + 6);
        }
    }

    fn char(&mut self, c: char, span: Range<u64>) {
        self.sink.text(c.encode_utf8(&mut [0; 4]).as_bytes(), span);
    }
}

/// What the texts of a member of `result` are. Readers that ignore case read `Tools` for `tools`.
fn area(member: &str) -> Area {
    const MEMBERS: [(&str, Area); 11] = [
        ("structuredcontent", Area::Structured),
        ("inputrequests", Area::Questions),
        ("tools", Area::Tools),
        ("error", Area::Whole(Part::Error)),
        ("instructions", Area::Whole(Part::Instructions)),
        ("prompts", Area::Whole(Part::Prompt)),
        ("messages", Area::Whole(Part::Prompt)),
        ("description", Area::Whole(Part::Prompt)),
        ("resources", Area::Whole(Part::Resource)),
        ("resourcetemplates", Area::Whole(Part::Resource)),
        ("contents", Area::Whole(Part::Resource)),
    ];
    MEMBERS.into_iter().find(|(name, _)| same_but_case(member, name)).map_or(Area::Whole(Part::Result), |(_, area)| area)
}
