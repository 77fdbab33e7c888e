//! The decisions of people, as one gnomon keeps them: a journal in a database ([`Decisions`]), and the files that people and their tools
//! write by hand, which are imported into it.

mod cache;
mod files;
mod following;
mod snippet_cache;
mod snippets;
mod verdicts;

pub use cache::Recalled;
pub use files::{FileError, MAX_REVIEWS_BYTES, reviews_in, verdicts_in};
pub use following::Following;
pub use snippets::{KeptSnippet, ProposalError, Proposed};
pub use verdicts::RecalledVerdicts;

use crate::{DecidedBy, Decision, OpenError, ReadError, ReviewEntry, ReviewedServer, Verdict};
use files::{Import, Stamp};
use gnomon_kit::unix_millis;
use gnomon_ledger_model::{DecisionError, Decisions, MAX_REVIEW_TEXT, StoreError, Topic, import, import_new};
use gnomon_ledger_postgres::{CallError, Contradicted, PostgresDecisions, PostgresOpenError, PostgresUrl, Standby};
use gnomon_ledger_sqlite::SqliteDecisions;
use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};
use thiserror::Error;

/// An error of reading or keeping decisions.
#[derive(Debug, Error)]
pub enum DecidedError {
    /// A file that is imported makes no sense or cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The journal cannot be opened for writing.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The shared journal cannot be opened.
    #[error(transparent)]
    Shared(#[from] PostgresOpenError),
    /// The journal cannot be opened for reading, or not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The journal cannot be written or closed.
    #[error("{}", unkept(.0))]
    Store(#[from] StoreError),
    /// The shared journal would keep nothing.
    #[error(transparent)]
    Refused(#[from] CallError),
    /// The journal has what makes no sense, or files could not be taken into it.
    #[error(transparent)]
    Journal(#[from] DecisionError),
    /// The entries that this host read are not the beginning of the shared journal.
    #[error(
        "{cause}; this host goes on with what it read last, and with denials that are newer there: compare (`gnomon review list`), decide again \
         what is lost, then remove {} and what is there holds", cache.display()
    )]
    Contradicted {
        /// The difference.
        cause: Contradicted,
        /// The saved copy of what this host read last.
        cache: PathBuf,
    },
    /// A text of a decision is too long or would not be one line.
    #[error("the {0} is longer than {MAX_REVIEW_TEXT} bytes or holds control characters")]
    Text(&'static str),
}

/// The text for a decision that could not be kept.
fn unkept(error: &StoreError) -> String {
    let came = if error.was_refused() {
        "it was not kept"
    } else {
        "it may or may not have been kept: `gnomon review show` tells, or `gnomon events show` of a verdict"
    };
    format!("cannot keep the decision: {error}; {came}")
}

/// The journal of a state folder.
#[must_use]
pub fn journal_in(state_dir: &Path) -> PathBuf {
    state_dir.join("decisions.sqlite")
}

/// Decisions, of one host or of several. Nothing is held open between questions: people decide seldom, from other processes.
#[derive(Debug)]
pub struct Decided {
    state_dir: PathBuf,
    place: JournalLocation,
}

/// The location of the journal.
#[derive(Clone, Debug)]
enum JournalLocation {
    /// In the state folder.
    Folder,
    /// In a database that several gnomons share.
    Shared(PostgresUrl),
}

/// The stamps of journal and files at a moment: two that are equal say that nothing was decided between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked([Option<Stamp>; 3]);

impl Decided {
    /// The decisions of this state folder.
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned(), place: JournalLocation::Folder }
    }

    /// The decisions that several gnomons share, if there is a database for that; files are imported from this folder.
    #[must_use]
    pub fn shared(state_dir: &Path, database: Option<PostgresUrl>) -> Self {
        Self { state_dir: state_dir.to_owned(), place: database.map_or(JournalLocation::Folder, JournalLocation::Shared) }
    }

    /// The current stamps. Costs three `stat`.
    #[must_use]
    pub fn look(&self) -> Looked {
        Looked([journal_in(&self.state_dir), reviews_in(&self.state_dir), verdicts_in(&self.state_dir)].map(|path| Stamp::of(&path)))
    }

    /// Imports entries of the files that the journal does not have.
    ///
    /// # Errors
    /// When a file makes no sense (then nothing of it is taken in), or the journal cannot be written.
    pub async fn import(&self) -> Result<(), DecidedError> {
        let imports = self.files().await?;
        if imports.is_empty() {
            return Ok(());
        }
        let mut journal = self.to_write().await?;
        let taken = take_in(imports, &mut *journal).await;
        journal.close().await?;
        taken
    }

    async fn import_into(&self, journal: &mut dyn Decisions) -> Result<(), DecidedError> {
        take_in(self.files().await?, journal).await
    }

    /// The files as imports. A shared journal tells the files of one state folder from those of another, so that none withdraws another's
    /// entries.
    async fn files(&self) -> Result<Vec<Import>, DecidedError> {
        let mut imports = files::read(&self.state_dir).await?;
        if let (JournalLocation::Shared(_), false) = (&self.place, imports.is_empty()) {
            let folder = files::source_of(&self.state_dir)?;
            imports.iter_mut().for_each(|import| import.source = format!("{folder}:{}", import.source));
        }
        Ok(imports)
    }

    /// Checks that files and journal can be read at this moment.
    ///
    /// # Errors
    /// Why one of them cannot.
    pub async fn check(&self) -> Result<(), DecidedError> {
        drop(files::read(&self.state_dir).await?);
        let mut journal = self.to_read().await?;
        let newest = journal.newest().await;
        journal.close().await?;
        newest?;
        self.check_continues().await
    }

    /// Checks that what this host read of a shared journal is the beginning of what is there. Where nothing was read, or it is not for this
    /// user to know, that is so.
    ///
    /// # Errors
    /// [`DecidedError::Contradicted`], or that the journal cannot be read.
    pub async fn check_continues(&self) -> Result<(), DecidedError> {
        let JournalLocation::Shared(url) = &self.place else { return Ok(()) };
        // Before the journal is asked: a gnomon that runs reads on meanwhile.
        let Some(Recalled { position: Some(read), had, .. }) = cache::recalled(&self.state_dir).ok().flatten() else { return Ok(()) };
        let mut journal = PostgresDecisions::open(url.clone()).await?;
        let looked = match (journal.look(Some(&read)).await, had) {
            (Ok((there, None)), Some(had)) => journal.verify(&read, &had, &there).await,
            (looked, _) => looked.map(|(_, contradicted)| contradicted),
        };
        Box::new(journal).close().await?;
        match looked? {
            Some(cause) => Err(self.contradicted(cause)),
            None => Ok(()),
        }
    }

    fn contradicted(&self, cause: Contradicted) -> DecidedError {
        DecidedError::Contradicted { cause, cache: cache::recalled_in(&self.state_dir) }
    }

    /// Checks that a shared journal would keep a decision at this moment. One in the state folder is for its owner to check.
    ///
    /// # Errors
    /// The cause.
    pub async fn check_keeping(&self) -> Result<(), DecidedError> {
        let JournalLocation::Shared(url) = &self.place else { return Ok(()) };
        let mut journal = PostgresDecisions::open(url.clone()).await?;
        let tried = journal.try_to_put().await;
        Box::new(journal).close().await?;
        Ok(tried?)
    }

    /// The server of a shared journal, if it is a standby: what is read there may be older than what was decided.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn standby(&self) -> Result<Option<Standby>, DecidedError> {
        let JournalLocation::Shared(url) = &self.place else { return Ok(None) };
        let mut journal = PostgresDecisions::open(url.clone()).await?;
        let standby = journal.standby().await;
        Box::new(journal).close().await?;
        Ok(standby?)
    }

