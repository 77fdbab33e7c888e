//! The slow truth: a second judge, written to be read. It shares with the fast one how a single
//! condition is judged, and nothing of how rules are combined over phases.

use crate::{Answer, Judgement, Origin, Rule, RuleIndex, Verdict, expr::Expr, truth::Truth};
use gnomon_observe::{Action, Observation, Phase};

/// A rule of the set.
#[derive(Clone, Copy)]
pub(crate) struct Each<'a> {
    pub(crate) index: RuleIndex,
    pub(crate) rule: &'a Rule,
    pub(crate) expr: &'a Expr,
}

/// Judges a whole observation: the request first, and if nothing interferes with it, everything.
pub(crate) fn one_shot(rules: &[Each<'_>], seen: &Observation) -> Judgement {
    let request = stage(rules, seen, Phase::Message);
    let interferes = match request.answer {
        Answer::Decided(verdict) => verdict.action.interferes(),
        Answer::Undecidable(_) | Answer::Needs(_) => true,
    };
    if interferes { request } else { stage(rules, seen, Phase::Response) }
}

/// The judgement at the end of `phase`, taking later evidence for a mismatch.
fn stage(rules: &[Each<'_>], seen: &Observation, phase: Phase) -> Judgement {
    let truth = |each: &Each<'_>| match each.expr.judge(seen, phase) {
        Truth::Unknown if each.rule.phase <= phase && is_told_only(each.rule) => each.expr.judge_finally(seen, phase),
        truth => truth,
    };
    let matched: Vec<Each<'_>> = rules.iter().copied().filter(|each| truth(each) == Truth::True).collect();
    let unreadable =
        rules.iter().copied().filter(|each| truth(each) == Truth::Unknown && each.rule.phase <= phase && each.rule.acts().interferes());
    let verdict = resolve(&matched);
    let feared: Vec<Each<'_>> = matched.iter().copied().chain(unreadable.clone()).collect();
    let answer = if effect(resolve(&feared)) == effect(verdict) { Answer::Decided(verdict) } else { Answer::Undecidable(resolve(&feared)) };
    Judgement { answer, matched: matched.iter().map(|each| each.index).collect(), phase }
}

/// True of a rule that refuses nothing and exempts from nothing: what it cannot read is held against nobody, unless only its filters ask for it.
fn is_told_only(rule: &Rule) -> bool {
    !rule.acts().interferes() && (rule.origin, rule.acts()) != (Origin::Admin, Action::Allow)
}

/// The verdict's effect on the bytes.
fn effect(verdict: Verdict) -> Option<Action> {
    Some(verdict.action).filter(|action| action.interferes())
}

/// Resolves rules that match to one verdict.
pub(crate) fn resolve(matched: &[Each<'_>]) -> Verdict {
    let action = |each: &Each<'_>| each.rule.acts();
    let exempt = matched.iter().any(|each| each.rule.origin == Origin::Admin && action(each) == Action::Allow);
    let stands = |each: &&Each<'_>| action(each).interferes() && (each.rule.origin == Origin::Admin || !exempt);
    if let Some(strictest) = matched.iter().filter(stands).map(action).max() {
        let rule = first(matched.iter().filter(stands).filter(|each| action(each) == strictest));
        return Verdict { action: strictest, rule };
    }
    if exempt {
        let rule = first(matched.iter().filter(|each| each.rule.origin == Origin::Admin && action(each) == Action::Allow));
        return Verdict { action: Action::Allow, rule };
    }
    let action = if matched.is_empty() { Action::Allow } else { Action::Log };
    Verdict { action, rule: first(matched.iter()) }
}

fn first<'a>(rules: impl Iterator<Item = &'a Each<'a>>) -> Option<RuleIndex> {
    rules.min_by_key(|each| rank(each.rule)).map(|each| each.index)
}

/// The lower, the more a rule's word counts: the administrator's before the vendor's, the more
/// serious, the one that rests on later and so stronger evidence, and at last any fixed order.
pub(crate) fn rank(rule: &Rule) -> impl Ord + '_ {
    use std::cmp::Reverse;
    (Reverse(rule.origin), Reverse(rule.level), Reverse(rule.phase), &rule.id)
}
