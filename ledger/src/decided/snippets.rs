//! Saved snippets of Code Mode: proposed by callers of a portal, decided about by people, both in the journal of decisions.
//!
//! Proposals of strangers are bounded: in number and bytes, in all and for one owner, who has at most as many as are left for others; and
//! in number per day, as a journal never shrinks. Two concurrent proposals of one name get two versions.

use super::{Decided, DecidedError, take_in};
use gnomon_kit::unix_millis;
use gnomon_ledger_model::{
    DecidedBy, DecisionEntry, DecisionError, Decisions, ForgottenSnippet, KeptEntry, MAX_REVIEW_TEXT, MAX_SNIPPET_CODE,
    MAX_SNIPPET_DESCRIPTION, MAX_SNIPPET_NAME, MAX_SNIPPET_PARAMETERS, Snippet, SnippetAudience, SnippetDecision, SnippetEntry, Topic,
};
use gnomon_observe::Review;
use gnomon_shares::Bounds;
use std::{
    collections::{HashMap, HashSet},
    time::SystemTime,
};
use thiserror::Error;

/// Most snippets that are kept, in all and of one owner, who has at most as many as there is room left for.
const MOST: Bounds = Bounds { all: 512, each: 32, times_free: 1 };
/// Most bytes of them.
const MOST_BYTES: Bounds = Bounds { all: 8 << 20, each: 1 << 20, times_free: 1 };
/// Most that are saved in a day.
const MOST_A_DAY: Bounds = Bounds { all: 1_000, each: 50, times_free: 1 };
const DAY_MS: i64 = 86_400_000;
/// How long the record of a forgotten snippet is kept, so that its versions are not used anew, milliseconds.
const FORGOTTEN_MS: i64 = 30 * DAY_MS;
/// Most such entries that one proposal takes away.
const TIDIED: usize = 64;
/// How often a version is drawn that another takes at the same time.
const DRAWS: usize = 5;

/// A snippet of the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptSnippet {
    /// The SHA-256 of the proposal, 64 hexadecimal digits.
    pub digest: String,
    /// The proposal.
    pub snippet: Snippet,
    /// The time of the proposal, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The last decision about it; none while it waits for the first.
    pub decision: Option<SnippetDecision>,
    /// The number of its entry.
    number: i64,
    /// The length of its entry, bytes.
    bytes: usize,
}

impl KeptSnippet {
    /// An approved snippet from the saved copy.
    pub(super) fn recalled(snippet: Snippet, at_ms: i64, decision: SnippetDecision, bytes: usize) -> Self {
        Self { digest: decision.digest.clone(), snippet, at_ms, decision: Some(decision), number: 0, bytes }
    }

    /// The review in force at `now_ms`; none while it waits for a decision.
    #[must_use]
    pub fn state_at(&self, now_ms: i64) -> Option<Review> {
        self.decision.as_ref().map(|decision| decision.state_at(now_ms))
    }
}

/// The snippets in the journal.
#[derive(Debug, Default)]
struct JournalSnippets {
    kept: Vec<KeptSnippet>,
    forgotten: Vec<(String, i64, ForgottenSnippet)>,
    /// Entries that make no sense, or are not what their digest is of: nothing of these is in force.
    unreadable: Vec<DecisionError>,
}

/// The result of a proposal.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposed {
    /// The snippet, with its version and digest.
    pub kept: KeptSnippet,
    /// True if it stood there before.
    pub is_known: bool,
}

