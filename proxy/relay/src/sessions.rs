//! All sessions of a portal: how many there may be, whose shares of them they are, and for how long they are kept.

use crate::{
    acts::Acts,
    gate::Gate,
    held::Upstream,
    session::Session,
    telling::{Telling, at_once},
};
use gnomon_access::Caller;
use gnomon_shares::{Amount, Yielding};
use gnomon_upstream::Client;
use parking_lot::Mutex;
use smol_str::SmolStr;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::task::JoinSet;

/// Most bytes that all sessions of a portal may take, those counted with what their clients say of themselves.
const MOST_BYTES: usize = 128 << 20;
/// The part of a share that is evicted at once when there is no room: finding the oldest takes time.
const PART: usize = 64;

/// The number of unused sessions that are ended at a time.
const CLOSED_AT_A_TIME: usize = 64;

/// The bounds on the number of sessions and their lifetime.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// Most sessions; beyond it those of the caller with most are evicted, longest unused first.
    pub most: usize,
    /// The time for which an unused session is kept.
    pub idle: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { most: 100_000, idle: Duration::from_secs(24 * 60 * 60) }
    }
}

/// The sessions of a portal.
pub struct Sessions {
    table: Mutex<Table>,
    faces: Mutex<HashMap<Arc<Client>, ()>>,
    limits: SessionLimits,
    acts: Option<Arc<Acts>>,
    gate: Arc<Gate>,
}

struct Table {
    sessions: HashMap<SmolStr, Arc<Session>>,
    shares: Yielding,
}

impl Table {
    fn insert(&mut self, session: Arc<Session>) {
        self.shares.add(&session.holder, session.bytes());
        self.sessions.insert(session.id.clone(), session);
    }

    fn remove(&mut self, id: &str) -> Option<Arc<Session>> {
        let removed = self.sessions.remove(id)?;
        self.shares.remove(&removed.holder, removed.bytes());
        Some(removed)
    }

    /// Takes out what there is no room for.
    fn surplus(&mut self) -> Vec<Arc<Session>> {
        let mut gone = Vec::new();
        while let Some(holder) = self.shares.too_much() {
            let mut own: Vec<_> =
                self.sessions.values().filter(|session| session.holder == holder).map(|s| (s.idle(), s.id.clone())).collect();
            own.sort_unstable_by(|a, b| b.cmp(a));
            let part = own.len().div_ceil(PART);
            if part == 0 {
                break;
            }
            gone.extend(own.iter().take(part).filter_map(|(_, id)| self.remove(id)));
        }
        gone
    }
}

impl Sessions {
    /// No sessions yet.
    #[must_use]
    pub fn new(limits: SessionLimits, acts: Option<Arc<Acts>>, gate: Arc<Gate>) -> Self {
        let shares = Yielding::of(Amount { count: limits.most, bytes: MOST_BYTES });
        Self { table: Mutex::new(Table { sessions: HashMap::new(), shares }), faces: Mutex::default(), limits, acts, gate }
    }

