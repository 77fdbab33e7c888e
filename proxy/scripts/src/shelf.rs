//! Saved snippets: scripts that callers keep for later, for a group or for everybody, once a person has read them.
//!
//! - A script proposes one with `codemode.save`. The proposal goes into the journal of decisions, with a version and the SHA-256 of all
//!   that it says; policy decides who may (tool [`SAVE`] of the reserved server [`SERVER`]).
//! - `gnomon review snippet` approves or denies that SHA-256. Whoever follows the journal puts what is approved on the shelf, as it puts
//!   reviews of servers in force; nothing else is ever run. Another version waits anew, and the one before stays in force.
//! - What is on the shelf is found and called like a tool of a server [`SERVER`], by those whom it is for and whom policy lets: others are
//!   told what they are told of what does not exist. No server may be called so.
//! - It runs in a process of its own, apart from the script that calls it, with the rights of **who calls**, never of who wrote it: each
//!   call in it takes the road of that caller's direct ones, and its audit record names the snippet. Its calls and its time count as the
//!   caller's script's.
//!
//! The trade-off: a process for each use costs a millisecond; in the caller's own, a script could change what a reviewed snippet does.

use arc_swap::ArcSwap;
use gnomon_access::{AuthMethod, Caller};
use gnomon_ledger::{Decided, KeptSnippet, Snippet, SnippetAudience, plain_name};
use gnomon_observe::Review;
use gnomon_relay::{call::SavedSnippet, shares::owner};
use gnomon_shares::{Bounds, Refused, Share, Turns};
use gnomon_upstream::catalogue::{Entry, Kind, Page};
use serde_json::json;
use smol_str::{SmolStr, format_smolstr};
use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
    time::Duration,
};

/// The reserved id of what snippets are tools of: in policy, in names and in records. A server may not be called so.
pub const SERVER: &str = "snippets";
/// The tool of that server by which policy decides who may save snippets. No snippet is called so.
pub const SAVE: &str = "codemode.save";
/// The name in records of taking one's own back, which everybody may.
pub(crate) const FORGET: &str = "codemode.forget";

/// An approved snippet.
#[derive(Debug)]
pub(crate) struct Shelved {
    /// The name by which scripts call it.
    pub callable: SmolStr,
    /// Its description in records.
    pub saved: Arc<SavedSnippet>,
    /// The approved snippet.
    pub snippet: Snippet,
    /// The same as a tool.
    pub entry: Arc<Entry>,
}

/// Reads a snippet as a tool, as servers' tools are read: its name, its shape, and what its schema costs.
pub(crate) fn entry_of(snippet: &Snippet) -> Result<Arc<Entry>, SmolStr> {
    let tool = json!({"name": snippet.name, "description": snippet.description, "inputSchema": snippet.parameters});
    let page = Page::read(Kind::Tool, json!({"tools": [tool]}).to_string().as_bytes(), &HashMap::new())?;
    match (page.entries.into_iter().next(), page.left_out.into_iter().next()) {
        (Some(entry), _) => Ok(entry),
        (None, Some(left_out)) => Err(left_out.why),
        (None, None) => Err(SmolStr::new_static("it cannot be read")),
    }
}

/// The name by which scripts call a snippet.
pub(crate) fn callable_name(name: &str) -> SmolStr {
    format_smolstr!("{SERVER}_{}", plain_name(name))
}

/// The authenticated identity of a caller, which owns snippets; none without authentication.
pub(crate) fn proven(caller: &Caller) -> Option<SmolStr> {
    let by_kernel = caller.process.as_ref().is_some_and(|process| process.user.is_some());
    (caller.method != AuthMethod::None || by_kernel).then(|| owner(caller))
}

