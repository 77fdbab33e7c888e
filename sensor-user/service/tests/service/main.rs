//! The sensor process's work, on the real kernel, with a proxy that the tests play. Everything is attached to a cgroup of
//! the test's own.

#![allow(clippy::unwrap_used)]

mod alone;
mod asking;
mod cost;
mod joining;
mod ordinary;
mod program;
mod stage;
