//! Turns judged calls into reports: one for each call, as soon as there is nothing more to wait for.

use super::{
    Dialogue, MAX_TOLD, Refusal,
    call::{Call, Early, Waits, names},
};
use crate::{
    Passage, Sighting,
    shadow::would,
    sighting::{SpokeBefore, sightings},
};
use gnomon_engine::{Progress, RuleIndex, Verdict};
use gnomon_observe::{Action, Class, Confidence, Field, Observation};
use smol_str::{SmolStr, format_smolstr};

/// Most places that one event names.
const MAX_PLACES: usize = 16;

impl Dialogue {
    /// Reports every call as it is now: its answer ended, broke off, or is overdue.
    pub fn flush(&mut self) {
        let read_response = self.rules.wanted().response;
        for mut call in std::mem::take(&mut self.calls) {
            if read_response {
                let answer = self.judge_answered(&mut call);
                call.settle(answer);
            }
            self.report(call, None);
        }
        self.flush_tally();
    }

    /// Reports calls whose answer is long in coming, so that an alert does not wait for it. They stay open: what rules find in the
    /// answer is reported with the same number ([`Sighting::call`]).
    pub fn flush_overdue(&mut self) {
        for call in std::mem::take(&mut self.calls) {
            if call.early.is_some() {
                self.calls.push(call);
                continue;
            }
            let (number, reported) = (self.calls_reported, self.reports.len());
            let mut now = call.clone();
            // A notification has no answer to wait for.
            let kept = call.id.is_none() || self.await_answer(number, call.id.clone());
            if call.id.is_some() {
                now.seen.set(Field::Pending, true);
            }
            self.report(now, None);
            let reports = self.reports.get(reported..).unwrap_or_default();
            let rules = (!reports.is_empty()).then(|| reports.iter().filter_map(|report| report.rule).collect());
            if kept || call.waits == Waits::ForAnswer {
                self.calls.push(Call { early: Some(Early { number, rules }), ..call });
            }
        }
    }

    /// Tells at once, whatever else is told of it, that its messages pass unread. `requests` is how many this stands for.
    pub(crate) fn tell_unread(&mut self, passage: Passage, requests: u64) {
        let mut seen = self.base.clone();
        seen.set(Field::Passage, passage.reason());
        seen.set(Field::Message, passage.describe());
        seen.set_some(Field::Calls, (requests > 1).then_some(requests));
        seen.set(Field::Action, Action::Allow.as_str());
        seen.set(Field::DetectionClass, Class::Health.as_str());
        let call = self.calls_reported;
        self.calls_reported = call.saturating_add(1);
        self.reports.push(Sighting { seen, rule: None, action: Action::Allow, class: Class::Health, call });
    }

    /// No answer came: `cause` says why.
    pub fn failed(&mut self, cause: &str, detail: &str) {
        self.failure = Some((cause.into(), detail.into()));
        if self.nothing_judged() {
            self.judge_exchange();
        }
        for call in &mut self.calls {
            call.seen.set(Field::ErrorType, cause);
            call.seen.set(Field::Message, detail);
        }
        self.flush();
    }

    /// The action and rule reported for a call that passes.
    pub(super) fn passing(&self, progress: &Progress) -> (Action, Option<RuleIndex>) {
        let Verdict { action, rule } = self.rules.passing(progress);
        (action, rule)
    }

    /// Where in the answer's texts the rules that matched found something.
    fn places(&self, seen: &Observation, progress: &Progress) -> Vec<SmolStr> {
        let mut places: Vec<SmolStr> = Vec::new();
        if seen.texts().is_none() {
            return places;
        }
        for hit in progress.matched().flat_map(|index| self.rules.places(index, seen)) {
            let place = format_smolstr!("{} {}", hit.field, hit.path);
            if places.len() < MAX_PLACES && !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// Turns a call into its reports and remembers endpoints that spoke MCP.
    pub(super) fn report(&mut self, call: Call, refusal: Option<&Refusal>) {
        let Call { mut seen, progress, findings, action, deciding, early, .. } = call;
        // A rule that still waits for an answer sets aside nothing that matches already.
        let (action, deciding) = match action {
            Action::Allow => self.passing(&progress),
            _ => (action, deciding),
        };
        seen.set(Field::RequestSize, self.asked);
        if !findings.response_signatures.is_empty() {
            seen.set(Field::ResponseSignatures, names(findings.response_signatures));
        }
        if self.answered > 0 {
            seen.set(Field::ResponseSize, self.answered);
        }
        if let Some(refusal) = refusal {
            seen.set(Field::Message, refusal.text.as_str());
        }
        if findings.spoke_before == SpokeBefore::No && findings.confidence().0 == Some(Confidence::Confirmed) {
            self.inspector.remember((*self.endpoint).clone());
        }
        let places = self.places(&seen, &progress);
        seen.set_some(Field::TextPlaces, (!places.is_empty()).then_some(places));
        let would = if refusal.is_some() { None } else { would(&self.rules, &progress, self.enforcement()) };
        seen.set_some(Field::Would, would.map(|(action, _)| action.as_str()));
        let deciding = would.map(|(_, rule)| rule).or(deciding.filter(|_| action.interferes() || action == Action::Allow));
        let mut reports = sightings(&self.rules, &progress, seen, findings, action, deciding);
        let call = match early {
            // Told already, but for what its answer brought.
            Some(Early { number, rules }) => {
                reports.retain(|report| {
                    action.interferes()
                        || rules.is_none()
                        || report.rule.is_some_and(|rule| !rules.iter().flatten().any(|told| *told == rule))
                });
                if refusal.is_some() {
                    self.pending.retain(|pending| !pending.is_of(number));
                }
                number
            }
            None => {
                let number = self.calls_reported;
                self.calls_reported = number.saturating_add(1);
                number
            }
        };
        if self.told >= MAX_TOLD {
            self.tally.add(reports);
            return;
        }
        self.told += u32::from(!reports.is_empty());
        self.reports.extend(reports.into_iter().map(|report| Sighting { call, ..report }));
    }
}
