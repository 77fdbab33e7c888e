//! The proxy's connection to the kernel half: one watch, and under it one sensor after the other.

use parking_lot::Mutex;
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use gnomon_http::{IpFamily, NearEnd, Sockets};
use gnomon_inspect::{Enforcement, Inspector};
use gnomon_intercept::RedirectedListeners;
use gnomon_link::{Homes, ScopeChange, Starts, ToSensor};
use gnomon_local::Known;
use gnomon_record::{Missing, Owned, Owners, Recorder};
use gnomon_sensor::{Heartbeat, Owner, Ring, Road, owner_of};
use prometheus::Registry;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::asking::{ANSWERS, SINCE_FAILED, ask, open};
use crate::fields::{FlowNames, observe};
use crate::heart::Heart;
use crate::homes::Home;
use crate::identities::{Identities, Unknown, Who, started};
use crate::judge::Judge;
use crate::records::Records;
use crate::returning;
use crate::session::Session;
use crate::speaking::{Link, hear, poll, speak};
use crate::starts::Starts as ProgramStarts;
use crate::{WatchError, WatchMetrics, WatchOptions};

/// The time for which a connection that needs a socket from the sensor waits for a sensor that is being restarted.
const RETURNS: Duration = Duration::from_secs(3);
/// The time within which the sensor must have an address refused: a program waits for its reset meanwhile.
const FAILED_WAIT: Duration = Duration::from_millis(100);
/// The minor version since which the sensor reports starts of programs, and reads home directories.
const SINCE_STARTS: u16 = 4;
/// The minor version since which it watches home directories.
const SINCE_CHANGES: u16 = 5;
/// Messages that wait to be sent; with more, questions are not asked.
const QUEUE: usize = 1024;

