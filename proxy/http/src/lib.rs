//! Serving, dialling, TLS to upstreams and connection pools that the intercepting proxy and the portal share.
//!
//! Towards clients, [`server`] is the bounded way to serve HTTP, from accepting to the join at the end; what TLS shows them is
//! `gnomon-tls`'s. Towards upstreams: [`Dialer`] connects to an address that was checked after resolving, [`UpstreamTls`]
//! verifies it, [`Pools`] keeps the connections apart by principal. What gnomon asks on its own account goes through [`client`].
//!
//! It deliberately judges nothing and knows no MCP: the meaning of a request is decided above it.
//!
//! ```
//! use gnomon_http::{DialOptions, Dialer, UpstreamTls, client::{Bounds, Client}};
//! use std::time::Duration;
//!
//! # async fn asks() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::alone(Dialer::new(DialOptions::default()), UpstreamTls::new(&[])?, "documents");
//! let request = http::Request::get("https://id.example/.well-known/openid-configuration").body(Default::default())?;
//! let answer = client.send(request, Bounds { answer: 64 << 10, patience: Duration::from_secs(5) }).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The trade-off: pooling is our own, over hyper's connections. hyper-util's client was simpler, but it keeps one HTTP/2
//! connection for each destination, and its idle connections cannot be closed to make room for others. The pools stay apart by
//! principal because an upstream may authenticate the connection rather than the request; where a client logs in that way, its requests
//! share connections with nobody else's ([`Binding`]).

mod abort;
mod alpn;
mod asked;
mod bound;
mod budget;
pub mod client;
mod connector;
mod destination;
mod dial;
mod ending;
mod forbidden;
mod keepalive;
mod lookups;
mod netns;
mod parent;
mod pool;
mod raw;
mod resolve;
mod send_error;
pub mod server;
mod stream;
mod tcp;
mod upstream;
mod whole;
mod windows;

pub use abort::AbortBody;
pub use alpn::{ALPN_CAPACITY, ALPN_TTL, AlpnCache};
pub use bound::{Binding, asks_for_a_bound_login, binds_a_connection};
pub use budget::{UpstreamBudget, UpstreamCounts};
pub use destination::{Destination, InvalidDestination, Scheme};
pub use dial::{DialError, DialOptions, Dialer, MAX_LOOKUPS};
pub use ending::{ClientEnd, switched};
pub use forbidden::{ForbiddenAddresses, ForbiddenReason};
pub use gnomon_tls::Alpn;
pub use gnomon_wire::connect::ConnectOutcome;
pub use netns::{HostUser, IpFamily, NearEnd, NetNs, Sockets};
pub use parent::{ConnectAnswer, ConnectHead, ConnectRequest, MAX_CONNECT_HEAD};
pub use pool::{HTTP1_BUFFER, MAX_FIELDS, PoolOptions, Pools, RequestBody, UpstreamBody};
pub use resolve::{InvalidResolve, ResolveOverride};
pub use send_error::SendError;
pub use stream::UpstreamStream;
pub use tcp::UpstreamTcp;
pub use upstream::{TlsSetupError, UpstreamTls, UpstreamTlsError};
pub use whole::{TooLarge, Whole};