    /// Begins one. If there is no room for it, others of the caller with most are evicted.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn begin(&self, owner: &Caller, client: Client) -> Result<Arc<Session>, getrandom::Error> {
        let session = Arc::new(Session::new(owner, self.face(client), self.gate.clone())?);
        let surplus = {
            let mut table = self.table.lock();
            table.insert(session.clone());
            table.surplus()
        };
        if !surplus.is_empty() {
            let acts = self.acts.clone();
            tokio::spawn(async move {
                for session in surplus {
                    session.close(acts.as_ref()).await;
                }
            });
        }
        Ok(session)
    }

    /// Thousands of sessions are begun by few programs: what those say of themselves is kept once.
    fn face(&self, client: Client) -> Arc<Client> {
        /// Most programs that are remembered.
        const MOST: usize = 4096;
        let mut faces = self.faces.lock();
        if let Some((known, ())) = faces.get_key_value(&client) {
            return known.clone();
        }
        let client = Arc::new(client);
        if faces.len() >= MOST {
            faces.retain(|face, ()| Arc::strong_count(face) > 1);
        }
        if faces.len() < MOST {
            faces.insert(client.clone(), ());
        }
        client
    }

    /// The session of that id, for the caller that began it only.
    #[must_use]
    pub fn find(&self, id: &str, caller: &Caller) -> Option<Arc<Session>> {
        let session = self.table.lock().sessions.get(id).filter(|session| session.owner == caller.subject).cloned()?;
        session.touch();
        Some(session)
    }

    /// Ends a session, on servers too.
    pub async fn end(&self, session: &Session) {
        let removed = self.table.lock().remove(&session.id);
        if let Some(removed) = removed {
            removed.close(self.acts.as_ref()).await;
        }
    }

    /// Ends what sessions have open with a server. The sessions stay.
    pub async fn part_with(&self, gone: &Arc<Upstream>) {
        let all: Vec<_> = self.table.lock().sessions.values().filter(|session| session.has_open(gone)).cloned().collect();
        for some in all.chunks(CLOSED_AT_A_TIME) {
            let part = |session: &Arc<Session>| {
                let (session, gone) = (session.clone(), gone.clone());
                Box::pin(async move { session.part_with(&gone).await }) as Telling
            };
            at_once(some.iter().map(part).collect()).await;
        }
    }

    /// Ends those that were not used for too long, for ever.
    pub async fn sweep(&self) {
        let pause = (self.limits.idle / 4).clamp(Duration::from_secs(1), Duration::from_secs(60));
        loop {
            tokio::time::sleep(pause).await;
            let stale: Vec<_> = {
                let mut table = self.table.lock();
                let stale: Vec<_> = table.sessions.values().filter(|session| session.idle() >= self.limits.idle).cloned().collect();
                stale.iter().for_each(|session| drop(table.remove(&session.id)));
                if !stale.is_empty() {
                    table.sessions.shrink_to_fit();
                }
                stale
            };
            // Many at a time: each may have a server that is waited for.
            for some in stale.chunks(CLOSED_AT_A_TIME) {
                let mut closing: JoinSet<()> = JoinSet::new();
                for session in some {
                    let (session, acts) = (session.clone(), self.acts.clone());
                    closing.spawn(async move { session.close(acts.as_ref()).await });
                }
                while closing.join_next().await.is_some() {}
            }
        }
    }

    /// Removes one that has only begun, and whose id was not sent yet.
    pub fn forget(&self, session: &Session) {
        self.table.lock().remove(&session.id);
    }

    /// gnomon stops: all sessions end, for the audit. Servers are left to find out, as there may be any number of them.
    pub async fn end_all(&self) {
        let all: Vec<_> = self.table.lock().sessions.drain().map(|(_, session)| session).collect();
        if let Some(acts) = &self.acts {
            let all: Vec<_> = all.iter().map(|session| session.audited()).collect();
            acts.all_sessions_end(&all).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_access::{AuthMethod, Policy};

    #[tokio::test]
    async fn seven_others_have_their_sessions_although_one_caller_has_taken_all() {
        const MOST: usize = 640;
        let policy = Policy::parse("[]", "policy.yml").unwrap();
        let gate = Gate::new("main".into(), Arc::new(policy));
        let sessions = Sessions::new(SessionLimits { most: MOST, idle: Duration::from_secs(60) }, None, gate);
        let client = || Client::new(bytes::Bytes::from_static(b"{}"), bytes::Bytes::from_static(b"{}"), "2025-11-25".into());
        let caller = |name: &str| {
            let anybody = Caller::anonymous("127.0.0.1".parse().unwrap());
            Caller { method: AuthMethod::Token, subject: name.into(), ..anybody }
        };
        let greedy = caller("greedy");
        (0..2 * MOST).for_each(|_| drop(sessions.begin(&greedy, client()).unwrap()));
        for number in 0..7 {
            let other = caller(&format!("other {number}"));
            let own: Vec<_> = (0..MOST / 8).map(|_| sessions.begin(&other, client()).unwrap().id.clone()).collect();
            assert!(own.iter().all(|id| sessions.find(id, &other).is_some()), "{number} has its eighth");
        }
        assert!(sessions.table.lock().sessions.len() <= MOST);
        let own = sessions.table.lock().sessions.values().filter(|session| session.owner == "greedy").count();
        assert!(own > 0 && own <= MOST / 8, "{own}");
    }
}
