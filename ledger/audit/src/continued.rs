//! The chain that a writer goes on with: its store, how far it goes, the key that signs it, the clock by which it is trimmed. It counts nothing
//! and sends nothing.

use crate::{
    Checkpoint, RecordKind, SigningKey,
    chain::Head,
    losses::Untold,
    store::{Columns, KeptCheckpoint, Store, StoreError, StoredRecord},
};
use gnomon_clock::{Kept, KeptClock};
use gnomon_kit::SteadyTime;
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The number of retries after a conflict with another writer.
const TRIES: usize = 5;
/// Records that are read at a time.
const PAGE: u32 = 512;

/// An open chain.
pub(crate) struct Continued {
    store: Box<dyn Store>,
    key: SigningKey,
    /// Its end.
    pub(crate) head: Head,
    /// The number of the last checkpoint.
    number: u64,
    /// Its end by the last checkpoint.
    checkpointed: Head,
    /// Its end when this process went on with it.
    began: Head,
    /// The time by which records are too old.
    pub(crate) clock: KeptClock,
}

impl Continued {
    /// Reads how far it goes. What is known of the clock is in the file `clock`; without, each process begins to know.
    ///
    /// # Errors
    /// When the store does not say.
    pub(crate) async fn read(mut store: Box<dyn Store>, key: SigningKey, clock: Option<&Path>) -> Result<Self, StoreError> {
        let head = store.head().await?;
        let last = store.last_checkpoint().await?;
        let newest = store.after(head.seq.saturating_sub(1), 1).await?;
        let kept = match newest.first() {
            Some(newest) => Kept::Until(newest.columns.at_ms),
            None if head.seq == 0 && last.is_none() => Kept::Nothing,
            None => Kept::Something,
        };
        let clock = clock.map_or_else(|| KeptClock::forgetful(kept), |path| KeptClock::open(path, kept));
        let number = last.as_ref().map_or(0, |last| last.number);
        let checkpointed = last.map_or_else(|| store.chain().start(), |last| last.head);
        Ok(Self { store, key, head, number, checkpointed, began: head, clock })
    }

    /// True if it has records that no checkpoint has.
    pub(crate) fn has_new(&self) -> bool {
        self.head.seq > self.checkpointed.seq
    }

    /// True if it has records of earlier processes that no checkpoint has.
    pub(crate) fn has_earlier(&self) -> bool {
        self.began.seq > self.checkpointed.seq
    }

    /// True if those are chained to the last checkpoint: another must not vouch for what is torn.
    pub(crate) async fn is_chained(&mut self) -> Result<bool, StoreError> {
        let mut last = self.checkpointed;
        while last.seq < self.began.seq {
            let entries = self.store.after(last.seq, PAGE).await?;
            if entries.is_empty() {
                return Ok(false);
            }
            for entry in entries {
                if last.then(&entry.body) != entry.head {
                    return Ok(false);
                }
                last = entry.head;
            }
        }
        Ok(true)
    }

    /// True if it already has the record that tells of these losses, as it was written before that could be noted.
    pub(crate) async fn has_told(&mut self, untold: Untold) -> Result<bool, StoreError> {
        let next = self.store.after(untold.after, 1).await?;
        Ok(next.first().is_some_and(|next| next.head.seq == untold.after + 1 && next.columns.kind == RecordKind::Lost.as_str()))
    }

    /// Chains records to the head and appends them; the number of the first.
    pub(crate) async fn append(&mut self, records: Vec<(String, Columns)>) -> Result<u64, StoreError> {
        self.check_in_place()?;
        let mut entries: Vec<StoredRecord> =
            records.into_iter().map(|(body, columns)| StoredRecord { head: self.head, body, columns }).collect();
        let mut tries = 0;
        loop {
            let mut head = self.head;
            for entry in &mut entries {
                head = head.then(&entry.body);
                entry.head = head;
            }
            if let Some(error) = self.store.append(&entries).await.err() {
                // It may have been written all the same, or another writer was faster: the store knows. A conflict is always
                // another writer's doing, even where it wrote the very same record in the same millisecond.
                let conflict = matches!(error, StoreError::Conflict);
                let now = self.store.head().await?;
                if conflict || now != head {
                    tries += 1;
                    self.head = now;
                    if conflict && tries < TRIES {
                        continue;
                    }
                    return Err(error);
                }
            }
            // Else it went with the file that was moved or removed meanwhile.
            self.check_in_place()?;
            let first = self.head.seq + 1;
            self.head = head;
            return Ok(first);
        }
    }

    /// Fails if the chain's file was moved, removed or truncated. No other chain is begun here: that takes a restart.
    fn check_in_place(&self) -> Result<(), StoreError> {
        if self.store.is_in_place() {
            return Ok(());
        }
        Err(StoreError::Database(
            "its file or its log (-wal) was moved, removed or truncated while gnomon ran: put it back, or restart gnomon, which goes on with what is there, and begins another chain where nothing is".to_owned(),
        ))
    }

    /// Signs a checkpoint of its end; its line. None if other writers took each number that was tried.
    pub(crate) async fn checkpoint(&mut self) -> Result<Option<Arc<str>>, StoreError> {
        self.check_in_place()?;
        for _ in 0..TRIES {
            let now = SystemTime::now();
            let checkpoint = Checkpoint::sign(&self.key, self.store.chain(), self.number + 1, self.head, now);
            let line: Arc<str> = checkpoint.line().into();
            let not_younger_ms = self.clock.not_younger_ms();
            let kept = KeptCheckpoint { number: checkpoint.number, head: self.head, not_younger_ms, line: line.to_string() };
            match self.store.keep(&kept).await {
                Ok(()) => {
                    (self.number, self.checkpointed) = (checkpoint.number, self.head);
                    return Ok(Some(line));
                }
                // Another writer used the number, which must not stand for two things.
                Err(StoreError::Conflict) => {
                    let last = self.store.last_checkpoint().await?;
                    self.number = last.map_or(self.number, |last| last.number);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Reads the clock, and tells if it jumped: before what is made is dated by it.
    pub(crate) async fn look_at_clock(&mut self) -> Option<SteadyTime> {
        let mut clock = self.clock.clone();
        let read = tokio::task::spawn_blocking(move || (clock.read(), clock));
        let (time, clock) = read.await.ok()?;
        self.clock = clock;
        if let Some(jumped) = time.jumped_ms {
            let (seconds, way) = (jumped.unsigned_abs() / 1000, if jumped < 0 { "back" } else { "ahead" });
            tracing::warn!(
                seconds,
                "the clock went {way}; no record of the audit is removed as too old by it before it has stood for a day: look whether the time is right"
            );
        }
        Some(time)
    }

    /// Deletes the records before the first that is not older than `retention`, up to a checkpoint, and returns their number.
    pub(crate) async fn forget(&mut self, retention: Duration) -> Result<u64, StoreError> {
        let Some(SteadyTime { now_ms, .. }) = self.look_at_clock().await else { return Ok(0) };
        let before_ms = now_ms.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
        let Some(checkpoint) = self.store.all_older(before_ms, now_ms).await? else { return Ok(0) };
        let records = checkpoint.head.seq.saturating_sub(self.store.anchor().await?.seq);
        if records > 0 {
            self.store.trim(checkpoint.head).await?;
        }
        Ok(records)
    }

    /// Keeps what is known of the clock, and closes the store.
    pub(crate) async fn close(self) -> Result<(), StoreError> {
        let clock = self.clock;
        let _ = tokio::task::spawn_blocking(move || clock.keep()).await;
        self.store.close().await
    }
}
