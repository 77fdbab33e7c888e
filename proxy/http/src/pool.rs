//! Connections to upstreams, kept open and kept apart.
//!
//! One hyper-util client per (protocol, principal, fixed address); each pools by (scheme, authority).
//! Requests of different principals never share a connection, because an upstream may have
//! authenticated the connection. A connection that was opened to ask for the upstream's protocol is handed over and
//! becomes the first pooled one.

use std::convert::Infallible;
use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Request, Response, Uri, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use quick_cache::sync::Cache;
use smol_str::{SmolStr, format_smolstr};
use tokio::net::TcpStream;

use crate::connector::{Connector, HandOver, Reach};
use crate::dial::unbracketed;
use crate::{Alpn, AlpnCache, ConnectHead, Dialer, NetNs, SendError, UpstreamStream, UpstreamTls};

/// With or without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// With TLS, verified.
    Https,
    /// Without.
    Http,
}

impl Scheme {
    fn of_uri(self) -> http::uri::Scheme {
        match self {
            Self::Https => http::uri::Scheme::HTTPS,
            Self::Http => http::uri::Scheme::HTTP,
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// What decides which connections may carry a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) alpn: Alpn,
    pub(crate) principal: Arc<str>,
    /// Where to connect, whatever the host resolves to.
    pub(crate) address: Option<SocketAddr>,
    /// Where to connect from; `None` is our own network namespace.
    pub(crate) netns: Option<NetNs>,
    /// What the proxy at `address` is asked for a tunnel with.
    pub(crate) through: Option<ConnectHead>,
}

/// Where a request goes, over which protocol, and on whose behalf: the pool key. Made once per
/// client connection, so that sending a request formats nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    scheme: Scheme,
    host: SmolStr,
    port: u16,
    authority: Authority,
    key: PoolKey,
}

/// The host can be in no URI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host name or IP address")]
pub struct InvalidDestination(String);

impl Destination {
    /// A destination. `host` is a name or an IP address (IPv6 with or without brackets); `principal`
    /// is whoever the connection belongs to, and is only ever compared.
    ///
    /// # Errors
    /// When the host cannot be in a URI.
    pub fn new(scheme: Scheme, host: &str, port: u16, alpn: Alpn, principal: Arc<str>) -> Result<Self, InvalidDestination> {
        let host = unbracketed(host).to_ascii_lowercase();
        let invalid = || InvalidDestination(host.chars().filter(|c| !c.is_control()).take(120).collect());
        let shown = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.clone() };
        // The default port is left out, as clients do: HTTP/2 servers see this as :authority.
        let text = if port == scheme.default_port() { shown } else { format!("{shown}:{port}") };
        let authority: Authority = text.parse().map_err(|_| invalid())?;
        if host.is_empty() || unbracketed(authority.host()) != host || authority.as_str().contains('@') {
            return Err(invalid());
        }
        Ok(Self {
            scheme,
            host: SmolStr::new(&host),
            port,
            authority,
            key: PoolKey { alpn, principal, address: None, netns: None, through: None },
        })
    }

    /// The same destination over another protocol.
    #[must_use]
    pub fn with_alpn(mut self, alpn: Alpn) -> Self {
        self.key.alpn = alpn;
        self
    }

    /// The same destination, but reached at this address whatever the host resolves to. The host is
    /// what the server is asked and verified for; requests to different addresses of one host share
    /// no connection.
    #[must_use]
    pub fn at(mut self, address: SocketAddr) -> Self {
        self.key.address = Some(address);
        self
    }

    /// The same destination, but reached from that network namespace; `None` is our own.
    #[must_use]
    pub fn within(mut self, netns: Option<NetNs>) -> Self {
        self.key.netns = netns;
        self
    }

    /// The same destination, but behind a proxy at the fixed address, which is asked for a tunnel.
    #[must_use]
    pub fn through(mut self, head: Option<ConnectHead>) -> Self {
        self.key.through = head;
        self
    }

