//! Decisions of people that every gnomon applies: reviews of servers, verdicts on events, exceptions to rules, and of snippets of Code Mode
//! what was proposed as well. A journal: an entry is never changed, a withdrawal is an entry too, and so it is its own record of who
//! decided what, when and why.
//!
//! An engine keeps entries and knows no more of one than what it is about. Files that people write by hand are a source of
//! entries ([`import`]): only entries changed in a file are put, so a later decision made elsewhere is not overruled.

use crate::{Asked, DecidedBy, Decision, ReadError, ReviewedServer, StoreError, Stored, Verdict, VerdictKind};
use gnomon_observe::Review;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// The topic of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// A server; its subject is `host:port`.
    Review,
    /// An event; its subject is the event's id.
    Verdict,
    /// An exception to rules; its subject is the name of its file.
    Exception,
    /// A proposed snippet of Code Mode; its subject is its SHA-256.
    Snippet,
    /// A decision about such a snippet; its subject is the snippet's SHA-256.
    SnippetReview,
}

impl Topic {
    /// All variants.
    pub const ALL: [Topic; 5] = [Topic::Review, Topic::Verdict, Topic::Exception, Topic::Snippet, Topic::SnippetReview];

    /// The word that is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Topic::Review => "review",
            Topic::Verdict => "verdict",
            Topic::Exception => "exception",
            Topic::Snippet => "snippet",
            Topic::SnippetReview => "snippet_review",
        }
    }

    /// The topic stored as this word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.as_str() == word)
    }
}

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionEntry {
    /// The topic.
    pub topic: Topic,
    /// The subject, by its id.
    pub subject: String,
    /// The time of the decision, milliseconds since the Unix epoch, by the decider's clock: entries are ordered by their numbers.
    pub at_ms: i64,
    /// The decider.
    pub by: DecidedBy,
    /// The reason.
    pub reason: Option<String>,
    /// The decision, as its topic encodes it; none withdraws the one before.
    pub body: Option<String>,
    /// The source it was imported from.
    pub origin: Option<Origin>,
}

/// An entry about a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ReviewEntry {
    /// A decision about the server.
    Decided(Decision),
    /// The decision before was withdrawn.
    Withdrawn(Withdrawal),
}

/// The withdrawal of a review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Withdrawal {
    /// The time, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The decider.
    pub by: DecidedBy,
    /// Always `withdrawn`.
    pub state: &'static str,
    /// The reason.
    pub reason: Option<String>,
}

/// The source of an imported entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// A file of a host. Nobody else imports from it at the same time.
    pub source: String,
    /// The file's text on the subject, or a digest of it.
    pub digest: String,
}

/// A stored entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptEntry {
    /// Its number: rises with every entry, never used twice.
    pub number: i64,
    /// The entry itself.
    pub entry: DecisionEntry,
}

/// Keeps the journal of decisions. Many may do so at once, from many processes and hosts.
///
/// A reader that sees an entry sees all of lower numbers, now and ever after: one that asks for what is [`after`](Self::after) the last
/// entry it has seen misses none, also where two decide at once.
pub trait Decisions: Send {
    /// Adds entries in this order, all or none, durable on return; the number of the newest entry.
    fn put<'a>(&'a mut self, entries: &'a [DecisionEntry]) -> Stored<'a, i64>;
    /// The number of the newest entry, 0 before the first. Cheap: to be asked every second.
    fn newest(&mut self) -> Asked<'_, i64>;
    /// Entries after this number, oldest first, at most `limit`.
    fn after(&mut self, number: i64, limit: usize) -> Asked<'_, Vec<KeptEntry>>;
    /// The newest entry of each subject, in order of subjects; not of those whose newest is a withdrawal.
    fn standing(&mut self, topic: Topic) -> Asked<'_, Vec<KeptEntry>>;
    /// All entries about a subject, oldest first.
    fn about<'a>(&'a mut self, topic: Topic, subject: &'a str) -> Asked<'a, Vec<KeptEntry>>;
    /// The newest entry of each subject that came from a source, in order of topics and subjects, withdrawals too.
    fn imported<'a>(&'a mut self, source: &'a str) -> Asked<'a, Vec<KeptEntry>>;
    /// Closes it.
    fn close(self: Box<Self>) -> Stored<'static, ()>;
}

