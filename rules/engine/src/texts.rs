//! The patterns of rules on texts that pass: compiled together, and matched chunk by chunk over any length.
//!
//! A text is never whole here. What takes a decision on it carries a state from chunk to chunk: all plain needles of a field share one
//! automaton (Aho and Corasick, 1975), a regular expression is a DFA, a pattern with wildcards a set of its places. So the cost of a byte
//! does not depend on how it was cut, and size leaves nothing undecided. Items on such fields have numbered questions; the findings
//! ([`TextFindings`](gnomon_observe::TextFindings)) are answered numbers. [`Pattern::fits`] on the whole text is the slow truth.

use crate::{
    expr::Expr,
    item::{Item, Pattern, RegexDfa, Test},
    text::{self, Case, Needle, Stand, Text, Token},
};
use aho_corasick::{Anchored, StartKind, automaton::Automaton, dfa, nfa::contiguous};
use gnomon_observe::{Field, FieldRef};
use regex_automata::{
    dfa::Automaton as _,
    util::{primitives::StateID, start},
};
use std::{collections::HashSet, sync::Arc};

/// Most characters of a pattern with wildcards, or with letters outside ASCII in any case.
pub(crate) const MAX_GLOB: usize = 512;
/// Bytes of needles up to which the faster automaton, which takes more memory, is built.
const DENSE_BYTES: usize = 16 << 10;

/// All patterns of a set of rules on texts that pass. Shared by everything that matches.
#[derive(Debug)]
pub struct TextPatterns {
    fields: Vec<FieldPatterns>,
    questions: usize,
}

#[derive(Debug)]
struct FieldPatterns {
    field: Field,
    /// Questions that any text answers, and those that an empty one does.
    any: Vec<u32>,
    empty: Vec<u32>,
    folded: Option<Needles>,
    exact: Option<Needles>,
    globs: Vec<Glob>,
    regexes: Vec<(u32, Arc<RegexDfa>)>,
}

#[derive(Debug)]
struct Glob {
    question: u32,
    tokens: Box<[Token]>,
    case: Case,
}

/// Plain texts to look for, by the number of their pattern.
#[derive(Debug)]
struct Needles {
    automaton: PatternAutomaton,
    /// The question, the place in the text and the length of each.
    needles: Vec<(u32, Stand, u64)>,
}

#[derive(Debug)]
enum PatternAutomaton {
    Dense(dfa::DFA),
    Sparse(contiguous::NFA),
}

/// Needles to be compiled: question, place, text.
type Plain = Vec<(u32, Stand, Box<[u8]>)>;

impl TextPatterns {
    /// The patterns of these conditions; none where they ask nothing of texts that pass.
    pub(crate) fn of<'e>(exprs: impl Iterator<Item = &'e Expr>) -> Option<Arc<Self>> {
        let (mut seen, mut items) = (HashSet::new(), Vec::new());
        for expr in exprs {
            expr.each_item(&mut |item| {
                if item.question.is_some() && seen.insert(Arc::as_ptr(item) as usize) {
                    items.push(Arc::clone(item));
                }
            });
        }
        let questions = items.iter().map(|item| item.questions().end as usize).max()?;
        let mut fields: Vec<Field> = items.iter().filter_map(|item| field_of(item)).collect();
        fields.sort_unstable();
        fields.dedup();
        let fields = fields.into_iter().map(|field| FieldPatterns::new(field, items.iter().filter(|item| field_of(item) == Some(field))));
        Some(Arc::new(Self { fields: fields.collect(), questions }))
    }

    /// The fields whose texts are looked at.
    pub fn fields(&self) -> impl Iterator<Item = Field> + '_ {
        self.fields.iter().map(|patterns| patterns.field)
    }

    /// A matcher at the beginning of a message.
    #[must_use]
    pub fn matcher(self: &Arc<Self>) -> TextMatcher {
        TextMatcher {
            hits: vec![0; self.questions.div_ceil(64)],
            patterns: Arc::clone(self),
            field: None,
            length: 0,
            folded: StateOf::default(),
            exact: StateOf::default(),
            globs: Vec::new(),
            regexes: Vec::new(),
            chars: Chars::default(),
            fresh: Vec::new(),
        }
    }
}

fn field_of(item: &Item) -> Option<Field> {
    match item.field {
        FieldRef::Field(field) => Some(field),
        FieldRef::Member(..) => None,
    }
}

