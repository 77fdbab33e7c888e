//! A follower of decisions: polls, never blocks its caller, and keeps the last decisions
//! where the journal cannot be read, or is not the one that was read. Only a person can know which journal is right then: until one says so,
//! by removing the saved copy, what was read last holds, and denials that are newer in the journal that is there.

use super::{
    Decided, DecidedError, FileError, JournalLocation, Looked,
    cache::{is_gone, note, recall, remembered},
    snippet_cache,
    snippets::{KeptSnippet, approved, refused},
    verdicts::{Noted, NotedError},
};
use crate::Decision;
use gnomon_kit::Backoff;
use gnomon_ledger_model::{DecisionError, Decisions, Topic};
use gnomon_ledger_postgres::{Contents, Contradicted, Position, PostgresDecisions, PostgresUrl};
use gnomon_observe::Review;
use std::time::{Duration, Instant};

/// The pause after the shared journal could not be read, the first time and at most.
const PAUSE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Most readings of a journal that changes while it is read, before a reading counts.
const READS: usize = 5;

/// The interval at which a saved copy of the journal is confirmed to be current.
const NOTED: Duration = Duration::from_secs(60);

/// The interval at which all entries that were read are compared with the journal, without new ones.
const VERIFIED: Duration = Duration::from_secs(600);

/// Follows the reviews of servers, and of snippets of Code Mode.
#[derive(Debug)]
pub struct Following {
    decided: Decided,
    /// The stamps of files and local journal when they were last read.
    read: Option<Looked>,
    shared: Shared,
    imported: Current,
    journal: Current,
    /// The snippets that were approved when the journal was read last.
    snippets: Vec<KeptSnippet>,
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
    /// How far it was read, by this process or the one before.
    position: Option<Position>,
    /// Its contents up to there; none where an earlier version read it.
    had: Option<Contents>,
    /// The time of the last comparison of all that with the journal.
    verified: Option<Instant>,
    /// The reviews that were read up to there, and while the journal is another, denials that are newer there.
    read: Vec<Decision>,
    /// True if this process has read them.
    is_read: bool,
    /// Set while what was read is not the beginning of the journal that is there.
    contradiction: Option<Contradiction>,
    pause: Backoff,
    not_before: Option<Instant>,
    /// The time at which the journal was last saved for the next start, or confirmed.
    noted: Option<Instant>,
    /// How far verdicts were saved, for look-ups while the journal is unreachable.
    verdicts: Noted,
    /// True once a failure was logged.
    told: bool,
    /// True once it was logged that verdicts cannot be written down.
    told_of_verdicts: bool,
}

/// A journal that is not the one that was read.
#[derive(Debug)]
struct Contradiction {
    /// How far that one goes, as its denials were read last.
    there: Option<Position>,
    /// True if the saved copy was seen since: then a person removed it where it is gone.
    is_saved: bool,
}

