//! Sessions with servers of the older era on behalf of clients of the stateless one: one for each caller,
//! server, and set of capabilities, kept while it is used. If there is no room for another, one of the caller with most is evicted.
//!
//! A server's question does not name the call that it is for. So a client that can be asked has a session for each of a
//! few calls at a time: the one in progress there is the one that it asks for. If more are in progress than there are
//! sessions, the server gets an error, as the client to ask is unknown.

use crate::{
    gate::Gate,
    hearing::Hearing,
    held::Upstream,
    judged::Whose,
    logs::{LOGGED, LogLevel},
    owed::Cleared,
    saying::LevelRequest,
    shares,
    telling::{Telling, beside},
};
use bytes::Bytes;
use gnomon_access::Caller;
use gnomon_shares::{Amount, Yielding};
use gnomon_upstream::{
    Client, LegacySession, Owner, Scope, UpstreamError,
    members::Members,
    rpc::{INTERNAL_ERROR, Id, METHOD_NOT_FOUND, Message, Outcome, Request, RpcError},
};
use parking_lot::{Mutex, MutexGuard};
use smol_str::SmolStr;
use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Most sessions.
const MOST: usize = 1024;
/// Most of them for one caller with one server, where it can be asked.
const MOST_AT_A_TIME: usize = 4;
/// Most bytes of what their clients say of themselves.
const MOST_BYTES: usize = 4 << 20;
/// The time for which an unused one is kept.
const IDLE: Duration = Duration::from_secs(10 * 60);
/// The most unsolicited messages of a server that its call has not heard.
const UNHEARD: usize = 64;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    caller: SmolStr,
    /// The number of the server.
    server: u64,
    client: Client,
}

/// A session with a server, and the calls in progress in it.
struct Shared {
    session: Arc<LegacySession>,
    under_way: Arc<UnderWay>,
    /// The level from which on its server was told to log: the least serious that any call asked for.
    level: tokio::sync::Mutex<Option<LogLevel>>,
    /// Also if its client cannot be asked: a server that asks all the same gets an error, and does not wait.
    _hearing: Hearing,
}

/// The calls in progress in a session.
#[derive(Default)]
struct UnderWay(Mutex<Vec<OneOf>>);

struct OneOf {
    number: u64,
    /// The channel for its server's unsolicited messages.
    say: mpsc::Sender<Message>,
    /// The level from which on its client wants to be told what the server logs, if it does.
    logs: Option<LogLevel>,
    part: LeaseState,
}

/// Whether a call is one that a server may be asking for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Its client may be asked.
    Asking,
    /// Its client has been asked, so the server waits as well.
    Waiting,
}

impl UnderWay {
    fn calls(&self) -> MutexGuard<'_, Vec<OneOf>> {
        self.0.lock()
    }

    /// The call that a server asks for, if it is clear which that is: one that waits for an answer asks nothing more meanwhile.
    fn asked_for(&self, request: Request) -> Result<(), (Id, &'static str)> {
        let id = request.id.clone();
        let calls = self.calls();
        let mut asking: Vec<&OneOf> = calls.iter().filter(|call| call.part == LeaseState::Asking).collect();
        if asking.is_empty() {
            asking = calls.iter().collect();
        }
        let only = match *asking {
            [only] => only,
            [] => return Err((id, "no call is in progress for which the client could be asked")),
            _ => return Err((id, "several calls are in progress, and this does not name the one it is for")),
        };
        match only.say.try_send(Message::Request(request)) {
            Ok(()) => Ok(()),
            Err(_) => Err((id, "the client has not answered earlier questions")),
        }
    }
}

/// A call's part in a session, until this is dropped.
pub struct Lease {
    shared: Arc<Shared>,
    number: u64,
    heard: Option<mpsc::Receiver<Message>>,
}

impl Lease {
    /// The session.
    pub fn session(&self) -> &Arc<LegacySession> {
        &self.shared.session
    }

    /// The server's unsolicited messages meanwhile, where the client can be asked.
    pub fn take_heard(&mut self) -> Option<mpsc::Receiver<Message>> {
        self.heard.take()
    }

    /// Sets its part from now on.
    pub fn is(&self, part: LeaseState) {
        if let Some(own) = self.shared.under_way.calls().iter_mut().find(|call| call.number == self.number) {
            own.part = part;
        }
    }

    fn of(shared: &Arc<Shared>, number: u64, client: &Client, logs: Option<LogLevel>) -> Self {
        let (say, heard) = mpsc::channel(UNHEARD);
        shared.under_way.calls().push(OneOf { number, say, logs, part: LeaseState::Asking });
        Self { shared: shared.clone(), number, heard: (client.may_be_asked() || logs.is_some()).then_some(heard) }
    }

