//! Resolve, check, connect: from a name to a TCP connection that is allowed to exist.
//!
//! Addresses are tried in the resolver's order, each a short while after the one before
//! (RFC 8305 without its DNS part: both families come from one getaddrinfo call). The address that
//! was checked is the address that is dialled; nothing resolves twice.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gnomon_kit::unbracketed;
use gnomon_shares::Share;
use smol_str::SmolStr;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::lookups::{Lookups, MAX_ADDRESSES};
use crate::{
    ConnectHead, ConnectOutcome, ForbiddenAddresses, ForbiddenReason, IpFamily, NearEnd, ResolveOverride, Sockets, UpstreamBudget,
    UpstreamTcp,
};

/// How long an attempt has before the next address is tried beside it (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// The default bound on concurrent getaddrinfo calls: each holds a thread until the resolver gives up.
pub const MAX_LOOKUPS: usize = 192;
/// The longest DNS name in text form (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 253;

/// How to dial.
#[derive(Debug, Clone)]
pub struct DialOptions {
    /// Overrides of name resolution: those that fit host and port are all its addresses, in this order.
    pub resolve: Vec<ResolveOverride>,
    /// The time for resolving and connecting together. 10 s by default.
    pub connect_timeout: Duration,
    /// The addresses that are never dialled. None where an operator alone names the servers, whose addresses may be any.
    pub forbidden: Option<ForbiddenAddresses>,
    /// The budget of connections, shared with other dialers. Unbounded by default.
    pub budget: Arc<UpstreamBudget>,
    /// The bound on concurrent name lookups, [`MAX_LOOKUPS`] by default. One principal alone has at most two thirds.
    pub lookups: usize,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            resolve: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            forbidden: Some(ForbiddenAddresses::default()),
            budget: UpstreamBudget::unbounded(),
            lookups: MAX_LOOKUPS,
        }
    }
}

/// Opens TCP connections to upstreams. Clones share the bounds of connections and of name lookups.
#[derive(Debug, Clone)]
pub struct Dialer {
    options: Arc<DialOptions>,
    lookups: Arc<Lookups>,
    from: DialOrigin,
    /// The principal that connections are made for.
    principal: Arc<str>,
    /// The time for resolving and connecting, in place of the options'.
    patience: Option<Duration>,
}

/// The namespace and user that connections are made from, and the principal that they are made for.
#[derive(Clone, Default)]
struct DialOrigin {
    near: NearEnd,
    sockets: Arc<OnceLock<Arc<dyn Sockets>>>,
    /// Set to the moment when the first server was asked.
    asked: Option<Arc<OnceLock<Instant>>>,
}

impl std::fmt::Debug for DialOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DialOrigin").field("near", &self.near).finish_non_exhaustive()
    }
}

/// An error of dialling. The texts are fit for a client's eyes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The name has no address, or is no name.
    #[error("cannot resolve {host}: {cause}")]
    Resolve {
        /// The name as asked for.
        host: SmolStr,
        /// The resolver's error.
        cause: String,
    },
    /// The upstream answered with a reset.
    #[error("connection refused by {0}")]
    Refused(SocketAddr),
    /// No answer came in time.
    #[error("no connection to {host} port {port} within {limit:?}")]
    Timeout {
        /// The name as asked for.
        host: SmolStr,
        /// The port as asked for.
        port: u16,
        /// The time allowed.
        limit: Duration,
    },
    /// Every address of the name is one that is never dialled.
    #[error("{host} is {reason} ({address}), which gnomon does not connect to")]
    Forbidden {
        /// The name as asked for.
        host: SmolStr,
        /// The first address that was refused.
        address: SocketAddr,
        /// The reason.
        reason: ForbiddenReason,
    },
    /// No sensor opens sockets in that network namespace, or as that user.
    #[error("cannot connect to {address} from the program's network namespace as its user: {cause}")]
    OutOfReach {
        /// The address that was asked for.
        address: SocketAddr,
        /// The reason.
        cause: String,
    },
    /// Another proxy on the way does not open a tunnel.
    #[error("the proxy {address} opens no tunnel: {cause}")]
    Proxy {
        /// The proxy.
        address: SocketAddr,
        /// The proxy's status, or the error.
        cause: String,
    },
    /// The budget of connections is used up, or the principal's share of it.
    #[error("no connection to {host}: gnomon has {open} connections open, of at most {most}, and {refused}; try again later")]
    Short {
        /// The name as asked for.
        host: SmolStr,
        /// Connections to upstreams now.
        open: usize,
        /// The bound.
        most: usize,
        /// The bound that was reached.
        refused: gnomon_shares::Refused,
    },
    /// The network says no.
    #[error("cannot connect to {address}: {cause}")]
    Unreachable {
        /// The address that was tried last.
        address: SocketAddr,
        /// The system's word for it.
        cause: String,
    },
}

