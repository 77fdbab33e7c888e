//! Verdicts of a shared journal as this host read them last: a line of JSON for each, oldest first, of the newest so many. For
//! look-ups of an event while the journal is unreachable; no judging uses them.

use super::{DecidedError, cache};
use crate::Verdict;
use gnomon_ledger_model::{Decisions, KeptEntry};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The least number of verdicts kept; at most twice as many are.
const KEPT: usize = 10_000;
/// Entries read at a time: a follower polls once a second, and must not wait for all of a long journal.
const PAGE: usize = 1_000;
/// Longest file that is read, bytes.
const MAX_BYTES: u64 = 64 << 20;

/// How far the journal was written down.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// The number of the last entry.
    up_to: i64,
    lines: usize,
    /// True once the file being written is in place; before that the file there is another one.
    is_whole: bool,
}

#[derive(Serialize, Deserialize)]
struct Line {
    at_ms: i64,
    verdict: Verdict,
}

fn noted_in(state_dir: &Path) -> PathBuf {
    state_dir.join("verdicts.cache")
}

fn draft_in(state_dir: &Path) -> PathBuf {
    state_dir.join("verdicts.draft")
}

impl Noted {
    /// Saves the verdicts since the last time, up to one page of the journal.
    pub(super) async fn catch_up(&mut self, journal: &mut dyn Decisions, newest: i64, state_dir: &Path) -> Result<(), NotedError> {
        if newest < self.up_to {
            // The journal is another one than before.
            *self = Self::default();
        }
        if self.is_whole && self.up_to == newest {
            return Ok(());
        }
        let page = journal.after(self.up_to, PAGE).await.map_err(|error| NotedError::Journal(error.into()))?;
        let written = self.write(&page, state_dir);
        if written.is_err() {
            // Begun anew the next time.
            *self = Self::default();
        }
        Ok(written?)
    }

    fn write(&mut self, page: &[KeptEntry], state_dir: &Path) -> io::Result<()> {
        let mut text = Vec::new();
        let mut added = 0;
        for kept in page {
            // Entries in a newer gnomon's format are left out.
            let Ok(Some(verdict)) = kept.verdict() else { continue };
            serde_json::to_writer(&mut text, &Line { at_ms: kept.entry.at_ms, verdict })?;
            text.push(b'\n');
            added += 1;
        }
        let (path, draft) = (noted_in(state_dir), draft_in(state_dir));
        let begins = !self.is_whole && self.up_to == 0;
        let mut file = OpenOptions::new()
            .append(true)
            .create(!self.is_whole)
            .custom_flags(libc::O_NOFOLLOW)
            .mode(0o640)
            .open(if self.is_whole { &path } else { &draft })?;
        if begins {
            file.set_len(0)?;
        }
        file.write_all(&text)?;
        self.lines += added;
        if self.lines > 2 * KEPT {
            let whole = fs::read(if self.is_whole { &path } else { &draft })?;
            let cut = whole.split_inclusive(|byte| *byte == b'\n').skip(self.lines - KEPT).collect::<Vec<_>>().concat();
            file.set_len(0)?;
            file.write_all(&cut)?;
            self.lines = KEPT;
        }
        if let Some(last) = page.last() {
            self.up_to = last.number;
        }
        if page.len() < PAGE && !self.is_whole {
            file.sync_all()?;
            fs::rename(draft, path)?;
            self.is_whole = true;
        }
        Ok(())
    }
}

/// Why verdicts were not written down.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotedError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(DecidedError),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] io::Error),
}

/// Verdicts on an event as they were read from a shared journal once.
#[derive(Debug)]
pub struct RecalledVerdicts {
    /// Oldest first, with their moments in milliseconds since the Unix epoch.
    pub verdicts: Vec<(i64, Verdict)>,
    /// The time of the last reading of the journal, within a minute.
    pub as_of: SystemTime,
}

