//! Facts about a Linux host: who a process is, in which cgroup and container it runs,
//! which certificates its runtimes trust, and whether the machine is fit for gnomon.
//!
//! - [`identity`] answers *who is this process*, from what the kernel says and not from a name the
//!   process chose, and says so when the process is gone or has become another program since.
//! - [`place`] reads containers and pods out of a cgroup path.
//! - [`cgroup`] finds the cgroup v2 hierarchy and makes the scope that `gnomon exec` runs a program in.
//! - [`mountinfo`] reads what is mounted.
//! - [`switch`] is the kill switch, a file that both halves look for.
//! - [`trust`] merges certificate bundles and lists the variables that make each runtime use them.
//! - [`doctor`] looks at everything gnomon needs and says what to do about what is missing.
//!
//! **The trade-off**: an identity is read from `/proc` anew for each question, through one held
//! directory descriptor, and only digests of files and names of accounts are cached. That costs
//! about a hundred microseconds where a cache would cost one, but a process may change its user,
//! its cgroup and its parent at any time, and an answer that was true a minute ago is a wrong one.
//! The caller keeps answers per (process, exec) for as long as it sees fit.
//!
//! It loads no eBPF, opens no connection, runs no program it finds and parses no payload.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod cgroup;
pub mod doctor;
pub mod identity;
pub mod mountinfo;
pub mod switch;
pub mod trust;
pub mod workload;
