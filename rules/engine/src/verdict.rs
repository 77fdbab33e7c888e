//! What the judge answers.

use crate::RuleIndex;
use gnomon_observe::{Action, Phase};
use smol_str::SmolStr;

/// What to do, and which rule says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to do.
    pub action: Action,
    /// The deciding rule; where nothing interferes, the first of the matches by rank; none where
    /// nothing matched.
    pub rule: Option<RuleIndex>,
}

/// The judge's answer at one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing pending can change what happens to the bytes at hand: act on it.
    Decided(Verdict),
    /// An interfering rule (or an admin `allow` that would set one aside) still waits for this
    /// phase, which is always a later one than was asked about.
    Needs(Phase),
    /// The evidence is complete, but a field that an interfering rule needs could not be read: the
    /// caller must fail closed. Carries the strictest such rule and its action.
    Undecidable(Verdict),
}

/// What a whole observation comes to: [`RuleSet::one_shot`](crate::RuleSet::one_shot).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// `Decided` or `Undecidable`, never `Needs`.
    pub answer: Answer,
    /// The rules that match: of the request alone where its verdict interferes, else of the whole.
    pub matched: Vec<RuleIndex>,
    /// Where the verdict became final: `Message` for a request that was interfered with (or held
    /// undecidable), else `Response`.
    pub phase: Phase,
}

/// What carries examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A rule.
    Rule(RuleIndex),
    /// A filter, by its place in [`RuleSet::filters`](crate::RuleSet::filters): `no_match` is what it excepts.
    Filter(usize),
}

/// How one embedded example of a rule or filter came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// Whose example it is.
    pub subject: Subject,
    /// Which of its examples, from 0.
    pub number: usize,
    /// Its file.
    pub file: SmolStr,
    /// The line of the example, from 1.
    pub line: u32,
    /// Its column there, from 1.
    pub column: u32,
    /// Whether a match was expected.
    pub expected: Expectation,
    /// Whether it came out so.
    pub passed: bool,
}

/// What an example expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// `expect: match`
    Match,
    /// `expect: no_match`
    NoMatch,
}
