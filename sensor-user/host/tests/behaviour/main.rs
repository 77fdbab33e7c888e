//! Tests of the host crate on real processes, cgroups and files. One test binary.
#![allow(clippy::unwrap_used)]

mod cgroup;
mod doctor;
mod identity;
mod privilege;
mod reuse;
mod support;