/// A proposal that is not kept.
#[derive(Debug, Error)]
pub enum ProposalError {
    /// A part of it is too long.
    #[error("the {0} may have at most {1} bytes: {2}")]
    TooLong(&'static str, usize, &'static str),
    /// Another's snippet has the name.
    #[error("`{0}` is taken by a snippet of somebody else: choose another name")]
    Taken(String),
    /// The owner's share, or the whole, is full.
    #[error("{0}")]
    NoRoom(&'static str),
    /// The journal does not keep it.
    #[error(transparent)]
    Journal(#[from] DecidedError),
}

impl From<gnomon_ledger_model::ReadError> for ProposalError {
    fn from(error: gnomon_ledger_model::ReadError) -> Self {
        Self::Journal(error.into())
    }
}

impl From<gnomon_ledger_model::StoreError> for ProposalError {
    fn from(error: gnomon_ledger_model::StoreError) -> Self {
        Self::Journal(error.into())
    }
}

impl Decided {
    /// Every snippet that stands in the journal, with the last decision about it, oldest first; and what of the journal makes no sense.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn snippets(&self) -> Result<(Vec<KeptSnippet>, Vec<DecisionError>), DecidedError> {
        let mut journal = self.to_read().await?;
        let standing = standing(&mut *journal).await;
        journal.close().await?;
        let JournalSnippets { kept, unreadable, .. } = standing?;
        Ok((kept, unreadable))
    }

    /// The snippets that are approved, and neither denied nor forgotten since.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub(super) async fn approved_snippets(&self) -> Result<Vec<KeptSnippet>, DecidedError> {
        let mut journal = self.to_read().await?;
        let approved = approved(&mut *journal).await;
        journal.close().await?;
        approved
    }

    /// Every decision about a snippet, by its SHA-256, oldest first.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn decisions_on_snippet(&self, digest: &str) -> Result<Vec<SnippetDecision>, DecidedError> {
        let mut journal = self.to_read().await?;
        let about = journal.about(Topic::SnippetReview, digest).await;
        journal.close().await?;
        let decisions = about?.iter().filter_map(|kept| kept.of_snippet().transpose()).collect::<Result<_, _>>();
        Ok(decisions?)
    }

    /// Keeps a decision about a snippet, durably.
    ///
    /// # Errors
    /// As [`Decided::review`].
    pub async fn review_snippet(&self, decision: &SnippetDecision) -> Result<(), DecidedError> {
        for (name, text) in [("owner", &decision.owner), ("reason", &decision.reason)] {
            if text.as_ref().is_some_and(|text| text.len() > MAX_REVIEW_TEXT || text.chars().any(char::is_control)) {
                return Err(DecidedError::Text(name));
            }
        }
        self.put(decision.to_entry()).await
    }

    /// Keeps a proposal, durably: with the version that follows the last of its name and audience, whatever version it has. What says the
    /// same as the newest version is that one.
    ///
    /// # Errors
    /// [`ProposalError`].
    pub async fn propose(&self, snippet: &Snippet) -> Result<Proposed, ProposalError> {
        bounded(snippet)?;
        let imports = self.files().await?;
        let mut journal = self.to_write().await?;
        let proposed = match take_in(imports, &mut *journal).await {
            Ok(()) => propose(&mut *journal, snippet, unix_millis(SystemTime::now())).await,
            Err(error) => Err(error.into()),
        };
        journal.close().await?;
        proposed
    }

    /// Takes back all versions of a snippet that its owner saved; how many there were.
    ///
    /// # Errors
    /// When the journal cannot be read or written.
    pub async fn forget_snippet(
        &self,
        (portal, owner): (&str, &str),
        audience: &SnippetAudience,
        name: &str,
    ) -> Result<usize, DecidedError> {
        let mut journal = self.to_write().await?;
        let forgotten = forget(&mut *journal, (portal, owner), audience, name).await;
        journal.close().await?;
        forgotten
    }
}

fn bounded(Snippet { name, description, parameters, code, .. }: &Snippet) -> Result<(), ProposalError> {
    let parameters = parameters.to_string();
    for (what, text, most, next) in [
        ("name", name, MAX_SNIPPET_NAME, "choose a shorter one"),
        ("code", code, MAX_SNIPPET_CODE, "data belongs into tools, and what several snippets need into one of its own"),
        ("description", description, MAX_SNIPPET_DESCRIPTION, "say what it is for in a few sentences"),
        ("schema of the parameters", &parameters, MAX_SNIPPET_PARAMETERS, "leave out what the description says"),
    ] {
        if text.len() > most {
            return Err(ProposalError::TooLong(what, most, next));
        }
    }
    Ok(())
}

/// The caller of a portal, as a process that serves them puts it.
fn by(owner: &str) -> DecidedBy {
    DecidedBy { user: Some(owner.to_owned()), login_uid: None, uid: rustix::process::geteuid().as_raw() }
}

