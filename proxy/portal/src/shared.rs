//! Sessions with servers of the older era on behalf of clients of the stateless one: one for each caller,
//! server, and set of capabilities, kept while it is used.

use crate::upstream::{Client, LegacySession, Upstream, UpstreamError};
use smol_str::SmolStr;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Most sessions.
const MOST: usize = 1024;
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
}

/// The sessions.
pub struct SharedSessions(Mutex<HashMap<Key, Kept>>);

impl SharedSessions {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::default())
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller's session with a server, opened if need be.
    ///
    /// # Errors
    /// When the server refuses or is not there.
    pub async fn get(&self, caller: &str, server: &Upstream, client: &Client) -> Result<Arc<LegacySession>, UpstreamError> {
        let key = Key { caller: caller.into(), server: server.id.clone(), client: client.clone() };
        if let Some(kept) = self.table().get_mut(&key).filter(|kept| !kept.session.is_closed()) {
            kept.used = Instant::now();
            return Ok(kept.session.clone());
        }
        server.check()?;
        let session = server.open_session(client).await?;
        let mut evicted = None;
        let kept = {
            let mut table = self.table();
            if table.len() >= MOST {
                let oldest = table.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
                evicted = oldest.and_then(|oldest| table.remove(&oldest));
            }
            // Two may have opened one at the same time; both use the one that is kept.
            let kept = table.entry(key).or_insert_with(|| Kept { session: session.clone(), used: Instant::now() });
            if kept.session.is_closed() {
                kept.session = session.clone();
            }
            kept.session.clone()
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
        self.table().retain(|_, kept| !Arc::ptr_eq(&kept.session, gone));
    }

    /// Ends those that are no longer used, for ever.
    pub async fn sweep(&self) {
        loop {
            tokio::time::sleep(IDLE / 4).await;
            let stale: Vec<_> = {
                let mut table = self.table();
                let stale = table.values().filter(|kept| kept.used.elapsed() >= IDLE).map(|kept| kept.session.clone()).collect();
                table.retain(|_, kept| kept.used.elapsed() < IDLE);
                stale
            };
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
