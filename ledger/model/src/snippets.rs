//! Saved snippets of Code Mode in the journal of decisions: proposals of callers, and reviewers' decisions about them.
//!
//! A proposal is an entry whose subject is the SHA-256 of its body, so whatever is changed in a database is another snippet, or none.
//! A decision is an entry about that digest: other code cannot be put under an existing decision. A snippet that its owner forgets is
//! replaced by an entry that says so, which keeps its number from being used again soon.

use crate::{DecidedBy, DecisionEntry, DecisionError, KeptEntry, Topic};
use gnomon_observe::Review;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr};

/// The longest code, bytes.
pub const MAX_SNIPPET_CODE: usize = 64 << 10;
/// The longest description, bytes.
pub const MAX_SNIPPET_DESCRIPTION: usize = 4 << 10;
/// The longest schema of parameters, bytes of JSON.
pub const MAX_SNIPPET_PARAMETERS: usize = 16 << 10;
/// The longest name, bytes: with what is put before it, it is still one that scripts can call.
pub const MAX_SNIPPET_NAME: usize = 64;

/// The principals who may find and call a snippet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum SnippetAudience {
    /// Its owner.
    Owner,
    /// Members of this group.
    Group(String),
    /// Every caller of the portal.
    Portal,
}

impl fmt::Display for SnippetAudience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnippetAudience::Owner => f.write_str("me"),
            SnippetAudience::Group(group) => write!(f, "group:{group}"),
            SnippetAudience::Portal => f.write_str("portal"),
        }
    }
}

impl From<SnippetAudience> for String {
    fn from(audience: SnippetAudience) -> Self {
        audience.to_string()
    }
}

impl TryFrom<String> for SnippetAudience {
    type Error = NoAudience;

    fn try_from(text: String) -> Result<Self, NoAudience> {
        text.parse()
    }
}

/// Text that names no audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a snippet is for \"me\", \"group:NAME\" or \"portal\"")]
pub struct NoAudience;

impl FromStr for SnippetAudience {
    type Err = NoAudience;

    fn from_str(text: &str) -> Result<Self, NoAudience> {
        match text {
            "me" => Ok(SnippetAudience::Owner),
            "portal" => Ok(SnippetAudience::Portal),
            _ => match text.strip_prefix("group:") {
                Some(group) if !group.is_empty() => Ok(SnippetAudience::Group(group.to_owned())),
                _ => Err(NoAudience),
            },
        }
    }
}

/// A snippet as it was proposed. As JSON, with its members in this order, it is what its digest covers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snippet {
    /// The id of the portal that it calls tools of.
    pub portal: String,
    /// The principals who may find and call it.
    #[serde(rename = "for")]
    pub audience: SnippetAudience,
    /// Its name, as tools are named.
    pub name: String,
    /// Counts the proposals of this name and audience, from one.
    pub version: u32,
    /// The subject of the caller who saved it, as their log-in proved it.
    pub owner: String,
    /// The owner's description of its purpose, which a reviewer reads before any model does.
    pub description: String,
    /// A JSON Schema of its arguments, an object.
    pub parameters: Value,
    /// JavaScript or TypeScript.
    pub code: String,
}

/// The name as scripts call it: `-` and `.` are `_`.
#[must_use]
pub fn plain_name(name: &str) -> String {
    name.replace(['-', '.'], "_")
}

impl Snippet {
    /// True if both are versions of one snippet: of one portal, for the same, called alike.
    #[must_use]
    pub fn is_of_one_line(&self, other: &Self) -> bool {
        let same_owner = self.audience != SnippetAudience::Owner || self.owner == other.owner;
        self.portal == other.portal && self.audience == other.audience && same_owner && plain_name(&self.name) == plain_name(&other.name)
    }

    /// True if both say the same, whatever their versions are.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.is_of_one_line(other)
            && (&self.name, &self.owner, &self.description, &self.parameters, &self.code)
                == (&other.name, &other.owner, &other.description, &other.parameters, &other.code)
    }

    /// The text that is kept, and its SHA-256, 64 hexadecimal digits.
    #[must_use]
    pub fn sealed(&self) -> (String, String) {
        // Texts, a number and JSON alone cannot fail to be JSON.
        let body = serde_json::to_string(self).unwrap_or_default();
        let digest = digest_of(&body);
        (body, digest)
    }

    /// The proposal as an entry, and its digest.
    #[must_use]
    pub fn to_entry(&self, by: DecidedBy, at_ms: i64) -> (DecisionEntry, String) {
        let (body, digest) = self.sealed();
        let entry =
            DecisionEntry { topic: Topic::Snippet, subject: digest.clone(), at_ms, by, reason: None, body: Some(body), origin: None };
        (entry, digest)
    }
}

