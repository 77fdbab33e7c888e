//! A compiled set of rules.

use crate::Expectation;
use crate::{
    Adjustments, Answer, Filter, Judgement, LoadError, LoadErrors, NamedServers, NeededEvidence, Progress, Rule, RuleIndex, Source,
    Subject, TestResult, TextPatterns, Verdict,
    assemble::{self, Assembled, Inner},
    expr::Expr,
    extension::Example,
    judge::{self, Gaps},
    slow,
    truth::Truth,
};
use gnomon_observe::{Observation, Phase, TextFindings, TextHit};
use std::{sync::Arc, time::SystemTime};

/// Compiled rules. Immutable; clones share it.
#[derive(Clone, Debug)]
pub struct RuleSet(Arc<Inner>);

impl RuleSet {
    /// Reads and compiles rules and filters: files of at most 1 MiB, at most 4,096 rules in all.
    ///
    /// # Errors
    /// All errors of all sources, not only the first. Nothing is loaded then.
    pub fn compile(sources: &[Source]) -> Result<Self, LoadErrors> {
        Self::compile_with(sources, &Adjustments::default())
    }

    /// [`RuleSet::compile`] with the administrator's adjustments, at this time.
    ///
    /// # Errors
    /// As [`RuleSet::compile`]; those of the overrides as well.
    pub fn compile_with(sources: &[Source], adjustments: &Adjustments) -> Result<Self, LoadErrors> {
        let Assembled { inner, errors } = assemble::assemble(sources, adjustments);
        if errors.is_empty() { Ok(Self(Arc::new(inner))) } else { Err(LoadErrors(errors)) }
    }

