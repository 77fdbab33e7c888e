//! The patterns of rules, put where the texts of answers are decoded. What is found is numbers and paths; no text leaves this file.
//! A text is matched as it stands, at any length, and as what it means where that is another ([`Passing`]).

use gnomon_engine::{RuleSet, TextMatcher, TextPatterns};
use gnomon_meaning::Passing;
use gnomon_observe::{Field, TextFindings, TextHit};
use gnomon_wire::{
    jsonrpc::{ArgumentCapture, Heard, Limits, Mark, Message, Part, Scanner, TextPlace, TextSink},
    mcp,
};
use std::{mem, ops::Range, sync::Arc};

/// The capture limits of an answer's message.
pub(crate) fn limits() -> Limits {
    Limits { arguments: ArgumentCapture::Off, ..Limits::default() }
}

/// Reads answers, with the patterns that rules have for their texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ears(Option<Arc<TextPatterns>>);

impl Ears {
    /// The patterns of these rules.
    pub fn of(rules: &RuleSet) -> Self {
        Self(rules.texts().cloned())
    }

    /// A scanner at the start of an answer.
    pub fn scanner(&self) -> Scanner {
        self.on(Scanner::new(limits()))
    }

    /// The same for a scanner with limits of its own.
    pub fn on(&self, scanner: Scanner) -> Scanner {
        let Some(patterns) = &self.0 else { return scanner };
        let wanted: Vec<Field> = patterns.fields().collect();
        let parts = Part::ALL.into_iter().filter(|part| wanted.contains(&field_of(*part))).collect();
        let listener = Listener {
            matcher: patterns.matcher(),
            meant: patterns.matcher(),
            passing: Passing::default(),
            heard: Heard::default(),
            part: Part::Result,
            path: String::new(),
        };
        scanner.listening(parts, Box::new(listener))
    }
}

/// The field of a part's texts.
const fn field_of(part: Part) -> Field {
    match part {
        Part::Result => Field::ToolResult,
        Part::ToolName => Field::Tools,
        Part::ToolDescription => Field::ToolDescription,
        Part::Error => Field::ErrorMessage,
        Part::Instructions => Field::ServerInstructions,
        Part::Prompt => Field::PromptText,
        Part::Resource => Field::ResourceText,
    }
}

#[derive(Clone, Debug)]
struct Listener {
    matcher: TextMatcher,
    /// Matches what texts mean.
    meant: TextMatcher,
    passing: Passing,
    heard: Heard,
    /// The text at hand.
    part: Part,
    path: String,
}

impl Listener {
    /// Each finding once, be it in a text or in what it means.
    fn note(&mut self) {
        for number in self.matcher.fresh().chain(self.meant.fresh()) {
            if !self.heard.marks.iter().any(|mark| mark.number == number) {
                self.heard.marks.push(Mark { number, part: self.part, path: self.path.as_str().into() });
            }
        }
    }
}

fn match_whole(matcher: &mut TextMatcher, part: Part, text: &str) {
    matcher.begin(field_of(part));
    matcher.feed(text.as_bytes());
    matcher.end();
}

impl TextSink for Listener {
    fn begin(&mut self, place: &TextPlace<'_>) {
        self.heard.parts.insert(place.part);
        self.part = place.part;
        self.path.clear();
        self.path.push_str(place.path);
        self.matcher.begin(field_of(place.part));
        self.passing.begin();
        self.note();
    }

    fn text(&mut self, decoded: &[u8], _: Range<u64>) {
        self.matcher.feed(decoded);
        let (part, meant) = (self.part, &mut self.meant);
        self.passing.feed(decoded, &mut |text| match_whole(meant, part, text));
        self.note();
    }

    fn end(&mut self, _: u64) {
        self.matcher.end();
        let (part, meant) = (self.part, &mut self.meant);
        self.passing.end(&mut |text| match_whole(meant, part, text));
        self.note();
    }

    fn over(&mut self) -> Heard {
        self.matcher.reset();
        self.meant.reset();
        mem::take(&mut self.heard)
    }

    fn fork(&self) -> Box<dyn TextSink> {
        Box::new(self.clone())
    }
}

/// What the rules found in the answer to a call of this method; of an answer whose request is not known, without one.
pub(super) fn findings(message: &Message, method: Option<&str>) -> Option<Arc<TextFindings>> {
    if message.heard.parts.is_empty() {
        return None;
    }
    // What a member of a result is depends on what was asked, where nothing else tells.
    let is_result = method.map(mcp::canonical_method).is_none_or(|method| method == "tools/call" || method.starts_with("tasks/"));
    // A name that is no text could be any to its reader: what was found among the others does not answer.
    let is_odd = message.result.tools_odd.is_present();
    let field = |part| {
        let field = field_of(part);
        match field {
            Field::ToolResult => is_result.then_some(field),
            Field::Tools => (!is_odd).then_some(field),
            _ => Some(field),
        }
    };
    let fields = message.heard.parts.iter().filter_map(field).collect();
    let hit = |mark: &Mark| Some(TextHit { question: mark.number, field: field(mark.part)?, path: mark.path.clone() });
    Some(Arc::new(TextFindings::new(fields, message.heard.marks.iter().filter_map(hit).collect())))
}
