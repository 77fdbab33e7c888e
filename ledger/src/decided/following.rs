//! Whoever heeds decisions while they are made: looks once in a while, holds nobody up, and goes on with what was decided before
//! where the journal cannot be read.

use super::{Decided, DecidedError, FileError, Looked, Place};
use crate::Decision;
use gnomon_kit::Backoff;
use gnomon_ledger_model::{DecisionError, Decisions, Topic};
use gnomon_ledger_postgres::{PostgresDecisions, PostgresUrl};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The pause after the shared journal could not be read, the first time and at most.
const PAUSE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Follows the reviews of servers.
#[derive(Debug)]
pub struct Following {
    decided: Decided,
    /// What there was when files were read, and a journal of this host.
    read: Option<Looked>,
    shared: Shared,
    imported: Current,
    journal: Current,
}

/// Whether what is in force is what stands there, as it was read last.
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
    /// A failure is told once.
    told: bool,
}

impl Default for Shared {
    fn default() -> Self {
        Self { journal: None, newest: None, pause: PAUSE, not_before: None, told: false }
    }
}

impl Following {
    /// From what stood when this host read it last; [`Self::news`] gives what stands now.
    #[must_use]
    pub fn begin(decided: Decided) -> (Self, Vec<Decision>) {
        let known = match &decided.place {
            Place::Folder => Vec::new(),
            Place::Shared(_) => recalled(&decided.state_dir).unwrap_or_else(|error| {
                tracing::error!(%error, "what was decided before cannot be read; nothing of it is in force until the shared journal is");
                Vec::new()
            }),
        };
        (Self { decided, read: None, shared: Shared::default(), imported: Current::No, journal: Current::No }, known)
    }

    /// Whether what is in force is what stands, as far as it is known: the last look at files and journal brought no error.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.imported == Current::Yes && self.journal == Current::Yes
    }

    /// All reviews that stand, if something was decided since the last time. What cannot be read is told once, and tried again.
    pub async fn news(&mut self) -> Option<Vec<Decision>> {
        match self.decided.place.clone() {
            Place::Folder => self.of_this_host().await,
            Place::Shared(url) => self.of_all(&url).await,
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
                if let Some(news) = &news
                    && let Err(error) = recall(&self.decided.state_dir, news)
                {
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
        // What was decided between the two questions is read once more.
        self.shared.newest = Some(newest);
        self.shared.journal = Some(journal);
        Ok(news)
    }

    /// Whether files changed, or the journal of this host. Asked before they are read: what changes meanwhile is seen the next time.
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

/// What stood in the shared journal when this host read it last: a line of JSON for each review.
fn recalled_in(state_dir: &Path) -> PathBuf {
    state_dir.join("decisions.cache")
}

fn recalled(state_dir: &Path) -> io::Result<Vec<Decision>> {
    match fs::read_to_string(recalled_in(state_dir)) {
        Ok(text) => text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::other)).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
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