/// The saved verdicts on an event; none if there is no file. `as_of` is the time at which they were last known to be current.
pub(super) fn recalled(state_dir: &Path, event: &str) -> io::Result<Option<RecalledVerdicts>> {
    let open = |path: &Path| OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file: File = match open(&noted_in(state_dir)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Reviews and verdicts are read together.
    let as_of = match cache::recalled(state_dir) {
        Ok(Some(reviews)) => reviews.as_of,
        Ok(None) | Err(_) => file.metadata()?.modified()?,
    };
    let mut verdicts = Vec::new();
    for line in BufReader::new(file.take(MAX_BYTES)).split(b'\n') {
        // A line that is being written, or is damaged, affects no other.
        if let Ok(Line { at_ms, verdict }) = serde_json::from_slice(&line?)
            && verdict.event == event
        {
            verdicts.push((at_ms, verdict));
        }
    }
    Ok(Some(RecalledVerdicts { verdicts, as_of }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecidedBy, VerdictKind};
    use gnomon_ledger_sqlite::SqliteDecisions;

    fn verdict(event: usize, reason: &str) -> Verdict {
        let event = format!("event-{event}");
        Verdict { event, kind: VerdictKind::Benign, owner: "soc".into(), reason: reason.into(), until: None, file: None }
    }

    async fn judge(journal: &mut SqliteDecisions, events: std::ops::Range<usize>, reason: &str) -> i64 {
        let by = DecidedBy { user: None, login_uid: None, uid: 0 };
        let entries: Vec<_> = events.map(|event| verdict(event, reason).to_entry(by.clone(), 1)).collect();
        journal.put(&entries).await.unwrap()
    }

    fn reasons(dir: &Path, event: &str) -> Option<Vec<String>> {
        recalled(dir, event).unwrap().map(|known| known.verdicts.into_iter().map(|(_, verdict)| verdict.reason).collect())
    }

    #[tokio::test]
    async fn what_was_said_of_an_event_is_known_after_the_journal_is_away_and_a_long_one_is_read_page_by_page() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = SqliteDecisions::in_memory().await.unwrap();
        let newest = judge(&mut journal, 0..PAGE + 1, "first").await;
        let mut noted = Noted::default();
        assert_eq!(reasons(dir.path(), "event-0"), None);
        noted.catch_up(&mut journal, newest, dir.path()).await.unwrap();
        assert_eq!(reasons(dir.path(), "event-0"), None, "half of it would say that nobody judged the others");
        noted.catch_up(&mut journal, newest, dir.path()).await.unwrap();
        assert_eq!(reasons(dir.path(), "event-0"), Some(vec!["first".to_owned()]));
        let newest = judge(&mut journal, 0..1, "second").await;
        noted.catch_up(&mut journal, newest, dir.path()).await.unwrap();
        assert_eq!(reasons(dir.path(), "event-0"), Some(vec!["first".to_owned(), "second".to_owned()]));
        // A process that starts reads it anew, and loses nothing meanwhile.
        let mut noted = Noted::default();
        noted.catch_up(&mut journal, newest, dir.path()).await.unwrap();
        assert_eq!(reasons(dir.path(), "event-0").unwrap().len(), 2);
        noted.catch_up(&mut journal, newest, dir.path()).await.unwrap();
        assert_eq!(reasons(dir.path(), "event-0").unwrap().len(), 2);
        assert_eq!(reasons(dir.path(), "event-x"), Some(Vec::new()));
    }

    #[tokio::test]
    async fn the_newest_are_kept_and_a_line_that_cannot_be_read_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = SqliteDecisions::in_memory().await.unwrap();
        let newest = judge(&mut journal, 0..2 * KEPT + 1, "said").await;
        let mut noted = Noted::default();
        while !noted.is_whole {
            noted.catch_up(&mut journal, newest, dir.path()).await.unwrap();
        }
        assert_eq!(reasons(dir.path(), "event-0"), Some(Vec::new()));
        assert_eq!(reasons(dir.path(), &format!("event-{}", 2 * KEPT)).unwrap().len(), 1);
        let path = noted_in(dir.path());
        fs::write(&path, [b"{nonsense\n".to_vec(), fs::read(&path).unwrap()].concat()).unwrap();
        assert_eq!(reasons(dir.path(), &format!("event-{}", 2 * KEPT)).unwrap().len(), 1);
    }
}
