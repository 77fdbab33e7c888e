//! The fast judge: phase by phase, settling each rule once.
//!
//! The question at each phase is not what matches but whether anything unsettled could still
//! change what happens to the bytes. Interference only grows with more matches, except that an
//! administrator's `allow` sets vendors' rules aside; so it is enough to compare the mildest
//! outcome still possible with the strictest.

use crate::{
    Answer, Origin, Rule, RuleIndex, Verdict,
    expr::{Expr, Memory, Phases},
    progress::Progress,
    truth::Truth,
};
use gnomon_observe::{Action, Observation, Phase};

/// The parts of a rule that the judge reads, side by side in memory.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) expr: Expr,
    pub(crate) phases: Phases,
    pub(crate) part: Part,
    /// The lower, the more its word counts.
    pub(crate) rank: u16,
    pub(crate) aim: Aim,
}

/// The servers and paths at which a rule can match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// Only at servers or paths that it names.
    Named,
    /// Anywhere.
    Anywhere,
}

impl Aim {
    pub(crate) fn of(expr: &Expr) -> Self {
        if expr.singles_out() { Self::Named } else { Self::Anywhere }
    }
}

/// The part a rule plays when rules disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Sets vendors' interfering rules aside.
    Exempts,
    /// Interferes, whatever is exempt.
    Insists(Action),
    /// Interferes unless exempt.
    Proposes(Action),
    /// Only logged.
    Notes,
}

impl Part {
    pub(crate) fn of(rule: &Rule) -> Self {
        match (rule.origin, rule.acts()) {
            (Origin::Admin, Action::Allow) => Part::Exempts,
            (Origin::Admin, action) if action.interferes() => Part::Insists(action),
            (Origin::Vendor, action) if action.interferes() => Part::Proposes(action),
            _ => Part::Notes,
        }
    }
}

/// The best of the rules that play one part: the strictest, then by rank.
#[derive(Clone, Copy, Debug, Default)]
struct Best(Option<(Action, u16, RuleIndex)>);

impl Best {
    fn add(&mut self, action: Action, rank: u16, index: RuleIndex) {
        let better = self.0.is_none_or(|(best, best_rank, _)| action > best || action == best && rank < best_rank);
        if better {
            self.0 = Some((action, rank, index));
        }
    }

    fn action(self) -> Action {
        self.0.map_or(Action::Allow, |(action, ..)| action)
    }

    fn or(mut self, other: Self) -> Self {
        if let Some((action, rank, index)) = other.0 {
            self.add(action, rank, index);
        }
        self
    }

    fn verdict(self) -> Option<Verdict> {
        self.0.map(|(action, _, index)| Verdict { action, rule: Some(index) })
    }
}

/// The rules that match or may match at one phase.
#[derive(Debug, Default)]
struct Candidates {
    /// The best of the matching rules, by part.
    exempt: Best,
    insisted: Best,
    proposed: Best,
    noted: Best,
    /// Undecided rules that bear on the bytes at hand, by part.
    may_exempt: Option<Phase>,
    may_insist: Open,
    may_propose: Open,
    /// Undecided rules that wait for the answer alone, by part.
    answer_insists: bool,
    answer_proposes: bool,
}

/// Open rules of one part: the best, and for each action the phase that comes next.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    best: Best,
    next: [Option<Phase>; Action::ALL.len()],
}

impl Open {
    fn add(&mut self, action: Action, next: Phase, rank: u16, index: RuleIndex) {
        self.best.add(action, rank, index);
        let slot = &mut self.next[action as usize];
        *slot = Some(slot.map_or(next, |known| known.min(next)));
    }

    /// The next phase of those stricter than `action`.
    fn stricter(&self, action: Action) -> Option<Phase> {
        self.next[action as usize + 1..].iter().flatten().min().copied()
    }
}

/// Rules out those that interfere and could match anywhere.
pub(crate) fn leave_aimed(rules: &[Judged], progress: &mut Progress) {
    for (start, pair) in (0..).step_by(64).zip(progress.pairs_mut()) {
        for (bit, rule) in rules.get(start..).unwrap_or_default().iter().take(64).enumerate() {
            let interferes = matches!(rule.part, Part::Insists(_) | Part::Proposes(_));
            if interferes && rule.aim == Aim::Anywhere && pair.matched & 1 << bit == 0 {
                pair.failed |= 1 << bit;
            }
        }
    }
}

/// True if no interfering rule matches or may match by `one` that does not by `other`, and none exempts by `other` alone.
pub(crate) fn fears_no_more(rules: &[Judged], one: &Progress, other: &Progress) -> bool {
    let alive = |progress: &Progress, index: usize| progress.standing(index) != Some(false);
    rules.iter().enumerate().all(|(index, rule)| match rule.part {
        Part::Insists(_) | Part::Proposes(_) => !alive(one, index) || alive(other, index),
        Part::Exempts => alive(one, index) || !alive(other, index),
        Part::Notes => true,
    })
}

/// The verdict of those that match so far, if none that is open interferes.
pub(crate) fn passing(rules: &[Judged], progress: &Progress) -> Verdict {
    let mut candidates = Candidates::default();
    for index in progress.matched() {
        if let Some(rule) = rules.get(index.get()) {
            candidates.matched(rule, index);
        }
    }
    candidates.pass()
}

