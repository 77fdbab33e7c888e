//! The proxy's heartbeat, without which the kernel half redirects nothing.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::memory::{Access, Shared, page};

/// The interval of beats: four are missed before the kernel half stops redirecting.
pub const PERIOD: Duration = Duration::from_millis(250);
/// The greatest age of the last beat at which connections are redirected.
pub const STALE: Duration = Duration::from_nanos(gnomon_sensor_abi::STALE_NS);

/// Writes the time into memory that the kernel half reads. Needs the map's descriptor and no privilege.
///
/// Beat from a thread of its own that also checks that the proxy makes progress, as a beat promises that a redirected connection will be
/// accepted.
#[derive(Debug)]
pub struct Heartbeat {
    memory: Shared,
}

impl Heartbeat {
    /// Maps the heartbeat; `map` comes from [`crate::Sensor::heartbeat`].
    ///
    /// # Errors
    /// The error of `mmap(2)`.
    pub fn from_fd(map: OwnedFd) -> io::Result<Self> {
        // The memory outlives the descriptor.
        Ok(Self { memory: Shared::map(map.as_fd(), 0, page(), Access::Write)? })
    }

    /// Beats: the proxy is alive now.
    pub fn beat(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        // Time since boot is not negative, and stays below 2^64 nanoseconds for 584 years.
        let now = u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0);
        self.write(now);
    }

    /// Stops beating: from now on nothing is redirected.
    pub fn stop(&self) {
        self.write(0);
    }

    fn write(&self, value: u64) {
        // SAFETY: a mapped page, aligned as pages are, that lives as long as `self`; everyone else, the
        // kernel half included, accesses this word as a whole.
        let word = unsafe { AtomicU64::from_ptr(self.memory.start().as_ptr().cast()) };
        word.store(value, Ordering::Release);
    }
}
