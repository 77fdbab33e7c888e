//! Sessions of clients of the era that has them (2025-03-26 to 2025-11-25).
//!
//! A session's id is random, says nothing, and works only for the caller who began it. What a session
//! needs on servers is opened when it is first needed, so a session that is never used costs a few
//! hundred bytes.

mod asking;
mod saying;

use crate::{
    acts::AuditedSession,
    gate::Gate,
    hearing::Hearing,
    held::{Upstream, outward},
    lent::Lent,
    logs::LogLevel,
    outflow::{Heard, Outflow, Stream, event},
    owed::Cleared,
    own_sessions::OwnSessions,
    progress::Reported,
    questions::{Questions, nobody_listens},
    reachable::OpenCalls,
    shares::{self, task_owner},
    taken_back::TakenBack,
    telling::Telling,
    unsent::Recipient,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use gnomon_access::Caller;
use gnomon_audit::session_digest;
use gnomon_kit::whole_millis;
use gnomon_upstream::{
    Client, LegacySession, Owner, Scope, Speaks, UpstreamError,
    rpc::{self, Id, Message, Notification, Outcome},
};
use parking_lot::Mutex;
use smol_str::SmolStr;
use std::{
    collections::{HashMap, VecDeque},
    ops::ControlFlow,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, mpsc};

/// Most streams of a session that a client can come back to.
const MAX_STREAMS: usize = 16;

/// The memory of a session besides its client's description of itself, bytes, about.
const SESSION_BYTES: usize = 640;

/// A client's session.
pub struct Session {
    /// The session's id.
    pub id: SmolStr,
    /// The owner who began it.
    pub owner: SmolStr,
    /// The holder of the share of all sessions it counts against.
    pub(crate) holder: SmolStr,
    /// The client.
    pub client: Arc<Client>,
    born: Instant,
    /// Milliseconds after birth.
    used: AtomicU64,
    open: OnceLock<Box<Open>>,
    gate: Arc<Gate>,
}

struct Open {
    servers: OwnSessions,
    calls: OpenCalls,
    questions: Questions,
    reported: Reported,
    lent: Lent,
    under_way: Mutex<HashMap<Id, Arc<TakenBack>>>,
    streams: Mutex<VecDeque<Arc<Stream>>>,
    standing: Mutex<Option<StandingStream>>,
    log_level: Mutex<Option<LogLevel>>,
    /// The caller of the last request: servers' unsolicited messages are for them.
    caller: Mutex<Option<Arc<Caller>>>,
    next: AtomicU64,
    digest: OnceLock<SmolStr>,
}

/// The stream of what is said by itself.
#[derive(Clone)]
pub struct StandingStream {
    /// The events for it, encoded.
    pub sender: mpsc::Sender<Bytes>,
    recipient: Recipient,
    /// Notified when there is no room for more.
    pub over: Arc<Notify>,
}

impl Session {
    /// A session that begins.
    ///
    /// # Errors
    /// The system has no random bytes for its id.
    pub fn new(owner: &Caller, client: Arc<Client>, gate: Arc<Gate>) -> Result<Self, getrandom::Error> {
        let mut random = [0u8; 24];
        getrandom::fill(&mut random)?;
        Ok(Self {
            id: SmolStr::new(URL_SAFE_NO_PAD.encode(random)),
            owner: owner.subject.clone(),
            holder: shares::owner(owner),
            client,
            born: Instant::now(),
            used: AtomicU64::new(0),
            open: OnceLock::new(),
            gate,
        })
    }

    /// The digest of its id, for the audit.
    pub fn digest(&self) -> SmolStr {
        let digest = || session_digest(&self.id);
        self.open.get().map_or_else(digest, |open| open.digest.get_or_init(digest).clone())
    }

    /// Its owner, digest and client, for the audit.
    pub fn audited(&self) -> AuditedSession {
        AuditedSession { owner: self.owner.clone(), digest: self.digest(), client: self.client.clone() }
    }

    /// The memory it takes, about.
    pub fn bytes(&self) -> usize {
        SESSION_BYTES + self.client.bytes()
    }

    pub(crate) fn touch(&self) {
        let age = whole_millis(self.born.elapsed());
        self.used.store(age, Ordering::Relaxed);
    }

    pub(crate) fn idle(&self) -> Duration {
        self.born.elapsed().saturating_sub(Duration::from_millis(self.used.load(Ordering::Relaxed)))
    }

    fn open(&self) -> &Open {
        self.open.get_or_init(|| {
            Box::new(Open {
                servers: OwnSessions::default(),
                calls: OpenCalls::default(),
                questions: Questions::default(),
                reported: Reported::default(),
                lent: Lent::default(),
                under_way: Mutex::default(),
                streams: Mutex::default(),
                standing: Mutex::default(),
                log_level: Mutex::default(),
                caller: Mutex::default(),
                next: AtomicU64::new(1),
                digest: OnceLock::new(),
            })
        })
    }

    fn opened(&self) -> Option<&Open> {
        self.open.get().map(|open| &**open)
    }

    /// The questions of servers to its client.
    pub fn questions(&self) -> Option<&Questions> {
        self.opened().map(|open| &open.questions)
    }

    /// The tasks of its client for servers.
    pub fn lent(&self) -> Option<&Lent> {
        self.opened().map(|open| &open.lent)
    }

    /// The owner of the tasks that its client begins at servers.
    pub fn task_owner(&self) -> Option<SmolStr> {
        let caller = self.opened().and_then(|open| open.caller.lock().clone())?;
        Some(task_owner(&caller, &self.id))
    }

    /// The calls of its client whose progress servers may report.
    pub fn reported(&self) -> Option<&Reported> {
        self.opened().map(|open| &open.reported)
    }

    /// The calls that its client has open at servers.
    pub fn calls(&self) -> Option<&OpenCalls> {
        self.opened().map(|open| &open.calls)
    }

    /// Notes that this caller asks for something.
    pub fn asks(&self, caller: &Arc<Caller>) {
        if let Some(open) = self.opened() {
            *open.caller.lock() = Some(caller.clone());
        }
    }

    /// The message for its client, if a server may send it that.
    fn hears(&self, upstream: &Upstream, within: Scope, notification: Notification) -> Option<Notification> {
        let caller = self.opened().and_then(|open| open.caller.lock().clone())?;
        let owner = task_owner(&caller, &self.id);
        let may = self.gate.tells(&caller, upstream, (&owner, within), &notification);
        may.then(|| self.translated(upstream, (&owner, within), notification)).flatten()
    }

    /// Whether a server may ask its client for something by itself.
    fn may_be_asked(&self, upstream: &Upstream) -> bool {
        let caller = self.opened().and_then(|open| open.caller.lock().clone());
        caller.is_some_and(|caller| self.gate.may_reach(&caller, &upstream.id))
    }

    /// The session's own session with a server, opened if need be, for a request that may be sent.
    ///
    /// # Errors
    /// If the server refuses, is down, or has ended.
    pub async fn server(self: &Arc<Self>, _: &Cleared, upstream: &Arc<Upstream>) -> Result<Arc<LegacySession>, UpstreamError> {
        let open = self.open();
        let own = open.servers.with(upstream);
        if upstream.is_over() {
            open.servers.take(upstream);
            return Err(UpstreamError::Removed);
        }
        let mut slot = own.session.lock().await;
        if let Some(session) = slot.as_ref().filter(|session| !session.is_closed()) {
            return Ok(session.clone());
        }
        upstream.check()?;
        let session = upstream.open_session(&self.client, Owner { holder: &self.holder, ends: &self.id }).await?;
        if let Some(level) = self.level_for(upstream)
            && let Err(UpstreamError::SessionGone) = level.ask_before_a_call(&session).await
        {
            return Err(UpstreamError::SessionGone);
        }
        // Before the first call that can ask: messages before it are lost, and a server that asks waits. It may ask a client that has
        // declared nothing as well, and gets an error.
        let mut hearing = self.hear(upstream.clone(), session.clone());
        let opened = hearing.opened();
        own.hears(hearing);
        // Kept from here on: a call that is given up while it waits leaves the next one a session that is open.
        *slot = Some(session.clone());
        opened.await;
        // The server may have been ended before this session was listed.
        if upstream.is_over() {
            *slot = None;
            session.close().await;
            return Err(UpstreamError::Removed);
        }
        Ok(session)
    }

    /// A server forgot this session: the next use opens another.
    pub async fn forget(&self, upstream: &Upstream, gone: &Arc<LegacySession>) {
        let Some(own) = self.opened().and_then(|open| open.servers.of(upstream)) else { return };
        let mut slot = own.session.lock().await;
        if slot.as_ref().is_some_and(|session| Arc::ptr_eq(session, gone)) {
            *slot = None;
        }
    }

    /// The sessions that are open on servers. One that is just being opened is left out: its server may take its time.
    pub fn servers(&self) -> Vec<(Arc<Upstream>, Arc<LegacySession>)> {
        let all = self.opened().map(|open| open.servers.all()).unwrap_or_default();
        all.into_iter().filter_map(|own| Some((own.upstream.clone(), own.session.try_lock().ok()?.clone()?))).collect()
    }

    /// True if it may have anything open with this server.
    pub(crate) fn has_open(&self, upstream: &Upstream) -> bool {
        self.opened().is_some_and(|open| open.servers.of(upstream).is_some())
    }

    /// Ends all that the session has open with a server, with errors, and withdraws its questions to the client.
    pub async fn part_with(&self, gone: &Upstream) {
        let Some(open) = self.opened() else { return };
        open.questions.part_with(gone);
        open.lent.part_with(gone);
        if let Some(own) = open.servers.take(gone) {
            // A session that is being opened is closed by its opener.
            let session = own.session.lock().await.take();
            if let Some(session) = session {
                session.close().await;
            }
        }
    }

    fn hear(self: &Arc<Self>, upstream: Arc<Upstream>, session: Arc<LegacySession>) -> Hearing {
        let weak = Arc::downgrade(self);
        Hearing::begin(session.clone(), move |message| {
            let (own, upstream, session) = (weak.upgrade(), upstream.clone(), session.clone());
            async move {
                let Some(own) = own else { return ControlFlow::Break(()) };
                match &message {
                    // The lists are the portal's; its listeners are notified of changes.
                    Message::Notification(notification) if upstream.tells_of_lists(&notification.method) => {}
                    _ => own.pass_on(&upstream, &session, message).await,
                }
                ControlFlow::Continue(())
            }
        })
    }

    /// Passes a server's unsolicited message to wherever the client listens.
    async fn pass_on(&self, upstream: &Arc<Upstream>, session: &Arc<LegacySession>, message: Message) {
        let judged = match &upstream.held.judge {
            Some(judge) => judge.unasked(&self.holder, &self.client, &message).await,
            None => Ok(()),
        };
        if let Err(error) = judged {
            if let Message::Request(request) = &message {
                let _ = session.respond(&request.id, &error.outcome(&upstream.id, None)).await;
            }
            return;
        }
        let asked = match &message {
            Message::Request(request) => Some(request.id.clone()),
            Message::Notification(_) | Message::Response(_) => None,
        };
        let text = match message {
            Message::Request(request) if request.method == "ping" => {
                let _ = session.respond(&request.id, &Outcome::Result(Bytes::from_static(b"{}"))).await;
                return;
            }
            Message::Request(request) if !self.may_be_asked(upstream) => {
                let error = rpc::RpcError::new(rpc::INVALID_REQUEST, "the client may no longer use this server");
                let _ = session.respond(&request.id, &error.into()).await;
                return;
            }
            Message::Request(request) => match self.ask_for(upstream, session, &request) {
                Ok(text) => text,
                Err(error) => {
                    let _ = session.respond(&request.id, &error.into()).await;
                    return;
                }
            },
            Message::Notification(notification) => match self.hears(upstream, session.scope(), notification) {
                Some(notification) => outward(upstream, &notification),
                None => return,
            },
            Message::Response(_) => return,
        };
        if self.tell(text.clone()).await == Heard::Yes || self.tell_in_a_call(&upstream.id, text).await == Heard::Yes {
            return;
        }
        tracing::debug!(server = %upstream.id, "no client listens to a server's message");
        if let Some(id) = asked {
            self.withdraw(&upstream.id, session.scope(), &id);
            let _ = session.respond(&id, &nobody_listens().into()).await;
        }
    }

    /// Sends a message in the answer of a call that the client has open at this server, which becomes a stream with that.
    async fn tell_in_a_call(&self, server: &SmolStr, message: Bytes) -> Heard {
        match self.calls().and_then(|calls| calls.at(server)) {
            Some((emit, recipient)) if recipient.pass_on(&emit, message).await.is_ok() => Heard::Yes,
            _ => Heard::No,
        }
    }

    /// Sends a message to the client on its standing stream, else on that of a request in progress.
    pub async fn tell(&self, message: Bytes) -> Heard {
        let Some(open) = self.opened() else { return Heard::No };
        let standing = open.standing.lock().clone();
        if let Some(StandingStream { sender, recipient, over }) = standing.filter(|standing| !standing.sender.is_closed()) {
            let event = event(None, None, &message);
            let Some(room) = recipient.room_for(event.len()).await else {
                over.notify_one();
                return Heard::No;
            };
            if sender.send(room.holds(event)).await.is_ok() {
                return Heard::Yes;
            }
        }
        let stream = open.streams.lock().iter().rev().find(|stream| !stream.is_over() && stream.is_wanted()).cloned();
        match stream {
            Some(stream) => stream.send(message).await,
            None => Heard::No,
        }
    }

    /// A request of the client's begins, which it may take back.
    pub fn begin(&self, id: &Id, request: Arc<TakenBack>) {
        self.open().under_way.lock().insert(id.clone(), request);
    }

    /// Ends a request.
    pub fn end(&self, id: &Id) {
        if let Some(open) = self.opened() {
            open.under_way.lock().remove(id);
        }
    }

    /// The client takes a request back, for this reason if it says one.
    pub fn cancel(&self, id: &Id, reason: Option<&str>) {
        if let Some(request) = self.opened().and_then(|open| open.under_way.lock().remove(id)) {
            request.because(reason);
        }
    }

    /// A stream for the answer to one request.
    pub fn stream(&self, recipient: Recipient) -> (Arc<Stream>, Outflow) {
        let open = self.open();
        let (sender, outflow) = Outflow::events();
        let stream = Arc::new(Stream::new(open.next.fetch_add(1, Ordering::Relaxed), sender, recipient));
        let mut streams = open.streams.lock();
        streams.retain(|stream| !stream.is_over() || stream.is_resumable());
        if streams.len() >= MAX_STREAMS {
            streams.pop_front();
        }
        streams.push_back(stream.clone());
        (stream, outflow)
    }

    /// The stream that an event id belongs to, from there on.
    #[must_use]
    pub fn resume(&self, event_id: &str) -> Option<Outflow> {
        let (name, last) = event_id.split_once('.')?;
        let (name, last): (u64, u64) = (name.parse().ok()?, last.parse().ok()?);
        let streams = self.opened()?.streams.lock();
        streams.iter().find(|stream| stream.name == name && stream.is_resumable()).map(|stream| stream.resume(last))
    }

    /// Opens the stream of unsolicited messages. A client that opens it again takes it from the previous reader.
    pub fn stand(self: &Arc<Self>, recipient: Recipient) -> (StandingStream, Outflow) {
        let (sender, outflow) = Outflow::events();
        let standing = StandingStream { sender, recipient, over: Arc::default() };
        let open = self.open();
        *open.standing.lock() = Some(standing.clone());
        for own in open.servers.all() {
            let Some(session) = own.session.try_lock().ok().and_then(|session| session.clone()) else { continue };
            // A server may take a second stream for one too many.
            if session.speaks() == Speaks::OnRequest && !own.is_heard() {
                own.hears(self.hear(own.upstream.clone(), session));
            }
        }
        (standing, outflow)
    }

    /// Ends that stream, unless another has taken its place.
    pub fn stands_no_more(&self, gone: &StandingStream) {
        if let Some(open) = self.opened() {
            open.standing.lock().take_if(|standing| standing.sender.same_channel(&gone.sender));
        }
    }

    /// The level from which on the client wants to be told.
    pub fn set_log_level(&self, level: LogLevel) {
        *self.open().log_level.lock() = Some(level);
    }

    /// The level of logs.
    #[must_use]
    pub fn log_level(&self) -> Option<LogLevel> {
        self.opened().and_then(|open| *open.log_level.lock())
    }

    /// True if it may have anything open with any server.
    pub(crate) fn is_anywhere(&self) -> bool {
        self.opened().is_some_and(|open| !open.servers.is_empty())
    }

    /// What its servers are told once it has ended.
    pub(crate) fn farewells(&self) -> Vec<Telling> {
        let close = |(_, session): (Arc<Upstream>, Arc<LegacySession>)| Box::pin(async move { session.close().await }) as Telling;
        self.servers().into_iter().map(close).collect()
    }
}