/// The verdict of the rules that match so far, if no more evidence comes; undecided rules refuse nothing, but an undecided exemption sets
/// proposals aside.
pub(crate) fn as_far_as_known(rules: &[Judged], progress: &Progress) -> Verdict {
    let mut candidates = Candidates::default();
    let mut may_exempt = false;
    for (index, rule) in (0..).map(RuleIndex).zip(rules) {
        match progress.standing(index.get()) {
            Some(true) => candidates.matched(rule, index),
            None => may_exempt |= rule.part == Part::Exempts,
            Some(false) => {}
        }
    }
    let proposed = if may_exempt || candidates.exempt.0.is_some() { Best::default() } else { candidates.proposed };
    candidates.insisted.or(proposed).verdict().unwrap_or_else(|| candidates.pass())
}

/// Whether what cannot be read may still be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gaps {
    MayClose,
    Stay,
}

/// Judges the evidence at the end of `phase`.
pub(crate) fn judge(rules: &[Judged], seen: &Observation, phase: Phase, gaps: Gaps, progress: &mut Progress) -> Answer {
    let mut candidates = Candidates::default();
    let mut memory = Memory::default();
    let last = progress.last.replace(phase);
    for (start, pair) in (0..).step_by(64).zip(progress.pairs_mut()) {
        let here = rules.get(start..).unwrap_or_default();
        for (bit, rule) in here.iter().take(64).enumerate() {
            let mark = 1 << bit;
            if pair.failed & mark != 0 {
                continue;
            }
            let truth = if pair.matched & mark != 0 {
                Truth::True
            } else if !rule.phases.within(last, phase) {
                // No evidence that this rule reads has arrived since.
                Truth::Unknown
            } else {
                match rule.expr.recall(seen, phase, &mut memory) {
                    // A filter that cannot be read would silence the rule; it is told instead.
                    Truth::Unknown if gaps == Gaps::Stay && rule.part == Part::Notes && rule.phases.after(phase).is_none() => {
                        rule.expr.judge_finally(seen, phase)
                    }
                    truth => truth,
                }
            };
            // A set holds fewer rules than a RuleIndex can count.
            let index = RuleIndex((start + bit) as u16);
            match truth {
                Truth::False => pair.failed |= mark,
                Truth::True => {
                    pair.matched |= mark;
                    candidates.matched(rule, index);
                }
                Truth::Unknown => candidates.open(rule, index, phase),
            }
        }
    }
    candidates.answer(phase)
}

impl Candidates {
    fn matched(&mut self, rule: &Judged, index: RuleIndex) {
        match rule.part {
            Part::Exempts => self.exempt.add(Action::Allow, rule.rank, index),
            Part::Insists(action) => self.insisted.add(action, rule.rank, index),
            Part::Proposes(action) => self.proposed.add(action, rule.rank, index),
            Part::Notes => self.noted.add(Action::Log, rule.rank, index),
        }
    }

    fn open(&mut self, rule: &Judged, index: RuleIndex, phase: Phase) {
        let next = match (rule.phases.after(phase), rule.part) {
            (Some(Phase::Response), Part::Insists(_)) if phase < Phase::Response => {
                self.answer_insists = true;
                return;
            }
            (Some(Phase::Response), Part::Proposes(_)) if phase < Phase::Response => {
                self.answer_proposes = true;
                return;
            }
            (Some(next), _) => next,
            // It stays unreadable. An unreadable field exempts nothing; a rule that interferes is held against the request once the request
            // is complete.
            (None, Part::Exempts) => return,
            (None, _) => Phase::Message,
        };
        match rule.part {
            Part::Exempts => self.may_exempt = Some(self.may_exempt.map_or(next, |known| known.min(next))),
            Part::Insists(action) => self.may_insist.add(action, next, rule.rank, index),
            Part::Proposes(action) => self.may_propose.add(action, next, rule.rank, index),
            Part::Notes => {}
        }
    }

    fn answer(&self, phase: Phase) -> Answer {
        let exempt = self.exempt.0.is_some();
        let (proposed, may_propose) = if exempt { (Best::default(), Open::default()) } else { (self.proposed, self.may_propose) };
        let certain = self.insisted.or(proposed);
        let mildest = if self.may_exempt.is_some() { self.insisted.action() } else { certain.action() };
        let feared = certain.or(self.may_insist.best).or(may_propose.best);
        if feared.action() == mildest {
            let verdict = certain.verdict().unwrap_or_else(|| self.pass());
            let answer_matters = self.answer_insists || self.answer_proposes && !exempt;
            return if answer_matters && !verdict.action.interferes() { Answer::Needs(Phase::Response) } else { Answer::Decided(verdict) };
        }
        let exemption = if exempt { None } else { self.may_exempt };
        let pending = [self.may_insist.stricter(mildest), may_propose.stricter(mildest), exemption];
        match pending.into_iter().flatten().min().filter(|next| *next > phase) {
            Some(next) => Answer::Needs(next),
            None => Answer::Undecidable(feared.verdict().unwrap_or_else(|| self.pass())),
        }
    }

    /// The verdict where nothing interferes.
    fn pass(&self) -> Verdict {
        if let Some(verdict) = self.exempt.verdict() {
            return verdict;
        }
        // Proposals that were set aside would have had an exemption above; what is left is noted.
        self.noted.verdict().unwrap_or(Verdict { action: Action::Allow, rule: None })
    }
}
