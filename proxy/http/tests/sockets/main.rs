//! The crate seen from outside, over real sockets on loopback.
#![allow(clippy::unwrap_used)]

mod aborts;
mod asking;
mod bound;
mod closing;
mod dialling;
mod fixed;
mod neighbours;
mod pooling;
mod redirected;
mod serving;
mod support;
mod verification;
