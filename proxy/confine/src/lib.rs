//! Runs a program that is not trusted: the very file that was pinned, confined by the kernel, and never left behind.
//!
//! Two processes come of one [`Plan`]. The *keeper* ([`keep`]) stays: it learns when the reader of the program's output is
//! gone, however that ended, and then ends everything that the program started. Its child ([`enter`]) takes every right
//! away from itself, one layer after the other, says on standard error which of them hold ([`Report`]), and becomes the
//! program. Where a cgroup is delegated ([`settle()`]), each such pair has one below it with bounds of its own.
//!
//! The bias: **closed unless opened**. The program sees the system's libraries, what its own command names, and one
//! folder of its own; it reaches no network and no local socket unless the plan says so. What a kernel cannot enforce is
//! named, and a plan that demands it ([`Demand::Enforced`]) is not carried out.
//!
//! It deliberately does not hide that files exist (paths that may not be read can still be looked up), filter
//! addresses, or use namespaces, which many hosts refuse to users without rights and which put more of the kernel within
//! the program's reach. It contains no `unsafe`: each step is a program of its own instead of code between fork and exec.
#![deny(missing_docs)]

mod calls;
mod enter;
mod files;
mod group;
mod inherited;
mod keeper;
mod limits;
mod lockfile;
mod pin;
mod plan;
mod report;
mod rights;
mod settle;
mod tree;

pub use enter::enter;
pub use files::{Grant, Grants, Overlap};
pub use keeper::keep;
pub use lockfile::{Ecosystem, LockError, Package, locked};
pub use pin::{Digest, NoDigest, PinError, Pins};
pub use plan::{Account, Demand, Limits, Network, Plan};
pub use report::{LaunchError, Layer, Missing, Report, Weight};
pub use rights::{RightsError, give_up, take_up, unbind};
pub use settle::{Unsettled, settle};