impl DialError {
    /// True if the address itself cannot be reached, so that a program would try another one.
    #[must_use]
    pub fn is_of_the_address(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Timeout { .. } | Self::Unreachable { .. })
    }
}

impl Dialer {
    /// A dialer with these options.
    #[must_use]
    pub fn new(options: DialOptions) -> Self {
        let lookups = Lookups::new(options.lookups);
        Self { options: Arc::new(options), lookups, from: DialOrigin::default(), principal: Arc::from(""), patience: None }
    }

    /// A dialer like this one whose connections and lookups are this principal's.
    #[must_use]
    pub fn on_behalf_of(&self, principal: Arc<str>) -> Self {
        Self { principal, ..self.clone() }
    }

    /// A dialer like this one that gives an address so much time.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self.clone() }
    }

    /// A dialer like this one that notes when it asked the first server: not before it has a socket, which others may have to open.
    #[must_use]
    pub fn noting(&self, asked: Arc<OnceLock<Instant>>) -> Self {
        Self { from: DialOrigin { asked: Some(asked), ..self.from.clone() }, ..self.clone() }
    }

    fn limit(&self) -> Duration {
        self.patience.unwrap_or(self.options.connect_timeout)
    }

    pub(crate) fn budget(&self) -> &Arc<UpstreamBudget> {
        &self.options.budget
    }

    /// Sets what opens the sockets of other network namespaces and users, for all clones. Only the first call counts.
    pub fn open_with(&self, sockets: Arc<dyn Sockets>) {
        let _ = self.from.sockets.set(sockets);
    }

    /// A dialer like this one that connects from there, and as that user. Names are resolved as ever.
    #[must_use]
    pub fn from(&self, near: NearEnd) -> Self {
        Self { from: DialOrigin { near, ..self.from.clone() }, ..self.clone() }
    }

    /// Connects to `host` (a name, an IPv4 address, or an IPv6 address with or without brackets).
    /// The socket has TCP_NODELAY set.
    ///
    /// # Errors
    /// Each [`DialError`] says what went wrong in one line. Of several addresses the last failure is returned.
    pub async fn tcp(&self, host: &str, port: u16) -> Result<UpstreamTcp, DialError> {
        let limit = self.limit();
        let attempt = async {
            let addresses = self.resolve(host, port).await?;
            let allowed = self.allowed(host, &addresses)?;
            self.connect_allowed(host, &allowed).await
        };
        timeout(limit, attempt).await.unwrap_or_else(|_| Err(DialError::Timeout { host: SmolStr::new(host), port, limit }))
    }

    /// Connects to one of the resolved addresses of `host`; each attempt starts a short while after the one before.
    ///
    /// # Errors
    /// As [`tcp`](Self::tcp).
    pub async fn one_of(&self, host: &str, addresses: &[SocketAddr]) -> Result<UpstreamTcp, DialError> {
        let limit = self.limit();
        let allowed = self.allowed(host, addresses)?;
        let port = addresses.first().map_or(0, SocketAddr::port);
        timeout(limit, self.connect_allowed(host, &allowed))
            .await
            .unwrap_or_else(|_| Err(DialError::Timeout { host: SmolStr::new(host), port, limit }))
    }

    /// Connects to an address that is already known, as in transparent interception.
    ///
    /// # Errors
    /// As [`tcp`](Self::tcp).
    pub async fn address(&self, address: SocketAddr) -> Result<UpstreamTcp, DialError> {
        self.tcp(&address.ip().to_string(), address.port()).await
    }

    /// Asks the proxy at the other end of a connection for a tunnel.
    ///
    /// # Errors
    /// [`DialError::Proxy`].
    pub async fn through(&self, mut tcp: UpstreamTcp, address: SocketAddr, head: &ConnectHead) -> Result<UpstreamTcp, DialError> {
        let failed = |cause: String| DialError::Proxy { address, cause };
        match head.ask(&mut tcp).await.map_err(|error| failed(error.to_string()))?.outcome {
            ConnectOutcome::Open | ConnectOutcome::OpenOrAnswered => Ok(tcp),
            ConnectOutcome::Refused(status, _) => Err(failed(format!("status {status}"))),
            ConnectOutcome::Unclear => Err(failed("its answer makes no sense".to_owned())),
        }
    }

    /// The addresses that [`tcp`](Self::tcp) would try, forbidden ones included.
    ///
    /// # Errors
    /// [`DialError::Resolve`] and [`DialError::Timeout`].
    pub async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
        let limit = self.limit();
        timeout(limit, self.resolve(host, port)).await.unwrap_or_else(|_| Err(DialError::Timeout { host: SmolStr::new(host), port, limit }))
    }

    /// The addresses for a caller who can do without: within this time, and at once where a name was not found a few seconds ago.
    ///
    /// # Errors
    /// [`DialError::Resolve`].
    pub async fn addresses_within(&self, patience: Duration, host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
        match self.written_down(host, port)? {
            Some(found) => Ok(found),
            None => {
                let failed = |cause: String| DialError::Resolve { host: SmolStr::new(unbracketed(host)), cause };
                self.lookups.addresses_within(patience, &self.principal, (unbracketed(host), port)).await.map_err(failed)
            }
        }
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
        match self.written_down(host, port)? {
            Some(found) => Ok(found),
            None => {
                let failed = |cause: String| DialError::Resolve { host: SmolStr::new(unbracketed(host)), cause };
                self.lookups.addresses(&self.principal, unbracketed(host), port).await.map_err(failed)
            }
        }
    }

    /// The addresses that need no lookup; none for a name that is to be resolved.
    fn written_down(&self, host: &str, port: u16) -> Result<Option<Vec<SocketAddr>>, DialError> {
        let host = unbracketed(host);
        let fits = |o: &&ResolveOverride| o.port == port && o.host.eq_ignore_ascii_case(host);
        let found: Vec<_> = self.options.resolve.iter().filter(fits).map(|fitting| fitting.address).take(MAX_ADDRESSES).collect();
        if !found.is_empty() {
            return Ok(Some(found));
        }
        if let Some(ip) = gnomon_kit::address(host) {
            return Ok(Some(vec![SocketAddr::new(ip, port)]));
        }
        if host.is_empty() || host.trim_end_matches('.').len() > MAX_HOST || host.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(DialError::Resolve { host: SmolStr::new(host), cause: "not a host name".to_owned() });
        }
        Ok(None)
    }

    /// The names, and the ports as clients ask for them, that are written down to lead to this address.
    pub fn written_down_to(&self, address: SocketAddr) -> impl Iterator<Item = (&SmolStr, u16)> {
        let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        let fits = move |o: &&ResolveOverride| canonical(o.address) == canonical(address);
        self.options.resolve.iter().filter(fits).map(|fitting| (&fitting.host, fitting.port))
    }

    /// Connects to one of these addresses of a host, once there is a place for it.
    async fn connect_allowed(&self, host: &str, addresses: &[SocketAddr]) -> Result<UpstreamTcp, DialError> {
        let place = self.options.budget.take(&self.principal).await.map_err(|refused| {
            let counts = self.options.budget.counts();
            DialError::Short { host: SmolStr::new(host), open: counts.open, most: counts.most, refused }
        })?;
        self.connect_any(addresses, place).await
    }

    /// The first connection that comes about. Only the first attempt is sure of a place.
    async fn connect_any(&self, addresses: &[SocketAddr], place: Share) -> Result<UpstreamTcp, DialError> {
        let from = &self.from;
        let (first, others) = match addresses {
            [] => return Err(DialError::Resolve { host: SmolStr::default(), cause: "it has no address".to_owned() }),
            [only] => return connect_one(from.clone(), *only, place).await,
            [first, others @ ..] => (*first, others),
        };
        // Dropping the set aborts the attempts that lost.
        let mut attempts = JoinSet::new();
        attempts.spawn(connect_one(from.clone(), first, place));
        let mut others = others.iter().copied().peekable();
        let mut failure = None;
        loop {
            let finished = match others.peek() {
                None => attempts.join_next().await,
                Some(_) => timeout(STAGGER, attempts.join_next()).await.unwrap_or(None),
            };
            match finished {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(e))) => failure = Some(e),
                Some(Err(_)) | None => {}
            }
            let Some(&next) = others.peek() else {
                if attempts.is_empty() {
                    return Err(failure.unwrap_or(DialError::Unreachable { address: first, cause: "no attempt finished".to_owned() }));
                }
                continue;
            };
            match self.options.budget.take_another(&self.principal) {
                Some(place) => {
                    others.next();
                    attempts.spawn(connect_one(from.clone(), next, place));
                }
                // Attempts in progress have places; the next one waits for theirs.
                None if !attempts.is_empty() => {}
                None => return Err(failure.unwrap_or(DialError::Unreachable { address: first, cause: "no attempt finished".to_owned() })),
            }
        }
    }

    fn allowed(&self, host: &str, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, DialError> {
        let mut refused = None;
        let mut allowed = Vec::with_capacity(addresses.len());
        for &address in addresses {
            // Loopback of another network namespace leads to none of our listeners.
            let elsewhere = self.from.near.netns.is_some() && address.ip().to_canonical().is_loopback();
            let refuses = self.options.forbidden.as_ref().and_then(|forbidden| forbidden.check(address));
            match refuses.filter(|reason| !elsewhere || *reason != ForbiddenReason::OwnListener) {
                Some(reason) => _ = refused.get_or_insert((address, reason)),
                None => allowed.push(address),
            }
        }
        match refused {
            Some((address, reason)) if allowed.is_empty() => Err(DialError::Forbidden { host: SmolStr::new(host), address, reason }),
            _ => Ok(allowed),
        }
    }
}