    /// The current review of each server on this host.
    ///
    /// # Errors
    /// When the journal cannot be read, or contradicts what this host read of it: then [`Self::recalled`] is what holds.
    pub async fn reviews(&self) -> Result<Vec<Decision>, DecidedError> {
        self.check_continues().await?;
        self.reviews_there().await
    }

    /// The current review of each server in the journal, whether it holds on this host or not.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn reviews_there(&self) -> Result<Vec<Decision>, DecidedError> {
        let mut journal = self.to_read().await?;
        let standing = journal.standing(Topic::Review).await;
        journal.close().await?;
        let reviews = standing?.iter().filter_map(|kept| kept.review().transpose()).collect::<Result<_, _>>();
        Ok(reviews?)
    }

    /// The reviews saved when a gnomon of this host last read the shared journal; none where there is no such journal, or it was never
    /// read here.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn recalled(&self) -> io::Result<Option<Recalled>> {
        match self.place {
            JournalLocation::Folder => Ok(None),
            JournalLocation::Shared(_) => cache::recalled(&self.state_dir),
        }
    }

    /// Every verdict on this event that a gnomon of this host read of the shared journal, of the newest 10,000 on any; none where there is no
    /// such journal, or it was never read here.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn recalled_verdicts(&self, event: &str) -> io::Result<Option<RecalledVerdicts>> {
        match self.place {
            JournalLocation::Folder => Ok(None),
            JournalLocation::Shared(_) => verdicts::recalled(&self.state_dir, event),
        }
    }

    /// Every review of this server, with withdrawals, oldest first.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn reviews_of(&self, server: &ReviewedServer) -> Result<Vec<ReviewEntry>, DecidedError> {
        let mut journal = self.to_read().await?;
        let about = journal.about(Topic::Review, &server.to_string()).await;
        journal.close().await?;
        let reviews = about?.iter().filter_map(|kept| kept.of_review().transpose()).collect::<Result<_, _>>();
        Ok(reviews?)
    }

    /// Every verdict on this event, oldest first, with its moment in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn verdicts_on(&self, event: &str) -> Result<Vec<(i64, Verdict)>, DecidedError> {
        let mut journal = self.to_read().await?;
        let about = journal.about(Topic::Verdict, event).await;
        journal.close().await?;
        let moment = |verdict: Verdict, at_ms| (at_ms, verdict);
        let verdicts = about?
            .iter()
            .filter_map(|kept| Some(kept.verdict().transpose()?.map(|verdict| moment(verdict, kept.entry.at_ms))))
            .collect::<Result<_, _>>();
        Ok(verdicts?)
    }

    /// Keeps a review, durably.
    ///
    /// # Errors
    /// When a text is no line, a file that is imported makes no sense (it would be imported later, over this), or the journal cannot be written.
    pub async fn review(&self, decision: &Decision) -> Result<(), DecidedError> {
        for (name, text) in [("owner", &decision.owner), ("reason", &decision.reason)] {
            if text.as_ref().is_some_and(|text| text.len() > MAX_REVIEW_TEXT || text.chars().any(char::is_control)) {
                return Err(DecidedError::Text(name));
            }
        }
        self.put(decision.to_entry()).await
    }

    /// Keeps a verdict, durably.
    ///
    /// # Errors
    /// As [`Self::review`].
    pub async fn judge(&self, verdict: &Verdict, by: DecidedBy, at_ms: i64) -> Result<(), DecidedError> {
        self.put(verdict.to_entry(by, at_ms)).await
    }

    async fn put(&self, entry: gnomon_ledger_model::DecisionEntry) -> Result<(), DecidedError> {
        let imports = self.files().await?;
        let mut journal = self.to_write().await?;
        let put = match take_in(imports, &mut *journal).await {
            Ok(()) => journal.put(&[entry]).await.map(drop).map_err(Into::into),
            Err(error) => Err(error),
        };
        journal.close().await?;
        put
    }

    async fn to_write(&self) -> Result<Box<dyn Decisions>, DecidedError> {
        Ok(match &self.place {
            JournalLocation::Folder => Box::new(SqliteDecisions::open(&journal_in(&self.state_dir)).await?),
            JournalLocation::Shared(url) => Box::new(PostgresDecisions::open(url.clone()).await?),
        })
    }

    /// The journal to read; an empty one where no gnomon made one yet.
    async fn to_read(&self) -> Result<Box<dyn Decisions>, DecidedError> {
        if let JournalLocation::Shared(_) = self.place {
            return self.to_write().await;
        }
        match SqliteDecisions::open_to_read(&journal_in(&self.state_dir)).await {
            Ok(journal) => Ok(Box::new(journal)),
            Err(ReadError::Missing { .. }) => {
                let mut journal: Box<dyn Decisions> = Box::new(SqliteDecisions::in_memory().await?);
                take_in(self.files().await?, &mut *journal).await?;
                Ok(journal)
            }
            Err(error) => Err(error.into()),
        }
    }
}

async fn take_in(imports: Vec<Import>, journal: &mut dyn Decisions) -> Result<(), DecidedError> {
    for Import { source, entries, is_whole, _turn } in imports {
        if is_whole {
            // The user who removed it from the file is unknown.
            let gone = DecidedBy { user: None, login_uid: None, uid: rustix::process::geteuid().as_raw() };
            import(journal, &source, entries, &gone, unix_millis(SystemTime::now())).await?;
        } else {
            import_new(journal, &source, entries).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
