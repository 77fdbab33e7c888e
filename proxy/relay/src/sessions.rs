//! All sessions of a portal: how many there may be, whose shares of them they are, and for how long they are kept.
//!
//! A session that ends, whatever the cause, owes the audit a record. It is in the table, or among those that have ended, until that
//! record is in the audit's queue, so a stop at any moment finds it. Servers are told after that, which may take long.

use crate::{
    acts::{Acts, ENDS_AT_A_TIME},
    gate::Gate,
    held::Upstream,
    session::Session,
    telling::{Telling, at_once},
};
use gnomon_access::Caller;
use gnomon_http::server::Tasks;
use gnomon_shares::{Amount, Yielding};
use gnomon_upstream::Client;
use parking_lot::Mutex;
use prometheus::IntGauge;
use smol_str::SmolStr;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, MissedTickBehavior, interval_at},
};

/// Most bytes that all sessions of a portal may take, those counted with what their clients say of themselves.
const MOST_BYTES: usize = 128 << 20;
/// … or one in so many of those that this process may have.
const PART_OF_LIMIT: u64 = 16;
/// The part of a share that is evicted at once when there is no room: finding the oldest takes time.
const PART: usize = 64;

/// The number of sessions whose ends servers are told at a time.
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
    /// Some have ended for others, and are to be recorded.
    some_ended: Notify,
    /// Tells servers that sessions have ended.
    closing: Tasks,
}

struct Table {
    sessions: HashMap<SmolStr, Arc<Session>>,
    shares: Yielding,
    /// Sessions that have ended and are not recorded yet.
    ended: VecDeque<Arc<Session>>,
    /// The metric of how many there are.
    number: Option<IntGauge>,
}

impl Table {
    fn show_number(&self) {
        if let Some(number) = &self.number {
            number.set(i64::try_from(self.sessions.len()).unwrap_or(i64::MAX));
        }
    }

    fn insert(&mut self, session: Arc<Session>) {
        self.shares.add(&session.holder, session.bytes());
        self.sessions.insert(session.id.clone(), session);
        self.show_number();
    }

    fn remove(&mut self, id: &str) -> Option<Arc<Session>> {
        let removed = self.sessions.remove(id)?;
        self.shares.remove(&removed.holder, removed.bytes());
        self.show_number();
        Some(removed)
    }

    /// Ends a session that is to be recorded.
    fn ends(&mut self, id: &str) {
        let removed = self.remove(id);
        self.ended.extend(removed);
    }

    /// Ends those that there is no room for.
    fn make_room(&mut self) {
        while let Some(holder) = self.shares.too_much() {
            let mut own: Vec<_> =
                self.sessions.values().filter(|session| session.holder == holder).map(|s| (s.idle(), s.id.clone())).collect();
            own.sort_unstable_by(|a, b| b.cmp(a));
            let part = own.len().div_ceil(PART);
            if part == 0 {
                break;
            }
            own.iter().take(part).for_each(|(_, id)| self.ends(id));
        }
    }
}

impl Sessions {
    /// No sessions yet.
    #[must_use]
    pub fn new(limits: SessionLimits, acts: Option<Arc<Acts>>, gate: Arc<Gate>) -> Self {
        let shares = Yielding::of(Amount { count: limits.most, bytes: gnomon_memory::part(MOST_BYTES, PART_OF_LIMIT) });
        let table = Table { sessions: HashMap::new(), shares, ended: VecDeque::new(), number: None };
        Self { table: Mutex::new(table), faces: Mutex::default(), limits, acts, gate, some_ended: Notify::new(), closing: Tasks::default() }
    }

    /// Shows how many there are in this metric.
    #[must_use]
    pub fn shown_in(self, number: Option<IntGauge>) -> Self {
        self.table.lock().number = number;
        self
    }