fn digest_of(body: &str) -> String {
    hex::encode(Sha256::digest(body))
}

/// The remains of a snippet that its owner forgot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgottenSnippet {
    /// Always true.
    pub forgotten: bool,
    /// The portal, as [`Snippet::portal`].
    pub portal: String,
    /// The audience, as [`Snippet::audience`].
    #[serde(rename = "for")]
    pub audience: SnippetAudience,
    /// The name, as [`Snippet::name`].
    pub name: String,
    /// The version, as [`Snippet::version`].
    pub version: u32,
    /// The owner, as [`Snippet::owner`].
    pub owner: String,
}

impl ForgottenSnippet {
    /// The remains of this snippet.
    #[must_use]
    pub fn of(Snippet { portal, audience, name, version, owner, .. }: &Snippet) -> Self {
        let (portal, audience, name, owner) = (portal.clone(), audience.clone(), name.clone(), owner.clone());
        Self { forgotten: true, portal, audience, name, version: *version, owner }
    }

    /// True if it was a version of this snippet.
    #[must_use]
    pub fn is_of_one_line(&self, other: &Snippet) -> bool {
        let Self { portal, audience, name, version, owner, .. } = self.clone();
        let was =
            Snippet { portal, audience, name, version, owner, description: String::new(), parameters: Value::Null, code: String::new() };
        was.is_of_one_line(other)
    }

    /// An entry about the digest which records that the snippet was forgotten.
    #[must_use]
    pub fn to_entry(&self, digest: &str, by: DecidedBy, at_ms: i64) -> DecisionEntry {
        let body = serde_json::to_string(self).unwrap_or_default();
        let subject = digest.to_owned();
        DecisionEntry { topic: Topic::Snippet, subject, at_ms, by, reason: None, body: Some(body), origin: None }
    }
}

/// An entry of the journal about a snippet.
#[derive(Clone, Debug, PartialEq)]
pub enum SnippetEntry {
    /// The snippet was proposed.
    Proposed(Snippet),
    /// Its owner forgot it.
    Forgotten(ForgottenSnippet),
}

/// A reviewer's decision about a snippet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnippetDecision {
    /// The time, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The decider.
    pub by: DecidedBy,
    /// The SHA-256 of the snippet.
    pub digest: String,
    /// The decision; never `expired`, which comes of itself.
    pub state: Review,
    /// The person responsible for it.
    pub owner: Option<String>,
    /// The reason.
    pub reason: Option<String>,
    /// The expiry, milliseconds since the Unix epoch; none is permanent.
    pub until_ms: Option<i64>,
}

/// The body of a decision.
#[derive(Serialize, Deserialize)]
struct Body {
    state: Review,
    owner: Option<String>,
    until_ms: Option<i64>,
}

impl SnippetDecision {
    /// Its state at this moment.
    #[must_use]
    pub fn state_at(&self, now_ms: i64) -> Review {
        match (self.state, self.until_ms) {
            (Review::Approved | Review::Denied, Some(until)) if now_ms >= until => Review::Expired,
            (state, _) => state,
        }
    }

    /// The decision as an entry.
    #[must_use]
    pub fn to_entry(&self) -> DecisionEntry {
        let Self { at_ms, by, digest, state, owner, reason, until_ms } = self.clone();
        // Texts and numbers alone cannot fail to be JSON.
        let body = serde_json::to_string(&Body { state, owner, until_ms }).unwrap_or_default();
        DecisionEntry { topic: Topic::SnippetReview, subject: digest, at_ms, by, reason, body: Some(body), origin: None }
    }
}

impl KeptEntry {
    /// The snippet that it proposes, or that it was forgotten; none if it is of another topic or a withdrawal.
    ///
    /// # Errors
    /// When its body makes no sense, or is not the one that its digest is of.
    pub fn snippet(&self) -> Result<Option<SnippetEntry>, DecisionError> {
        let DecisionEntry { topic: Topic::Snippet, subject, body: Some(body), .. } = &self.entry else { return Ok(None) };
        let bad = |cause: String| DecisionError::BadEntry { number: self.number, cause };
        if digest_of(body) == *subject {
            return serde_json::from_str(body).map(|snippet| Some(SnippetEntry::Proposed(snippet))).map_err(|error| bad(error.to_string()));
        }
        match serde_json::from_str::<ForgottenSnippet>(body) {
            Ok(forgotten) if forgotten.forgotten => Ok(Some(SnippetEntry::Forgotten(forgotten))),
            Ok(_) | Err(_) => Err(bad("the snippet is not the one that its SHA-256 is of".to_owned())),
        }
    }

