//! Verdicts that are not carried out: rules are judged as ever, everything passes, and the event says what would have
//! happened. So a rule can be tried on live traffic, and one switch can stop all interference at once.

use gnomon_engine::{Answer, Enforcement, Origin, Progress, Rule, RuleIndex, RuleSet, Verdict};
use gnomon_observe::Action;

/// The verdict in this answer that keeps bytes from passing, if any.
pub(crate) fn interfering(answer: Answer) -> Option<Verdict> {
    match answer {
        Answer::Decided(verdict) if verdict.action.interferes() => Some(verdict),
        Answer::Undecidable(verdict) => Some(verdict),
        Answer::Decided(_) | Answer::Needs(_) => None,
    }
}

/// The answer under this enforcement: in shadow nothing interferes.
pub(crate) fn tempered(answer: Answer, enforcement: Enforcement) -> Answer {
    let passes = |verdict: Verdict| Verdict { action: Action::Log, ..verdict };
    match (enforcement, answer) {
        (Enforcement::Enforce, answer) => answer,
        (Enforcement::Shadow, Answer::Decided(verdict)) if verdict.action.interferes() => Answer::Decided(passes(verdict)),
        (Enforcement::Shadow, Answer::Decided(verdict)) => Answer::Decided(verdict),
        // An undecided rule is not waited for: nothing that is still unknown could change what happens.
        (Enforcement::Shadow, Answer::Needs(_)) => Answer::Decided(Verdict { action: Action::Allow, rule: None }),
        (Enforcement::Shadow, Answer::Undecidable(verdict)) => Answer::Decided(Verdict { rule: None, ..passes(verdict) }),
    }
}

/// The action that matching rules in shadow mode would have taken: the strictest, of equals the first in the set.
/// Requests that would have been refused because they could not be read are not among them, as no rule matched.
pub(crate) fn would(rules: &RuleSet, progress: &Progress, enforcement: Enforcement) -> Option<(Action, RuleIndex)> {
    let matched = || progress.matched().filter_map(|index| Some((index, rules.rule(index)?)));
    let admins = |rule: &Rule| rule.origin == Origin::Admin;
    let exempt = matched().any(|(_, rule)| admins(rule) && rule.acts() == Action::Allow);
    let in_shadow = |rule: &Rule| enforcement == Enforcement::Shadow || rule.enforcement == Enforcement::Shadow;
    let stands = |rule: &Rule| admins(rule) || !exempt;
    let interfering = matched().filter(|(_, rule)| rule.response.action.interferes() && in_shadow(rule) && stands(rule));
    interfering.map(|(index, rule)| (rule.response.action, index)).reduce(|best, next| if next.0 > best.0 { next } else { best })
}