async fn propose(journal: &mut dyn Decisions, snippet: &Snippet, now_ms: i64) -> Result<Proposed, ProposalError> {
    for _ in 0..DRAWS {
        let there = standing(journal).await?;
        if let Some(kept) = newest(&there, snippet).filter(|kept| kept.snippet.says_the_same(snippet)) {
            return Ok(Proposed { kept: kept.clone(), is_known: true });
        }
        admit(&there, snippet, now_ms)?;
        let version = 1 + versions(&there, snippet).max().unwrap_or_default();
        let (entry, digest) = Snippet { version, ..snippet.clone() }.to_entry(by(&snippet.owner), now_ms);
        let mut put = vec![entry];
        put.extend(outworn(&there, now_ms));
        journal.put(&put).await?;
        // Another may have drawn the same version meanwhile, on another host.
        let there = standing(journal).await?;
        let mine = there.kept.iter().find(|kept| kept.digest == digest);
        let Some(mine) = mine else { return Err(ProposalError::NoRoom("the snippet was taken back while it was saved: save it again")) };
        let is_first = |other: &&KeptSnippet| other.number < mine.number && other.snippet.version == version;
        if !there.kept.iter().filter(is_first).any(|other| other.snippet.is_of_one_line(snippet)) {
            return Ok(Proposed { kept: mine.clone(), is_known: false });
        }
        journal.put(&[withdrawn(&digest, &snippet.owner, now_ms)]).await?;
    }
    Err(ProposalError::NoRoom("several save this snippet at the same time: save it again in a moment"))
}

/// The newest version of a snippet.
fn newest<'a>(there: &'a JournalSnippets, snippet: &Snippet) -> Option<&'a KeptSnippet> {
    there.kept.iter().filter(|kept| kept.snippet.is_of_one_line(snippet)).max_by_key(|kept| (kept.snippet.version, kept.number))
}

/// All versions of a snippet that are not to be given again.
fn versions(there: &JournalSnippets, snippet: &Snippet) -> impl Iterator<Item = u32> {
    let kept = there.kept.iter().map(|kept| &kept.snippet).filter(|kept| kept.is_of_one_line(snippet)).map(|kept| kept.version);
    let forgotten = there.forgotten.iter().filter(|(_, _, was)| was.is_of_one_line(snippet)).map(|(_, _, was)| was.version);
    kept.chain(forgotten)
}

/// Checks that there is room for one more snippet of its owner, and that another owner does not have its name.
fn admit(there: &JournalSnippets, snippet: &Snippet, now_ms: i64) -> Result<(), ProposalError> {
    let denied = |kept: &KeptSnippet| kept.state_at(now_ms) == Some(Review::Denied);
    let others = there.kept.iter().filter(|kept| kept.snippet.owner != snippet.owner && !denied(kept));
    if let Some(other) = others.map(|kept| &kept.snippet).find(|other| other.is_of_one_line(snippet)) {
        return Err(ProposalError::Taken(other.name.clone()));
    }
    let own = |kept: &&KeptSnippet| kept.snippet.owner == snippet.owner;
    let full = |_| ProposalError::NoRoom("there is no room for more of your snippets: codemode.forget('name') those that are not needed");
    MOST.admit(there.kept.iter().filter(own).count(), there.kept.len()).map_err(full)?;
    let bytes = |kept: &KeptSnippet| kept.bytes;
    let more = snippet.sealed().0.len();
    MOST_BYTES.admit_some(more, there.kept.iter().filter(own).map(bytes).sum(), there.kept.iter().map(bytes).sum()).map_err(full)?;
    let kept = there.kept.iter().map(|kept| (kept.at_ms, &kept.snippet.owner));
    let forgotten = there.forgotten.iter().map(|(_, at_ms, was)| (*at_ms, &was.owner));
    let today: Vec<&String> = kept.chain(forgotten).filter(|(at_ms, _)| now_ms - at_ms < DAY_MS).map(|(_, owner)| owner).collect();
    MOST_A_DAY
        .admit(today.iter().filter(|owner| **owner == &snippet.owner).count(), today.len())
        .map_err(|_| ProposalError::NoRoom("too many snippets were saved today: try again tomorrow, or call the tools without saving"))
}