    /// The rules that are judged, in the order of sources and documents.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.0.rules
    }

    /// Rules that were loaded and are switched off.
    #[must_use]
    pub fn disabled(&self) -> &[Rule] {
        &self.0.disabled
    }

    /// All filters, those that are expired or have no rule included.
    #[must_use]
    pub fn filters(&self) -> &[Filter] {
        &self.0.filters
    }

    /// Warnings: findings that are no reason to refuse a rule.
    #[must_use]
    pub fn warnings(&self) -> &[LoadError] {
        &self.0.warnings
    }

    /// The time at which the next filter expires; a set compiled after it differs.
    #[must_use]
    pub fn next_expiry(&self) -> Option<SystemTime> {
        let ends = self.0.filters.iter().filter_map(|filter| filter.expires);
        ends.filter(|end| *end > self.0.now).min()
    }

    /// A rule of this set. An index of another set gives none or another rule.
    #[must_use]
    pub fn rule(&self, index: RuleIndex) -> Option<&Rule> {
        self.0.rules.get(index.get())
    }

    /// The rule with this id or name, or whose id begins so and no other's does; switched off or not.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Rule> {
        let all = || self.0.rules.iter().chain(&self.0.disabled);
        let exact = all().find(|rule| rule.id.eq_ignore_ascii_case(name) || rule.name.as_deref() == Some(name));
        exact.or_else(|| {
            let mut begun = all().filter(|rule| name.len() >= 4 && rule.id.starts_with(&name.to_ascii_lowercase()));
            begun.next().filter(|_| begun.next().is_none())
        })
    }

    /// The evidence that these rules read.
    #[must_use]
    pub fn wanted(&self) -> &NeededEvidence {
        &self.0.wanted
    }

    /// The patterns to match texts with as they pass; none where no rule names a field of such ([`gnomon_observe::Field::is_passing`]).
    #[must_use]
    pub fn texts(&self) -> Option<&Arc<TextPatterns>> {
        self.0.texts.as_ref()
    }

    /// The places in an answer's texts where patterns of this rule were found.
    pub fn places<'a>(&'a self, index: RuleIndex, seen: &'a Observation) -> impl Iterator<Item = &'a TextHit> + 'a {
        let mut questions = Vec::new();
        if let (Some(judged), Some(_)) = (self.0.judged.get(index.get()), seen.texts()) {
            judged.expr.each_item(&mut |item| questions.extend(item.questions()));
        }
        let hits = seen.texts().map(TextFindings::hits).unwrap_or_default();
        hits.iter().filter(move |hit| questions.contains(&hit.question))
    }

    /// The progress before anything was judged.
    #[must_use]
    pub fn start(&self) -> Progress {
        Progress::new(self.0.rules.len())
    }

    /// Judges the evidence at the end of `phase`, and notes in `progress` which rules are settled.
    ///
    /// Call it with rising phases (any may be left out) and with an observation whose fields of
    /// those phases no longer change. A verdict that interferes is final: a refused request has no
    /// answer to judge. Allocates nothing, except that a regular expression builds its states the
    /// first time a thread uses it.
    pub fn judge(&self, seen: &Observation, phase: Phase, progress: &mut Progress) -> Answer {
        judge::judge(&self.0.judged, seen, phase, Gaps::Stay, progress)
    }

    /// Settles the rules whose result does not depend on the unreadable fields of `seen`; for the others `phase` is still to come. Where
    /// many observations differ in those fields alone, only the other rules need be judged for each.
    pub fn settle(&self, seen: &Observation, phase: Phase, progress: &mut Progress) {
        let last = progress.last;
        let _ = judge::judge(&self.0.judged, seen, phase, Gaps::MayClose, progress);
        progress.last = last;
    }

    /// The verdict of the rules that match so far, for what passes: those that are open add to it or do not, and those that match
    /// and interfere were not carried out.
    #[must_use]
    pub fn passing(&self, progress: &Progress) -> Verdict {
        judge::passing(&self.0.judged, progress)
    }

    /// The verdict of the rules that match so far, where no more evidence will be waited for: an undecided rule refuses nothing, and an
    /// undecided `allow` of an administrator sets shipped rules aside.
    #[must_use]
    pub fn as_far_as_known(&self, progress: &Progress) -> Verdict {
        judge::as_far_as_known(&self.0.judged, progress)
    }

    /// Takes it that no rule which interferes matches any more, except those that match already and those that name the server
    /// or path they are for. For what is refused only on the word of a rule that means this very place.
    pub fn leave_aimed(&self, progress: &mut Progress) {
        judge::leave_aimed(&self.0.judged, progress);
    }

    /// True if, of two ways to see one thing, none that is refused by `one` passes by `other`, as far as the rules are decided.
    #[must_use]
    pub fn fears_no_more(&self, one: &Progress, other: &Progress) -> bool {
        judge::fears_no_more(&self.0.judged, one, other)
    }

    /// The servers that rules which interfere name in full.
    #[must_use]
    pub fn named_servers(&self) -> &NamedServers {
        &self.0.named_servers
    }

    /// The rules that interfere and are still undecided, in the set's order.
    pub fn open_rules<'a>(&'a self, progress: &'a Progress) -> impl Iterator<Item = (RuleIndex, &'a Rule)> + 'a {
        self.undecided(progress).filter(|(_, rule)| rule.acts().interferes())
    }

    /// The rules that are still undecided, in the set's order.
    pub fn undecided<'a>(&'a self, progress: &'a Progress) -> impl Iterator<Item = (RuleIndex, &'a Rule)> + 'a {
        progress.open().filter_map(|index| Some((index, self.rule(index)?)))
    }

    /// Judges a whole observation by a second, simple evaluator: the slow truth that
    /// [`RuleSet::judge`] is held against.
    #[must_use]
    pub fn one_shot(&self, seen: &Observation) -> Judgement {
        slow::one_shot(&self.each(), seen)
    }

    fn each(&self) -> Vec<slow::Each<'_>> {
        let indexed = (0..).map(RuleIndex).zip(&self.0.rules).zip(&self.0.judged);
        indexed.map(|((index, rule), judged)| slow::Each { index, rule, expr: &judged.expr }).collect()
    }

    /// Runs the examples that rules and filters carry, each against its own condition alone: what a filter excepts does
    /// not break the tests of the rule. Rules that are switched off are not run.
    #[must_use]
    pub fn run_tests(&self) -> Vec<TestResult> {
        let mut results = Vec::new();
        for ((index, rule), (expr, examples)) in (0..).map(RuleIndex).zip(&self.0.rules).zip(&self.0.own) {
            run(Subject::Rule(index), &rule.file, expr, examples, &mut results);
        }
        for ((place, filter), (expr, examples)) in self.0.filters.iter().enumerate().zip(&self.0.conditions) {
            run(Subject::Filter(place), &filter.file, expr, examples, &mut results);
        }
        results
    }
}

fn run(subject: Subject, file: &str, expr: &Expr, examples: &[Example], results: &mut Vec<TestResult>) {
    for (number, example) in examples.iter().enumerate() {
        let matched = expr.judge(&example.seen, Phase::Response) == Truth::True;
        results.push(TestResult {
            subject,
            number,
            file: file.into(),
            line: example.at.line,
            column: example.at.column,
            expected: example.expected,
            passed: matched == (example.expected == Expectation::Match),
        });
    }
}
