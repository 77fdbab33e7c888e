//! TLS, certificates, serving, dialling and connection pools that the intercepting proxy and the portal share.
//!
//! Towards clients: [`CertificateAuthority`] and [`LeafCache`] answer for any server name, [`server`] is the bounded way to serve
//! HTTP, from accepting to the join at the end. Towards
//! upstreams: [`Dialer`] connects to an address that was checked after resolving, [`UpstreamTls`]
//! verifies it, [`Pools`] keeps the connections apart by principal. What gnomon asks on its own account goes through [`client`].
//!
//! It deliberately judges nothing and knows no MCP: what a request means is decided above it.
//!
//! ```
//! use std::sync::Arc;
//! use gnomon_http::{Alpn, CertificateAuthority, LEAF_CAPACITY, LeafCache, LeafName};
//!
//! # let dir = tempfile::tempdir()?;
//! # let state_dir = dir.path();
//! let (ca, _provenance) = CertificateAuthority::load_or_create(state_dir)?;
//! println!("trust {} to see inside TLS", ca.fingerprint_sha256());
//! let leaves = LeafCache::new(Arc::new(ca), LEAF_CAPACITY);
//! let config = leaves.server_config(&LeafName::parse("mcp.example")?, Alpn::H2)?;
//! assert_eq!(config.alpn_protocols, [b"h2"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The trade-off: pooling is our own, over hyper's connections. hyper-util's client was simpler, but it keeps one HTTP/2
//! connection for each destination, and nobody can have its idle connections closed for others. The pools stay apart by
//! principal because an upstream may authenticate the connection rather than the request.

mod abort;
mod alpn;
mod budget;
mod ca;
pub mod client;
mod connector;
mod destination;
mod dial;
mod ending;
mod forbidden;
mod install;
mod keepalive;
mod leaf;
mod lookups;
mod netns;
mod parent;
mod pool;
mod raw;
mod resolve;
mod send_error;
mod served;
pub mod server;
mod stream;
mod tcp;
mod upstream;
mod whole;
mod windows;

pub use abort::AbortBody;
pub use alpn::{ALPN_CAPACITY, ALPN_TTL, Alpn, AlpnCache};
pub use budget::{UpstreamBudget, UpstreamCounts};
pub use ca::{CaCertificate, CaError, CertificateAuthority, Present, Provenance};
pub use destination::{Destination, InvalidDestination, Scheme};
pub use dial::{DialError, DialOptions, Dialer, MAX_LOOKUPS};
pub use ending::ClientEnd;
pub use forbidden::{ForbiddenAddresses, ForbiddenReason};
pub use gnomon_wire::connect::ConnectOutcome;
pub use install::{InstallError, StoreStatus, TrustStore};
pub use leaf::{InvalidLeafName, LEAF_CAPACITY, LeafCache, LeafName};
pub use netns::{HostUser, IpFamily, NearEnd, NetNs, Sockets};
pub use parent::{ConnectAnswer, ConnectHead, ConnectRequest, MAX_CONNECT_HEAD};
pub use pool::{HTTP1_BUFFER, MAX_FIELDS, PoolOptions, Pools, RequestBody, UpstreamBody};
pub use resolve::{InvalidResolve, ResolveOverride};
pub use send_error::SendError;
pub use served::{ClientCertificates, ServedError, Shown, authorities, served};
pub use stream::UpstreamStream;
pub use tcp::UpstreamTcp;
pub use upstream::{TlsSetupError, UpstreamTls, UpstreamTlsError};
pub use whole::{TooLarge, Whole};
