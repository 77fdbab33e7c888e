//! The audit as its users and its attackers meet it.

#![allow(clippy::unwrap_used)]

mod durability;
mod keys;
mod records;
mod sending;
mod stage;
mod tamper;
mod trimming;