impl FieldPatterns {
    fn new<'i>(field: Field, items: impl Iterator<Item = &'i Arc<Item>>) -> Self {
        let mut all = Self { field, any: Vec::new(), empty: Vec::new(), folded: None, exact: None, globs: Vec::new(), regexes: Vec::new() };
        let (mut folded, mut exact) = (Plain::new(), Plain::new());
        for item in items {
            let (patterns, each): (&[Pattern], bool) = match &item.test {
                Test::Any(patterns) => (patterns, false),
                Test::All(patterns) => (patterns, true),
                Test::Present | Test::Missing | Test::OneOf(_) | Test::AnyWithin(_) | Test::Like { .. } => (&[], false),
            };
            let mut questions = item.questions();
            let first = questions.start;
            for pattern in patterns {
                let question = if each { questions.next().unwrap_or(first) } else { first };
                match pattern {
                    Pattern::Text(Text::All) => all.any.push(question),
                    Pattern::Text(Text::Simple { stand, needle }) => match needle {
                        _ if needle.bytes().is_empty() && matches!(stand, Stand::Start | Stand::Within) => all.any.push(question),
                        _ if needle.bytes().is_empty() && *stand == Stand::Whole => all.empty.push(question),
                        _ if needle.bytes().is_empty() => all.any.push(question),
                        Needle::Ascii(needle) => folded.push((question, *stand, needle.clone())),
                        Needle::Exact(finder) => exact.push((question, *stand, finder.needle().into())),
                    },
                    Pattern::Text(Text::Glob { tokens, case }) => all.globs.push(Glob { question, tokens: tokens.clone(), case: *case }),
                    Pattern::PassingRegex(_, dfa) => all.regexes.push((question, Arc::clone(dfa))),
                    // What compares with anything but text is refused where rules are read; what is absent has no text.
                    Pattern::Null | Pattern::Bool(_) | Pattern::Number(_) | Pattern::Compare(..) | Pattern::Cidr(_) | Pattern::Regex(_) => {
                    }
                }
            }
        }
        all.folded = all.compile(folded, Case::Folded);
        all.exact = all.compile(exact, Case::Exact);
        all
    }

    /// One automaton for all; those that none can be built of are matched one by one.
    fn compile(&mut self, plain: Plain, case: Case) -> Option<Needles> {
        if plain.is_empty() {
            return None;
        }
        let texts = plain.iter().map(|(.., text)| text);
        let folds = case == Case::Folded;
        let automaton = if plain.iter().map(|(.., text)| text.len()).sum::<usize>() <= DENSE_BYTES {
            let built = dfa::Builder::new().ascii_case_insensitive(folds).prefilter(false).start_kind(StartKind::Unanchored).build(texts);
            built.map(PatternAutomaton::Dense)
        } else {
            contiguous::Builder::new().ascii_case_insensitive(folds).prefilter(false).build(texts).map(PatternAutomaton::Sparse)
        };
        match automaton {
            Ok(automaton) => {
                let needles = plain.iter().map(|(question, stand, text)| (*question, *stand, text.len() as u64)).collect();
                Some(Needles { automaton, needles })
            }
            Err(_) => {
                self.globs.extend(plain.iter().map(|(question, stand, text)| Glob::of(*question, *stand, text, case)));
                None
            }
        }
    }
}

impl Glob {
    fn of(question: u32, stand: Stand, text: &[u8], case: Case) -> Self {
        let open = |at: bool| at.then_some(Token::Many);
        let tokens = open(matches!(stand, Stand::End | Stand::Within))
            .into_iter()
            .chain(text::literal(&String::from_utf8_lossy(text)))
            .chain(open(matches!(stand, Stand::Start | Stand::Within)));
        Self { question, tokens: tokens.collect(), case }
    }

    /// The places before any character.
    fn start(&self) -> Box<[u64]> {
        let mut places = vec![0; self.tokens.len() / 64 + 1].into_boxed_slice();
        self.reach(&mut places, 0);
        places
    }

    /// Adds a place, and the one behind it if nothing need stand between them.
    fn reach(&self, places: &mut [u64], place: usize) {
        let mut place = place;
        loop {
            if let Some(word) = places.get_mut(place / 64) {
                *word |= 1 << (place % 64);
            }
            if self.tokens.get(place) != Some(&Token::Many) {
                return;
            }
            place += 1;
        }
    }

    /// The places behind this character.
    fn step(&self, places: &mut Box<[u64]>, c: char) {
        let mut next = vec![0; places.len()].into_boxed_slice();
        for (word, left) in places.iter().enumerate() {
            let mut left = *left;
            while left != 0 {
                let place = word * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                match self.tokens.get(place) {
                    Some(Token::Many) => self.reach(&mut next, place),
                    Some(token) if token.fits(c, self.case) => self.reach(&mut next, place + 1),
                    Some(_) | None => {}
                }
            }
        }
        *places = next;
    }

