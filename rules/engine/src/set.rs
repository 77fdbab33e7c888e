//! A compiled set of rules.

use crate::{Answer, LoadErrors, Outcome, Progress, Rule, RuleIndex, Source, TestResult, Verdict, Wanted};
use gnomon_observe::{Action, Observation, Phase};
use std::sync::Arc;

/// Compiled rules. Immutable; clones share it.
#[derive(Clone, Debug)]
pub struct RuleSet(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: Vec<Rule>,
    wanted: Wanted,
}

impl RuleSet {
    /// Reads and compiles rules.
    ///
    /// # Errors
    /// All errors of all sources, not only the first.
    pub fn compile(_sources: &[Source]) -> Result<Self, LoadErrors> {
        Ok(Self(Arc::new(Inner { rules: Vec::new(), wanted: Wanted::default() })))
    }

    /// The rules, in the order of sources and documents.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.0.rules
    }

    /// A rule of this set. An index of another set gives none or another rule.
    #[must_use]
    pub fn rule(&self, index: RuleIndex) -> Option<&Rule> {
        self.0.rules.get(index.get())
    }

    /// What must be gathered for these rules.
    #[must_use]
    pub fn wanted(&self) -> &Wanted {
        &self.0.wanted
    }

    /// Nothing judged yet.
    #[must_use]
    pub fn start(&self) -> Progress {
        Progress::new(self.0.rules.len())
    }

    /// Judges what is known when `phase` is over.
    pub fn judge(&self, _seen: &Observation, _phase: Phase, _progress: &mut Progress) -> Answer {
        Answer::Decided(Verdict { action: Action::Allow, rule: None })
    }

    /// Judges a whole observation by a second, simple evaluator: the slow truth.
    #[must_use]
    pub fn one_shot(&self, _seen: &Observation) -> Outcome {
        Outcome { answer: Answer::Decided(Verdict { action: Action::Allow, rule: None }), matched: Vec::new(), phase: Phase::Response }
    }

    /// Runs the examples that rules carry.
    #[must_use]
    pub fn run_tests(&self) -> Vec<TestResult> {
        Vec::new()
    }
}