    /// The fixed address, if there is one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.key.address
    }

    /// With or without TLS.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host in lower case, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The protocol that requests to it use.
    #[must_use]
    pub fn alpn(&self) -> Alpn {
        self.key.alpn
    }

    /// On whose behalf.
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.key.principal
    }

    /// Host, and the port where it is not the scheme's default: what Host and :authority say.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    pub(crate) fn key(&self) -> &PoolKey {
        &self.key
    }

    pub(crate) fn uri_authority(&self) -> &Authority {
        &self.authority
    }

    /// Whose choice of protocol is remembered: servers at fixed addresses of one name may differ.
    fn alpn_host(&self) -> SmolStr {
        match (self.key.address, self.key.netns) {
            (Some(address), None) => format_smolstr!("{}@{address}", self.host),
            (Some(address), Some(NetNs(netns))) => format_smolstr!("{}@{address}%{netns}", self.host),
            (None, Some(NetNs(netns))) => format_smolstr!("{}%{netns}", self.host),
            (None, None) => self.host.clone(),
        }
    }

    fn uri(&self, authority: Authority, path: PathAndQuery) -> Result<Uri, SendError> {
        Uri::builder()
            .scheme(self.scheme.of_uri())
            .authority(authority)
            .path_and_query(path)
            .build()
            .map_err(|e| SendError::Other(e.to_string()))
    }
}

/// Bounds of the pools.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// How many combinations of protocol, principal and fixed address have a pool; the least used goes
    /// first. 1024 by default.
    pub pools: NonZeroUsize,
    /// How long an idle connection is kept. 30 s by default: less than common servers' own limits,
    /// so that we close first.
    pub idle_timeout: Duration,
    /// How many idle HTTP/1.1 connections are kept per destination. 32 by default.
    pub idle_per_destination: usize,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self { pools: NonZeroUsize::MIN.saturating_add(1023), idle_timeout: Duration::from_secs(30), idle_per_destination: 32 }
    }
}

/// An HTTP/2 connection that says nothing for this long while streams are open is asked for a sign of life.
const H2_KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How long the answer to that may take.
const H2_KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How large an upstream's response head may be over HTTP/2. The library's 16 KiB is less than what
/// it accepts over HTTP/1.1, and some sites' cookies need more.
const H2_MAX_HEADER_LIST: u32 = 64 << 10;

/// Connection pools for requests whose bodies are of type `B`.
pub struct Pools<B> {
    clients: Cache<PoolKey, Arc<Client<Connector, B>>>,
    reach: Arc<Reach>,
    hand_over: HandOver,
    alpn: Arc<AlpnCache>,
    options: PoolOptions,
}

impl<B> std::fmt::Debug for Pools<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pools").field("pools", &self.clients.len()).field("options", &self.options).finish_non_exhaustive()
    }
}

