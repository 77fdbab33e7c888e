//! The inline proxy: an explicit proxy (CONNECT and absolute-form) that reads what passes, judges
//! it, and answers in place of the server where a rule says so.
//!
//! The stages of a connection are read top to bottom: [`front`](self) takes the request to the
//! proxy, `tunnel` peeks at what the client sends and decides between splice and TLS, `serve` runs
//! HTTP on the intercepted side, `forward` takes one request through its judgement, and `upload`
//! and `download` carry the bodies. What is judged, and how, is in `gnomon-inspect`.
//!
//! The bias: **what is not understood passes, untouched, unless a rule forbids it**. A proxy that
//! breaks what it does not know gets switched off, and then sees nothing.
//!
//! What an attacker controls: everything a client or a server sends. Held bytes, open calls, cached
//! names and sessions are bounded; nobody reaches our own listeners or a cloud's metadata service
//! through us; nobody but loopback or an authenticated user is served.
#![deny(missing_docs)]

mod aftermath;
mod chained;
mod download;
mod exposition;
mod finish;
mod first_bytes;
mod flows;
mod forward;
mod front;
mod headers;
mod listeners;
mod metrics;
mod options;
mod owners;
mod paired;
mod patience;
mod peek;
mod proxy;
mod recorder;
mod redirected;
mod reply;
mod scrape;
mod serve;
mod shares;
mod tunnel;
mod upgrade;
mod upload;

pub use finish::Finisher;
pub use flows::FlowOutcome;
pub use listeners::{AddListenerError, ListenerKey, Namespace, RedirectedListeners};
pub use metrics::{Metrics, Reload};
pub use options::{ProxyError, ProxyOptions, ProxyUser, Secret};
pub use owners::{Owned, Owners};
pub use proxy::Proxy;
pub use recorder::Recorder;
pub use scrape::serve_metrics;
pub use upload::Watched;
