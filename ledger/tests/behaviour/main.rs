//! The ledger seen from outside: what is acknowledged stays, what is bounded stays bounded, what is
//! asked is answered. One test binary.
#![allow(clippy::unwrap_used)]

mod bounds;
mod durability;
mod questions;
mod snippets;
mod stories;
mod volume;

use gnomon_ledger::{Event, EventFilter, JsonlTarget, Ledger, LedgerOptions, Order, Reader, Recorded, StoredEvent, Writer};
use gnomon_observe::{Field, Observation};
use std::path::{Path, PathBuf};

/// A state folder with a ledger in it.
struct State {
    dir: tempfile::TempDir,
}

impl State {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }
    fn path(&self) -> PathBuf {
        database(self.dir.path())
    }
    fn jsonl(&self) -> PathBuf {
        lines(self.dir.path())
    }
    fn options(&self) -> LedgerOptions {
        options(self.dir.path())
    }
    async fn open(&self) -> (Ledger, Writer) {
        Ledger::open(self.options()).await.unwrap()
    }
    async fn reader(&self) -> Reader {
        Reader::open(&self.path()).await.unwrap()
    }
    async fn all(&self) -> Vec<StoredEvent> {
        self.reader().await.events(&EventFilter { limit: 10_000, ..Default::default() }, Order::OldestFirst).await.unwrap()
    }
}

fn database(dir: &Path) -> PathBuf {
    dir.join("ledger.sqlite")
}

fn lines(dir: &Path) -> PathBuf {
    dir.join("events.jsonl")
}

fn options(dir: &Path) -> LedgerOptions {
    let mut options = LedgerOptions::new(database(dir));
    options.jsonl = JsonlTarget::File(lines(dir));
    options
}

/// A tools/call to `server`, told apart by its number.
fn call(server: &str, number: i64) -> Observation {
    let mut seen = Observation::new();
    seen.set(Field::ServerAddress, server);
    seen.set(Field::ServerPort, 443_i64);
    seen.set(Field::UrlPath, "/mcp");
    seen.set(Field::McpMethod, "tools/call");
    seen.set(Field::ToolName, "read_file");
    seen.set(Field::Confidence, "confirmed");
    seen.set(Field::Channel, "https");
    seen.set(Field::RpcId, number.to_string());
    seen
}

fn record(ledger: &Ledger, seen: Observation) {
    assert_eq!(ledger.record(Event::now(seen)), Recorded::Queued);
}

fn parse(event: &StoredEvent) -> serde_json::Value {
    serde_json::from_str(&event.json).unwrap()
}