/// The result of polling the shared journal.
enum News {
    /// No new decisions.
    Nothing,
    /// All reviews.
    Read(Vec<Decision>),
    /// The decisions in force while the journal is not the one that was read, if they changed.
    Held(Option<Vec<Decision>>),
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            journal: None,
            position: None,
            had: None,
            verified: None,
            read: Vec::new(),
            is_read: false,
            contradiction: None,
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
        let (known, position, had) = match &decided.place {
            JournalLocation::Folder => (Vec::new(), None, None),
            JournalLocation::Shared(_) => remembered(&decided.state_dir),
        };
        let snippets = match &decided.place {
            JournalLocation::Folder => Vec::new(),
            JournalLocation::Shared(_) => snippet_cache::remembered(&decided.state_dir),
        };
        let shared = Shared { position, had, read: known.clone(), ..Shared::default() };
        (Self { decided, read: None, shared, imported: Current::No, journal: Current::No, snippets }, known)
    }

    /// The snippets that were approved, and neither denied nor forgotten since, when the journal was read last; an approval may have run
    /// out. Where it cannot be read, or is not the one that was read, no other comes to these.
    #[must_use]
    pub fn approved_snippets(&self) -> &[KeptSnippet] {
        &self.snippets
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
        match self.decided.approved_snippets().await {
            Ok(snippets) => self.snippets = snippets,
            Err(error) => tracing::error!(%error, "snippets of Code Mode cannot be read; those that were approved before stay in force"),
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
        match self.look_at_all(url).await {
            Ok(news) => {
                let is_held = matches!(news, News::Held(_));
                self.journal = if is_held { Current::No } else { Current::Yes };
                if std::mem::take(&mut self.shared.told) && !is_held {
                    tracing::info!("the shared journal of decisions is read again");
                }
                self.shared.pause.reset();
                self.shared.not_before = None;
                self.save(&news);
                match news {
                    News::Nothing => None,
                    News::Read(reviews) => Some(reviews),
                    News::Held(news) => news,
                }
            }
            Err(error) => {
                self.journal = Current::No;
                let shared = &mut self.shared;
                if !std::mem::replace(&mut shared.told, true) {
                    if shared.position.is_none() && shared.read.is_empty() {
                        tracing::error!(%error, "the shared journal of decisions cannot be read, and this host never did: no decision is in force");
                    } else {
                        tracing::error!(%error, "the shared journal of decisions cannot be read; what was decided before stays in force");
                    }
                }
                (shared.journal, shared.not_before) = (None, Some(Instant::now() + shared.pause.failed()));
                // The decisions of the files were not imported.
                self.read = None;
                None
            }
        }
    }

    /// Saves the decisions for the next start, and for look-ups while the journal is unreachable.
    fn save(&mut self, news: &News) {
        let Shared { position: Some(position), had, noted, .. } = &self.shared else { return };
        let had = had.as_ref();
        let saved = match news {
            News::Read(reviews) => snippet_cache::recall(&self.decided.state_dir, &self.snippets)
                .and_then(|()| recall(&self.decided.state_dir, reviews, position, had)),
            News::Nothing if noted.is_none_or(|at| at.elapsed() > NOTED) => note(&self.decided.state_dir, position, had),
            News::Nothing | News::Held(_) => return,
        };
        self.shared.noted = Some(Instant::now());
        if let Err(error) = saved {
            // A saved copy that was removed or changed is written anew.
            self.shared.is_read &= matches!(news, News::Read(_));
            tracing::warn!(%error, "decisions cannot be written down for the next start");
        }
    }

    async fn look_at_all(&mut self, url: &PostgresUrl) -> Result<News, DecidedError> {
        let mut journal = match self.shared.journal.take() {
            Some(journal) => journal,
            None => PostgresDecisions::open(url.clone()).await?,
        };
        let (mut there, mut contradicted) = journal.look(self.shared.position.as_ref()).await?;
        if contradicted.is_none() && self.shared.is_to_verify(&there) {
            contradicted = self.shared.verify(&mut journal, &there).await?;
        }
        match contradicted {
            Some(cause) if !self.is_released() => return self.hold(journal, there, cause).await,
            Some(_) => {
                tracing::warn!("decisions.cache was removed: the journal of decisions that is there is followed from now on");
                self.follow_anew();
            }
            None if self.shared.contradiction.is_some() => {
                tracing::warn!("the journal of decisions is again the one that was read; it is followed from now on");
                (self.shared.contradiction, self.shared.is_read, self.read) = (None, false, None);
            }
            None => {}
        }
        if self.has_changed() {
            match self.decided.import_into(&mut journal).await {
                Ok(()) => self.imported = Current::Yes,
                Err(error @ DecidedError::File(_)) => self.not_imported(&error),
                Err(error) => return Err(error),
            }
            there = self.continued(&mut journal, &there).await?;
        }
        let news = if self.shared.is_read && self.shared.position.as_ref() == Some(&there) {
            News::Nothing
        } else {
            let (mut reviews, mut snippets) = (standing(&mut journal).await?, approved(&mut journal).await?);
            // Read again until the journal did not change meanwhile, so that exactly its contents are saved.
            for _ in 0..READS {
                let now = self.continued(&mut journal, &there).await?;
                if now == there {
                    break;
                }
                there = now;
                (reviews, snippets) = (standing(&mut journal).await?, approved(&mut journal).await?);
            }
            self.snippets = snippets;
            News::Read(reviews)
        };
        if self.shared.had.is_none() || matches!(news, News::Read(_)) {
            let had = journal.contents(there.number).await?;
            // Entries removed during the reading make it invalid.
            if let Some(cause) = self.shared.verify(&mut journal, &there).await? {
                return Err(self.decided.contradicted(cause));
            }
            self.shared.had = Some(had);
        }
        match self.shared.verdicts.catch_up(&mut journal, there.number, &self.decided.state_dir).await {
            Ok(()) => self.shared.told_of_verdicts = false,
            Err(NotedError::Journal(error)) => return Err(error),
            // Reviews are in force all the same.
            Err(NotedError::File(error)) => {
                if !std::mem::replace(&mut self.shared.told_of_verdicts, true) {
                    tracing::warn!(%error, "verdicts cannot be written down for when the shared journal is away");
                }
            }
        }
        if let News::Read(reviews) = &news {
            self.shared.read.clone_from(reviews);
        }
        (self.shared.position, self.shared.is_read, self.shared.journal) = (Some(there), true, Some(journal));
        Ok(news)
    }

    /// How far the journal goes by now.
    async fn continued(&self, journal: &mut PostgresDecisions, there: &Position) -> Result<Position, DecidedError> {
        match journal.look(Some(there)).await? {
            (now, None) => Ok(now),
            (_, Some(cause)) => Err(self.decided.contradicted(cause)),
        }
    }

    /// True if a person has confirmed the journal that is there.
    fn is_released(&self) -> bool {
        self.shared.contradiction.as_ref().is_some_and(|since| since.is_saved) && is_gone(&self.decided.state_dir)
    }

    fn follow_anew(&mut self) {
        let shared = &mut self.shared;
        (shared.had, shared.verified) = (None, None);
        (shared.contradiction, shared.position, shared.is_read, shared.verdicts) = (None, None, false, Noted::default());
        self.read = None;
    }

    /// Keeps what was read in force, and adds denials that are newer in the journal that is there. They are saved for the next start; nothing is put there.
    async fn hold(&mut self, mut journal: PostgresDecisions, there: Position, cause: Contradicted) -> Result<News, DecidedError> {
        if self.shared.contradiction.is_none() {
            let error = self.decided.contradicted(cause);
            tracing::error!("{error}");
            let Shared { position, had, read, .. } = &self.shared;
            if let (true, Some(position)) = (is_gone(&self.decided.state_dir), position)
                && let Err(error) = recall(&self.decided.state_dir, read, position, had.as_ref())
            {
                tracing::warn!(%error, "decisions cannot be written down for the next start; only a restart ends that they are held on to");
            }
            self.shared.contradiction = Some(Contradiction { there: None, is_saved: !is_gone(&self.decided.state_dir) });
        }
        let is_known = self.shared.contradiction.as_ref().is_some_and(|since| since.there.as_ref() == Some(&there));
        let news = if is_known {
            None
        } else {
            let refused = refused(&mut journal).await?;
            self.snippets.retain(|kept| !refused.contains(&kept.digest));
            Some(with_denials(&self.shared.read, standing(&mut journal).await?))
        };
        if let Some(held) = &news {
            self.save_held(held);
        }
        if let Some(contradiction) = &mut self.shared.contradiction {
            contradiction.there = Some(there);
        }
        self.shared.journal = Some(journal);
        Ok(News::Held(news))
    }

    /// A denial that was read stays in force, even if its journal is lost.
    fn save_held(&mut self, held: &[Decision]) {
        if self.shared.read == held {
            return;
        }
        self.shared.read = held.to_vec();
        let Shared { position: Some(position), had, .. } = &self.shared else { return };
        // Removing the saved copy confirms the journal that is there.
        if !is_gone(&self.decided.state_dir)
            && let Err(error) = recall(&self.decided.state_dir, held, position, had.as_ref())
        {
            tracing::warn!(%error, "denials cannot be written down for the next start");
        }
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

impl Shared {
    /// True if the entries read are to be compared with the journal: before any new one counts, and now and then.
    fn is_to_verify(&self, there: &Position) -> bool {
        let is_news = !self.is_read || self.position.as_ref() != Some(there);
        is_news || self.contradiction.is_some() || self.verified.is_none_or(|at| at.elapsed() > VERIFIED)
    }

    async fn verify(&mut self, journal: &mut PostgresDecisions, there: &Position) -> Result<Option<Contradicted>, DecidedError> {
        let (Some(read), Some(had)) = (&self.position, &self.had) else { return Ok(None) };
        let contradicted = journal.verify(read, had, there).await?;
        self.verified = Some(Instant::now());
        Ok(contradicted)
    }
}

/// The reviews in force by a journal.
async fn standing(journal: &mut PostgresDecisions) -> Result<Vec<Decision>, DecidedError> {
    let standing = journal.standing(Topic::Review).await?;
    Ok(standing.iter().filter_map(|kept| kept.review().transpose()).collect::<Result<_, DecisionError>>()?)
}

/// The decisions that were read, with denials made in the other journal since.
fn with_denials(read: &[Decision], there: Vec<Decision>) -> Vec<Decision> {
    let mut held = read.to_vec();
    for denial in there.into_iter().filter(|decision| decision.state == Review::Denied) {
        match held.iter_mut().find(|decision| decision.server == denial.server) {
            None => held.push(denial),
            Some(decision) if decision.at_ms < denial.at_ms => *decision = denial,
            Some(_) => {}
        }
    }
    held
}
