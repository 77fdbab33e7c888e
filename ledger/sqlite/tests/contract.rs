//! The tests that every database of the ledger must pass, against SQLite.
#![allow(clippy::unwrap_used)]

use gnomon_ledger_contract::{Engine, decisions::Journal};
use gnomon_ledger_model::{Decisions, Keep, LedgerReader, Store};
use gnomon_ledger_sqlite::{SqliteDecisions, SqliteReader, SqliteStore};
use std::path::PathBuf;

struct File {
    dir: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ledger.sqlite")
    }
}

impl Engine for File {
    async fn store(&self, keep: Keep) -> Box<dyn Store> {
        Box::new(SqliteStore::open(&self.path(), keep).await.unwrap())
    }

    async fn reader(&self) -> Box<dyn LedgerReader> {
        Box::new(SqliteReader::open(&self.path()).await.unwrap())
    }

    fn lose(&self) {
        std::fs::rename(self.path(), self.path().with_file_name("elsewhere.sqlite")).unwrap();
    }
}

gnomon_ledger_contract::contract!(File::new());

impl Journal for File {
    async fn decisions(&self) -> Box<dyn Decisions> {
        Box::new(SqliteDecisions::open(&self.path().with_file_name("decisions.sqlite")).await.unwrap())
    }
}

gnomon_ledger_contract::contract_of_decisions!(File::new());
