//! Scripts that compute for long get a lower priority.
//!
//! A worker begins like any process; once it has had some milliseconds of processor time, it gets the least share there is. So a caller
//! whose scripts never end costs the others those milliseconds and little more.

use crate::sys;
use rustix::process::{Pid, setpriority_process};
use std::time::{Duration, Instant};

/// Processor time after which a worker's priority is lowered: several times what a short script takes, also on a slow machine.
const ENOUGH: Duration = Duration::from_millis(2);
/// The lowest priority (sched(7), "nice"). Not `SCHED_IDLE`: beside scripts that never end, others of that class get next to nothing,
/// and a short one that was unlucky would not end before its limit.
const LAST: i32 = 19;

/// A worker's share.
pub(super) struct Share {
    pid: Pid,
    began: Instant,
    /// The time of the next check; never, once the priority is lowered.
    look: Option<Instant>,
}

impl Share {
    pub fn of(pid: Pid) -> Self {
        let now = Instant::now();
        Self { pid, began: now, look: Some(now + ENOUGH) }
    }

    /// The time until the next check.
    pub fn due(&self, now: Instant) -> Option<Duration> {
        self.look.map(|look| look.saturating_duration_since(now))
    }

    /// Looks, if it is time. The number means the worker as long as it is not reaped.
    pub fn look(&mut self, now: Instant) {
        if self.look.is_none_or(|look| now < look) {
            return;
        }
        if sys::processor_time(self.pid).is_some_and(|taken| taken < ENOUGH) {
            // A worker that waits for tools is checked less and less often.
            self.look = Some(now + ENOUGH.max(now - self.began));
            return;
        }
        // A failure is ignored: other workers are no worse off than before.
        let _ = setpriority_process(Some(self.pid), LAST);
        self.look = None;
    }
}
