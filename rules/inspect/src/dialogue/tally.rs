//! Many calls in one exchange: the first are reported each, the rest as a sum, and none is left out.
//!
//! A batch of a hundred thousand calls would otherwise be as many events, which drive those of others
//! out of the ledger's queue and its files.

use super::{
    Dialogue,
    call::{describe, note_unjudged},
};
use crate::{
    Sighting,
    sighting::{Findings, MessageFinding, sightings},
};
use gnomon_engine::RuleIndex;
use gnomon_observe::{Action, Field, Observation};
use gnomon_wire::jsonrpc::Message;
use smol_str::SmolStr;

/// Most calls of one exchange that are reported each by itself; the rest are summed up by rules, method and
/// tool ([`Field::Calls`]).
pub const MAX_TOLD: u32 = 32;
/// Most sums of one exchange that are kept apart by tool; beyond them tools are not told apart.
const MAX_SUMS: usize = 32;

/// The sum of an exchange's further calls.
#[derive(Default)]
pub(crate) struct Tally {
    sums: Vec<Sum>,
    unjudged: Vec<Unjudged>,
}

/// Calls that are reported alike.
struct Sum {
    of: Of,
    count: u64,
    /// The reports of the first of them.
    first: Vec<Sighting>,
}

/// The fields by which two calls count as one kind.
#[derive(Clone, PartialEq, Eq)]
struct Of {
    rules: Vec<Option<RuleIndex>>,
    action: Option<Action>,
    method: Option<SmolStr>,
    /// The tool, prompt or resource; none where they are not told apart any more.
    name: Option<SmolStr>,
    error: Option<SmolStr>,
}

/// Messages that were only counted.
struct Unjudged {
    method: Option<SmolStr>,
    name: Option<SmolStr>,
    count: u64,
    seen: Box<Observation>,
}

const NAMES: [Field; 3] = [Field::ToolName, Field::PromptName, Field::ResourceUri];

impl Of {
    fn first(reports: &[Sighting]) -> Self {
        let first = reports.first();
        let text = |field| first.and_then(|sighting| sighting.seen.text(field)).map(SmolStr::new);
        Self {
            rules: reports.iter().map(|sighting| sighting.rule).collect(),
            action: first.map(|sighting| sighting.action),
            method: text(Field::McpMethod).or_else(|| text(Field::RpcMethod)),
            name: NAMES.into_iter().find_map(text),
            error: text(Field::ErrorType),
        }
    }
}

impl Tally {
    /// Adds one call by its reports.
    pub fn add(&mut self, mut reports: Vec<Sighting>) {
        if reports.is_empty() {
            return;
        }
        let mut of = Of::first(&reports);
        if let Some(sum) = self.sums.iter_mut().find(|sum| sum.of == of) {
            sum.count += 1;
            return;
        }
        if self.sums.len() >= MAX_SUMS && of.name.is_some() {
            of.name = None;
            for sighting in &mut reports {
                NAMES.into_iter().for_each(|field| sighting.seen.clear(field));
            }
        }
        match self.sums.iter_mut().position(|sum| sum.of == of) {
            Some(known) => self.sums[known].count += 1,
            None if self.sums.len() < 2 * MAX_SUMS => self.sums.push(Sum { of, count: 1, first: reports }),
            // More kinds than that differ in their rules: the last one stands for the rest.
            None => {
                if let Some(last) = self.sums.last_mut() {
                    last.count += 1;
                }
            }
        }
    }

    /// Counts a message beyond those that are judged; `begin` is the evidence with which it begins.
    fn count(&mut self, message: &Message, begin: impl FnOnce() -> (Observation, Findings)) {
        let named = message.name.as_ref().or(message.uri.as_ref());
        let known = |u: &&mut Unjudged| u.method == message.method && u.name.as_ref() == named;
        if let Some(known) = self.unjudged.iter_mut().find(known) {
            known.count += 1;
            return;
        }
        if self.unjudged.len() >= MAX_SUMS {
            if let Some(last) = self.unjudged.last_mut() {
                NAMES.into_iter().for_each(|field| last.seen.clear(field));
                last.count += 1;
            }
            return;
        }
        let (mut seen, mut findings) = begin();
        describe(&mut seen, &mut findings, message);
        note_unjudged(&mut seen);
        let seen = Box::new(seen);
        self.unjudged.push(Unjudged { method: message.method.clone(), name: named.cloned(), count: 1, seen });
    }

    fn is_empty(&self) -> bool {
        self.sums.is_empty() && self.unjudged.is_empty()
    }
}

impl Dialogue {
    /// Counts a message beyond those that are judged.
    pub(crate) fn count_unjudged(&mut self, message: &Message) {
        self.reports.tally.count(message, || self.basis.begin());
    }

    /// Reports the calls summed up since the last time.
    pub(crate) fn flush_tally(&mut self) {
        if self.reports.tally.is_empty() {
            return;
        }
        let Tally { sums, unjudged } = std::mem::take(&mut self.reports.tally);
        for Sum { count, first, .. } in sums {
            self.tell_sum(first, count);
        }
        let action = self.refused().map_or_else(|| self.basis.passing(&self.basis.progress).0, |verdict| verdict.action);
        for Unjudged { seen, count, .. } in unjudged {
            let mut findings = self.basis.findings;
            if seen.text(Field::McpMethod).is_some() {
                findings.message = MessageFinding::Mcp;
            }
            let reports = sightings(&self.basis.rules, &self.basis.progress, *seen, findings, action, None);
            self.tell_sum(reports, count);
        }
    }

    fn tell_sum(&mut self, mut reports: Vec<Sighting>, count: u64) {
        for report in reports.iter_mut().filter(|_| count > 1) {
            report.seen.clear(Field::RpcId);
            report.seen.set(Field::Calls, count);
        }
        let call = self.reports.number();
        self.reports.add_each(call, reports);
    }
}
