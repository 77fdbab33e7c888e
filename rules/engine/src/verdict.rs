//! The judge's answers.

use crate::RuleIndex;
use gnomon_observe::{Action, Phase};
use smol_str::SmolStr;

/// A decided action and the rule that decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The action.
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

/// The judgement of a whole observation: [`RuleSet::one_shot`](crate::RuleSet::one_shot).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// `Decided` or `Undecidable`, never `Needs`.
    pub answer: Answer,
    /// The rules that match: of the request alone where its verdict interferes, else of the whole.
    pub matched: Vec<RuleIndex>,
    /// The phase at which the verdict became final: `Message` for a request that was interfered with (or held undecidable), else
    /// `Response`.
    pub phase: Phase,
}

/// The owner of embedded examples: a rule or a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A rule.
    Rule(RuleIndex),
    /// A filter, by its place in [`RuleSet::filters`](crate::RuleSet::filters): `no_match` is what it excepts.
    Filter(usize),
}

/// The result of one embedded example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// The rule or filter that the example belongs to.
    pub subject: Subject,
    /// Its index among the examples of its owner, from 0.
    pub number: usize,
    /// Its file.
    pub file: SmolStr,
    /// The line of the example, from 1.
    pub line: u32,
    /// Its column there, from 1.
    pub column: u32,
    /// The expected result.
    pub expected: Expectation,
    /// True if the result was the expected one.
    pub passed: bool,
}

/// The expectation of an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// `expect: match`
    Match,
    /// `expect: no_match`
    NoMatch,
}
