//! TLS towards clients: certificates of gnomon's own authority or from files, and the client certificates that are accepted.
//!
//! [`CertificateAuthority`] has its two files in the state folder, [`LeafCache`] answers with it for any server name, [`served`]
//! for the few names of a listener of ours, and [`TrustStore`] is where programs of this host look for authorities.
//!
//! It deliberately opens no socket and knows no HTTP: it only returns configurations of rustls.
//!
//! ```
//! use std::sync::Arc;
//! use gnomon_tls::{Alpn, CertificateAuthority, LEAF_CAPACITY, LeafCache, LeafName};
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
//! The trade-off: leaves are issued on demand, which costs the first connection to a name some 20 µs, rather than kept in a store that
//! would have to be protected.
#![deny(missing_docs)]

mod alpn;
mod ca;
mod error;
mod install;
mod key;
mod leaf;
mod served;

pub use alpn::Alpn;
pub use ca::{CaCertificate, CertificateAuthority, Present, Provenance};
pub use error::CaError;
pub use install::{InstallError, StoreStatus, TrustStore};
pub use leaf::{InvalidLeafName, LEAF_CAPACITY, LeafCache, LeafName};
pub use served::{ClientCertificates, ServedError, Shown, authorities, served};
