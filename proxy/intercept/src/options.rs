//! The proxy's options, and why it may refuse to start.

use gnomon_http::{MAX_LOOKUPS, ResolveOverride, UpstreamBudget};
use gnomon_inspect::HostPatterns;
use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use thiserror::Error;

/// Options of one proxy.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// The address to listen on. Anything but loopback requires [`ProxyOptions::users`].
    pub listen: SocketAddr,
    /// Servers whose connections are passed on unread.
    pub bypass: HostPatterns,
    /// The users of the proxy; empty: any client that reaches a loopback listener.
    pub users: Vec<ProxyUser>,
    /// PEM files with further roots for upstream certificates.
    pub upstream_ca: Vec<PathBuf>,
    /// Fixed addresses for names.
    pub resolve: Vec<ResolveOverride>,
    /// Our other listeners (metrics …), which must not be reached through the proxy.
    pub own_listeners: Vec<SocketAddr>,
    /// Most client connections at a time, tunnels and WebSockets to their end; further ones take the seat of one that has
    /// said nothing, or wait to be accepted.
    pub max_connections: usize,
    /// Most connections of one user at a time, redirected or to the explicit proxy, by the uid or the name
    /// that was authenticated; further ones are refused.
    pub max_connections_per_user: usize,
    /// Connections to upstreams, with those of others that share it.
    pub upstreams: Arc<UpstreamBudget>,
    /// Most name lookups at a time.
    pub lookups: usize,
    /// Most bytes that are held or captured of bodies that are not whole, as they are charged; each principal has a quarter.
    pub held_bytes: usize,
    /// The timeout of a client's ClientHello or request head.
    pub hello_timeout: Duration,
    /// The time that connections get to finish once a stop was requested.
    pub drain: Duration,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
            bypass: HostPatterns::default(),
            users: Vec::new(),
            upstream_ca: Vec::new(),
            resolve: Vec::new(),
            own_listeners: Vec::new(),
            max_connections: 4096,
            max_connections_per_user: 1024,
            upstreams: UpstreamBudget::unbounded(),
            lookups: MAX_LOOKUPS,
            held_bytes: crate::room::MOST,
            hello_timeout: Duration::from_secs(10),
            drain: Duration::from_secs(5),
        }
    }
}

/// A user of the proxy (RFC 7617 Basic, in `Proxy-Authorization`).
#[derive(Clone, Debug)]
pub struct ProxyUser {
    /// The user's name; it becomes `user.name` in events.
    pub name: String,
    /// The password.
    pub password: Secret,
}

/// Text that is never shown.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// An error of starting the proxy.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// Others could use it as an open proxy.
    #[error(
        "{0} is not a loopback address and no users are configured, so anybody could use this proxy; listen on 127.0.0.1, or configure proxy.users"
    )]
    OpenProxy(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}{}", if cause.kind() == io::ErrorKind::AddrInUse { "; another program (perhaps another gnomon) has it: stop it or choose another with --listen" } else { "" })]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        cause: io::Error,
    },
    /// TLS towards upstreams cannot be set up.
    #[error(transparent)]
    Tls(#[from] gnomon_http::TlsSetupError),
}