    /// The decision about a snippet that it is; none if it is of another topic or a withdrawal.
    ///
    /// # Errors
    /// When its body makes no sense.
    pub fn of_snippet(&self) -> Result<Option<SnippetDecision>, DecisionError> {
        let DecisionEntry { topic: Topic::SnippetReview, subject, at_ms, by, reason, body: Some(body), .. } = &self.entry else {
            return Ok(None);
        };
        let body = serde_json::from_str(body).map_err(|error| DecisionError::BadEntry { number: self.number, cause: error.to_string() });
        let Body { state, owner, until_ms } = body?;
        let (by, digest, reason) = (by.clone(), subject.clone(), reason.clone());
        Ok(Some(SnippetDecision { at_ms: *at_ms, by, digest, state, owner, reason, until_ms }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn snippet() -> Snippet {
        Snippet {
            portal: "main".to_owned(),
            audience: SnippetAudience::Group("adas".to_owned()),
            name: "weekly-report".to_owned(),
            version: 2,
            owner: "https://login.example ada".to_owned(),
            description: "The week,\nin lines".to_owned(),
            parameters: json!({"type": "object", "properties": {"week": {"type": "integer"}}}),
            code: "async (codemode, args) => args.week\u{0}".to_owned(),
        }
    }

    fn by() -> DecidedBy {
        DecidedBy { user: None, login_uid: None, uid: 0 }
    }

    #[test]
    fn a_snippet_is_the_same_after_it_was_kept_and_nothing_else_passes_for_it() {
        let (entry, digest) = snippet().to_entry(by(), 5);
        let kept = |entry| KeptEntry { number: 3, entry };
        assert_eq!(kept(entry.clone()).snippet().unwrap(), Some(SnippetEntry::Proposed(snippet())));
        assert!(!entry.body.as_deref().unwrap().contains('\0'), "a database has no room for it");
        let other = entry.body.as_deref().unwrap().replace("args.week", "args.year");
        let changed = kept(DecisionEntry { body: Some(other), ..entry.clone() }).snippet().unwrap_err().to_string();
        assert!(changed.contains("entry 3") && changed.contains("SHA-256"), "{changed}");
        let forgotten = ForgottenSnippet::of(&snippet());
        assert!(forgotten.is_of_one_line(&snippet()));
        assert_eq!(kept(forgotten.to_entry(&digest, by(), 6)).snippet().unwrap(), Some(SnippetEntry::Forgotten(forgotten)));
        assert_eq!(kept(entry).of_snippet().unwrap(), None);
    }

    #[test]
    fn a_decision_is_the_same_after_it_was_kept_and_runs_out() {
        let decision = SnippetDecision {
            at_ms: 1,
            by: by(),
            digest: snippet().sealed().1,
            state: Review::Approved,
            owner: Some("team".to_owned()),
            reason: Some("read".to_owned()),
            until_ms: Some(7),
        };
        assert_eq!(KeptEntry { number: 1, entry: decision.to_entry() }.of_snippet().unwrap(), Some(decision.clone()));
        assert_eq!((decision.state_at(6), decision.state_at(7)), (Review::Approved, Review::Expired));
    }

    #[test]
    fn versions_are_counted_by_audience_and_what_scripts_call_alike_is_one_line() {
        let (one, other) = (snippet(), Snippet { name: "weekly.report".to_owned(), owner: "eve".to_owned(), ..snippet() });
        assert!(one.is_of_one_line(&other) && !one.says_the_same(&other));
        let own = |owner: &str| Snippet { audience: SnippetAudience::Owner, owner: owner.to_owned(), ..snippet() };
        assert!(!own("ada").is_of_one_line(&own("eve")) && !own("ada").is_of_one_line(&one));
        assert!(one.says_the_same(&Snippet { version: 9, ..snippet() }));
        for text in ["me", "portal", "group:a b:c"] {
            assert_eq!(text.parse::<SnippetAudience>().unwrap().to_string(), text);
        }
        for text in ["", "group:", "us", "Me"] {
            assert!(text.parse::<SnippetAudience>().is_err(), "{text}");
        }
    }
}
