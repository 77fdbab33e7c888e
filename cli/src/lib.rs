//! Shared parts of gnomon's commands: failures with their exit codes ([`Complaint`]), flags that mean the same everywhere ([`options`]), an
//! event on one line ([`line`]), times as people write them ([`when`]); and what the configuration makes of rules and of the judge
//! ([`rule_files`], [`judging`]), one way for live traffic, recordings and checks.
//!
//! It deliberately runs nothing: the commands and the libraries do.
#![deny(missing_docs)]

mod accounts;
mod complaint;
pub mod decisions;
pub mod feed;
pub mod judging;
pub mod line;
pub mod loaded;
pub mod options;
pub mod rule_files;
mod runtime;
pub mod when;

pub use complaint::{Complaint, Fault};
pub use runtime::runtime;