impl<B> Pools<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Pools that dial with `dialer`, verify with `tls`, and keep `alpn` true.
    #[must_use]
    pub fn new(dialer: Dialer, tls: UpstreamTls, alpn: Arc<AlpnCache>, options: PoolOptions) -> Self {
        Self {
            clients: Cache::new(options.pools.get()),
            reach: Arc::new(Reach { dialer, tls }),
            hand_over: HandOver::default(),
            alpn,
            options,
        }
    }

    /// Sends a request and waits for the response head; an HTTP/1.1 upgrade goes on with
    /// `hyper::upgrade::on`. Of the URI only path and query count: the authority is the destination's
    /// (but the request's own, if it has one, at a fixed address without TLS), and so is the version. A Host header goes upstream as it is over HTTP/1.1 and is left out over
    /// HTTP/2, where :authority takes its place (RFC 9113 section 8.3.1). Connection headers are the
    /// caller's to remove (RFC 9110 section 7.6.1).
    ///
    /// A request is sent again by itself only if it had not begun on a reused connection.
    ///
    /// # Errors
    /// [`SendError`] tells apart what the caller must answer differently.
    pub async fn send(&self, dest: &Destination, mut req: Request<B>) -> Result<Response<Incoming>, SendError> {
        let path = req.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let authority = match req.uri().authority() {
            // Without TLS nothing but the request says which of the servers at this address is meant.
            Some(asked) if dest.scheme() == Scheme::Http && dest.address().is_some() => asked.clone(),
            _ => dest.authority.clone(),
        };
        *req.uri_mut() = dest.uri(authority, path)?;
        if dest.alpn() == Alpn::H2 {
            *req.version_mut() = Version::HTTP_2;
            req.headers_mut().remove(header::HOST);
        } else {
            *req.version_mut() = Version::HTTP_11;
            // Set here, as the library would panic on an authority that is no header value.
            if !req.headers().contains_key(header::HOST) {
                let host = HeaderValue::from_str(dest.authority()).map_err(|e| SendError::Other(e.to_string()))?;
                req.headers_mut().insert(header::HOST, host);
            }
        }
        self.client(dest).request(req).await.map_err(|error| {
            let error = SendError::read(&error);
            if error == SendError::ProtocolChanged {
                self.alpn.forget(&dest.alpn_host(), dest.port());
            }
            error
        })
    }

    /// Hands over a connection that is open already, so that the next connection to `dest` is this
    /// one. A plain one is shaken hands with when it is wanted, if `dest` asks for TLS. Unused it is
    /// closed after a few seconds; of those with TLS at most one waits per destination. A connection
    /// that speaks another protocol than `dest` says is closed at once.
    pub fn offer(&self, dest: &Destination, stream: UpstreamStream) {
        if (stream.alpn() == Alpn::H2) == (dest.alpn() == Alpn::H2) || matches!(stream, UpstreamStream::Plain(_)) {
            self.hand_over.put(dest, stream);
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
                let tcp = self.reach.dial(&dest).await?;
                self.ask(dest, offered, tcp).await
            }
        }
    }

    /// As [`negotiate`](Self::negotiate), over a connection that is open already. It is kept for the
    /// first request either way.
    ///
    /// # Errors
    /// [`SendError::Tls`].
    pub async fn negotiate_over(&self, dest: Destination, offered: &[Alpn], tcp: TcpStream) -> Result<Destination, SendError> {
        match self.known(&dest, offered) {
            Some(alpn) => {
                let dest = dest.with_alpn(alpn);
                self.offer(&dest, UpstreamStream::Plain(tcp));
                Ok(dest)
            }
            None => self.ask(dest, offered, tcp).await,
        }
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
        self.alpn.get(&dest.alpn_host(), dest.port())
    }

    async fn ask(&self, dest: Destination, offered: &[Alpn], tcp: TcpStream) -> Result<Destination, SendError> {
        let stream = self.reach.tls.connect(tcp, dest.host(), offered).await?;
        let chosen = stream.alpn();
        self.alpn.learn(&dest.alpn_host(), dest.port(), chosen);
        let dest = dest.with_alpn(chosen);
        self.offer(&dest, stream);
        Ok(dest)
    }

    fn client(&self, dest: &Destination) -> Arc<Client<Connector, B>> {
        // First requests at the same time wait for one client: over HTTP/2 they then share a connection.
        match self.clients.get_or_insert_with(dest.key(), || Ok::<_, Infallible>(Arc::new(self.make(dest)))) {
            Ok(client) => client,
            Err(never) => match never {},
        }
    }

    fn make(&self, dest: &Destination) -> Client<Connector, B> {
        let connector = Connector::new(Arc::clone(&self.reach), self.hand_over.clone(), dest.key().clone());
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(self.options.idle_timeout)
            .pool_max_idle_per_host(self.options.idle_per_destination)
            .set_host(false);
        if dest.alpn() == Alpn::H2 {
            builder
                .http2_only(true)
                .http2_adaptive_window(true)
                .http2_max_header_list_size(H2_MAX_HEADER_LIST)
                .http2_keep_alive_interval(H2_KEEP_ALIVE_INTERVAL)
                .http2_keep_alive_timeout(H2_KEEP_ALIVE_TIMEOUT);
        }
        builder.build(connector)
    }
}