/// An error of importing or reading decisions.
#[derive(Debug, Error)]
pub enum DecisionError {
    /// Writing to the store failed.
    #[error("cannot keep decisions: {0}")]
    Store(#[from] StoreError),
    /// Reading the store failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An entry is not what its topic has.
    #[error("entry {number} of the decisions is not valid: {cause}")]
    BadEntry {
        /// Its number.
        number: i64,
        /// The reason.
        cause: String,
    },
}

/// Puts what changed in a source since it was imported last: `now` is all that it has, oldest first. Of a subject that was never imported from it all
/// entries are put, of others the last if it is another than the last time. What it has no more is withdrawn, by `gone`, where that is what stands, and
/// what was decided elsewhere before it came stands again. How many entries were put;
/// the second time in a row none. Nobody else may import from the source meanwhile.
///
/// # Errors
/// When entries cannot be read or kept.
pub async fn import(
    decisions: &mut dyn Decisions,
    source: &str,
    now: Vec<(String, DecisionEntry)>,
    gone: &DecidedBy,
    now_ms: i64,
) -> Result<usize, DecisionError> {
    let known = decisions.imported(source).await?;
    let has: BTreeSet<Subject> = now.iter().map(|(_, entry)| subject(entry)).collect();
    let mut put = news(&known, source, now);
    for KeptEntry { entry: before, number } in known {
        if before.body.is_some() && !has.contains(&subject(&before)) {
            // Nor does that overrule a later decision made elsewhere.
            let about = decisions.about(before.topic, &before.subject).await?;
            if about.last().is_none_or(|newest| newest.number != number) {
                continue;
            }
            let origin = Some(Origin { source: source.to_owned(), digest: String::new() });
            let reason = Some(format!("it is no longer in {source}"));
            put.push(DecisionEntry { at_ms: now_ms, by: gone.clone(), reason, body: None, origin, ..before });
            // With its original time and decider. If it is another source's that no longer has it, that source's import withdraws it.
            let elsewhere = about.into_iter().rev().find(|kept| kept.entry.origin.as_ref().is_none_or(|origin| origin.source != source));
            put.extend(elsewhere.map(|kept| kept.entry).filter(|entry| entry.body.is_some()));
        }
    }
    if !put.is_empty() {
        decisions.put(&put).await?;
    }
    Ok(put.len())
}

/// The same for a source that is not whole, as its beginning is cut off from time to time: nothing is withdrawn.
///
/// # Errors
/// When entries cannot be read or kept.
pub async fn import_new(decisions: &mut dyn Decisions, source: &str, now: Vec<(String, DecisionEntry)>) -> Result<usize, DecisionError> {
    let put = news(&decisions.imported(source).await?, source, now);
    if !put.is_empty() {
        decisions.put(&put).await?;
    }
    Ok(put.len())
}

type Subject = (Topic, String);

fn subject(entry: &DecisionEntry) -> Subject {
    (entry.topic, entry.subject.clone())
}

/// Entries of a source that were not imported yet.
fn news(known: &[KeptEntry], source: &str, now: Vec<(String, DecisionEntry)>) -> Vec<DecisionEntry> {
    let known: BTreeMap<Subject, &DecisionEntry> = known.iter().map(|kept| (subject(&kept.entry), &kept.entry)).collect();
    let last: BTreeMap<Subject, usize> = now.iter().enumerate().map(|(n, (_, entry))| (subject(entry), n)).collect();
    let is_news = |n: usize, digest: &str, entry: &DecisionEntry| {
        let key = subject(entry);
        known.get(&key).is_none_or(|before| {
            let same = before.body.is_some() && before.origin.as_ref().is_some_and(|origin| origin.digest == digest);
            last.get(&key) == Some(&n) && !same
        })
    };
    let put = now.into_iter().enumerate().filter(|(n, (digest, entry))| is_news(*n, digest, entry));
    put.map(|(_, (digest, entry))| DecisionEntry { origin: Some(Origin { source: source.to_owned(), digest }), ..entry }).collect()
}

/// The body of a review.
#[derive(Serialize, Deserialize)]
struct ReviewBody {
    server: ReviewedServer,
    state: Review,
    owner: Option<String>,
    until_ms: Option<i64>,
}

/// The body of a verdict.
#[derive(Serialize, Deserialize)]
struct VerdictBody {
    kind: VerdictKind,
    owner: String,
    until: Option<String>,
    file: Option<String>,
}

impl Verdict {
    /// The decision as an entry.
    #[must_use]
    pub fn to_entry(&self, by: DecidedBy, at_ms: i64) -> DecisionEntry {
        let Self { event, kind, owner, reason, until, file } = self.clone();
        // Texts alone cannot fail to be JSON.
        let body = serde_json::to_string(&VerdictBody { kind, owner, until, file }).unwrap_or_default();
        DecisionEntry { topic: Topic::Verdict, subject: event, at_ms, by, reason: Some(reason), body: Some(body), origin: None }
    }
}

impl Decision {
    /// The verdict as an entry.
    #[must_use]
    pub fn to_entry(&self) -> DecisionEntry {
        let Self { at_ms, by, server, state, owner, reason, until_ms } = self.clone();
        let subject = server.to_string();
        // Texts and numbers alone cannot fail to be JSON.
        let body = serde_json::to_string(&ReviewBody { server, state, owner, until_ms }).unwrap_or_default();
        DecisionEntry { topic: Topic::Review, subject, at_ms, by, reason, body: Some(body), origin: None }
    }
}

impl KeptEntry {
    /// The review that it is; none if it is of another topic or a withdrawal.
    ///
    /// # Errors
    /// When its body makes no sense.
    pub fn review(&self) -> Result<Option<Decision>, DecisionError> {
        let DecisionEntry { topic: Topic::Review, at_ms, by, reason, body: Some(body), .. } = &self.entry else { return Ok(None) };
        let ReviewBody { server, state, owner, until_ms } = self.body(body)?;
        Ok(Some(Decision { at_ms: *at_ms, by: by.clone(), server, state, owner, reason: reason.clone(), until_ms }))
    }

