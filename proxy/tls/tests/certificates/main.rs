//! The crate seen from outside: files of an authority, and what clients make of its certificates.
#![allow(clippy::unwrap_used)]

mod authority;
mod fleet;
mod leaves;
mod trust_store;
