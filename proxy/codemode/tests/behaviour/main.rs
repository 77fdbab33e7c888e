//! The sandbox from outside: real processes, on a host that allows all layers and on hosts that do not.
#![allow(clippy::unwrap_used)]

mod answers;
mod break_out;
mod corpus;
mod hosts;
mod limits;
mod plain;
mod programs;
mod promised;
mod slips;
mod stage;
mod tasks;
mod web;
