//! Turns the reports of the kernel half into events, and tells the proxy the owners of its connections.
//!
//! The sensor's records arrive through shared memory ([`gnomon_sensor::Ring`]): a program connects, says a TLS
//! ClientHello, is done. [`Watch`] keeps a table of the flows that are open, asks the sensor who the processes are
//! in advance, and
//!
//! - answers the proxy ([`gnomon_record::Owners`]): with the owner of a connection, right after it was accepted;
//! - judges each TLS flow that does not pass through the proxy by the rules of the first two phases, and
//!   reports it where a rule matches or its name points to MCP;
//! - reports which programs that start are local MCP servers, and which agent starts them;
//! - reports flows that a scope should have sent through the proxy and that went around it;
//! - reports that a sensor has ended, and how long there was none;
//! - looks again at addresses that are refused, as nobody answered there a moment ago, when a program tries them;
//! - keeps the heartbeat, without which the kernel half redirects nothing.
//!
//! It deliberately does not interfere. A flow that is only watched is over before a rule could
//! stop it, so its events say `log` whatever the rule asked for. It loads nothing, has no privilege, and
//! never guesses who a process is: what the sensor does not confirm in time is reported as unreadable, so a rule that
//! interferes and names the process takes the safe side.
//!
//! The trade-off: everything is bounded and nothing waits for this crate. Under a flood records are lost, and
//! counted; the tables are shared fairly, so a flood evicts its own flows first. A hello whose flow was evicted is not judged: its owner
//! would be unknown.
//!
//! An attacker controls its processes' names and command lines, names of cgroups below its own, the bytes of hellos,
//! and how often it connects. Not its process number, user, cgroup id or destination: those are the kernel's.
//!
//! ```no_run
//! # async fn run(
//! #     link: gnomon_link::ProxyEnd, inspector: std::sync::Arc<gnomon_inspect::Inspector>,
//! #     recorder: std::sync::Arc<gnomon_record::Recorder>, proxy: gnomon_intercept::Proxy,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use gnomon_link::AsyncChannel;
//! use gnomon_watch::{Watch, WatchOptions};
//!
//! let link = AsyncChannel::new(link)?;
//! let watch = Watch::start(link, WatchOptions::default(), inspector, recorder.clone(), recorder.metrics().registry()).await?;
//! watch.listen_here(&proxy.redirected()).await?;
//! let proxy = proxy.owners(watch.clone());
//! tokio::spawn(proxy.run(std::future::pending()));
//! watch.ended().await;
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod absence;
mod asking;
mod exposure;
mod fair;
mod fields;
mod heart;
mod homes;
mod identities;
mod judge;
mod losses;
mod metrics;
mod options;
mod questions;
mod records;
mod returning;
mod session;
mod speaking;
mod starts;
mod watch;

pub use homes::Home;
pub use metrics::WatchMetrics;
pub use options::{WatchError, WatchOptions};
pub use watch::Watch;

#[cfg(test)]
mod tests;
