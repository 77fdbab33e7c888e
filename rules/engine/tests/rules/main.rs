//! The crate seen from outside. One binary for all of it: linking is what a test costs most.
#![allow(clippy::unwrap_used)]

mod errors;
mod filters;
mod judging;
mod packs;
mod rsigma;
mod texts;
mod web_logs;
