//! Scripts that compute for long give way to those that do not.
//!
//! A worker begins like any process of little importance; once it has had a millisecond of processor time, it gets what nobody else
//! wants and hardly more. So a caller whose scripts never end costs the others that millisecond of each.

use crate::sys;
use rustix::process::{Pid, setpriority_process};
use std::time::{Duration, Instant};

/// Processor time after which a worker gives way: several times what a short script takes.
const ENOUGH: Duration = Duration::from_millis(1);
/// The lowest priority (sched(7), "nice").
const LAST: i32 = 19;

/// A worker's share.
pub(super) struct Share {
    pid: Pid,
    began: Instant,
    /// When to look at it again; never, once it gives way.
    look: Option<Instant>,
}

impl Share {
    pub fn of(pid: Pid) -> Self {
        let now = Instant::now();
        Self { pid, began: now, look: Some(now + ENOUGH) }
    }

    /// How long until it is to be looked at.
    pub fn due(&self, now: Instant) -> Option<Duration> {
        self.look.map(|look| look.saturating_duration_since(now))
    }

    /// Looks, if it is time. The number means the worker as long as it is not reaped.
    pub fn look(&mut self, now: Instant) {
        if self.look.is_none_or(|look| now < look) {
            return;
        }
        if sys::processor_time(self.pid).is_some_and(|taken| taken < ENOUGH) {
            // It waits for tools, say: looked at less and less often.
            self.look = Some(now + ENOUGH.max(now - self.began));
            return;
        }
        // Woken tasks of others go before an idle one at once, and before one of the lowest priority only after its turn. What cannot
        // be given way to is not worse off than before.
        if sys::only_idle_time(self.pid).is_err() {
            let _ = setpriority_process(Some(self.pid), LAST);
        }
        self.look = None;
    }
}
