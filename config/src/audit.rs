//! The `audit` section: the audit of the portals.

use crate::{
    declare::section,
    forms::{FilePaths, Number, Word, words},
};
use gnomon_portal::Durability;
use std::path::PathBuf;

words! { Durability: "soon" => Soon, "before_answer" => BeforeAnswer, "before_call" => BeforeCall }

section! {
    /// The audit of the portals.
    pub struct Audit, written AuditSource at "audit." {
        /// Files that the audit's signed checkpoints are appended to, best on a disk of another machine. They are events as
        /// well, so they leave with those.
        checkpoints: Vec<PathBuf> as FilePaths, without "none", sample "[/mnt/evidence/checkpoints.jsonl]";
        /// Interval of checkpoints while there are new records, seconds.
        checkpoint_seconds: u64 as Number<1, 3600> = 60;
        /// `soon`: records are durable within a fifth of a second after the answer. `before_answer`: an answer is sent only once its
        /// record is durable. `before_call`: in addition, a call is sent to its server only once a record of its beginning is durable.
        writes: Durability as Word<Durability> = Durability::Soon;
        /// Retention of records, days.
        days: u64 as Number<1, 36_500> = 365;
        /// Most GiB of the audit's database. Beyond it nothing more is recorded, which is reported; existing records are never deleted
        /// for it.
        max_gib: u64 as Number<1, 4096> = 4;
    }
}
