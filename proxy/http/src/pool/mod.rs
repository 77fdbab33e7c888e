//! Connections to upstreams, kept open and kept apart.
//!
//! Requests of different principals never share a connection, because an upstream may have authenticated the connection. Nor do
//! those of a client's connection on which such a log-in was seen share one with any others.
//! A connection that was opened to ask for the upstream's protocol is handed over and becomes the first pooled one.
//!
//! Over HTTP/1.1 a connection carries one request at a time, and none of a client's connection that has just begun until its server
//! is known to keep connections. Over HTTP/2 it carries as many as its windows and its server
//! allow, and further ones go over another connection. How many connections there are, of which principal, is the
//! [`UpstreamBudget`]'s to say: idle ones are closed where others need their places.
//!
//! The trade-off: hyper-util's client was pooled with before. It has one HTTP/2 connection for each destination, whatever it holds up, and
//! its idle connections cannot be closed from outside.

mod body;
mod keeping;
mod lane;

pub use body::{RequestBody, UpstreamBody};
pub use lane::{HTTP1_BUFFER, MAX_FIELDS};

use parking_lot::RwLock;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, Uri, Version, header};

use crate::bound::Unbind;
use crate::budget::{Idle, Reclaim};
use crate::connector::{HandOver, Reach};
use crate::destination::LaneKey;
use crate::ending::Asks;
use crate::{
    Alpn, AlpnCache, Binding, ClientEnd, Destination, Dialer, Scheme, SendError, UpstreamBudget, UpstreamStream, UpstreamTcp, UpstreamTls,
};
use body::Outgoing;
use lane::Lane;

/// Bounds of the pools.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// How long an idle connection is kept. 30 s by default: less than common servers' own limits,
    /// so that we close first.
    pub idle_timeout: Duration,
    /// How many idle HTTP/1.1 connections are kept per destination. 32 by default.
    pub idle_per_destination: usize,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self { idle_timeout: Duration::from_secs(30), idle_per_destination: 32 }
    }
}

/// Locks that lanes are found under.
const SHARDS: usize = 16;
/// How often a request is sent again that had not begun on a connection that turned out to be closed.
const RETRIES: usize = 3;
/// How often it is looked for connections that are idle too long, as a part of that time.
const LOOKS: u32 = 4;
/// The shortest interval of looking for them.
const LOOK_AT_LEAST: Duration = Duration::from_millis(50);
/// Most servers that are remembered for closing connections.
const MOST_REMEMBERED: usize = 1024;

/// Connection pools for requests whose bodies are of type `B`.
pub struct Pools<B: RequestBody> {
    inner: Arc<Inner<B>>,
}

/// The lanes of one shard.
type Lanes<B> = HashMap<LaneKey, Arc<Lane<B>>>;

pub(crate) struct Inner<B: RequestBody> {
    pub(crate) reach: Arc<Reach>,
    pub(crate) hand_over: HandOver,
    pub(crate) options: PoolOptions,
    alpn: Arc<AlpnCache>,
    /// Servers with whom TLS came about lately, whatever they were offered.
    verified: AlpnCache,
    shards: [RwLock<Lanes<B>>; SHARDS],
    hasher: RandomState,
    swept: AtomicBool,
}

impl<B: RequestBody> std::fmt::Debug for Pools<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pools").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

impl<B: RequestBody> Pools<B> {
    /// Pools that dial with `dialer`, verify with `tls`, and keep `alpn` true. How many connections there may be is the
    /// dialer's to say.
    #[must_use]
    pub fn new(dialer: Dialer, tls: UpstreamTls, alpn: Arc<AlpnCache>, options: PoolOptions) -> Self {
        let budget = dialer.budget().clone();
        let inner = Arc::new(Inner {
            reach: Arc::new(Reach { dialer, tls }),
            hand_over: HandOver::default(),
            options,
            alpn,
            verified: AlpnCache::default(),
            shards: std::array::from_fn(|_| RwLock::default()),
            hasher: RandomState::new(),
            swept: AtomicBool::new(false),
        });
        let weak: std::sync::Weak<Inner<B>> = Arc::downgrade(&inner);
        budget.keeps(weak);
        Self { inner }
    }

    /// The bound on connections to upstreams, of these pools and all that share their budget.
    #[must_use]
    pub fn most_connections(&self) -> usize {
        self.inner.budget().counts().most
    }

