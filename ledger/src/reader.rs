//! Opens a ledger for questions, and follows events as they come. Reading has a connection of its own, and pages are short
//! transactions, so that a slow reader never keeps the writer from tidying up.

use crate::{EventFilter, MAX_PAGE, Order, Questions, ReadError, StoredEvent};
use gnomon_ledger_sqlite::SqliteReader;
use std::{
    fs, io,
    ops::{Deref, DerefMut},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// The interval at which [`Follow`] looks for new events.
const POLL: Duration = Duration::from_millis(200);

/// Reads a ledger, also while a gnomon writes it. Its questions are those of [`Questions`].
#[derive(Debug)]
pub struct Reader {
    questions: Questions,
    path: PathBuf,
    /// Device and inode of the file that is read.
    file: (u64, u64),
}

impl Reader {
    /// Opens the database at `path` for reading.
    ///
    /// # Errors
    /// When it is missing, may not be read, or has another schema.
    pub async fn open(path: &Path) -> Result<Self, ReadError> {
        // Before: what is put in its place meanwhile is another one.
        let file = file_at(path).unwrap_or_default();
        Ok(Self { questions: Questions::to(Box::new(SqliteReader::open(path).await?)), path: path.to_owned(), file })
    }

    /// True if another file is in the place of the one that is read: the ledger was begun anew, and nothing more comes here. One that is
    /// missing is made again by its writer.
    #[must_use]
    pub fn is_displaced(&self) -> bool {
        file_at(&self.path).is_ok_and(|file| file != self.file)
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
        &self.questions
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Questions {
        &mut self.questions
    }
}

fn file_at(path: &Path) -> io::Result<(u64, u64)> {
    let there = fs::metadata(path)?;
    Ok((there.dev(), there.ino()))
}

/// Events as they come.
#[derive(Debug)]
pub struct Follow {
    reader: Reader,
    filter: EventFilter,
}

impl Follow {
    /// The next events, at least one; waits for them. Of a ledger that is begun anew, its first ones come next. May be dropped while it
    /// waits: nothing is lost.
    ///
    /// # Errors
    /// When the database cannot be read. It can be asked again, and goes on where it was.
    pub async fn next(&mut self) -> Result<Vec<StoredEvent>, ReadError> {
        loop {
            let events = self.rest().await?;
            if !events.is_empty() {
                return Ok(events);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The next events of those that are there by now; none if all were given. May be dropped while it reads, too.
    ///
    /// # Errors
    /// As [`Follow::next`].
    pub async fn rest(&mut self) -> Result<Vec<StoredEvent>, ReadError> {
        if self.reader.is_displaced() {
            self.reader = Reader::open(&self.reader.path).await?;
            self.filter.after = Some(0);
        }
        let last = self.reader.rows().last_seq().await?;
        if self.filter.after.is_some_and(|after| last <= after) {
            return Ok(Vec::new());
        }
        let events = self.reader.rows().page(&self.filter, Order::OldestFirst, last).await?;
        // A page that is not full has looked at everything up to `last`.
        let full = events.len() >= self.filter.limit.min(MAX_PAGE);
        self.filter.after = if full { events.last().map(|event| event.seq) } else { Some(last) };
        Ok(events)
    }
}
