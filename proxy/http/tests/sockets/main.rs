//! The crate seen from outside, over real sockets on loopback.
#![allow(clippy::unwrap_used)]

mod aborts;
mod asking;
mod authority;
mod closing;
mod dialling;
mod fixed;
mod fleet;
mod leaves;
mod neighbours;
mod pooling;
mod serving;
mod support;
mod trust_store;
mod verification;
