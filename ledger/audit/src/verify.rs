//! Holds records against checkpoints that were somewhere else meanwhile.

use crate::{
    checkpoint::Checkpoint,
    key::PublicKey,
    record::{Record, RecordKind, timestamp},
    store::{Columns, Store, StoreError, StoredRecord},
};
use std::{collections::BTreeMap, fmt, ops::RangeInclusive, time::SystemTime};

/// The most findings that are listed one by one.
pub const MAX_FINDINGS: usize = 100;
/// Records that are read at a time.
const PAGE: u32 = 512;

/// A fault found in an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// No checkpoint was given that this key signed for this chain: nothing is proven.
    NoCheckpoint,
    /// A line that says to be a checkpoint is not signed by this key.
    Forged {
        /// Its number.
        number: u64,
    },
    /// A signed checkpoint of another chain: this database took another one's place, or the checkpoints are of another host.
    OtherChain {
        /// Its number.
        number: u64,
    },
    /// Two signed checkpoints of the same number differ: the key was copied, or two databases use it.
    Forked {
        /// Their number.
        number: u64,
    },
    /// The record differs from its hash.
    Changed {
        /// Its number.
        seq: u64,
    },
    /// A column by which records are filtered differs from the record.
    Column {
        /// The record's number.
        seq: u64,
    },
    /// Records are missing.
    Missing {
        /// Their numbers.
        seqs: RangeInclusive<u64>,
    },
    /// Records agree with each other and not with a checkpoint: they were written anew. Between these numbers is the first.
    Rewritten {
        /// From the record after the last confirmed one to the checkpoint's.
        seqs: RangeInclusive<u64>,
    },
    /// A checkpoint is further than the last record.
    Truncated {
        /// The last record.
        last: u64,
        /// The checkpoint's.
        checkpoint: u64,
    },
    /// The head before the oldest record is neither the chain's start nor a checkpoint.
    Beginning {
        /// The oldest record.
        seq: u64,
    },
    /// Records stand before the beginning of what the chain covers: none was taken away up to there, and nothing vouches for them.
    Uncovered {
        /// How many.
        records: u64,
        /// The last number that the chain does not cover.
        upto: u64,
    },
    /// Records were taken away that should still be kept.
    TrimmedTooMuch {
        /// The last one of them.
        seq: u64,
        /// The time of the checkpoint there.
        at: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::NoCheckpoint => {
                f.write_str("no checkpoint of this key and chain was given; without one a rewritten audit looks sound")
            }
            Finding::Forged { number } => write!(f, "checkpoint {number} is not signed by this key"),
            Finding::OtherChain { number } => {
                write!(f, "checkpoint {number} is of another chain: the database was replaced, or it is of another host")
            }
            Finding::Forked { number } => write!(f, "there are two different checkpoints {number}: the key was used elsewhere"),
            Finding::Changed { seq } => write!(f, "record {seq} was changed or replaced"),
            Finding::Column { seq } => write!(f, "a column of record {seq} says something else than the record"),
            Finding::Missing { seqs } => write!(f, "{} are missing", records(seqs)),
            Finding::Rewritten { seqs } => write!(f, "{} are not those of the checkpoint: they were written anew", records(seqs)),
            Finding::Truncated { last, checkpoint } => write!(f, "the last record is {last}, but there were {checkpoint}"),
            Finding::Beginning { seq } => write!(f, "the records before {seq} are missing, and no checkpoint says that they were there"),
            Finding::Uncovered { records, upto } => {
                write!(f, "{records} records with numbers up to {upto} stand outside of the chain: nothing vouches for them")
            }
            Finding::TrimmedTooMuch { seq, at } => write!(f, "records up to {seq} ({at}) are gone, and should be kept"),
        }
    }
}

fn records(seqs: &RangeInclusive<u64>) -> String {
    if seqs.start() == seqs.end() { format!("record {}", seqs.start()) } else { format!("records {} to {}", seqs.start(), seqs.end()) }
}

/// Expectations of an audit beyond soundness.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expect {
    /// Records since this time must be there: what retention promises.
    pub kept_since: Option<SystemTime>,
}

