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
//! The crate has two halves. A [`Dialogue`] is the conversation: messages, the calls they make, verdicts, answers paired with their calls,
//! reports. An [`Exchange`] is how HTTP carries it: heads, content codings, bodies, the window in which they are held back. What
//! rules say of a message is decided in the first alone.
//!
//! **A new channel** plugs in at the dialogue. Open a [`Connection`] with what is known before any message (channel, addresses,
//! process), begin a [`Dialogue`] for each request, and hand it whole messages: [`Dialogue::request_message`] before one is sent,
//! [`Dialogue::answer_begins`] and [`Dialogue::answer_message`] before the answer is given, [`Dialogue::answer_over`] behind it. The
//! servers of the portal that are processes do that (their channel is `stdio`); its servers with an address begin with
//! [`Dialogue::post`]. A protocol whose messages are not JSON-RPC (the API of a model) needs a scanner of its own beside that of
//! `gnomon_wire::jsonrpc` and describes what it finds where the dialogue does (`dialogue/call.rs`); where it comes over HTTP it is
//! read by the exchange (`http/request.rs`, `http/answer_body.rs`). A recorder of either is given
//! [`HoldsDialogue`].
//!
//! An attacker controls every byte of request and answer. Memory is bounded by
//! [`Bounds`]; a body that two parsers could read differently is never guessed at.
#![deny(missing_docs)]

mod connection;
mod dialogue;
mod hosts;
mod http;
mod in_force;
mod inspector;
mod local;
mod passage;
mod recorded;
mod refusal_text;
mod reviews;
mod said;
mod shadow;
mod sighting;

pub use self::http::{Authority, EventFlow, Exchange, Gate, Head, Post, Reply, ResponsePlan, says_events};
pub use connection::{Connection, Hello, Telling};
pub use dialogue::{Dialogue, ExchangeOutcome, HoldsDialogue, LateAnswer, MAX_MESSAGES, MAX_TOLD, Refusal, Target};
pub use gnomon_engine::{Enforcement, NamedServers};
pub use hosts::{HostPattern, HostPatterns, InvalidHostPattern, normal_host};
pub use inspector::{Bounds, Inspector, Registered, Surroundings};
pub use local::judge_local;
pub use passage::{Extent, Legibility, Passage, Passed, unknown_fields};
pub use recorded::judge_recorded;
pub use reviews::Reviews;
pub use sighting::Sighting;
