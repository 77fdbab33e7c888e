//! Resolve, check, connect: from a name to a TCP connection that is allowed to exist.
//!
//! Addresses are tried in the resolver's order, each a short while after the one before
//! (RFC 8305 without its DNS part: both families come from one getaddrinfo call). The address that
//! was checked is the address that is dialled; nothing resolves twice.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use smol_str::SmolStr;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{ConnectHead, ConnectOutcome, ForbiddenAddresses, ForbiddenReason, IpFamily, NetNs, ResolveOverride, Sockets};

/// How long an attempt has before the next address is tried beside it (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// How many addresses of one name are tried.
const MAX_ADDRESSES: usize = 16;
/// How many getaddrinfo calls may be under way: each holds a thread until the resolver gives up.
const MAX_LOOKUPS: usize = 64;
/// The longest DNS name in text form (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 253;

/// How to dial.
#[derive(Debug, Clone)]
pub struct DialOptions {
    /// Overrides of name resolution; the first that fits host and port wins.
    pub resolve: Vec<ResolveOverride>,
    /// The time for resolving and connecting together. 10 s by default.
    pub connect_timeout: Duration,
    /// What is never dialled.
    pub forbidden: ForbiddenAddresses,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self { resolve: Vec::new(), connect_timeout: Duration::from_secs(10), forbidden: ForbiddenAddresses::default() }
    }
}

/// Opens TCP connections to upstreams. Clones share the bound on concurrent name lookups.
#[derive(Debug, Clone)]
pub struct Dialer {
    options: Arc<DialOptions>,
    lookups: Arc<Semaphore>,
    from: Place,
}

/// Where connections are made from.
#[derive(Clone, Default)]
struct Place {
    /// None: our own namespace.
    netns: Option<NetNs>,
    sockets: Arc<OnceLock<Arc<dyn Sockets>>>,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("netns", &self.netns).finish_non_exhaustive()
    }
}

