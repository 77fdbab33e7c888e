//! The kernel half on the real kernel: root, cgroup2 and loopback only.
//!
//! Everything happens below one cgroup that this process creates and removes. Programs are attached to a cgroup for each test, never to the
//! root. Where a separate process is needed (to be killed, to be in a cgroup, to be the client), it is this same program in another role:
//! see `support::roles`.

#![allow(clippy::unwrap_used)]

mod accounting;
mod attaching;
mod failing;
mod flows;
mod hellos;
mod namespaces;
mod owners;
mod privileges;
mod redirecting;
mod starts;
mod support;