impl Shelved {
    fn of(kept: &KeptSnippet) -> Option<Arc<Self>> {
        let snippet = kept.snippet.clone();
        let entry = match entry_of(&snippet) {
            Ok(entry) => entry,
            Err(why) => {
                tracing::error!(snippet = %snippet.name, version = snippet.version, %why, "an approved snippet cannot be offered");
                return None;
            }
        };
        let saved = SavedSnippet { name: snippet.name.as_str().into(), version: snippet.version, sha256: kept.digest.as_str().into() };
        Some(Arc::new(Self { callable: callable_name(&snippet.name), saved: Arc::new(saved), snippet, entry }))
    }

    /// True if it is for this caller.
    pub fn is_for(&self, caller: &Caller) -> bool {
        match &self.snippet.audience {
            SnippetAudience::Owner => proven(caller).is_some_and(|proven| proven == self.snippet.owner),
            SnippetAudience::Group(group) => caller.groups.iter().any(|name| name == group),
            SnippetAudience::Portal => true,
        }
    }
}

/// The approved snippets at a moment: of each, the newest approved version. Those for one come first, then those for groups.
pub(crate) type Approved = Arc<Vec<Arc<Shelved>>>;

/// Proposals that are kept at the same time, of all and of one caller: each reads what stands in the journal.
const SAVING: Bounds = Bounds { all: 4, each: 1, times_free: 0 };
/// Most that wait for that, and how long.
const WAITING: usize = 64;
const PATIENCE: Duration = Duration::from_secs(10);

/// The snippets of all portals of a gnomon.
pub struct Shelf {
    decided: Decided,
    saving: Turns,
    /// The approved snippets, and the digests that they were made of.
    approved: ArcSwap<(Vec<String>, Approved)>,
}

impl Shelf {
    /// A shelf with nothing on it, whose proposals go into this journal.
    #[must_use]
    pub fn new(decided: Decided) -> Arc<Self> {
        Arc::new(Self { decided, saving: Turns::of(SAVING, WAITING, PATIENCE), approved: ArcSwap::default() })
    }

    /// Puts what is approved at this moment on the shelf, and takes all else off: for the next script of everybody.
    pub fn replace(&self, approved: &[KeptSnippet], now_ms: i64) {
        let mut newest: HashMap<(&str, &SnippetAudience, Option<&str>, String), &KeptSnippet> = HashMap::new();
        for kept in approved.iter().filter(|kept| kept.state_at(now_ms) == Some(Review::Approved)) {
            let Snippet { portal, audience, name, owner, version, .. } = &kept.snippet;
            let whose = (*audience == SnippetAudience::Owner).then_some(owner.as_str());
            match newest.entry((portal, audience, whose, plain_name(name))) {
                hash_map::Entry::Occupied(mut there) if there.get().snippet.version < *version => drop(there.insert(kept)),
                hash_map::Entry::Occupied(_) => {}
                hash_map::Entry::Vacant(place) => drop(place.insert(kept)),
            }
        }
        let mut newest: Vec<&KeptSnippet> = newest.into_values().collect();
        newest.sort_by(|a, b| (&a.snippet.audience, &a.snippet.name, &a.digest).cmp(&(&b.snippet.audience, &b.snippet.name, &b.digest)));
        let before = self.approved.load();
        if before.0.iter().eq(newest.iter().map(|kept| &kept.digest)) {
            return;
        }
        let known = |kept: &&KeptSnippet| before.1.iter().find(|shelved| shelved.saved.sha256 == kept.digest).cloned();
        let shelved: Approved = Arc::new(newest.iter().filter_map(|kept| known(kept).or_else(|| Shelved::of(kept))).collect());
        self.approved.store(Arc::new((newest.iter().map(|kept| kept.digest.clone()).collect(), shelved)));
    }

    pub(crate) fn approved(&self) -> Approved {
        self.approved.load().1.clone()
    }

    /// Takes a turn at the journal.
    ///
    /// # Errors
    /// Too many save at the same time.
    pub(crate) async fn journal(&self, caller: &Caller) -> Result<(&Decided, Share), Refused> {
        let turn = self.saving.take(&owner(caller).as_str().into()).await?;
        Ok((&self.decided, turn))
    }
}
