//! One exchange, from bytes to verdicts.
//!
//! The proxy feeds an [`Exchange`] what arrives, in whatever pieces it arrives, and obeys the
//! [`Gate`] it gets back; `gnomon replay` feeds it recordings. Both therefore reach the same
//! verdicts, with the same evidence, by the same code. There is no I/O here and no clock.
//!
//! The decision behind it: **bytes are judged before they are forwarded, chunk by chunk**. As long
//! as a rule that could interfere waits for the message, the caller holds what it has (up to its
//! window) and beyond that forwards only chunks that were fed and did not end in a refusal. The
//! byte that closes a JSON value is in a chunk, so it can never leave before its verdict.
//!
//! What an attacker controls: every byte of request and answer. Memory is bounded by
//! [`Bounds`]; a body that two parsers could read differently is never guessed at.
#![deny(missing_docs)]

mod connection;
mod dialogue;
mod hosts;
mod http;
mod inspector;
mod passage;
mod recorded;
mod reviews;
mod shadow;
mod sighting;

pub use self::http::answer_body::says_events;
pub use self::http::exchange::{Authority, Exchange, Gate, Head};
pub use self::http::request::MAX_MESSAGES;
pub use self::http::response::{EventFlow, ResponsePlan};
pub use connection::{Connection, Hello, Telling};
pub use dialogue::outcome::{LateAnswer, Outcome};
pub use dialogue::refusal::{Refusal, Reply, Target};
pub use dialogue::tally::MAX_TOLD;
pub use gnomon_engine::{Enforcement, NamedServers};
pub use hosts::{HostPattern, HostPatterns, InvalidHostPattern, normal_host};
pub use inspector::{Bounds, Inspector, Registered, Surroundings};
pub use passage::{Extent, Legibility, Passage, Passed, unknown_fields};
pub use recorded::judge_recorded;
pub use reviews::Reviews;
pub use sighting::Sighting;
