//! Whoever heeds decisions while they are made: looks once in a while, holds nobody up, and goes on with what was decided before
//! where the journal cannot be read.

use super::{
    Decided, DecidedError, FileError, JournalLocation, Looked,
    verdicts::{self, Noted, NotedError},
};
use crate::Decision;
use gnomon_kit::Backoff;
use gnomon_ledger_model::{DecisionError, Decisions, Topic};
use gnomon_ledger_postgres::{PostgresDecisions, PostgresUrl};
use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

/// The pause after the shared journal could not be read, the first time and at most.
const PAUSE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// The interval at which a saved copy of the journal is confirmed to be current.
const NOTED: Duration = Duration::from_secs(60);

/// Follows the reviews of servers.
#[derive(Debug)]
pub struct Following {
    decided: Decided,
    /// The stamps of files and local journal when they were last read.
    read: Option<Looked>,
    shared: Shared,
    imported: Current,
    journal: Current,
}

/// Current or not, for what is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Current {
    Yes,
    No,
}

/// A journal that others write as well.
#[derive(Debug)]
struct Shared {
    journal: Option<PostgresDecisions>,
    /// The newest entry that was seen.
    newest: Option<i64>,
    pause: Backoff,
    not_before: Option<Instant>,
    /// The time at which the journal was last saved for the next start, or confirmed.
    noted: Option<Instant>,
    /// How far verdicts were written down, for whoever asks while it is away.
    verdicts: Noted,
    /// A failure is told once.
    told: bool,
    /// So is that verdicts cannot be written down.
    told_of_verdicts: bool,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            journal: None,
            newest: None,
            pause: PAUSE,
            not_before: None,
            noted: None,
            verdicts: Noted::default(),
            told: false,
            told_of_verdicts: false,
        }
    }
}

impl Following {
    /// Begins with the reviews saved when this host last read the journal; [`Self::news`] gives the current ones.
    #[must_use]
    pub fn begin(decided: Decided) -> (Self, Vec<Decision>) {
        let known = match &decided.place {
            JournalLocation::Folder => Vec::new(),
            JournalLocation::Shared(_) => remembered(&decided.state_dir),
        };
        (Self { decided, read: None, shared: Shared::default(), imported: Current::No, journal: Current::No }, known)
    }

    /// True if the reviews in force are current as far as is known: the last look at files and journal brought no error.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.imported == Current::Yes && self.journal == Current::Yes
    }

    /// All current reviews, if something was decided since the last call. A failure to read is logged once, and tried again.
    pub async fn news(&mut self) -> Option<Vec<Decision>> {
        match self.decided.place.clone() {
            JournalLocation::Folder => self.of_this_host().await,
            JournalLocation::Shared(url) => self.of_all(&url).await,
        }
    }

    async fn of_this_host(&mut self) -> Option<Vec<Decision>> {
        if !self.has_changed() {
            return None;
        }
        match self.decided.import().await {
            Ok(()) => self.imported = Current::Yes,
            Err(error) => self.not_imported(&error),
        }
        match self.decided.reviews().await {
            Ok(reviews) => {
                self.journal = Current::Yes;
                Some(reviews)
            }
            Err(error) => {
                self.journal = Current::No;
                tracing::error!(%error, "reviews of servers cannot be read; those from before stay in force");
                None
            }
        }
    }

    async fn of_all(&mut self, url: &PostgresUrl) -> Option<Vec<Decision>> {
        if self.shared.not_before.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        let looked = self.look_at_all(url).await;
        self.journal = if looked.is_ok() { Current::Yes } else { Current::No };
        match looked {
            Ok(news) => {
                if std::mem::take(&mut self.shared.told) {
                    tracing::info!("the shared journal of decisions is read again");
                }
                self.shared.pause.reset();
                self.shared.not_before = None;
                let noted = match &news {
                    Some(news) => recall(&self.decided.state_dir, news),
                    None if self.shared.noted.is_none_or(|at| at.elapsed() > NOTED) => {
                        note(&self.decided.state_dir).and_then(|()| verdicts::note(&self.decided.state_dir))
                    }
                    None => return None,
                };
                self.shared.noted = Some(Instant::now());
                if let Err(error) = noted {
                    if news.is_none() {
                        // Where somebody took it away it is written anew.
                        self.shared.newest = None;
                    }
                    tracing::warn!(%error, "decisions cannot be written down for the next start");
                }
                news
            }
            Err(error) => {
                let shared = &mut self.shared;
                if !std::mem::replace(&mut shared.told, true) {
                    tracing::error!(%error, "the shared journal of decisions cannot be read; what was decided before stays in force");
                }
                (shared.journal, shared.not_before) = (None, Some(Instant::now() + shared.pause.failed()));
                // What the files have was not taken in.
                self.read = None;
                None
            }
        }
    }

    async fn look_at_all(&mut self, url: &PostgresUrl) -> Result<Option<Vec<Decision>>, DecidedError> {
        let mut journal = match self.shared.journal.take() {
            Some(journal) => journal,
            None => PostgresDecisions::open(url.clone()).await?,
        };
        if self.has_changed() {
            match self.decided.import_into(&mut journal).await {
                Ok(()) => self.imported = Current::Yes,
                Err(error @ DecidedError::File(_)) => self.not_imported(&error),
                Err(error) => return Err(error),
            }
        }
        let newest = journal.newest().await?;
        let news = if self.shared.newest == Some(newest) {
            None
        } else {
            let standing = journal.standing(Topic::Review).await?;
            let reviews = standing.iter().filter_map(|kept| kept.review().transpose()).collect::<Result<_, DecisionError>>();
            Some(reviews?)
        };
        match self.shared.verdicts.catch_up(&mut journal, newest, &self.decided.state_dir).await {
            Ok(()) => self.shared.told_of_verdicts = false,
            Err(NotedError::Journal(error)) => return Err(error),
            // Reviews are in force all the same.
            Err(NotedError::File(error)) => {
                if !std::mem::replace(&mut self.shared.told_of_verdicts, true) {
                    tracing::warn!(%error, "verdicts cannot be written down for when the shared journal is away");
                }
            }
        }
        // What was decided between the two questions is read once more.
        self.shared.newest = Some(newest);
        self.shared.journal = Some(journal);
        Ok(news)
    }

    /// True if files changed, or the journal of this host. Asked before they are read: what changes meanwhile is seen the next time.
    fn has_changed(&mut self) -> bool {
        let there = self.decided.look();
        let changed = self.read != Some(there);
        self.read = Some(there);
        changed
    }

    fn not_imported(&mut self, error: &DecidedError) {
        self.imported = Current::No;
        tracing::error!(%error, "files of decisions cannot be imported; what was decided before stays in force");
        if matches!(error, DecidedError::File(FileError::Locked { .. })) {
            self.read = None;
        }
    }
}

