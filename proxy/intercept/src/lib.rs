//! The inline proxy: an explicit proxy (CONNECT and absolute-form) that reads what passes, judges
//! it, and answers in place of the server where a rule says so.
//!
//! The stages of a connection are read top to bottom: [`front`](self) takes the request to the
//! proxy, `tunnel` peeks at what the client sends and decides between splice and TLS, `serve` runs
//! HTTP on the intercepted side, `forward` takes one request through its judgement, and `upload`
//! and `download` carry the bodies. What is judged, and how, is in `gnomon-inspect`.
//!
//! The bias: **what no server could take for HTTP passes, untouched, unless a rule is for its host, port or program**: a proxy that
//! breaks what it does not know gets switched off, and then sees nothing. What some server could read and we cannot is refused
//! where a rule could match. [`gnomon_inspect::Passage`] is the table of both.
//!
//! An attacker controls everything a client or a server sends. Held bytes, open calls, cached
//! names and sessions are bounded; no client reaches our own listeners or a cloud's metadata service
//! through us; only loopback and authenticated users are served.
#![deny(missing_docs)]

#[macro_use]
mod through;

mod arriving;
mod asking;
mod client_seats;
mod continuing;
mod departure;
mod download;
mod elsewhere;
mod first_bytes;
mod forward;
mod framing;
mod front;
mod headers;
mod holding;
mod learnt;
mod leaving;
mod listeners;
mod odd;
mod options;
mod paired;
mod passages;
mod peek;
mod proxy;
mod redirected;
mod refused;
mod reply;
mod resets;
mod room;
mod route;
mod rule_addresses;
mod scrape;
mod serve;
mod shared;
mod short;
mod splice;
mod steps;
mod tunnel;
mod turns;
mod unverified;
mod upgrade;
mod upload;
mod watched;

pub use listeners::{AddListenerError, ListenerKey, RedirectedListeners};
pub use options::{ProxyError, ProxyOptions, ProxyUser, Secret};
pub use proxy::Proxy;
pub use redirected::Namespace;
pub use room::held_bytes_here;
pub use scrape::serve_metrics;
