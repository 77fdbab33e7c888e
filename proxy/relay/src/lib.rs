//! Between the clients and the servers of a portal: what they have open together, who may hear of it, and what it is held to.
//!
//! Everything passes the [`gate`], which alone asks what policy says, and the rules ([`judged`]); what it comes to is an act of the
//! audit ([`acts`]). Clients of the older era have [`sessions`], and in each of them what is open with a server: its side of the
//! session, questions it asked, tasks, progress of calls. Messages on their way to a client are charged to their reader
//! ([`unsent`], [`room`]).
//!
//! It deliberately knows neither a request's meaning nor its transport: lists and names are `gnomon-lists`', connections to servers and
//! HTTP the portal's.
//!
//! Attackers control when clients read and what they answer, and what servers ask and send unasked. Every table, queue and wait is bounded
//! and shared by callers, so that none takes another's.
#![deny(missing_docs)]

pub mod act;
pub mod acts;
pub mod call;
pub mod emission;
pub mod error;
pub mod forms;
pub mod gate;
pub mod ground;
mod handles;
mod hearing;
pub mod held;
pub mod input;
pub mod judged;
pub mod large;
mod lent;
pub mod logs;
pub mod metrics;
pub mod names;
pub mod not_taken_up;
pub mod noted;
pub mod offer;
pub mod outflow;
pub mod owed;
mod own_sessions;
pub mod parked;
pub mod pending;
pub mod progress;
pub mod questions;
mod reachable;
mod refusals;
pub mod related;
pub mod room;
pub mod saying;
mod server_metrics;
pub mod session;
pub mod sessions;
pub mod shared;
pub mod shares;
pub mod skills;
pub mod stateless;
mod taken_back;
pub mod tasks;
pub mod telling;
pub mod told;
pub mod unsent;
pub mod uris;
pub mod waiting;