/// Asks the kernel half for a connection's owner.
pub(crate) type OwnerOf = Box<dyn Fn(BorrowedFd<'_>) -> io::Result<Option<Owner>> + Send + Sync>;

/// Watches what the kernel half reports. It outlives a sensor: when that is gone, owners are unknown and
/// nothing is seen until another one is [joined](Watch::join).
pub struct Watch {
    options: WatchOptions,
    metrics: WatchMetrics,
    judge: Arc<Judge>,
    pub(crate) session: ArcSwapOption<Session>,
    listeners: Mutex<Option<RedirectedListeners>>,
    owner_of: OwnerOf,
    joined: watch::Sender<u64>,
    /// What starts of programs are held against; none where they are not looked at.
    known: Option<Arc<Known>>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Watch {
    /// A watch without a sensor, which registers its metrics.
    ///
    /// # Errors
    /// The registry has such metrics already.
    pub fn new(
        options: WatchOptions,
        inspector: Arc<Inspector>,
        recorder: Arc<Recorder>,
        registry: &Registry,
    ) -> Result<Arc<Self>, WatchError> {
        Ok(Arc::new(Self::asking(options, inspector, recorder, WatchMetrics::register(registry)?, Box::new(owner_of))))
    }

    pub(crate) fn asking(
        options: WatchOptions,
        inspector: Arc<Inspector>,
        recorder: Arc<Recorder>,
        metrics: WatchMetrics,
        owner_of: OwnerOf,
    ) -> Self {
        let judge = Arc::new(Judge { inspector, recorder, names: FlowNames::new() });
        let shipped = || Known::shipped().inspect_err(|error| tracing::error!(%error, "starts of programs are not looked at")).ok();
        let known = if options.starts == Starts::Reported { shipped().map(Arc::new) } else { None };
        let (session, listeners, joined) = (ArcSwapOption::empty(), Mutex::default(), watch::channel(0).0);
        Self { options, metrics, judge, session, listeners, owner_of, joined, known }
    }

    /// A watch that has joined its first sensor: [`Watch::new`] and [`Watch::join`].
    ///
    /// # Errors
    /// See [`WatchError`].
    pub async fn start(
        link: Link,
        options: WatchOptions,
        inspector: Arc<Inspector>,
        recorder: Arc<Recorder>,
        registry: &Registry,
    ) -> Result<Arc<Self>, WatchError> {
        let watch = Self::new(options, inspector, recorder, registry)?;
        watch.join(link).await?;
        Ok(watch)
    }

    /// Joins a sensor, in place of the one before. Takes up to 5 s where the sensor does not answer; if
    /// [`Watch::listen_here`] was called before, the new sensor is asked for listeners as well.
    ///
    /// # Errors
    /// The sensor does not answer, speaks another version, or hands over maps that cannot be used: then there is no sensor.
    /// Or those of [`Watch::listen_here`]: then it watches, and nothing is redirected.
    pub async fn join(&self, link: Link) -> Result<(), WatchError> {
        if let Some(before) = self.session.swap(None) {
            before.end();
        }
        let sensor = timeout(ANSWERS, link.greet()).await.map_err(|_| WatchError::Silent(ANSWERS))??;
        let map = |what| move |source| WatchError::Map { what, source };
        let ring = Ring::from_fd(sensor.ring, sensor.ring_bytes).map_err(map("ring buffer"))?;
        let heartbeat = Heartbeat::from_fd(sensor.heartbeat).map_err(map("heartbeat"))?;
        let (ask, queue) = mpsc::channel(QUEUE);
        let (tell, refused) = mpsc::channel(returning::QUEUE);
        let session = Arc::new(Session::new(
            Identities::new(self.options.identities, ask.clone(), started),
            (ask.clone(), tell),
            Records::new(&self.options, self.metrics.clone()),
            self.judge.clone(),
            self.metrics.clone(),
            (Heart::start(heartbeat).map_err(WatchError::Thread)?, self.options.explicit_port),
            (ProgramStarts::new(self.known.clone(), ask.clone(), self.metrics.clone()), self.options.patience),
        ));
        // Before its records are read, as their end is its end.
        session.began(sensor.version.minor, &sensor.features);
        if let Err(error) = session.read(ring) {
            session.end();
            return Err(WatchError::Thread(error));
        }
        // An older sensor files the owners of all connections.
        if sensor.version.minor >= 2 {
            let _ = session.ask.send(ToSensor::ExplicitPort { port: self.options.explicit_port }).await;
        }
        if sensor.version.minor >= SINCE_STARTS {
            let starts = if self.known.is_some() { Starts::Reported } else { Starts::Remembered };
            let _ = session.ask.send(ToSensor::ReportStarts { starts }).await;
        }
        let link = Arc::new(link);
        session.spawn(speak(link.clone(), queue, session.clone()));
        session.spawn(hear(link, ask.clone(), session.clone()));
        session.spawn(poll(ask, session.clone()));
        session.spawn(returning::look(session.clone(), refused));
        session.spawn(session.counting());
        self.session.store(Some(session.clone()));
        let before = self.listeners.lock().clone();
        let listens = match before {
            Some(listeners) => listen(&session, listeners).await,
            None => Ok(()),
        };
        self.joined.send_modify(|joined| *joined += 1);
        listens
    }

    /// Asks the sensor for listeners in our own network namespace and gives them to the proxy. Those of other
    /// namespaces arrive unasked from then on, and are given to it as well.
    ///
    /// # Errors
    /// If there is no sensor, it refuses, or the proxy does not take the listeners. Nothing is redirected here then.
    pub async fn listen_here(&self, listeners: &RedirectedListeners) -> Result<(), WatchError> {
        *self.listeners.lock() = Some(listeners.clone());
        let session = self.session.load_full().filter(|session| !session.has_ended()).ok_or(WatchError::Gone)?;
        listen(&session, listeners.clone()).await
    }

    /// Changes what happens to the connections of a cgroup, as long as this sensor runs: the next one knows nothing of it, and
    /// [`Watch::joined`] tells that there is a next one.
    ///
    /// # Errors
    /// If there is no sensor, it refuses, or does not answer within 5 s.
    pub async fn scope(&self, change: ScopeChange) -> Result<(), WatchError> {
        let session = self.session.load_full().filter(|session| !session.has_ended()).ok_or(WatchError::Gone)?;
        ask(&session, |token| ToSensor::Scope { token, change }).await.map(drop)
    }

    /// Has the home directories of all accounts read. They come one after the other; the receiver ends with the last one, at once where the
    /// sensor reads none.
    ///
    /// # Errors
    /// There is no sensor, or an older one.
    pub async fn read_homes(&self, homes: Homes) -> Result<mpsc::Receiver<Home>, WatchError> {
        self.ask_for_homes(SINCE_STARTS, |token| ToSensor::ReadHomes { token, homes }).await
    }

    /// Has those of them read again in which something changes, once it does. Takes the place of a request that is not answered yet.
    ///
    /// # Errors
    /// There is no sensor, or it is too old.
    pub async fn read_changed_homes(&self, homes: Homes) -> Result<mpsc::Receiver<Home>, WatchError> {
        self.ask_for_homes(SINCE_CHANGES, |token| ToSensor::ReadChangedHomes { token, homes }).await
    }

    async fn ask_for_homes(&self, since: u16, request: impl FnOnce(u64) -> ToSensor) -> Result<mpsc::Receiver<Home>, WatchError> {
        let session = self.session.load_full().filter(|session| session.speaks(since)).ok_or(WatchError::Gone)?;
        let token = session.identities.token();
        let read = session.homes.begin(token);
        session.ask.send(request(token)).await.map_err(|_| WatchError::Gone)?;
        Ok(read)
    }

    /// So many homes could be read when they were last looked at, and so many could not.
    pub fn homes_known(&self, read: usize, unread: usize) {
        self.metrics.homes(read, unread);
    }

    /// The local servers that configuration files list: their starts are told whatever they are called. Places as
    /// [`gnomon_local::Launch::place`] has them.
    pub fn listed(&self, places: HashSet<String>) {
        if let Some(known) = &self.known {
            known.list(places);
        }
    }

    /// Notes how many cgroups match a scope and are in none, as there are too many.
    pub fn scopes_leave_out(&self, cgroups: usize) {
        self.metrics.scopes_leave_out(cgroups);
    }

    /// The number of sensors joined so far.
    #[must_use]
    pub fn joined(&self) -> u64 {
        *self.joined.borrow()
    }

    /// Waits until more sensors than so many have been joined.
    pub async fn joined_after(&self, sensors: u64) {
        // The sender lives as long as this does.
        let _ = self.joined.subscribe().wait_for(|joined| *joined > sensors).await;
    }

    /// Stops redirection: for the way out, before the proxy stops accepting.
    pub fn let_go(&self) {
        if let Some(session) = &*self.session.load() {
            session.let_go();
        }
    }

    /// Waits until there is no sensor (at once, if there is none). The proxy can go on without it.
    pub async fn ended(&self) {
        let Some(session) = self.session.load_full() else { return };
        let mut over = session.over();
        drop(session);
        // A dropped sender counts as the end.
        let _ = over.wait_for(|over| *over).await;
    }

    /// The sensor, or the next one where there is none at this moment.
    async fn present(&self) -> Result<Arc<Session>, WatchError> {
        let found = async {
            loop {
                match self.session.load_full().filter(|session| !session.has_ended()) {
                    Some(session) => return session,
                    None => tokio::time::sleep(RETURNS / 60).await,
                }
            }
        };
        timeout(RETURNS, found).await.map_err(|_| WatchError::Gone)
    }

    #[cfg(test)]
    pub(crate) fn inspector(&self) -> Arc<Inspector> {
        self.judge.inspector.clone()
    }

    async fn whose(&self, stream: &TcpStream, digest: Digest) -> Option<Owned> {
        let session = self.session.load_full().filter(|session| !session.has_ended())?;
        let owner = match (self.owner_of)(stream.as_fd()) {
            Ok(owner) => owner?,
            Err(error) => {
                tracing::debug!(%error, "the kernel half does not say whose a connection is");
                return None;
            }
        };
        let who = match digest {
            Digest::IfRulesAsk if !self.judge.inspector.asks_for_digests() => session.who_soon(&owner, self.options.identity_wait).await,
            Digest::IfRulesAsk | Digest::AnyHow => session.who(&owner, self.options.identity_wait).await,
        };
        let seen = observe(&owner, &who, &self.judge.names, session.identities.started_as(&owner).as_deref());
        let original = SocketAddr::new(owner.original.ip().to_canonical(), owner.original.port());
        let redirected = owner.road == Road::Redirected;
        let enforcement = if self.options.shadowed.contains(&owner.scope) { Enforcement::Shadow } else { Enforcement::Enforce };
        let Owner { cookie, uid, gid, netns, cgroup, .. } = owner;
        Some(Owned { cookie, original, redirected, uid, gid, netns, cgroup, enforcement, seen })
    }
}

/// Whether a connection waits for the digest of its program's file, which takes seconds for a large one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digest {
    IfRulesAsk,
    AnyHow,
}

impl Owners for Watch {
    fn owner<'a>(&'a self, stream: &'a TcpStream) -> Pin<Box<dyn Future<Output = Option<Owned>> + Send + 'a>> {
        Box::pin(self.whose(stream, Digest::IfRulesAsk))
    }

    fn owner_with_digest<'a>(&'a self, stream: &'a TcpStream) -> Pin<Box<dyn Future<Output = Option<Owned>> + Send + 'a>> {
        Box::pin(self.whose(stream, Digest::AnyHow))
    }

    fn uid(&self, stream: BorrowedFd<'_>) -> Option<u32> {
        (self.owner_of)(stream).ok().flatten().map(|owner| owner.uid)
    }

    fn missing(&self, stream: &TcpStream) -> Missing {
        let Some(session) = self.session.load_full().filter(|session| !session.has_ended()) else { return Missing::Outside };
        if session.tells_no_owners() && is_of_this_host(stream) {
            session.metrics.identity(&Who::Unknown(Unknown::Late));
            return Missing::Untold;
        }
        // If the kernel could not be asked, an owner may exist.
        let possible = (self.owner_of)(stream.as_fd()).is_err() || session.losses.are_possible(Instant::now());
        if !possible || !is_of_this_host(stream) {
            return Missing::Outside;
        }
        session.metrics.identity(&Who::Unknown(Unknown::Late));
        Missing::Lost
    }

    fn served(&self, cookie: u64) {
        if let Some(session) = &*self.session.load() {
            session.served(cookie);
        }
    }

    fn unreachable<'a>(&'a self, owned: &'a Owned, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let Some(session) = self.session.load_full().filter(|session| session.speaks(SINCE_FAILED)) else { return };
            let Owned { netns, original, uid, .. } = *owned;
            let seconds = u8::try_from(time.as_secs()).unwrap_or(u8::MAX);
            let failed = ask(&session, |token| ToSensor::Failed { token, netns_cookie: netns, address: original, uid, seconds });
            match timeout(FAILED_WAIT, failed).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, %original, "the kernel half does not refuse an address that failed"),
                Err(_) => tracing::debug!(%original, "the kernel half did not say in time that it refuses an address that failed"),
            }
        })
    }
}

