//! What callers, administrators and attackers see of the crate.

#![allow(clippy::unwrap_used)]

mod mistakes;
mod people;
mod policy;
mod properties;
mod reference;