    /// Sends a request and waits for the response head; an HTTP/1.1 upgrade goes on with
    /// `hyper::upgrade::on`. Of the URI only path and query count: the authority is the destination's
    /// (but the request's own, if it has one, at a fixed address without TLS), and so is the version; to another proxy a URI with an authority goes
    /// as it is. A Host header goes upstream as it is over HTTP/1.1 and is left out over
    /// HTTP/2, where :authority takes its place (RFC 9113 section 8.3.1). Connection headers are the
    /// caller's to remove (RFC 9110 section 7.6.1).
    ///
    /// A request is sent again by itself only if it had not begun on a reused connection.
    ///
    /// # Errors
    /// [`SendError`] tells apart what the caller must answer differently.
    pub async fn send(&self, dest: &Destination, mut req: Request<B>) -> Result<Response<UpstreamBody>, SendError> {
        let path = req.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let authority = match req.uri().authority() {
            // Without TLS nothing but the request says which of the servers at this address is meant.
            Some(asked) if dest.scheme() == Scheme::Http && dest.address().is_some() => asked.clone(),
            _ => dest.uri_authority().clone(),
        };
        if dest.alpn() == Alpn::H2 {
            *req.uri_mut() = dest.uri(authority.clone(), path)?;
            *req.version_mut() = Version::HTTP_2;
            req.headers_mut().remove(header::HOST);
        } else {
            *req.uri_mut() = if *req.method() == Method::CONNECT {
                Uri::from(authority.clone())
            } else if dest.is_to_a_proxy() && req.uri().authority().is_some() {
                // Its scheme says what that proxy is to fetch it by.
                std::mem::take(req.uri_mut())
            } else {
                Uri::from(path)
            };
            *req.version_mut() = Version::HTTP_11;
            if !req.headers().contains_key(header::HOST) {
                let host = HeaderValue::from_str(dest.authority()).map_err(|e| SendError::Other(e.to_string()))?;
                req.headers_mut().insert(header::HOST, host);
            }
            // Of these methods the HTTP library sends a body of unknown length only where its head says so.
            let is_mostly_without = matches!(*req.method(), Method::GET | Method::HEAD);
            if is_mostly_without && !req.headers().contains_key(header::CONTENT_LENGTH) && may_have_bytes(req.body()) {
                req.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
        }
        let sent = self.carry(LaneKey { key: dest.key().clone(), scheme: dest.scheme(), authority }, req.map(Outgoing::new)).await;
        sent.inspect_err(|error| {
            if matches!(error, SendError::ProtocolChanged | SendError::Tls(_)) {
                let (host, port) = (dest.alpn_host(), dest.port());
                self.inner.alpn.forget(&host, port);
                self.inner.verified.forget(&host, port);
            }
        })
    }

    async fn carry(&self, to: LaneKey, mut req: Request<Outgoing<B>>) -> Result<Response<UpstreamBody>, SendError> {
        let mut again = RETRIES;
        let asks = req.extensions().get().map_or(Asks::Again, |client: &Arc<ClientEnd>| client.asks());
        loop {
            let carrier = self.inner.lane(&to).carrier(&self.inner, asks).await?;
            match carrier.send(req).await {
                Ok(response) => return Ok(response),
                Err((_, Some(unsent))) if again > 0 => {
                    again -= 1;
                    req = unsent;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// A binding for a client's connection on which somebody logs in for the connection.
    #[must_use]
    pub fn binding(&self) -> Binding {
        Binding::new(&self.inner)
    }

    /// Hands over a connection that is open already, so that the next connection to `dest` is this
    /// one. A plain one is shaken hands with when it is wanted, if `dest` asks for TLS. Unused it is
    /// closed after a few seconds; of those with TLS at most one waits per destination. A connection
    /// that speaks another protocol than `dest` says is closed at once.
    pub fn offer(&self, dest: &Destination, stream: UpstreamStream) {
        if (stream.alpn() == Alpn::H2) == (dest.alpn() == Alpn::H2) || matches!(stream, UpstreamStream::Plain(_)) {
            self.inner.hand_over.put(dest, stream);
        }
    }

    /// Finds out which of the protocols that the client offers the upstream would choose: from memory,
    /// or by connecting, in which case the connection is kept for the first request.
    ///
    /// # Errors
    /// [`SendError::Dial`] and [`SendError::Tls`].
    pub async fn negotiate(&self, dest: Destination, offered: &[Alpn]) -> Result<Destination, SendError> {
        match self.known(&dest, offered) {
            Some(alpn) => Ok(dest.with_alpn(alpn)),
            None => {
                let tcp = self.inner.reach.dial(&dest).await?;
                self.ask(dest, offered, tcp).await
            }
        }
    }

    /// As [`negotiate`](Self::negotiate), over a connection that is open already, and whatever was offered the server has shown lately that
    /// its certificate is good: its client's handshake is to fail where the server's does. The connection is kept for the first request
    /// either way.
    ///
    /// # Errors
    /// [`SendError::Tls`].
    pub async fn negotiate_over(&self, dest: Destination, offered: &[Alpn], tcp: UpstreamTcp) -> Result<Destination, SendError> {
        match self.known(&dest, offered) {
            Some(alpn) => {
                let dest = dest.with_alpn(alpn);
                let stream = match dest.scheme() {
                    Scheme::Https if self.inner.verified.get(&dest.alpn_host(), dest.port()).is_none() => {
                        self.shakes_hands(&dest, offered, tcp).await?
                    }
                    Scheme::Https | Scheme::Http => UpstreamStream::Plain(tcp),
                };
                self.offer(&dest, stream);
                Ok(dest)
            }
            None => self.ask(dest, offered, tcp).await,
        }
    }

    pub(crate) fn hand_over(&self) -> &HandOver {
        &self.inner.hand_over
    }

    pub(crate) fn reach(&self) -> &Reach {
        &self.inner.reach
    }

    /// The protocol, where there is nothing to ask.
    fn known(&self, dest: &Destination, offered: &[Alpn]) -> Option<Alpn> {
        if dest.scheme() == Scheme::Http {
            return Some(dest.alpn());
        }
        if !(offered.contains(&Alpn::H2) && offered.contains(&Alpn::Http11)) {
            // No choice.
            return Some(offered.first().copied().unwrap_or(Alpn::None));
        }
        self.inner.alpn.get(&dest.alpn_host(), dest.port())
    }

    async fn shakes_hands(&self, dest: &Destination, offered: &[Alpn], tcp: UpstreamTcp) -> Result<UpstreamStream, SendError> {
        let stream = self.inner.reach.tls.connect(tcp, dest.host(), offered).await?;
        self.inner.verified.learn(&dest.alpn_host(), dest.port(), stream.alpn());
        Ok(stream)
    }

    async fn ask(&self, dest: Destination, offered: &[Alpn], tcp: UpstreamTcp) -> Result<Destination, SendError> {
        let stream = self.shakes_hands(&dest, offered, tcp).await?;
        let chosen = stream.alpn();
        self.inner.alpn.learn(&dest.alpn_host(), dest.port(), chosen);
        let dest = dest.with_alpn(chosen);
        self.offer(&dest, stream);
        Ok(dest)
    }
}

impl<B: RequestBody> Inner<B> {
    fn shard(&self, to: &LaneKey) -> &RwLock<Lanes<B>> {
        // The remainder is below the length.
        &self.shards[usize::try_from(self.hasher.hash_one(to) % SHARDS as u64).unwrap_or(0)]
    }

    fn lane(&self, to: &LaneKey) -> Arc<Lane<B>> {
        let shard = self.shard(to);
        if let Some(lane) = shard.read().get(to) {
            return lane.clone();
        }
        let mut lanes = shard.write();
        lanes.entry(to.clone()).or_insert_with(|| Arc::new(Lane::new(to.clone()))).clone()
    }

    pub(crate) fn budget(&self) -> &Arc<UpstreamBudget> {
        self.reach.dialer.budget()
    }

    fn each_lane(&self, mut look: impl FnMut(&Lane<B>)) {
        for shard in &self.shards {
            shard.read().values().for_each(|lane| look(lane));
        }
    }

    /// Closes connections that are idle too long, and forgets lanes without connections.
    fn sweep(&self) {
        let Some(since) = Instant::now().checked_sub(self.options.idle_timeout) else { return };
        let (mut closed, mut remembered) = (0, 0);
        for shard in &self.shards {
            let mut lanes = shard.write();
            lanes.retain(|_, lane| {
                // What is bound is as its server and its client have it.
                if !lane.is_bound() {
                    closed += lane.close_idle(since);
                }
                // A lane about to be used is referenced from here.
                if Arc::strong_count(lane) > 1 || !lane.is_empty() {
                    return true;
                }
                remembered += usize::from(lane.is_to_be_remembered());
                lane.is_to_be_remembered() && remembered <= MOST_REMEMBERED
            });
        }
        self.budget().idle_changed(-i64::try_from(closed).unwrap_or(0));
    }
}

impl<B: RequestBody> Inner<B> {
    /// Sees to it that idle connections are closed in time, from the first connection on.
    pub(crate) fn sweep_from_now_on(self: &Arc<Self>) {
        if self.swept.swap(true, Ordering::Relaxed) {
            return;
        }
        // Ends with the pools; a weak reference, so that it keeps nothing alive.
        let (weak, every) = (Arc::downgrade(self), (self.options.idle_timeout / LOOKS).max(LOOK_AT_LEAST));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                let Some(inner) = weak.upgrade() else { return };
                inner.sweep();
            }
        });
    }
}

impl<B: RequestBody> Unbind for Inner<B> {
    fn unbind(&self, id: u64) {
        let mut closed = 0;
        for shard in &self.shards {
            shard.write().retain(|to, lane| {
                let bound = to.key.bound == Some(id);
                if bound {
                    closed += lane.close();
                }
                !bound
            });
        }
        self.budget().idle_changed(-i64::try_from(closed).unwrap_or(0));
    }
}

impl<B: RequestBody> Reclaim for Inner<B> {
    fn idle(&self, found: &mut Vec<Idle>) {
        self.each_lane(|lane| lane.idle_since(found));
    }

    fn close(&self, principal: &str, since: Instant) -> usize {
        let mut closed = 0;
        self.each_lane(|lane| {
            if **lane.principal() == *principal {
                closed += lane.close_idle(since);
            }
        });
        self.budget().idle_changed(-i64::try_from(closed).unwrap_or(0));
        closed
    }
}
/// False if a body is known to be empty.
fn may_have_bytes(body: &impl RequestBody) -> bool {
    !body.is_end_stream() && body.size_hint().exact() != Some(0)
}
