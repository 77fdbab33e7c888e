//! The totals of a replay.

use super::Recorded;
use gnomon_engine::RuleIndex;
use gnomon_inspect::{Inspector, Sighting};
use gnomon_observe::Action;
use std::{
    collections::BTreeMap,
    io::{self, Write},
};

/// The most examples of a reason, and the most bad lines, that are shown.
const EXAMPLES: usize = 5;

/// Counts of one replay. Bounded by the number of rules and reasons, not by the recording.
#[derive(Default)]
pub struct Summary {
    /// Entries read, judged or not.
    pub entries: u64,
    /// Entries that could not be judged, by reason.
    skipped: BTreeMap<&'static str, Tally>,
    /// Entries judged without a part, by part.
    notes: BTreeMap<&'static str, Tally>,
    remarks: Vec<String>,
    bad: u64,
    bad_examples: Vec<String>,
    detections: BTreeMap<usize, u64>,
    /// Calls that the proxy would have refused, redirected or changed.
    refused: BTreeMap<Action, u64>,
    first_of_file: Option<(String, u64)>,
}

#[derive(Default)]
struct Tally {
    count: u64,
    examples: Vec<String>,
}

impl Tally {
    fn add(&mut self, entry: Recorded<'_>) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(format!("{}#{}", entry.file, entry.index));
        }
    }
}

impl Summary {
    /// An entry cannot be judged.
    pub fn skip(&mut self, entry: Recorded<'_>, reason: &'static str) {
        self.skipped.entry(reason).or_default().add(entry);
    }

    /// An entry is judged without a part.
    pub fn note(&mut self, entry: Recorded<'_>, part: &'static str) {
        self.notes.entry(part).or_default().add(entry);
    }

    /// Something about a whole recording.
    pub fn remark(&mut self, remark: String) {
        self.remarks.push(remark);
    }

    /// A part of a recording cannot be read: `file:line: cause`.
    pub fn bad(&mut self, place_and_cause: String) {
        self.bad += 1;
        if self.bad_examples.len() < EXAMPLES {
            self.bad_examples.push(place_and_cause);
        }
    }

    /// The number of parts that could not be read.
    pub fn bad_parts(&self) -> u64 {
        self.bad
    }

    /// The number of entries of `file` that were read so far.
    pub fn entries_of(&mut self, file: &str) -> u64 {
        match &self.first_of_file {
            Some((name, first)) if name == file => self.entries - first,
            _ => {
                self.first_of_file = Some((file.to_owned(), self.entries));
                0
            }
        }
    }

    /// Counts the reports of one entry.
    pub fn count(&mut self, sightings: &[Sighting], inspector: &Inspector) {
        let mut last_call = None;
        for sighting in sightings {
            if let Some(rule) = sighting.rule {
                *self.detections.entry(RuleIndex::get(rule)).or_default() += 1;
            }
            // A call with several detections is one call.
            if last_call.replace(sighting.call) != Some(sighting.call) && sighting.action.interferes() {
                *self.refused.entry(sighting.action).or_default() += 1;
            }
        }
        debug_assert!(self.detections.keys().all(|rule| *rule < inspector.rules().rules().len()));
    }

    /// Writes it, for people.
    pub fn write(&self, out: &mut impl Write, inspector: &Inspector) -> io::Result<()> {
        let skipped: u64 = self.skipped.values().map(|tally| tally.count).sum();
        let detections: u64 = self.detections.values().sum();
        writeln!(out, "{} entries, {} judged, {detections} detections", self.entries, self.entries - skipped)?;
        let interfering = Action::ALL.iter().rev().filter(|action| action.interferes());
        let would: Vec<_> = interfering.map(|action| format!("{action} {}", self.refused.get(action).unwrap_or(&0))).collect();
        writeln!(out, "would {}", would.join(", "))?;
        let rules = inspector.rules();
        let mut by_count: Vec<_> = self.detections.iter().collect();
        by_count.sort_by_key(|(rule, count)| (std::cmp::Reverse(**count), **rule));
        for (rule, count) in by_count {
            if let Some(rule) = rules.rules().get(*rule) {
                writeln!(out, "  {count:>6}  {:<13}  {}  {}", rule.level.as_str(), rule.id, gnomon_cli::line::clean(&rule.title))?;
            }
        }
        for (reason, tally) in &self.skipped {
            writeln!(out, "not judged: {} because {reason} ({})", tally.count, tally.examples.join(", "))?;
        }
        for (part, tally) in &self.notes {
            writeln!(out, "note: {} {part} ({})", tally.count, tally.examples.join(", "))?;
        }
        self.remarks.iter().try_for_each(|remark| writeln!(out, "note: {remark}"))?;
        self.bad_examples.iter().try_for_each(|bad| writeln!(out, "bad input: {bad}"))?;
        match self.bad.saturating_sub(self.bad_examples.len() as u64) {
            0 => Ok(()),
            more => writeln!(out, "bad input: and {more} more"),
        }
    }
}
