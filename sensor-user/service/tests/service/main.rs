//! The sensor process on the real kernel, with the tests in the role of the proxy. The programs are attached to a cgroup of the test.

#![allow(clippy::unwrap_used)]

mod alone;
mod asking;
mod cost;
mod joining;
mod ordinary;
mod program;
mod stage;
mod standing;