/// The result of a verification. Displays for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The number of records.
    pub records: u64,
    /// The oldest and the last one's numbers; none without records.
    pub range: Option<(u64, u64)>,
    /// The last record that a checkpoint confirms, and when that was made.
    pub confirmed: Option<(u64, String)>,
    /// The number of records younger than that: no checkpoint vouches for them yet.
    pub unconfirmed: u64,
    /// The number of records that tell of losses, and of records lost: no attack, but known.
    pub lost: u64,
    /// Numbers of checkpoints that are missing in between: they did not arrive, or were taken away. The next ones cover them.
    pub missing_checkpoints: u64,
    /// The faults, the first [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// The number of further faults.
    pub more: u64,
}

impl Report {
    /// True if there are no faults.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    /// True if nothing is wrong but that no checkpoint was given: what is there is chained, and nothing says that it is what was written.
    #[must_use]
    pub fn is_unproven(&self) -> bool {
        self.findings == [Finding::NoCheckpoint] && self.more == 0
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS { self.findings.push(finding) } else { self.more += 1 }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.range {
            Some((first, last)) => writeln!(f, "{} records, {first} to {last}", self.records)?,
            None => writeln!(f, "no records")?,
        }
        match &self.confirmed {
            Some((seq, at)) => writeln!(f, "confirmed up to {seq} by the checkpoint of {at}; {} younger", self.unconfirmed)?,
            None => writeln!(f, "confirmed by no checkpoint")?,
        }
        if self.lost > 0 {
            writeln!(f, "{} records were lost when they were made, and the audit says so", self.lost)?;
        }
        if self.missing_checkpoints > 0 {
            writeln!(f, "{} checkpoints in between were not given; later ones cover them", self.missing_checkpoints)?;
        }
        for finding in &self.findings {
            let word = if *finding == Finding::NoCheckpoint { "UNPROVEN" } else { "WRONG" };
            writeln!(f, "{word}: {finding}")?;
        }
        if self.more > 0 {
            writeln!(f, "WRONG: and {} more", self.more)?;
        }
        f.write_str(match self {
            _ if self.is_sound() => "sound",
            _ if self.is_unproven() => "chained, and not proven",
            _ => "not sound",
        })
    }
}

/// The checkpoints that count, by the number of their record.
struct Witnesses<'c>(BTreeMap<u64, Vec<&'c Checkpoint>>);

impl<'c> Witnesses<'c> {
    fn hear(store: &dyn Store, checkpoints: &'c [Checkpoint], key: &PublicKey, report: &mut Report) -> Self {
        let mut by_number: BTreeMap<u64, &Checkpoint> = BTreeMap::new();
        let mut by_seq: BTreeMap<u64, Vec<&Checkpoint>> = BTreeMap::new();
        for checkpoint in checkpoints {
            let number = checkpoint.number;
            if !checkpoint.is_signed_by(key) {
                report.find(Finding::Forged { number });
            } else if checkpoint.chain != store.chain() {
                report.find(Finding::OtherChain { number });
            } else {
                // The same one twice is what two sinks give.
                if by_number.insert(number, checkpoint).is_some_and(|other| other != checkpoint) {
                    report.find(Finding::Forked { number });
                }
                by_seq.entry(checkpoint.head.seq).or_default().push(checkpoint);
            }
        }
        if by_number.is_empty() {
            report.find(Finding::NoCheckpoint);
        }
        if let (Some((first, _)), Some((last, _))) = (by_number.first_key_value(), by_number.last_key_value()) {
            report.missing_checkpoints = (last - first + 1).saturating_sub(by_number.len() as u64);
        }
        Self(by_seq)
    }

    /// The last record up to this one that a checkpoint says to be younger than `since`, and that checkpoint's time. All of them are asked, as
    /// retention may have followed a clock that was wrong, by which later ones are older. One that is of the future says nothing.
    fn too_young(&self, upto: u64, since: SystemTime) -> Option<(u64, String)> {
        let (since, now) = (timestamp(since), timestamp(SystemTime::now()));
        let gone = self.0.range(..=upto).rev().filter(|(seq, _)| **seq > 0);
        // The first of a record: it was there by then.
        let mut first = gone.filter_map(|(seq, there)| Some((*seq, there.iter().min_by_key(|checkpoint| checkpoint.number)?)));
        first.find(|(_, checkpoint)| checkpoint.at > since && checkpoint.at <= now).map(|(seq, checkpoint)| (seq, checkpoint.at.clone()))
    }

    fn at(&self, seq: u64) -> &[&'c Checkpoint] {
        self.0.get(&seq).map_or(&[], Vec::as_slice)
    }
}

