//! What people decided about servers: a journal beside the ledger, one JSON line per decision, never
//! rewritten. It is its own audit: who decided what, when and why is what it consists of.
//!
//! A file and not a table, because the ledger has one writer and decisions come from elsewhere; a running
//! gnomon notices a new line within a second. Whoever may write in the state folder may decide.

use crate::{Decision, MAX_REVIEW_TEXT, ReviewedServer};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The longest journal that is read or written, in bytes.
pub const MAX_JOURNAL_BYTES: u64 = 16 << 20;

/// Why the journal cannot be read or written.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The system refuses.
    #[error("cannot {action} {}: {source}; use sudo, or name the right --state-dir", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The journal.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line makes no sense.
    #[error("{}:{line}: not a decision: {cause}; mend or remove the line", path.display())]
    BadLine {
        /// The journal.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// Why.
        cause: String,
    },
    /// It is full.
    #[error("{} is longer than {MAX_JOURNAL_BYTES} bytes; archive it, and keep the last line of each server", path.display())]
    TooLong {
        /// The journal.
        path: PathBuf,
    },
    /// A text of a decision is too long or would not be one line.
    #[error("the {0} is longer than {MAX_REVIEW_TEXT} bytes or holds control characters")]
    Text(&'static str),
}

/// All decisions, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    decisions: Vec<Decision>,
}

/// The journal of a state folder.
#[must_use]
pub fn journal_in(state_dir: &Path) -> PathBuf {
    state_dir.join("reviews.jsonl")
}

/// Opens a regular file and nothing else: root writes here, in a folder that another user may own.
fn plain(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
    }
    Ok(file)
}

impl Journal {
    /// Reads the journal; one that does not exist is empty. A last line that was torn is an error like any
    /// other bad line: a decision that is silently missing could be a denial.
    ///
    /// # Errors
    /// When it cannot be read, is too long or a line makes no sense.
    pub fn read(path: &Path) -> Result<Self, JournalError> {
        let mut text = String::new();
        let read = plain(OpenOptions::new().read(true), path).and_then(|file| file.take(MAX_JOURNAL_BYTES + 1).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(JournalError::Io { action: "read", path: path.to_owned(), source }),
            Ok(length) if length as u64 > MAX_JOURNAL_BYTES => return Err(JournalError::TooLong { path: path.to_owned() }),
            Ok(_) => {}
        }
        let mut decisions = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let decision = serde_json::from_str(line).map_err(|error| JournalError::BadLine {
                path: path.to_owned(),
                line: number + 1,
                cause: error.to_string(),
            })?;
            decisions.push(decision);
        }
        Ok(Self { decisions })
    }

    /// Adds a decision, on disk on return. A new journal gets the group of its folder and may be read by it, so
    /// that a gnomon which is not root can read what root decided.
    ///
    /// # Errors
    /// When it cannot be written, is full, or a text is no line.
    pub fn add(path: &Path, decision: &Decision) -> Result<(), JournalError> {
        for (name, text) in [("owner", &decision.owner), ("reason", &decision.reason)] {
            if text.as_ref().is_some_and(|text| text.len() > MAX_REVIEW_TEXT || text.chars().any(char::is_control)) {
                return Err(JournalError::Text(name));
            }
        }
        let wrong = |source| JournalError::Io { action: "write", path: path.to_owned(), source };
        let mut line = serde_json::to_vec(decision).map_err(|error| wrong(error.into()))?;
        line.push(b'\n');
        let mut file = match plain(OpenOptions::new().append(true).create_new(true).mode(0o640), path) {
            Ok(file) => {
                let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let group = std::fs::metadata(folder).map_err(wrong)?.gid();
                // Whoever is in another group only may not give it away, and then needs not to.
                let _ = fchown(&file, None, Some(group));
                file
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => plain(OpenOptions::new().append(true), path).map_err(wrong)?,
            Err(error) => return Err(wrong(error)),
        };
        // Lines of two who decide at once do not mix.
        file.lock().map_err(wrong)?;
        if file.metadata().map_err(wrong)?.len() + line.len() as u64 > MAX_JOURNAL_BYTES {
            return Err(JournalError::TooLong { path: path.to_owned() });
        }
        file.write_all(&line).and_then(|()| file.sync_all()).map_err(wrong)
    }

    /// All decisions, oldest first.
    #[must_use]
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// The decision that stands, for each server.
    #[must_use]
    pub fn standing(&self) -> BTreeMap<&ReviewedServer, &Decision> {
        self.decisions.iter().map(|decision| (&decision.server, decision)).collect()
    }

    /// The decision that stands for this server.
    #[must_use]
    pub fn of(&self, host: &str, port: u16) -> Option<&Decision> {
        self.decisions.iter().rev().find(|decision| decision.server.port == port && decision.server.host == host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DecidedBy;
    use gnomon_observe::Review;

    fn decision(host: &str, state: Review, until_ms: Option<i64>) -> Decision {
        Decision {
            at_ms: 1,
            by: DecidedBy { user: Some("ada".to_owned()), login_uid: Some(1000), uid: 0 },
            server: ReviewedServer { host: host.to_owned(), port: 443 },
            state,
            owner: Some("team".to_owned()),
            reason: Some("needed".to_owned()),
            until_ms,
        }
    }

    #[test]
    fn the_last_decision_stands_and_all_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = journal_in(dir.path());
        assert_eq!(Journal::read(&path).unwrap(), Journal::default());
        let (first, second) = (decision("a.example", Review::InReview, None), decision("a.example", Review::Approved, Some(100)));
        Journal::add(&path, &first).unwrap();
        Journal::add(&path, &decision("b.example", Review::Denied, None)).unwrap();
        Journal::add(&path, &second).unwrap();
        let journal = Journal::read(&path).unwrap();
        assert_eq!(journal.decisions().len(), 3);
        assert_eq!(journal.of("a.example", 443), Some(&second));
        assert_eq!(journal.of("a.example", 80), None);
        assert_eq!(journal.standing().len(), 2);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o137, 0);
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named_and_not_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let path = journal_in(dir.path());
        Journal::add(&path, &decision("a.example", Review::Denied, None)).unwrap();
        std::fs::write(&path, [std::fs::read(&path).unwrap(), b"{\"at_ms\":1".to_vec()].concat()).unwrap();
        let error = Journal::read(&path).unwrap_err().to_string();
        assert!(error.contains("reviews.jsonl:2: not a decision: "), "{error}");
    }

    #[test]
    fn texts_that_would_write_to_a_terminal_or_fill_the_journal_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = journal_in(dir.path());
        for reason in ["a\u{1b}[2J".to_owned(), "x".repeat(MAX_REVIEW_TEXT + 1)] {
            let bad = Decision { reason: Some(reason), ..decision("a.example", Review::Denied, None) };
            assert!(matches!(Journal::add(&path, &bad), Err(JournalError::Text("reason"))));
        }
        assert!(!path.exists());
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("elsewhere");
        std::fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, journal_in(dir.path())).unwrap();
        assert!(Journal::add(&journal_in(dir.path()), &decision("a.example", Review::Denied, None)).is_err());
        assert!(Journal::read(&journal_in(dir.path())).is_err());
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "");
    }
}