/// The saved copy of the shared journal: a line of JSON for each review.
fn recalled_in(state_dir: &Path) -> PathBuf {
    state_dir.join("decisions.cache")
}

/// The reviews of a shared journal as a gnomon of this host last read it.
#[derive(Debug)]
pub struct Recalled {
    /// Of each server.
    pub reviews: Vec<Decision>,
    /// The time of that reading, within a minute.
    pub as_of: SystemTime,
    /// The numbers of lines that cannot be read, from 1: decisions that are not in force.
    pub unreadable: Vec<usize>,
}

/// None where nothing was read yet. A line that cannot be read spoils no other.
pub(super) fn recalled(state_dir: &Path) -> io::Result<Option<Recalled>> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(recalled_in(state_dir)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let as_of = file.metadata()?.modified()?;
    let mut text = Vec::new();
    (&file).read_to_end(&mut text)?;
    let (mut reviews, mut unreadable) = (Vec::new(), Vec::new());
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(review) => reviews.push(review),
            Err(_) => unreadable.push(number + 1),
        }
    }
    Ok(Some(Recalled { reviews, as_of, unreadable }))
}

/// The saved reviews for [`Following::begin`]; lines that cannot be read are logged.
fn remembered(state_dir: &Path) -> Vec<Decision> {
    match recalled(state_dir) {
        Ok(None) => Vec::new(),
        Ok(Some(Recalled { reviews, unreadable, .. })) => {
            if !unreadable.is_empty() {
                let (path, kept) = (recalled_in(state_dir), reviews.len());
                tracing::error!(
                    "{}: lines {unreadable:?} cannot be read; the {kept} other decisions are in force, and those are not until the shared journal is read",
                    path.display()
                );
            }
            reviews
        }
        Err(error) => {
            tracing::error!(%error, "earlier decisions cannot be read; none is in force until the shared journal can be read");
            Vec::new()
        }
    }
}

/// Whole or not at all.
fn recall(state_dir: &Path, reviews: &[Decision]) -> io::Result<()> {
    let path = recalled_in(state_dir);
    let draft = path.with_extension("draft");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(libc::O_NOFOLLOW).mode(0o640).open(&draft)?;
    for review in reviews {
        serde_json::to_writer(&mut file, review)?;
        file.write_all(b"\n")?;
    }
    file.sync_all()?;
    fs::rename(draft, path)
}

/// Confirms that the saved copy is current.
fn note(state_dir: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(recalled_in(state_dir))?;
    file.set_modified(SystemTime::now())
}
