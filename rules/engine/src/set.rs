//! A compiled set of rules.

use crate::Expectation;
use crate::{
    Answer, LoadError, LoadErrors, Outcome, Progress, Rule, RuleIndex, Source, TestResult, Wanted,
    detection::Items,
    error::Report,
    extension::Example,
    judge::{self, Judged, Part},
    load::{self, Loaded},
    slow,
    truth::Truth,
};
use gnomon_observe::{Observation, Phase};
use std::{collections::HashMap, sync::Arc};

/// How many rules a set may hold.
const MAX_RULES: usize = 4096;

/// Compiled rules. Immutable; clones share it.
#[derive(Clone, Debug)]
pub struct RuleSet(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: Vec<Rule>,
    judged: Vec<Judged>,
    examples: Vec<Vec<Example>>,
    wanted: Wanted,
}

impl RuleSet {
    /// Reads and compiles rules: files of at most 1 MiB, at most 4,096 rules in all.
    ///
    /// # Errors
    /// All errors of all sources, not only the first. Nothing is loaded then.
    pub fn compile(sources: &[Source]) -> Result<Self, LoadErrors> {
        let mut errors = Vec::new();
        let mut loaded = Vec::new();
        let mut ids = HashMap::new();
        let mut items = Items::default();
        for source in sources {
            let mut report = Report::new(&source.name);
            for one in load::file(source, &mut report, &mut items) {
                if let Some(first) = ids.insert(one.rule.id.clone(), format!("{}:{}", source.name, one.at.line)) {
                    report.at::<()>(one.at, format!("the id {} is also used in {first}; give one of them a new UUID", one.rule.id));
                }
                loaded.push(one);
            }
            errors.append(&mut report.errors);
        }
        if loaded.len() > MAX_RULES {
            let name = sources.last().map(|source| source.name.clone()).unwrap_or_default();
            errors.push(LoadError { file: name, line: 1, column: 1, message: format!("more than {MAX_RULES} rules; load fewer packs") });
        }
        if errors.is_empty() { Ok(Self::of(loaded)) } else { Err(LoadErrors(errors)) }
    }

    fn of(loaded: Vec<Loaded>) -> Self {
        let mut wanted = Wanted::default();
        loaded.iter().for_each(|one| wanted.add(&one.asks));
        let mut order: Vec<usize> = (0..loaded.len()).collect();
        order.sort_by(|a, b| slow::rank(&loaded[*a].rule).cmp(&slow::rank(&loaded[*b].rule)));
        let mut ranks = vec![0; loaded.len()];
        for (rank, place) in order.into_iter().enumerate() {
            ranks[place] = rank as u16;
        }
        let mut inner = Inner { rules: Vec::new(), judged: Vec::new(), examples: Vec::new(), wanted };
        for (one, rank) in loaded.into_iter().zip(ranks) {
            let phases = one.asks.phases;
            inner.judged.push(Judged { expr: one.expr, phases, part: Part::of(&one.rule), rank });
            inner.rules.push(one.rule);
            inner.examples.push(one.examples);
        }
        Self(Arc::new(inner))
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

    /// Judges what is known when `phase` is over, and notes in `progress` which rules are settled.
    ///
    /// Call it with rising phases (any may be left out) and with an observation whose fields of
    /// those phases no longer change. A verdict that interferes is final: a refused request has no
    /// answer to judge. Allocates nothing, except that a regular expression builds its states the
    /// first time a thread uses it.
    pub fn judge(&self, seen: &Observation, phase: Phase, progress: &mut Progress) -> Answer {
        judge::judge(&self.0.judged, seen, phase, progress)
    }

    /// Judges a whole observation by a second, simple evaluator: the slow truth that
    /// [`RuleSet::judge`] is held against.
    #[must_use]
    pub fn one_shot(&self, seen: &Observation) -> Outcome {
        slow::one_shot(&self.each(), seen)
    }

    fn each(&self) -> Vec<slow::Each<'_>> {
        let indexed = (0..).map(RuleIndex).zip(&self.0.rules).zip(&self.0.judged);
        indexed.map(|((index, rule), judged)| slow::Each { index, rule, expr: &judged.expr }).collect()
    }

    /// Runs the examples that rules carry, each against its own rule alone.
    #[must_use]
    pub fn run_tests(&self) -> Vec<TestResult> {
        let mut results = Vec::new();
        for (each, examples) in self.each().into_iter().zip(&self.0.examples) {
            for (number, example) in examples.iter().enumerate() {
                let matched = each.expr.judge(&example.seen, Phase::Response) == Truth::True;
                results.push(TestResult {
                    rule: each.index,
                    number,
                    file: each.rule.file.clone(),
                    line: example.line,
                    expected: example.expected,
                    passed: matched == (example.expected == Expectation::Match),
                });
            }
        }
        results
    }
}