async fn connect_one(from: DialOrigin, address: SocketAddr, place: Share) -> Result<UpstreamTcp, DialError> {
    // Without a sensor that opens sockets, users whose filters differ from ours are not known either.
    let socket = match (from.near, from.sockets.get()) {
        (NearEnd { netns: None, user: None }, _) | (NearEnd { netns: None, .. }, None) => None,
        _ => Some(from.socket(address).await?),
    };
    if let Some(asked) = &from.asked {
        let _ = asked.set(Instant::now());
    }
    let connected = async {
        let stream = match socket {
            None => TcpStream::connect(address).await?,
            Some(socket) => socket.connect(address).await?,
        };
        // Without it Nagle and delayed ACKs stall small requests by 40 ms.
        stream.set_nodelay(true)?;
        crate::keepalive::watch(&stream)?;
        Ok(UpstreamTcp::new(stream, place))
    };
    connected.await.map_err(|e: io::Error| match e.kind() {
        ErrorKind::ConnectionRefused => DialError::Refused(address),
        _ => DialError::Unreachable { address, cause: e.to_string() },
    })
}

impl DialOrigin {
    async fn socket(&self, address: SocketAddr) -> Result<TcpSocket, DialError> {
        let out_of_reach = |cause: String| DialError::OutOfReach { address, cause };
        let family = if address.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 };
        let sockets = self.sockets.get().ok_or_else(|| out_of_reach("there is no sensor".to_owned()))?;
        sockets.open(self.near, family).await.map_err(|error| out_of_reach(error.to_string()))
    }
}