    fn is_at_end(&self, places: &[u64]) -> bool {
        places.get(self.tokens.len() / 64).is_some_and(|word| word & 1 << (self.tokens.len() % 64) != 0)
    }

    /// True if it fits whatever follows.
    fn is_sure(&self, places: &[u64]) -> bool {
        self.tokens.last() == Some(&Token::Many) && self.is_at_end(places)
    }
}

/// The place in an automaton of needles; none before a text.
type StateOf = Option<aho_corasick::automaton::StateID>;

impl Needles {
    fn start(&self) -> StateOf {
        match &self.automaton {
            PatternAutomaton::Dense(automaton) => automaton.start_state(Anchored::No).ok(),
            PatternAutomaton::Sparse(automaton) => automaton.start_state(Anchored::No).ok(),
        }
    }

    /// Reads on; `before` bytes of the text were read.
    fn feed(&self, state: &mut StateOf, bytes: &[u8], before: u64, hit: &mut impl FnMut(u32)) {
        match &self.automaton {
            PatternAutomaton::Dense(automaton) => self.run(automaton, state, bytes, before, hit),
            PatternAutomaton::Sparse(automaton) => self.run(automaton, state, bytes, before, hit),
        }
    }

    fn run(&self, automaton: &impl Automaton, state: &mut StateOf, bytes: &[u8], before: u64, hit: &mut impl FnMut(u32)) {
        let Some(mut at) = *state else { return };
        for (index, byte) in bytes.iter().enumerate() {
            at = automaton.next_state(Anchored::No, at, *byte);
            if automaton.is_special(at) && automaton.is_match(at) {
                let read = before + index as u64 + 1;
                self.matches(automaton, at, |question, stand, length| match stand {
                    Stand::Within => hit(question),
                    Stand::Start if length == read => hit(question),
                    Stand::Start | Stand::End | Stand::Whole => {}
                });
            }
        }
        *state = Some(at);
    }

    /// The text has ended after so many bytes.
    fn end(&self, state: StateOf, length: u64, hit: &mut impl FnMut(u32)) {
        let Some(at) = state else { return };
        let at_end = |question, stand, of: u64| match stand {
            Stand::End => hit(question),
            Stand::Whole if of == length => hit(question),
            Stand::Whole | Stand::Start | Stand::Within => {}
        };
        match &self.automaton {
            PatternAutomaton::Dense(automaton) if automaton.is_match(at) => self.matches(automaton, at, at_end),
            PatternAutomaton::Sparse(automaton) if automaton.is_match(at) => self.matches(automaton, at, at_end),
            PatternAutomaton::Dense(_) | PatternAutomaton::Sparse(_) => {}
        }
    }

    fn matches(&self, automaton: &impl Automaton, at: aho_corasick::automaton::StateID, mut each: impl FnMut(u32, Stand, u64)) {
        for index in 0..automaton.match_len(at) {
            if let Some((question, stand, length)) = self.needles.get(automaton.match_pattern(at, index).as_usize()) {
                each(*question, *stand, *length);
            }
        }
    }
}

/// Matches the texts of one message after the other. It keeps no text: a few words for each pattern.
#[derive(Clone, Debug)]
pub struct TextMatcher {
    patterns: Arc<TextPatterns>,
    /// The field of the text at hand, by its place among those that are looked at.
    field: Option<usize>,
    /// Bytes of the text so far.
    length: u64,
    folded: StateOf,
    exact: StateOf,
    globs: Vec<Option<Box<[u64]>>>,
    regexes: Vec<Option<StateID>>,
    chars: Chars,
    hits: Vec<u64>,
    fresh: Vec<u32>,
}

impl TextMatcher {
    /// A text of this field begins.
    pub fn begin(&mut self, field: Field) {
        self.field = self.patterns.fields.iter().position(|patterns| patterns.field == field);
        let Some(patterns) = self.field.and_then(|place| self.patterns.fields.get(place)) else { return };
        let mut answers = Answers { hits: &mut self.hits, fresh: &mut self.fresh };
        self.length = 0;
        self.chars = Chars::default();
        self.folded = patterns.folded.as_ref().and_then(Needles::start);
        self.exact = patterns.exact.as_ref().and_then(Needles::start);
        self.globs.clear();
        self.globs.extend(patterns.globs.iter().map(|glob| (!answers.has(glob.question)).then(|| glob.start())));
        self.regexes.clear();
        let anywhere = start::Config::new().anchored(regex_automata::Anchored::No);
        self.regexes.extend(patterns.regexes.iter().map(
            |(question, dfa)| {
                if answers.has(*question) { None } else { dfa.start_state(&anywhere).ok() }
            },
        ));
        patterns.any.iter().for_each(|question| answers.yes(*question));
    }

