//! What every layer needs and none owns: waits that grow ([`Backoff`]), the word that was meant ([`nearest`]), milliseconds
//! ([`unix_millis`], [`whole_millis`]), a time that a jump of the clock does not carry along ([`SteadyClock`]), percent-encoding ([`percent`]), addresses however they are spelled ([`address`]).
//!
//! It depends on nothing of ours and knows nothing of agents, servers or events; a function belongs here once two layers would
//! write it alike. There is no I/O in it, no clock and no randomness.
#![deny(missing_docs)]

mod address;
mod backoff;
mod clock;
mod nearest;
pub mod percent;
mod steady;

pub use address::{address, unbracketed};
pub use backoff::Backoff;
pub use clock::{unix_millis, whole_millis};
pub use nearest::{nearest, nearest_by};
pub use steady::{Memory, NoMemory, SteadyClock, SteadyTime};
