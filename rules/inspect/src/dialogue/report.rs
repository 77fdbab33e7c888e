//! Turns judged calls into reports: one for each call, as soon as there is nothing more to wait for.

use super::{
    Dialogue, MAX_TOLD, Refusal,
    call::{Call, Early, Waits, names},
    tally::Tally,
};
use crate::{Passage, Sighting, shadow::would, sighting::sightings};
use gnomon_engine::Progress;
use gnomon_observe::{Action, Class, Field, Observation};
use smol_str::{SmolStr, format_smolstr};

/// Most places that one event names.
const MAX_PLACES: usize = 16;

/// The reports that are due, and the numbers of calls. Calls beyond [`MAX_TOLD`] are summed up.
#[derive(Default)]
pub(super) struct Reports {
    due: Vec<Sighting>,
    /// Calls that have a number.
    numbered: u32,
    /// Calls reported each by itself.
    told: u32,
    pub tally: Tally,
}

impl Reports {
    /// Takes the reports that are due, in order.
    pub fn take(&mut self) -> impl Iterator<Item = Sighting> + '_ {
        self.due.drain(..)
    }

    /// True if no call was reported yet.
    pub fn are_none(&self) -> bool {
        self.numbered == 0
    }

    /// A number for a call.
    pub fn number(&mut self) -> u32 {
        let number = self.numbered;
        self.numbered = number.saturating_add(1);
        number
    }

    /// Adds the reports of the call of this number.
    pub fn add(&mut self, call: u32, reports: Vec<Sighting>) {
        if self.told >= MAX_TOLD {
            self.tally.add(reports);
            return;
        }
        self.told += u32::from(!reports.is_empty());
        self.add_each(call, reports);
    }

    /// Adds these reports, however many there are already.
    pub fn add_each(&mut self, call: u32, reports: impl IntoIterator<Item = Sighting>) {
        self.due.extend(reports.into_iter().map(|report| Sighting { call, ..report }));
    }
}

impl Dialogue {
    /// Reports every call as it is now: its answer ended, broke off, or is overdue.
    pub fn flush(&mut self) {
        let read_response = self.basis.rules.wanted().response;
        for mut call in self.pairing.take_all() {
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
        for call in self.pairing.take_all() {
            if call.early.is_some() {
                self.pairing.calls.push(call);
                continue;
            }
            let (number, reported) = (self.reports.numbered, self.reports.due.len());
            let mut now = call.clone();
            // A notification has no answer to wait for.
            let kept = call.id.is_none() || self.pairing.await_answer(number, call.id.clone());
            if call.id.is_some() {
                now.seen.set(Field::Pending, true);
            }
            self.report(now, None);
            let reports = self.reports.due.get(reported..).unwrap_or_default();
            let rules = (!reports.is_empty()).then(|| reports.iter().filter_map(|report| report.rule).collect());
            if kept || call.waits == Waits::ForAnswer {
                self.pairing.calls.push(Call { early: Some(Early { number, rules }), ..call });
            }
        }
    }

    /// Tells at once, whatever else is told of it, that its messages pass unread. `requests` is how many this stands for.
    pub(crate) fn tell_unread(&mut self, passage: Passage, requests: u64) {
        let mut seen = self.basis.seen.clone();
        seen.set(Field::Passage, passage.reason());
        seen.set(Field::Message, passage.describe());
        seen.set_some(Field::Calls, (requests > 1).then_some(requests));
        seen.set(Field::Action, Action::Allow.as_str());
        seen.set(Field::DetectionClass, Class::Health.as_str());
        let call = self.reports.number();
        self.reports.add_each(call, [Sighting { seen, rule: None, action: Action::Allow, class: Class::Health, call }]);
    }

    /// No answer came: `cause` says why.
    pub fn failed(&mut self, cause: &str, detail: &str) {
        self.traffic.failure = Some((cause.into(), detail.into()));
        if self.nothing_judged() {
            self.judge_exchange();
        }
        for call in &mut self.pairing.calls {
            call.seen.set(Field::ErrorType, cause);
            call.seen.set(Field::Message, detail);
        }
        self.flush();
    }

    /// Where in the answer's texts the rules that matched found something.
    fn places(&self, seen: &Observation, progress: &Progress) -> Vec<SmolStr> {
        let mut places: Vec<SmolStr> = Vec::new();
        if seen.texts().is_none() {
            return places;
        }
        for hit in progress.matched().flat_map(|index| self.basis.rules.places(index, seen)) {
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
        let (action, deciding) = self.basis.as_it_stands((action, deciding), &progress);
        self.traffic.describe(&mut seen);
        if !findings.response_signatures.is_empty() {
            seen.set(Field::ResponseSignatures, names(findings.response_signatures));
        }
        if let Some(refusal) = refusal {
            seen.set(Field::Message, refusal.text.as_str());
        }
        self.basis.remember(&findings);
        let places = self.places(&seen, &progress);
        seen.set_some(Field::TextPlaces, (!places.is_empty()).then_some(places));
        let would = if refusal.is_some() { None } else { would(&self.basis.rules, &progress, self.enforcement()) };
        seen.set_some(Field::Would, would.map(|(action, _)| action.as_str()));
        let deciding = would.map(|(_, rule)| rule).or(deciding.filter(|_| action.interferes() || action == Action::Allow));
        let mut reports = sightings(&self.basis.rules, &progress, seen, findings, action, deciding);
        let call = match early {
            // Told already, but for what its answer brought.
            Some(Early { number, rules }) => {
                reports.retain(|report| {
                    action.interferes()
                        || rules.is_none()
                        || report.rule.is_some_and(|rule| !rules.iter().flatten().any(|told| *told == rule))
                });
                if refusal.is_some() {
                    self.pairing.awaits_no_more(number);
                }
                number
            }
            None => self.reports.number(),
        };
        self.reports.add(call, reports);
    }
}
