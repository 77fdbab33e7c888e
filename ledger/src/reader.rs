//! Opens a ledger for questions, and follows events as they come. Reading has a connection of its own, and pages are short
//! transactions, so that a slow reader never keeps the writer from tidying up.

use crate::{EventFilter, MAX_PAGE, Order, Questions, ReadError, StoredEvent};
use gnomon_ledger_sqlite::SqliteReader;
use std::{
    ops::{Deref, DerefMut},
    path::Path,
    time::Duration,
};

/// The interval at which [`Follow`] looks for new events.
const POLL: Duration = Duration::from_millis(200);

/// Reads a ledger, also while a gnomon writes it. Its questions are those of [`Questions`].
#[derive(Debug)]
pub struct Reader(Questions);

impl Reader {
    /// Opens the database at `path` for reading.
    ///
    /// # Errors
    /// When it is missing, may not be read, or has another schema.
    pub async fn open(path: &Path) -> Result<Self, ReadError> {
        Ok(Self(Questions::to(Box::new(SqliteReader::open(path).await?))))
    }

    /// Follows events as they are acknowledged, from behind `after_seq`; `None` begins with the
    /// next one. Of the filter, `after` is not used and `limit` is the page's.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn follow(mut self, filter: EventFilter, after_seq: Option<i64>) -> Result<Follow, ReadError> {
        let after = match after_seq {
            Some(seq) => seq,
            None => self.rows().last_seq().await?,
        };
        Ok(Follow { reader: self, filter: EventFilter { after: Some(after), ..filter } })
    }
}

impl Deref for Reader {
    type Target = Questions;

    fn deref(&self) -> &Questions {
        &self.0
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Questions {
        &mut self.0
    }
}

/// Events as they come.
#[derive(Debug)]
pub struct Follow {
    reader: Reader,
    filter: EventFilter,
}

impl Follow {
    /// The next events, at least one; waits for them. May be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn next(&mut self) -> Result<Vec<StoredEvent>, ReadError> {
        loop {
            let last = self.reader.rows().last_seq().await?;
            if self.filter.after.is_none_or(|after| last > after) {
                let events = self.reader.rows().page(&self.filter, Order::OldestFirst, last).await?;
                // A page that is not full has looked at everything up to `last`.
                let full = events.len() >= self.filter.limit.min(MAX_PAGE);
                self.filter.after = if full { events.last().map(|event| event.seq) } else { Some(last) };
                if !events.is_empty() {
                    return Ok(events);
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