/// Why there is no connection. The texts are fit for a client's eyes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The name has no address, or is no name.
    #[error("cannot resolve {host}: {cause}")]
    Resolve {
        /// The name as asked for.
        host: SmolStr,
        /// What the resolver says.
        cause: String,
    },
    /// The upstream answered with a reset.
    #[error("connection refused by {0}")]
    Refused(SocketAddr),
    /// No answer in time.
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
        /// Why.
        reason: ForbiddenReason,
    },
    /// Nobody opens sockets for us in that network namespace.
    #[error("cannot connect to {address} from the program's network namespace: {cause}")]
    OutOfReach {
        /// The address that was asked for.
        address: SocketAddr,
        /// Why not.
        cause: String,
    },
    /// Another proxy on the way does not open a tunnel.
    #[error("the proxy {address} opens no tunnel: {cause}")]
    Proxy {
        /// The proxy.
        address: SocketAddr,
        /// Its status, or what went wrong with it.
        cause: String,
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

impl Dialer {
    /// A dialer with these options.
    #[must_use]
    pub fn new(options: DialOptions) -> Self {
        Self { options: Arc::new(options), lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)), from: Place::default() }
    }

    /// Has sockets of other network namespaces opened there, for all clones. Only the first call counts.
    pub fn open_with(&self, sockets: Arc<dyn Sockets>) {
        let _ = self.from.sockets.set(sockets);
    }

    /// A dialer like this one that connects from there; `None` is our own network namespace. Names are resolved as ever.
    #[must_use]
    pub fn within(&self, netns: Option<NetNs>) -> Self {
        Self { from: Place { netns, ..self.from.clone() }, ..self.clone() }
    }

    /// Connects to `host` (a name, an IPv4 address, or an IPv6 address with or without brackets).
    /// The socket has TCP_NODELAY set.
    ///
    /// # Errors
    /// Each [`DialError`] says what went wrong in one line. Of several addresses the last failure is told.
    pub async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let limit = self.options.connect_timeout;
        let attempt = async {
            let addresses = self.resolve(host, port).await?;
            let allowed = self.allowed(host, &addresses)?;
            connect_any(&self.from, &allowed).await
        };
        timeout(limit, attempt).await.unwrap_or_else(|_| Err(DialError::Timeout { host: SmolStr::new(host), port, limit }))
    }

    /// Connects to an address that is already known, as in transparent interception.
    ///
    /// # Errors
    /// As [`tcp`](Self::tcp).
    pub async fn address(&self, address: SocketAddr) -> Result<TcpStream, DialError> {
        self.tcp(&address.ip().to_string(), address.port()).await
    }

    /// Asks the proxy at the other end of a connection for a tunnel.
    ///
    /// # Errors
    /// [`DialError::Proxy`].
    pub async fn through(&self, mut tcp: TcpStream, address: SocketAddr, head: &ConnectHead) -> Result<TcpStream, DialError> {
        let failed = |cause: String| DialError::Proxy { address, cause };
        match head.ask(&mut tcp).await.map_err(|error| failed(error.to_string()))?.outcome {
            ConnectOutcome::Open => Ok(tcp),
            ConnectOutcome::Refused(status, _) => Err(failed(format!("status {status}"))),
            ConnectOutcome::Unclear => Err(failed("its answer makes no sense".to_owned())),
        }
    }

    /// The addresses that [`tcp`](Self::tcp) would try, forbidden ones included.
    ///
    /// # Errors
    /// [`DialError::Resolve`] and [`DialError::Timeout`].
    pub async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
        let limit = self.options.connect_timeout;
        timeout(limit, self.resolve(host, port)).await.unwrap_or_else(|_| Err(DialError::Timeout { host: SmolStr::new(host), port, limit }))
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
        let host = unbracketed(host);
        let fits = |o: &&ResolveOverride| o.port == port && o.host.eq_ignore_ascii_case(host);
        if let Some(found) = self.options.resolve.iter().find(fits) {
            return Ok(vec![found.address]);
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let failed = |cause: String| DialError::Resolve { host: SmolStr::new(host), cause };
        if host.is_empty() || host.trim_end_matches('.').len() > MAX_HOST || host.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(failed("not a host name".to_owned()));
        }
        // The permit moves into the blocking call: a lookup that outlives its caller still counts.
        let permit = Arc::clone(&self.lookups).acquire_owned().await.map_err(|e| failed(e.to_string()))?;
        let name = host.to_owned();
        let lookup = tokio::task::spawn_blocking(move || {
            let found = (name.as_str(), port).to_socket_addrs().map(|all| all.take(MAX_ADDRESSES).collect::<Vec<_>>());
            drop(permit);
            found
        });
        match lookup.await {
            Ok(Ok(found)) if found.is_empty() => Err(failed("it has no address".to_owned())),
            Ok(Ok(found)) => Ok(found),
            Ok(Err(e)) => Err(failed(e.to_string())),
            Err(e) => Err(failed(e.to_string())),
        }
    }

    fn allowed(&self, host: &str, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, DialError> {
        let mut refused = None;
        let mut allowed = Vec::with_capacity(addresses.len());
        for &address in addresses {
            // Loopback of another network namespace leads to none of our listeners.
            let elsewhere = self.from.netns.is_some() && address.ip().to_canonical().is_loopback();
            match self.options.forbidden.check(address).filter(|reason| !elsewhere || *reason != ForbiddenReason::OwnListener) {
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

/// `[::1]` → `::1`; anything else as it is.
pub(crate) fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

async fn connect_any(from: &Place, addresses: &[SocketAddr]) -> Result<TcpStream, DialError> {
    let (first, others) = match addresses {
        [] => return Err(DialError::Resolve { host: SmolStr::default(), cause: "it has no address".to_owned() }),
        [only] => return connect_one(from.clone(), *only).await,
        [first, others @ ..] => (*first, others),
    };
    // Dropping the set aborts the attempts that lost.
    let mut attempts = JoinSet::new();
    attempts.spawn(connect_one(from.clone(), first));
    let mut others = others.iter().copied();
    let mut failure = None;
    loop {
        let finished = match others.len() {
            0 => attempts.join_next().await,
            _ => timeout(STAGGER, attempts.join_next()).await.unwrap_or(None),
        };
        match finished {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(e))) => failure = Some(e),
            Some(Err(_)) | None => {}
        }
        match others.next() {
            Some(next) => _ = attempts.spawn(connect_one(from.clone(), next)),
            None if attempts.is_empty() => {
                return Err(failure.unwrap_or(DialError::Unreachable { address: first, cause: "no attempt finished".to_owned() }));
            }
            None => {}
        }
    }
}

async fn connect_one(from: Place, address: SocketAddr) -> Result<TcpStream, DialError> {
    let socket = match from.netns {
        None => None,
        Some(netns) => Some(from.socket(netns, address).await?),
    };
    let connected = async {
        let stream = match socket {
            None => TcpStream::connect(address).await?,
            Some(socket) => socket.connect(address).await?,
        };
        // Without it Nagle and delayed ACKs stall small requests by 40 ms.
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    connected.await.map_err(|e: io::Error| match e.kind() {
        ErrorKind::ConnectionRefused => DialError::Refused(address),
        _ => DialError::Unreachable { address, cause: e.to_string() },
    })
}

impl Place {
    async fn socket(&self, netns: NetNs, address: SocketAddr) -> Result<TcpSocket, DialError> {
        let out_of_reach = |cause: String| DialError::OutOfReach { address, cause };
        let family = if address.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 };
        let sockets = self.sockets.get().ok_or_else(|| out_of_reach("there is no sensor".to_owned()))?;
        sockets.open(netns, family).await.map_err(|error| out_of_reach(error.to_string()))
    }
}
