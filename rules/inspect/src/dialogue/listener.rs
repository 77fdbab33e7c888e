//! The patterns of rules, put where the texts of answers are decoded. What is found is numbers and paths; no text leaves this file.
//! A text is matched as it stands, at any length, and as what it means where that is another ([`Passing`]).

use gnomon_engine::{RuleSet, TextMatcher, TextPatterns};
use gnomon_meaning::Passing;
use gnomon_observe::{Field, TextFindings, TextHit};
use gnomon_wire::{
    jsonrpc::{ArgumentCapture, Heard, Limits, Mark, Message, Part, Parts, Scanner, TextPlace, TextSink},
    mcp,
};
use std::{mem, ops::Range, sync::Arc};

/// The capture limits of an answer's message.
pub(crate) fn limits() -> Limits {
    Limits { arguments: ArgumentCapture::Off, ..Limits::default() }
}

/// Reads answers, with the patterns that rules have for their texts.
#[derive(Clone, Debug)]
pub(crate) struct Ears {
    patterns: Option<Arc<TextPatterns>>,
    /// What the words of a question within the answer count as.
    questions: Part,
}

impl Default for Ears {
    fn default() -> Self {
        Self { patterns: None, questions: Part::Result }
    }
}

impl Ears {
    /// The patterns of these rules, for the answers to calls of these methods: a question within one says what its answer would.
    pub fn of<'m>(rules: &RuleSet, methods: impl Iterator<Item = Option<&'m str>>) -> Self {
        let mut parts = methods.map(|method| method.map(mcp::canonical_method).map_or(Part::Result, part_of));
        let first = parts.next().unwrap_or(Part::Result);
        let questions = if parts.all(|part| part == first) { first } else { Part::Result };
        Self { patterns: rules.texts().cloned(), questions }
    }

    /// True if any of the patterns is for the texts of errors.
    pub fn hear_errors(&self) -> bool {
        self.patterns.as_ref().is_some_and(|patterns| patterns.fields().any(|field| field == Field::ErrorMessage))
    }

    /// A scanner at the start of an answer.
    pub fn scanner(&self) -> Scanner {
        self.on(Scanner::new(limits()))
    }

    /// The same for a scanner with limits of its own.
    pub fn on(&self, scanner: Scanner) -> Scanner {
        let Some(patterns) = &self.patterns else { return scanner };
        let fields: Vec<Field> = patterns.fields().collect();
        let is_wanted = |part: &Part| *part != Part::Question && fields.contains(&field_of(*part));
        let mut wanted: Parts = Part::ALL.into_iter().filter(is_wanted).collect();
        let listener = Listener {
            matcher: patterns.matcher(),
            meant: patterns.matcher(),
            passing: Passing::default(),
            heard: Heard::default(),
            wanted,
            questions: self.questions,
            part: None,
            path: String::new(),
        };
        if wanted.contains(self.questions) {
            wanted.insert(Part::Question);
        }
        scanner.listening(wanted, Box::new(listener))
    }
}

/// What a question in the answer to a call of this method counts as.
fn part_of(method: &str) -> Part {
    match method {
        "prompts/get" => Part::Prompt,
        "resources/read" => Part::Resource,
        _ => Part::Result,
    }
}

/// The field of a part's texts.
const fn field_of(part: Part) -> Field {
    match part {
        // What a question counts as otherwise, is known by its call ([`Ears`]).
        Part::Result | Part::Question => Field::ToolResult,
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
    /// The parts that rules ask about.
    wanted: Parts,
    questions: Part,
    /// The part of the text at hand, if it is one of those.
    part: Option<Part>,
    path: String,
}

impl Listener {
    /// Each finding once, be it in a text or in what it means.
    fn note(&mut self, part: Part) {
        for number in self.matcher.fresh().chain(self.meant.fresh()) {
            if !self.heard.marks.iter().any(|mark| mark.number == number) {
                self.heard.marks.push(Mark { number, part, path: self.path.as_str().into() });
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
        let part = if place.part == Part::Question { self.questions } else { place.part };
        self.part = Some(part).filter(|part| self.wanted.contains(*part));
        let Some(part) = self.part else { return };
        self.heard.parts.insert(part);
        self.path.clear();
        self.path.push_str(place.path);
        self.matcher.begin(field_of(part));
        self.passing.begin();
        self.note(part);
    }

    fn text(&mut self, decoded: &[u8], _: Range<u64>) {
        let Some(part) = self.part else { return };
        self.matcher.feed(decoded);
        let meant = &mut self.meant;
        self.passing.feed(decoded, &mut |text| match_whole(meant, part, text));
        self.note(part);
    }

    fn end(&mut self, _: u64) {
        let Some(part) = self.part.take() else { return };
        self.matcher.end();
        let meant = &mut self.meant;
        self.passing.end(&mut |text| match_whole(meant, part, text));
        self.note(part);
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

/// What was found in the words of a question and, later, in the answer to the call that asked it, as one.
pub(super) fn joined(before: Option<&TextFindings>, found: Option<Arc<TextFindings>>) -> Option<Arc<TextFindings>> {
    let Some(before) = before else { return found };
    let Some(found) = found else { return Some(Arc::new(before.clone())) };
    let fields = Part::ALL.into_iter().map(field_of).filter(|field| before.has(*field) || found.has(*field)).collect();
    let hits = before.hits().iter().chain(found.hits().iter().filter(|hit| !before.answers(hit.question)));
    Some(Arc::new(TextFindings::new(fields, hits.cloned().collect())))
}
