//! The host seen through real processes, real cgroups and real files. One test binary.
#![allow(clippy::unwrap_used)]

mod cgroup;
mod doctor;
mod identity;
mod privilege;
mod reuse;
mod support;
