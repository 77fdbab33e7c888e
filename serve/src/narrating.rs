//! Detections on standard output while gnomon runs.

use anyhow::Result;
use gnomon_cli::line;
use gnomon_config::Packs;
use gnomon_ledger::{EventFilter, Follow, ReadError, Reader, StoredEvent};
use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// The pause before a ledger that cannot be read is tried again.
const TRIED_AGAIN: Duration = Duration::from_secs(5);

/// The text on standard output while gnomon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narration {
    /// No output.
    Silent,
    /// A line for each detection.
    Lines,
    /// Each detection as JSON.
    Json,
}

/// A hint for a person at a terminal to the packs that are off because nobody chose any; nothing for a log.
pub fn hint(packs: &Packs) -> String {
    let off = packs.worth_turning_on();
    if off.is_empty() || !io::stderr().is_terminal() {
        return String::new();
    }
    let found: Vec<String> = off.iter().map(|pack| format!("{} ({})", pack.name, pack.finds.unwrap_or_default())).collect();
    let names: Vec<&str> = off.iter().map(|pack| pack.name).collect();
    format!("  off       packs {}; they are turned on by --packs builtin,{}\n", found.join(", "), names.join(","))
}

/// Shows detections as they become durable. It reads the ledger like any other reader, so a slow
/// terminal holds nothing up. A ledger that cannot be read is tried again.
///
/// # Errors
/// Nothing can be written to standard output.
pub async fn narrate(ledger: PathBuf, narration: Narration) -> Result<()> {
    if narration == Narration::Silent {
        return Ok(());
    }
    let mut follow = None;
    let mut told = false;
    loop {
        let events = match next(&mut follow, &ledger).await {
            Ok(events) => events,
            Err(error) => {
                if !told {
                    tracing::warn!("detections are not shown while the ledger cannot be read: {error}");
                }
                told = true;
                tokio::time::sleep(TRIED_AGAIN).await;
                continue;
            }
        };
        told = false;
        let mut out = io::stdout().lock();
        for event in events {
            match narration {
                Narration::Json => writeln!(out, "{}", event.json)?,
                Narration::Lines | Narration::Silent => writeln!(out, "{}", line::with_id(&event.json))?,
            }
        }
        out.flush()?;
    }
}

/// The next detections of the ledger, which is opened if it was not.
async fn next(follow: &mut Option<Follow>, ledger: &Path) -> Result<Vec<StoredEvent>, ReadError> {
    let open = match follow.take() {
        Some(open) => open,
        None => {
            let filter = EventFilter { kinds: vec!["alert".to_owned(), "signal".to_owned()], ..EventFilter::default() };
            Reader::open(ledger).await?.follow(filter, None).await?
        }
    };
    follow.insert(open).next().await
}