impl Sockets for Watch {
    fn open(&self, near: NearEnd, family: IpFamily) -> Pin<Box<dyn Future<Output = io::Result<TcpSocket>> + Send + '_>> {
        Box::pin(async move {
            let session = self.present().await.map_err(io::Error::other)?;
            open(&session, near, family).await
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(session) = self.session.swap(None) {
            session.let_go();
            session.end();
        }
    }
}

/// True if a program of this host can have made an accepted connection: from one of the host's addresses to the same, or to or from
/// loopback, which nothing else comes from. True where it cannot be told.
fn is_of_this_host(stream: &TcpStream) -> bool {
    let ip = |address: io::Result<SocketAddr>| address.ok().map(|address| address.ip().to_canonical());
    match (ip(stream.peer_addr()), ip(stream.local_addr())) {
        (Some(peer), Some(local)) => peer == local || peer.is_loopback() || local.is_loopback() || is_address_of_this_host(peer),
        _ => true,
    }
}

/// True if a socket can have this address (bind(2)). Where sockets can have any, it is not known.
fn is_address_of_this_host(ip: IpAddr) -> bool {
    let any = |family| std::fs::read(format!("/proc/sys/net/{family}/ip_nonlocal_bind")).is_ok_and(|set| !set.starts_with(b"0"));
    !any(if ip.is_ipv4() { "ipv4" } else { "ipv6" }) && std::net::UdpSocket::bind((ip, 0)).is_ok()
}

async fn listen(session: &Session, to: RedirectedListeners) -> Result<(), WatchError> {
    session.listening.lock().to = Some(to);
    // 0: whichever namespace this process is in.
    ask(session, |token| ToSensor::ListenIn { token, netns_cookie: 0, pid: std::process::id() }).await.map(drop)
}
