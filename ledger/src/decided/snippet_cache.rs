//! The saved copy of a shared journal's approved snippets, `snippets.cache`: a line of JSON for each. What may run on this host while the
//! journal is away, also after a restart. A line is believed as far as its SHA-256 is that of what it says.

use super::snippets::KeptSnippet;
use gnomon_ledger_model::{DecisionEntry, KeptEntry, SnippetDecision, SnippetEntry, Topic};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Longest file that is read, bytes: more than the journal takes.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Line {
    at_ms: i64,
    body: String,
    decision: SnippetDecision,
}

fn cached_in(state_dir: &Path) -> PathBuf {
    state_dir.join("snippets.cache")
}

/// Saves them. Whole or not at all; no file where there is none and never was.
pub(super) fn recall(state_dir: &Path, approved: &[KeptSnippet]) -> io::Result<()> {
    let path = cached_in(state_dir);
    if approved.is_empty() && fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    let mut text = Vec::new();
    for kept in approved {
        let Some(decision) = kept.decision.clone() else { continue };
        serde_json::to_writer(&mut text, &Line { at_ms: kept.at_ms, body: kept.snippet.sealed().0, decision })?;
        text.push(b'\n');
    }
    let draft = state_dir.join("snippets.draft");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(libc::O_NOFOLLOW).mode(0o640).open(&draft)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(draft, path)
}

/// The saved snippets; none where there are none, or they cannot be read, which is logged.
pub(super) fn remembered(state_dir: &Path) -> Vec<KeptSnippet> {
    match read(state_dir) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::error!(%error, "snippets that were approved cannot be read; none is in force until the shared journal can be read");
            Vec::new()
        }
    }
}

fn read(state_dir: &Path) -> io::Result<Vec<KeptSnippet>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(cached_in(state_dir))?;
    let mut text = Vec::new();
    if file.metadata()?.is_file() {
        file.take(MAX_BYTES).read_to_end(&mut text)?;
    }
    Ok(text.split(|byte| *byte == b'\n').filter_map(kept).collect())
}

fn kept(line: &[u8]) -> Option<KeptSnippet> {
    let Line { at_ms, body, decision } = serde_json::from_slice(line).ok()?;
    let (by, subject, bytes) = (decision.by.clone(), decision.digest.clone(), body.len());
    let entry = DecisionEntry { topic: Topic::Snippet, subject, at_ms, by, reason: None, body: Some(body), origin: None };
    match (KeptEntry { number: 0, entry }).snippet() {
        Ok(Some(SnippetEntry::Proposed(snippet))) => Some(KeptSnippet::recalled(snippet, at_ms, decision, bytes)),
        Ok(_) | Err(_) => None,
    }
}
