//! What a portal adds to a tool call, beside a plain HTTP hop and its peers: its own upstream, load and contenders.
//!
//! Blocking sockets and a thread for each connection: at 50 µs a call the generator must cost less than what it measures.
//! TCP_NODELAY everywhere, or Nagle's algorithm is what is measured.

mod client;
mod contender;
mod loads;

pub use client::{Client, Era};
pub use contender::{Contender, Kind, Programs, UPSTREAM_TOOLS, start_upstream};
pub use loads::{Calls, Sessions, call_blocks, cold_start, sessions, throughput};