    /// The review that it is, or that it takes one back; none if it is of another topic.
    ///
    /// # Errors
    /// When its body makes no sense.
    pub fn of_review(&self) -> Result<Option<ReviewEntry>, DecisionError> {
        let DecisionEntry { topic: Topic::Review, at_ms, by, reason, body, .. } = &self.entry else { return Ok(None) };
        if body.is_none() {
            let (by, reason) = (by.clone(), reason.clone());
            return Ok(Some(ReviewEntry::Withdrawn(Withdrawal { at_ms: *at_ms, by, state: "withdrawn", reason })));
        }
        Ok(self.review()?.map(ReviewEntry::Decided))
    }

    /// The verdict that it is; none if it is of another topic or a withdrawal.
    ///
    /// # Errors
    /// When its body makes no sense.
    pub fn verdict(&self) -> Result<Option<Verdict>, DecisionError> {
        let DecisionEntry { topic: Topic::Verdict, subject, reason, body: Some(body), .. } = &self.entry else { return Ok(None) };
        let VerdictBody { kind, owner, until, file } = self.body(body)?;
        Ok(Some(Verdict { event: subject.clone(), kind, owner, reason: reason.clone().unwrap_or_default(), until, file }))
    }

    fn body<'a, T: Deserialize<'a>>(&self, body: &'a str) -> Result<T, DecisionError> {
        serde_json::from_str(body).map_err(|error| DecisionError::BadEntry { number: self.number, cause: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_the_same_after_it_was_kept() {
        let verdict = Verdict {
            event: "019".to_owned(),
            kind: VerdictKind::Benign,
            owner: "soc".to_owned(),
            reason: "a\nb".to_owned(),
            until: Some("2027-01-01".to_owned()),
            file: None,
        };
        let by = DecidedBy { user: None, login_uid: None, uid: 0 };
        let kept = KeptEntry { number: 1, entry: verdict.to_entry(by, 5) };
        assert_eq!((kept.entry.subject.as_str(), kept.entry.at_ms), ("019", 5));
        assert_eq!(kept.verdict().unwrap(), Some(verdict));
        assert_eq!(kept.review().unwrap(), None);
    }

    #[test]
    fn a_review_is_the_same_after_it_was_kept() {
        let decision = Decision {
            at_ms: 1,
            by: DecidedBy { user: Some("ada".to_owned()), login_uid: Some(1000), uid: 0 },
            server: ReviewedServer { host: "2001:db8::1".to_owned(), port: 443 },
            state: Review::Approved,
            owner: Some("team".to_owned()),
            reason: Some("needed".to_owned()),
            until_ms: Some(7),
        };
        let entry = decision.to_entry();
        assert_eq!(entry.subject, "[2001:db8::1]:443");
        let kept = |entry| KeptEntry { number: 3, entry };
        assert_eq!(kept(entry.clone()).review().unwrap(), Some(decision));
        assert_eq!(kept(DecisionEntry { body: None, ..entry.clone() }).review().unwrap(), None);
        let error = kept(DecisionEntry { body: Some("{}".to_owned()), ..entry }).review().unwrap_err().to_string();
        assert!(error.starts_with("entry 3 of the decisions is not valid: "), "{error}");
    }
}