/// Withdrawals of the records of forgotten snippets that have expired.
fn outworn(there: &JournalSnippets, now_ms: i64) -> impl Iterator<Item = DecisionEntry> {
    let old = there.forgotten.iter().filter(move |(_, at_ms, _)| now_ms - at_ms > FORGOTTEN_MS).take(TIDIED);
    old.map(move |(digest, _, was)| withdrawn(digest, &was.owner, now_ms))
}

fn withdrawn(digest: &str, owner: &str, at_ms: i64) -> DecisionEntry {
    let subject = digest.to_owned();
    DecisionEntry { topic: Topic::Snippet, subject, at_ms, by: by(owner), reason: None, body: None, origin: None }
}

async fn forget(
    journal: &mut dyn Decisions,
    (portal, owner): (&str, &str),
    audience: &SnippetAudience,
    name: &str,
) -> Result<usize, DecidedError> {
    let now_ms = unix_millis(SystemTime::now());
    let there = standing(journal).await?;
    let is_meant = |kept: &&KeptSnippet| {
        let Snippet { portal: its, audience: of, name: called, owner: whose, .. } = &kept.snippet;
        (its.as_str(), of, called.as_str(), whose.as_str()) == (portal, audience, name, owner)
    };
    let put: Vec<DecisionEntry> = there
        .kept
        .iter()
        .filter(is_meant)
        .map(|kept| ForgottenSnippet::of(&kept.snippet).to_entry(&kept.digest, by(owner), now_ms))
        .collect();
    if !put.is_empty() {
        journal.put(&put).await?;
    }
    Ok(put.len())
}

async fn standing(journal: &mut dyn Decisions) -> Result<JournalSnippets, DecidedError> {
    let mut standing = JournalSnippets::default();
    let mut decisions = HashMap::new();
    for kept in journal.standing(Topic::SnippetReview).await? {
        match kept.of_snippet() {
            Ok(Some(decision)) => drop(decisions.insert(decision.digest.clone(), decision)),
            Ok(None) => {}
            Err(error) => standing.unreadable.push(error),
        }
    }
    for KeptEntry { number, entry } in journal.standing(Topic::Snippet).await? {
        let kept = KeptEntry { number, entry };
        let read = kept.snippet();
        let DecisionEntry { subject: digest, at_ms, body, .. } = kept.entry;
        match read {
            Ok(Some(SnippetEntry::Proposed(snippet))) => {
                let decision = decisions.remove(&digest);
                standing.kept.push(KeptSnippet { digest, snippet, at_ms, decision, number, bytes: body.map_or(0, |body| body.len()) });
            }
            Ok(Some(SnippetEntry::Forgotten(was))) => standing.forgotten.push((digest, at_ms, was)),
            Ok(None) => {}
            Err(error) => standing.unreadable.push(error),
        }
    }
    standing.kept.sort_by_key(|kept| kept.number);
    Ok(standing)
}

/// The snippets of a journal that are approved, and neither denied nor forgotten since. Invalid entries are logged.
pub(super) async fn approved(journal: &mut dyn Decisions) -> Result<Vec<KeptSnippet>, DecidedError> {
    let JournalSnippets { mut kept, unreadable, .. } = standing(journal).await?;
    for error in unreadable {
        tracing::error!(%error, "a snippet of Code Mode, or a decision about one, is left out");
    }
    kept.retain(|kept| kept.decision.as_ref().is_some_and(|decision| decision.state == Review::Approved));
    Ok(kept)
}

/// The digests of the snippets of a journal that are denied or forgotten.
pub(super) async fn refused(journal: &mut dyn Decisions) -> Result<HashSet<String>, DecidedError> {
    let JournalSnippets { kept, forgotten, .. } = standing(journal).await?;
    let denied = |kept: &KeptSnippet| kept.decision.as_ref().is_some_and(|decision| decision.state == Review::Denied);
    let denied = kept.into_iter().filter(denied).map(|kept| kept.digest);
    Ok(denied.chain(forgotten.into_iter().map(|(digest, ..)| digest)).collect())
}