    /// Has its server log from this level on, if it does at all, was not told so before, and may be told by the client.
    async fn logs_from(&self, (gate, whose, server): (&Gate, Whose<'_>, &Upstream), level: LogLevel) {
        let session = &self.shared.session;
        if Members::read(&session.face.capabilities).unwrap_or_default().get("logging").is_none() {
            return;
        }
        let mut set = self.shared.level.lock().await;
        if set.is_some_and(|set| set <= level) {
            return;
        }
        let Some(request) = LevelRequest::permitted(gate, whose, server, level) else { return };
        if request.ask_before_a_call(session).await.is_ok() {
            *set = Some(level);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.under_way.calls().retain(|call| call.number != self.number);
    }
}

struct Kept {
    shared: Arc<Shared>,
    used: Instant,
    holder: SmolStr,
}

impl Kept {
    fn calls(&self) -> usize {
        self.shared.under_way.calls().len()
    }

    /// The number of calls in progress in it that could ask.
    fn asking(&self) -> usize {
        self.shared.under_way.calls().iter().filter(|call| call.part == LeaseState::Asking).count()
    }
}

struct Table {
    kept: HashMap<Key, Vec<Kept>>,
    shares: Yielding,
    next: u64,
}

impl Table {
    /// Takes those out that are meant.
    fn take(&mut self, is: impl Fn(&Key, &Kept) -> bool) -> Vec<Arc<LegacySession>> {
        let mut taken = Vec::new();
        let Self { kept, shares, .. } = self;
        kept.retain(|key, all| {
            all.retain(|one| {
                let gone = is(key, one);
                if gone {
                    shares.remove(&one.holder, key.client.bytes());
                    taken.push(one.shared.session.clone());
                }
                !gone
            });
            !all.is_empty()
        });
        taken
    }

    fn surplus(&mut self) -> Vec<Arc<LegacySession>> {
        let Some(holder) = self.shares.too_much() else { return Vec::new() };
        let all = self.kept.values().flatten().filter(|one| one.holder == holder);
        let Some(oldest) = all.min_by_key(|one| one.used).map(|one| one.shared.clone()) else { return Vec::new() };
        self.take(|_, one| Arc::ptr_eq(&one.shared, &oldest))
    }

    /// A part in a session that is there: in the one of this `scope`, else in one without a call, else, where no more may be opened,
    /// in the one with the fewest.
    fn lease(&mut self, key: &Key, scope: Option<Scope>, logs: Option<LogLevel>) -> Option<Lease> {
        let Self { kept, next, .. } = self;
        let mut open: Vec<&mut Kept> = kept.get_mut(key)?.iter_mut().filter(|one| !one.shared.session.is_closed()).collect();
        let named = open.iter().position(|one| scope.is_some_and(|scope| one.shared.session.scope() == scope));
        let idle = || open.iter().position(|one| one.calls() == 0);
        let most = if key.client.may_be_asked() { MOST_AT_A_TIME } else { 1 };
        let fewest = || (0..open.len()).filter(|_| open.len() >= most).min_by_key(|place| (open[*place].asking(), open[*place].calls()));
        let place = named.or_else(idle).or_else(fewest)?;
        let found = open.get_mut(place)?;
        found.used = Instant::now();
        *next += 1;
        Some(Lease::of(&found.shared, *next, &key.client, logs))
    }
}

/// The sessions.
pub struct SharedSessions(Mutex<Table>);

impl SharedSessions {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        let shares = Yielding::of(Amount { count: MOST, bytes: MOST_BYTES });
        Self(Mutex::new(Table { kept: HashMap::new(), shares, next: 0 }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock()
    }

    /// A part in a session of the caller's with a server, opened if need be, for a request that may be sent; the one of this `scope`, if there is one. Its server is told to
    /// log from this level on, where the call's client wants to be told and may say so.
    ///
    /// # Errors
    /// When the server refuses or is not there.
    pub async fn get(
        &self,
        _: &Cleared,
        (gate, whose): (&Gate, Whose<'_>),
        server: &Arc<Upstream>,
        client: &Client,
        (scope, logs): (Option<Scope>, Option<LogLevel>),
    ) -> Result<Lease, UpstreamError> {
        let lease = self.part(whose.caller, server, client, (scope, logs)).await?;
        if let Some(level) = logs {
            lease.logs_from((gate, whose, server), level).await;
        }
        Ok(lease)
    }

    async fn part(
        &self,
        caller: &Caller,
        server: &Arc<Upstream>,
        client: &Client,
        (scope, logs): (Option<Scope>, Option<LogLevel>),
    ) -> Result<Lease, UpstreamError> {
        let key = Key { caller: caller.subject.clone(), server: server.number, client: client.clone() };
        if let Some(lease) = self.table().lease(&key, scope, logs) {
            return Ok(lease);
        }
        server.check()?;
        let holder = shares::owner(caller);
        let session = server.open_session(client, Owner { holder: &holder, ends: &holder }).await?;
        let under_way = Arc::<UnderWay>::default();
        let mut hearing = hear(server.clone(), session.clone(), client.clone(), under_way.clone());
        hearing.opened().await;
        let shared = Arc::new(Shared { session: session.clone(), under_way, level: tokio::sync::Mutex::default(), _hearing: hearing });
        let (lease, gone) = {
            let mut table = self.table();
            // Others may have opened some at the same time.
            let open = table.kept.get(&key).map_or(0, |all| all.iter().filter(|one| !one.shared.session.is_closed()).count());
            let most = if client.may_be_asked() { MOST_AT_A_TIME } else { 1 };
            match table.lease(&key, None, logs).filter(|_| open >= most) {
                Some(lease) => (lease, vec![session]),
                None => {
                    table.take(|_, one| one.shared.session.is_closed());
                    table.shares.add(&holder, key.client.bytes());
                    table.next += 1;
                    let lease = Lease::of(&shared, table.next, client, logs);
                    table.kept.entry(key).or_default().push(Kept { shared, used: Instant::now(), holder });
                    (lease, table.surplus())
                }
            }
        };
        closed(gone);
        // The server may have been ended before this session was listed.
        if server.is_over() {
            self.part_with(server);
            return Err(UpstreamError::Removed);
        }
        Ok(lease)
    }

    /// Ends all sessions with a server.
    pub fn part_with(&self, gone: &Upstream) {
        let taken = self.table().take(|key, _| key.server == gone.number);
        closed(taken);
    }

    /// A server forgot this session.
    pub fn forget(&self, gone: &Arc<LegacySession>) {
        self.table().take(|_, kept| Arc::ptr_eq(&kept.shared.session, gone));
    }

    /// Ends those that are no longer used, for ever.
    pub async fn sweep(&self) {
        loop {
            tokio::time::sleep(IDLE / 4).await;
            let stale = self.table().take(|_, kept| kept.used.elapsed() >= IDLE && kept.calls() == 0);
            closed(stale);
        }
    }
}

impl Default for SharedSessions {
    fn default() -> Self {
        Self::new()
    }
}

/// Ends sessions without waiting for it.
fn closed(sessions: Vec<Arc<LegacySession>>) {
    for session in sessions {
        let _ = beside(Box::pin(async move { session.close().await }) as Telling);
    }
}

/// Hears what a server says by itself.
fn hear(server: Arc<Upstream>, session: Arc<LegacySession>, client: Client, under_way: Arc<UnderWay>) -> Hearing {
    Hearing::begin(session.clone(), move |message| {
        let instead = heard(&server, &client, &under_way, message);
        let session = session.clone();
        async move {
            if let Some((id, outcome)) = instead {
                let _ = session.respond(&id, &outcome).await;
            }
            ControlFlow::Continue(())
        }
    })
}

/// Passes a server's message to the call that it is for; an answer, where there is none.
fn heard(server: &Upstream, client: &Client, under_way: &UnderWay, message: Message) -> Option<(Id, Outcome)> {
    match message {
        Message::Request(request) if request.method == "ping" => Some((request.id, Outcome::Result(Bytes::from_static(b"{}")))),
        Message::Request(request) => {
            if let Some(error) = client.cannot_answer(&request.method) {
                return Some((request.id, error.into()));
            }
            if !client.may_be_asked() {
                let why = "the client has not declared anything that it could be asked for";
                return Some((request.id, RpcError::new(METHOD_NOT_FOUND, why).into()));
            }
            let (id, why) = under_way.asked_for(request).err()?;
            Some((id, RpcError::new(INTERNAL_ERROR, why).into()))
        }
        Message::Notification(notification) => {
            if server.tells_of_lists(&notification.method) {
                return None;
            }
            // Each takes what is of its own; of what is logged nothing says whose it is, and all calls here are one caller's.
            let is_for = |call: &&OneOf| match notification.method.as_str() {
                "notifications/progress" => true,
                LOGGED => call.logs.is_some_and(|level| level.wants(&notification)),
                _ => false,
            };
            for call in under_way.calls().iter().filter(is_for) {
                let _ = call.say.try_send(Message::Notification(notification.clone()));
            }
            None
        }
        Message::Response(_) => None,
    }
}
