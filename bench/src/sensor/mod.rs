//! What the sensor costs: a stage with cgroups of its own, the product's sensor process on it, and the kernel's count of
//! how long each program ran.
//!
//! The bench stands in for the proxy: it holds the other end of the sensor's link and reads the ring buffer. What the
//! proxy makes of the records (identities, rules, events) is therefore not in these numbers.

mod cgroup;
mod compared;
mod gate;
mod loads;
pub mod paired;
mod process;
mod programs;
mod turns;

pub use cgroup::{Cgroups, Place};
pub use compared::Compared;
pub use gate::{Bound, Gate, Measured};
pub use loads::{Done, Loads, Order};
pub use process::Sensor;
pub use programs::{Programs, RunTime};
pub use turns::{Block, Kind, Quad, Turns};
