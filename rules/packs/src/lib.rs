//! Rules and catalogues that ship with gnomon: plain YAML and CSV, and a loader small enough to
//! trust at a glance.
//!
//! The data is the product here, so it lives in files an administrator can read on disk and copy;
//! this crate only embeds them in the binary ([`packs`]) and parses the catalogues once
//! ([`HostCatalogue`], [`PackageCatalogue`], [`ConfigCatalogue`], [`AddonCatalogue`], [`AgentCatalogue`]).
//!
//! It deliberately does not parse or judge rules: a rule is handed over as text with its path, and
//! the rule engine alone says whether it is well formed. That keeps shipped rules and an
//! administrator's rules on one code path. The price is that a broken shipped rule is found by
//! tests and at load time, not by the compiler.
//!
//! ```
//! use gnomon_packs::{HostCatalogue, HostClass};
//!
//! let shipped = HostCatalogue::shipped()?;
//! let own = HostCatalogue::from_csv("host,kind\n*.agents.corp.example,mcp\n")?;
//! let hosts = shipped.merge(own);
//! assert_eq!(hosts.lookup("a.agents.corp.example").map(|e| e.kind), Some(HostClass::Mcp));
//! assert_eq!(hosts.lookup("agents.corp.example.evil.example").map(|e| e.kind), None);
//! # Ok::<(), gnomon_packs::CatalogueError>(())
//! ```
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod addons;
mod agents;
mod configs;
mod csv;
mod hosts;
mod pack;
mod packages;

pub use addons::{AddonCatalogue, AddonKind, AddonPlace};
pub use agents::{Agent, AgentCatalogue};
pub use configs::{ConfigCatalogue, ConfigFile, ConfigFormat, ConfigScope, Os};
pub use csv::{CatalogueError, Cause, MAX_LINE_BYTES, MAX_ROWS};
pub use hosts::{HostCatalogue, HostClass, HostEntry, MAX_HOST_BYTES};
pub use pack::{Enablement, Pack, packs};
pub use packages::{Ecosystem, Package, PackageCatalogue};
