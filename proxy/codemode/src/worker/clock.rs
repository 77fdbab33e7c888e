//! The processor time of the script.

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The processor time of this process, which has one thread: neither what it waits for nor what other processes take counts, so that a
/// busy host makes no endless loop of a short one. Asked by the engine's interrupt handler.
#[derive(Debug)]
pub struct Clock {
    /// The processor time at which its limit is reached.
    end: Cell<Duration>,
    over: Cell<bool>,
}

impl Clock {
    pub fn start(time: Duration) -> Self {
        Self { end: Cell::new(spent() + time), over: Cell::new(false) }
    }

    /// Starts anew.
    pub fn restart(&self, time: Duration) {
        self.end.set(spent() + time);
        self.over.set(false);
    }

    /// True once the limit is reached.
    pub fn is_over(&self) -> bool {
        let over = self.over.get() || spent() >= self.end.get();
        self.over.set(over);
        over
    }
}

/// The processor time of the process so far.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