    /// The next bytes of the text. A character may be split.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Some(patterns) = self.field.and_then(|place| self.patterns.fields.get(place)) else { return };
        let mut answers = Answers { hits: &mut self.hits, fresh: &mut self.fresh };
        if let Some(needles) = &patterns.folded {
            needles.feed(&mut self.folded, bytes, self.length, &mut |question| answers.yes(question));
        }
        if let Some(needles) = &patterns.exact {
            needles.feed(&mut self.exact, bytes, self.length, &mut |question| answers.yes(question));
        }
        for (state, (question, dfa)) in self.regexes.iter_mut().zip(&patterns.regexes) {
            let Some(mut at) = *state else { continue };
            *state = bytes
                .iter()
                .try_for_each(|byte| {
                    at = dfa.next_state(at, *byte);
                    if dfa.is_special_state(at) && (dfa.is_match_state(at) || dfa.is_dead_state(at)) { None } else { Some(()) }
                })
                .map(|()| at);
            if dfa.is_match_state(at) {
                answers.yes(*question);
            }
        }
        if self.globs.iter().any(Option::is_some) {
            self.chars.feed(bytes, &mut |c| {
                for (state, glob) in self.globs.iter_mut().zip(&patterns.globs) {
                    let Some(places) = state else { continue };
                    glob.step(places, c);
                    if glob.is_sure(places) {
                        answers.yes(glob.question);
                        *state = None;
                    }
                }
            });
        }
        self.length += bytes.len() as u64;
    }

    /// The text has ended.
    pub fn end(&mut self) {
        let Some(patterns) = self.field.take().and_then(|place| self.patterns.fields.get(place)) else { return };
        let mut answers = Answers { hits: &mut self.hits, fresh: &mut self.fresh };
        for (needles, state) in [(&patterns.folded, self.folded), (&patterns.exact, self.exact)] {
            if let Some(needles) = needles {
                needles.end(state, self.length, &mut |question| answers.yes(question));
            }
        }
        for (state, (question, dfa)) in self.regexes.iter().zip(&patterns.regexes) {
            if state.is_some_and(|at| dfa.is_match_state(dfa.next_eoi_state(at))) {
                answers.yes(*question);
            }
        }
        for (state, glob) in self.globs.iter().zip(&patterns.globs) {
            if state.as_ref().is_some_and(|places| glob.is_at_end(places)) {
                answers.yes(glob.question);
            }
        }
        if self.length == 0 {
            patterns.empty.iter().for_each(|question| answers.yes(*question));
        }
    }

    /// The questions that were answered with yes since this was asked last, each once a message.
    pub fn fresh(&mut self) -> impl Iterator<Item = u32> + '_ {
        self.fresh.drain(..)
    }

    /// The message is over.
    pub fn reset(&mut self) {
        self.field = None;
        self.fresh.clear();
        self.hits.fill(0);
    }
}

struct Answers<'m> {
    hits: &'m mut [u64],
    fresh: &'m mut Vec<u32>,
}

impl Answers<'_> {
    fn has(&self, question: u32) -> bool {
        self.hits.get(question as usize / 64).is_some_and(|word| word & 1 << (question % 64) != 0)
    }

    fn yes(&mut self, question: u32) {
        if let Some(word) = self.hits.get_mut(question as usize / 64)
            && *word & 1 << (question % 64) == 0
        {
            *word |= 1 << (question % 64);
            self.fresh.push(question);
        }
    }
}

/// Characters of a text that arrives in pieces.
#[derive(Clone, Debug, Default)]
struct Chars {
    partial: [u8; 4],
    length: usize,
}

impl Chars {
    /// Hands on each character that is whole. What is not UTF-8 is left out: such a message is malformed anyway.
    fn feed(&mut self, mut bytes: &[u8], on: &mut impl FnMut(char)) {
        while self.length > 0 {
            let Some((byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            let Some(place) = self.partial.get_mut(self.length) else { break };
            *place = *byte;
            self.length += 1;
            match std::str::from_utf8(self.partial.get(..self.length).unwrap_or_default()) {
                Ok(text) => {
                    text.chars().for_each(&mut *on);
                    self.length = 0;
                }
                Err(error) if error.error_len().is_none() => {}
                Err(_) => self.length = 0,
            }
        }
        self.length = 0;
        for chunk in bytes.utf8_chunks() {
            chunk.valid().chars().for_each(&mut *on);
            let left = chunk.invalid();
            // Only at the end may more of a character be to come.
            self.length = 0;
            for (place, byte) in self.partial.iter_mut().zip(left) {
                *place = *byte;
                self.length += 1;
            }
        }
    }
}
