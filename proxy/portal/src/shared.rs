//! Sessions with servers of the older era on behalf of clients of the stateless one: one for each caller,
//! server, and set of capabilities, kept while it is used. Where there is no room for another, one of whoever has the most goes.

use crate::{
    held::Upstream,
    shares::{self, Amount, Shares},
};
use gnomon_access::Caller;
use gnomon_upstream::{Client, LegacySession, UpstreamError};
use smol_str::SmolStr;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Most sessions.
const MOST: usize = 1024;
/// Most bytes of what their clients say of themselves.
const MOST_BYTES: usize = 4 << 20;
/// How long an unused one is kept.
const IDLE: Duration = Duration::from_secs(10 * 60);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    caller: SmolStr,
    server: SmolStr,
    client: Client,
}

#[derive(Clone)]
struct Kept {
    session: Arc<LegacySession>,
    used: Instant,
    holder: SmolStr,
}

struct Table {
    kept: HashMap<Key, Kept>,
    shares: Shares,
}

impl Table {
    fn remove(&mut self, key: &Key) -> Option<Kept> {
        let removed = self.kept.remove(key)?;
        self.shares.remove(&removed.holder, key.client.bytes());
        Some(removed)
    }

    /// Takes those out that are meant.
    fn take(&mut self, is: impl Fn(&Kept) -> bool) -> Vec<Arc<LegacySession>> {
        let keys: Vec<Key> = self.kept.iter().filter(|(_, kept)| is(kept)).map(|(key, _)| key.clone()).collect();
        keys.iter().filter_map(|key| self.remove(key)).map(|kept| kept.session).collect()
    }

    fn surplus(&mut self) -> Option<Kept> {
        let holder = self.shares.too_much()?;
        let oldest = self.kept.iter().filter(|(_, kept)| kept.holder == holder).min_by_key(|(_, kept)| kept.used);
        let key = oldest.map(|(key, _)| key.clone())?;
        self.remove(&key)
    }
}

/// The sessions.
pub struct SharedSessions(Mutex<Table>);

impl SharedSessions {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(Table { kept: HashMap::new(), shares: Shares::of(Amount { count: MOST, bytes: MOST_BYTES }) }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller's session with a server, opened if need be.
    ///
    /// # Errors
    /// When the server refuses or is not there.
    pub async fn get(&self, caller: &Caller, server: &Upstream, client: &Client) -> Result<Arc<LegacySession>, UpstreamError> {
        let key = Key { caller: caller.subject.clone(), server: server.id.clone(), client: client.clone() };
        if let Some(kept) = self.table().kept.get_mut(&key).filter(|kept| !kept.session.is_closed()) {
            kept.used = Instant::now();
            return Ok(kept.session.clone());
        }
        server.check()?;
        let session = server.open_session(client).await?;
        let (kept, evicted) = {
            let mut table = self.table();
            // Two may have opened one at the same time; both use the one that is kept.
            let kept = match table.kept.get_mut(&key) {
                Some(kept) if !kept.session.is_closed() => kept.session.clone(),
                Some(kept) => {
                    kept.session = session.clone();
                    session.clone()
                }
                None => {
                    let holder = shares::owner(caller);
                    table.shares.add(&holder, key.client.bytes());
                    table.kept.insert(key, Kept { session: session.clone(), used: Instant::now(), holder });
                    session.clone()
                }
            };
            (kept, table.surplus())
        };
        if !Arc::ptr_eq(&kept, &session) {
            session.close().await;
        }
        if let Some(evicted) = evicted {
            evicted.session.close().await;
        }
        Ok(kept)
    }

    /// A server forgot this session.
    pub fn forget(&self, gone: &Arc<LegacySession>) {
        self.table().take(|kept| Arc::ptr_eq(&kept.session, gone));
    }

    /// Ends those that are no longer used, for ever.
    pub async fn sweep(&self) {
        loop {
            tokio::time::sleep(IDLE / 4).await;
            let stale = self.table().take(|kept| kept.used.elapsed() >= IDLE);
            for session in stale {
                session.close().await;
            }
        }
    }
}

impl Default for SharedSessions {
    fn default() -> Self {
        Self::new()
    }
}
