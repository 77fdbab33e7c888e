//! The destination of a request, and the connections that may carry it.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::Uri;
use http::uri::{Authority, PathAndQuery};
use smol_str::{SmolStr, format_smolstr};

use crate::{Alpn, Binding, ConnectHead, NearEnd, NetNs, SendError};
use gnomon_kit::unbracketed;

/// The scheme of a request: with or without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// With TLS, verified.
    Https,
    /// Without TLS.
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

/// The properties of a destination that decide which connections may carry a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) alpn: Alpn,
    pub(crate) principal: Arc<str>,
    /// The address to connect to, whatever the host resolves to.
    pub(crate) address: Option<SocketAddr>,
    /// The namespace to connect from, and the user to connect as.
    pub(crate) near: NearEnd,
    /// The head that asks the proxy at `address` for a tunnel.
    pub(crate) through: Option<ConnectHead>,
    /// The client's connection that alone may use them ([`Binding`]).
    pub(crate) bound: Option<u64>,
}

/// The key of the connections that may carry a request: those of one lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LaneKey {
    pub(crate) key: PoolKey,
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
}

/// The server of a request, with the protocol and the principal: the pool key. Made once per
/// client connection, so that sending a request formats nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    scheme: Scheme,
    host: SmolStr,
    port: u16,
    authority: Authority,
    /// True if the other end is another proxy, to which requests name their servers.
    to_a_proxy: bool,
    key: PoolKey,
}

/// The host can be in no URI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host name or IP address")]
pub struct InvalidDestination(String);

impl Destination {
    /// A destination. `host` is a name or an IP address (IPv6 with or without brackets); `principal`
    /// owns the connection, and is only ever compared.
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
            to_a_proxy: false,
            key: PoolKey { alpn, principal, address: None, near: NearEnd::default(), through: None, bound: None },
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

    /// The same destination, reached from this namespace and as this user.
    #[must_use]
    pub fn from(mut self, near: NearEnd) -> Self {
        self.key.near = near;
        self
    }

    /// The same destination, as another proxy: a request whose URI names a server is sent with all of it
    /// (absolute form, RFC 9112 section 3.2.2).
    #[must_use]
    pub fn to_a_proxy(mut self) -> Self {
        self.to_a_proxy = true;
        self
    }

    pub(crate) fn is_to_a_proxy(&self) -> bool {
        self.to_a_proxy
    }

    /// The same destination, but through a tunnel of the proxy at the fixed address.
    #[must_use]
    pub fn through(mut self, head: Option<ConnectHead>) -> Self {
        self.key.through = head;
        self
    }

    /// The same destination, over connections that are this binding's alone. With TLS that is HTTP/1.1, the only protocol that
    /// servers take log-ins of a connection over; without, the client has chosen the protocol.
    #[must_use]
    pub fn bound_to(mut self, binding: &Binding) -> Self {
        self.key.bound = Some(binding.id);
        if self.scheme == Scheme::Https && self.key.alpn == Alpn::H2 {
            self.key.alpn = Alpn::Http11;
        }
        self
    }

    /// True if it is reached through a tunnel of the proxy at the fixed address.
    #[must_use]
    pub fn is_through_a_proxy(&self) -> bool {
        self.key.through.is_some()
    }

    /// The fixed address, if there is one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.key.address
    }

    /// The scheme.
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

    /// The principal that owns the connections.
    #[must_use]
    pub fn principal(&self) -> &Arc<str> {
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

    /// The key under which the choice of protocol is remembered: servers at fixed addresses of one name may differ.
    pub(crate) fn alpn_host(&self) -> SmolStr {
        match (self.key.address, self.key.near.netns) {
            (Some(address), None) => format_smolstr!("{}@{address}", self.host),
            (Some(address), Some(NetNs(netns))) => format_smolstr!("{}@{address}%{netns}", self.host),
            (None, Some(NetNs(netns))) => format_smolstr!("{}%{netns}", self.host),
            (None, None) => self.host.clone(),
        }
    }

    pub(crate) fn uri(&self, authority: Authority, path: PathAndQuery) -> Result<Uri, SendError> {
        Uri::builder()
            .scheme(self.scheme.of_uri())
            .authority(authority)
            .path_and_query(path)
            .build()
            .map_err(|e| SendError::Other(e.to_string()))
    }
}