/// Holds all records against these checkpoints.
///
/// # Errors
/// When the store cannot be read.
pub async fn verify(store: &mut dyn Store, checkpoints: &[Checkpoint], key: &PublicKey, expect: Expect) -> Result<Report, StoreError> {
    let mut report = Report::default();
    let witnesses = Witnesses::hear(store, checkpoints, key, &mut report);
    let anchor = store.anchor().await?;
    let start = store.chain().start();
    let vouched = witnesses.at(anchor.seq).iter().find(|checkpoint| checkpoint.head == anchor);
    if anchor != start && vouched.is_none() {
        report.find(Finding::Beginning { seq: anchor.seq + 1 });
    }
    let uncovered = store.upto(anchor.seq).await?;
    if uncovered > 0 {
        report.find(Finding::Uncovered { records: uncovered, upto: anchor.seq });
    }
    if let Some(since) = expect.kept_since
        && let Some((seq, at)) = witnesses.too_young(anchor.seq, since)
    {
        report.find(Finding::TrimmedTooMuch { seq, at });
    }
    let mut last = anchor;
    confirm(&witnesses, last.seq, last.hash, &mut report);
    loop {
        let entries = store.after(last.seq, PAGE).await?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            if entry.head.seq > last.seq + 1 {
                report.find(Finding::Missing { seqs: last.seq + 1..=entry.head.seq - 1 });
            } else if last.then(&entry.body) != entry.head {
                report.find(Finding::Changed { seq: entry.head.seq });
            }
            look_at(&entry, &mut report);
            let first = report.range.map_or(entry.head.seq, |(first, _)| first);
            report.range = Some((first, entry.head.seq));
            report.records += 1;
            last = entry.head;
            confirm(&witnesses, last.seq, last.hash, &mut report);
        }
    }
    if let Some((furthest, _)) = witnesses.0.last_key_value().filter(|(seq, _)| **seq > last.seq) {
        report.find(Finding::Truncated { last: last.seq, checkpoint: *furthest });
    }
    report.unconfirmed = last.seq.saturating_sub(report.confirmed.as_ref().map_or(anchor.seq, |(seq, _)| *seq));
    Ok(report)
}

fn look_at(entry: &StoredRecord, report: &mut Report) {
    if Columns::of(&entry.body).as_ref() != Some(&entry.columns) {
        report.find(Finding::Column { seq: entry.head.seq });
    }
    if entry.columns.kind == RecordKind::Lost.as_str()
        && let Ok(Record { lost: Some(lost), .. }) = serde_json::from_str(&entry.body)
    {
        report.lost = report.lost.saturating_add(lost);
    }
}

fn confirm(witnesses: &Witnesses<'_>, seq: u64, hash: crate::RecordHash, report: &mut Report) {
    for checkpoint in witnesses.at(seq) {
        if checkpoint.head.hash == hash {
            report.confirmed = Some((seq, checkpoint.at.clone()));
        } else {
            let from = report.confirmed.as_ref().map_or(1, |(confirmed, _)| confirmed + 1).min(seq);
            report.find(Finding::Rewritten { seqs: from..=seq });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{ChainId, SigningKey};
    use std::time::Duration;

    #[test]
    fn records_that_went_by_a_checkpoint_of_a_clock_that_was_behind_are_found() {
        let (key, now) = (SigningKey::generate().unwrap(), SystemTime::now());
        let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
        let at = |number, seq, at| Checkpoint::sign(&key, ChainId([0; 16]), number, crate::Head { seq, ..ChainId([0; 16]).start() }, at);
        // A year ago, of now, by a clock that was behind, by one that was ahead.
        let all = [at(1, 5, now - days(365)), at(2, 10, now), at(3, 12, now - days(730)), at(4, 14, now + days(730)), at(5, 14, now)];
        let mut by_seq: BTreeMap<u64, Vec<&Checkpoint>> = BTreeMap::new();
        all.iter().for_each(|checkpoint| by_seq.entry(checkpoint.head.seq).or_default().push(checkpoint));
        let witnesses = Witnesses(by_seq);
        let gone = |upto| witnesses.too_young(upto, now - days(30)).map(|(seq, _)| seq);
        assert_eq!([0, 5, 10, 12, 14].map(gone), [None, None, Some(10), Some(10), Some(10)]);
        assert_eq!(witnesses.too_young(5, now - days(366)).map(|(seq, _)| seq), Some(5));
    }
}
