//! Functions that every layer needs and none owns: backoff ([`Backoff`]), suggestions for misspelt words ([`nearest`]), milliseconds
//! ([`unix_millis`], [`whole_millis`]), a clock that survives jumps ([`SteadyClock`]), what is opened
//! later than at the start ([`Later`]), percent-encoding ([`percent`]), normal forms of
//! addresses ([`address`]), integers of JSON with all their digits ([`integers`]), faults of YAML in plain words
//! ([`yaml_fault`]).
//!
//! The crate depends on nothing of ours and knows nothing of agents, servers or events; a function belongs here once two layers would
//! write it alike. There is no I/O in it, no clock and no randomness.
#![deny(missing_docs)]

mod address;
mod backoff;
mod clock;
mod json;
mod later;
mod nearest;
pub mod percent;
mod steady;
mod yaml;

pub use address::{address, unbracketed};
pub use backoff::Backoff;
pub use clock::{unix_millis, whole_millis};
pub use json::{Integer, integers};
pub use later::{Later, Opens};
pub use nearest::{nearest, nearest_by};
pub use steady::{Memory, NoMemory, SteadyClock, SteadyTime};
pub use yaml::yaml_fault;
