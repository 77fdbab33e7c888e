//! A store that waits for room: where the disk is full as gnomon starts, its database is opened once there is some. Until then nothing is kept, which
//! the writer counts as lost, as it does where the disk fills while gnomon runs.

use gnomon_kit::Later;
use gnomon_ledger_model::{
    FirstSeen, Forgotten, Group, Keep, Store, StoreError, Stored,
    volume::{Pair, Volume},
};
use gnomon_ledger_sqlite::SqliteStore;
use std::{ops::Range, path::PathBuf};

/// The database, once it could be opened.
pub(crate) struct WaitingStore(Later<SqliteStore, StoreError>);

impl WaitingStore {
    pub(crate) fn new(path: PathBuf, keep: Keep) -> Self {
        Self(Later::waiting(Box::new(move || {
            let path = path.clone();
            Box::pin(async move {
                let store = SqliteStore::open(&path, keep).await.map_err(StoreError::refused)?;
                tracing::info!("there is room again: events are kept from now on");
                Ok(store)
            })
        })))
    }
}

impl Store for WaitingStore {
    fn append<'a>(&'a mut self, group: &'a Group, now_ms: i64) -> Stored<'a, FirstSeen> {
        Box::pin(async move { self.0.get().await?.append(group, now_ms).await })
    }

    fn forget(&mut self, now_ms: i64) -> Stored<'_, ()> {
        Box::pin(async move { self.0.get().await?.forget(now_ms).await })
    }

    fn forgotten(&self) -> Forgotten {
        self.0.as_ref().map(Store::forgotten).unwrap_or_default()
    }

    fn newest_ms(&mut self) -> Stored<'_, Option<i64>> {
        Box::pin(async move { self.0.get().await?.newest_ms().await })
    }

    fn is_in_place(&self) -> bool {
        self.0.as_ref().is_none_or(Store::is_in_place)
    }

    fn begin_anew(&mut self) -> Stored<'_, ()> {
        Box::pin(async move { self.0.get().await?.begin_anew().await })
    }

    fn oldest_hour(&mut self, from: i64) -> Stored<'_, Option<i64>> {
        Box::pin(async move { self.0.get().await?.oldest_hour(from).await })
    }

    fn busiest(&mut self, hour: i64, told_after: i64, limit: usize) -> Stored<'_, Vec<(Pair, Volume)>> {
        Box::pin(async move { self.0.get().await?.busiest(hour, told_after, limit).await })
    }

    fn hours<'a>(&'a mut self, pair: Option<&'a Pair>, hours: Range<i64>) -> Stored<'a, Vec<(i64, Volume)>> {
        Box::pin(async move { self.0.get().await?.hours(pair, hours).await })
    }

    fn tell<'a>(&'a mut self, pair: &'a Pair, hour: i64) -> Stored<'a, ()> {
        Box::pin(async move { self.0.get().await?.tell(pair, hour).await })
    }

    fn forget_hours(&mut self, before: i64) -> Stored<'_, ()> {
        Box::pin(async move { self.0.get().await?.forget_hours(before).await })
    }

    fn close(self: Box<Self>) -> Stored<'static, ()> {
        Box::pin(async move {
            match self.0.into_inner() {
                Some(store) => Box::new(store).close().await,
                None => Ok(()),
            }
        })
    }
}