    /// Begins one. If there is no room for it, others of the caller with most are evicted.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn begin(&self, owner: &Caller, client: Client) -> Result<Arc<Session>, getrandom::Error> {
        let session = Arc::new(Session::new(owner, self.face(client), self.gate.clone())?);
        let overdue: Vec<_> = {
            let mut table = self.table.lock();
            table.insert(session.clone());
            table.make_room();
            // The audit is slower than sessions begin: it takes these now, or counts them as lost.
            let overdue = table.ended.len().saturating_sub(self.limits.most);
            if !table.ended.is_empty() {
                self.some_ended.notify_one();
            }
            table.ended.drain(..overdue).collect()
        };
        if let Some(acts) = &self.acts {
            overdue.iter().for_each(|session| acts.session_ended(&session.audited()));
        }
        drop(self.close(overdue));
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

    /// Ends a session, on servers too. Dropped before it completes, it goes on with both.
    pub async fn end(&self, session: &Session) {
        let Some(removed) = self.table.lock().remove(&session.id) else { return };
        let audited = removed.audited();
        // The first poll of this has it in the audit's queue.
        let recorded = async {
            if let Some(acts) = &self.acts {
                acts.session_ends(&audited).await;
            }
        };
        tokio::join!(recorded, async { self.close(vec![removed]).await });
    }

    /// Tells servers that these have ended; completes once they were, as long as that is waited for.
    fn close(&self, ended: Vec<Arc<Session>>) -> impl Future<Output = ()> + use<> {
        let (over, closed) = oneshot::channel();
        let open: Vec<_> = ended.into_iter().filter(|session| session.is_anywhere()).collect();
        if !open.is_empty() {
            self.closing.spawn(async move {
                for some in open.chunks(CLOSED_AT_A_TIME) {
                    at_once(some.iter().flat_map(|session| session.farewells()).collect()).await;
                }
                let _ = over.send(());
            });
        }
        async {
            // A sender that is gone counts as the end.
            let _ = closed.await;
        }
    }

    /// Has those that have ended recorded, and gives them to `recorded` after that.
    async fn settle(&self, recorded: impl Fn(Vec<Arc<Session>>)) {
        loop {
            let some: Vec<_> = {
                let mut table = self.table.lock();
                let count = table.ended.len().min(ENDS_AT_A_TIME);
                table.ended.drain(..count).collect()
            };
            if some.is_empty() {
                return;
            }
            if let Some(acts) = &self.acts {
                let audited: Vec<_> = some.iter().map(|session| session.audited()).collect();
                // Its first poll has them in the audit's queue: none of them is lost if this is dropped.
                acts.sessions_end(&audited).await;
            }
            recorded(some);
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

    /// Ends those that were not used for too long, and has those recorded that have ended for others, for ever.
    pub async fn sweep(&self) {
        let pause = (self.limits.idle / 4).clamp(Duration::from_secs(1), Duration::from_secs(60));
        let mut looks = interval_at(Instant::now() + pause, pause);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.some_ended.notified() => {}
                _ = looks.tick() => self.expire(),
            }
            self.settle(|ended| drop(self.close(ended))).await;
        }
    }

    fn expire(&self) {
        let mut table = self.table.lock();
        let is_stale = |session: &&Arc<Session>| session.idle() >= self.limits.idle;
        let stale: Vec<_> = table.sessions.values().filter(is_stale).map(|session| session.id.clone()).collect();
        stale.iter().for_each(|id| table.ends(id));
        if !stale.is_empty() {
            table.sessions.shrink_to_fit();
        }
    }

    /// Removes one that has only begun, and whose id was not sent yet.
    pub fn forget(&self, session: &Session) {
        self.table.lock().remove(&session.id);
    }

    /// gnomon stops: all sessions end, for the audit. Servers are left to find out, as there may be any number of them.
    pub async fn end_all(&self) {
        {
            let mut table = self.table.lock();
            let all: Vec<_> = table.sessions.keys().cloned().collect();
            all.iter().for_each(|id| table.ends(id));
        }
        self.settle(drop).await;
        self.closing.cut_off().await;
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
