//! How long the script has been what is waited for.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Runs but for the time between [`Clock::stop`] and [`Clock::go`]. Asked by the engine's interrupt handler.
#[derive(Debug)]
pub struct Clock {
    /// The end of the time, if the clock does not stop before.
    end: Cell<Instant>,
    stopped: Cell<Instant>,
    over: Cell<bool>,
}

impl Clock {
    pub fn start(time: Duration) -> Self {
        let now = Instant::now();
        Self { end: Cell::new(now + time), stopped: Cell::new(now), over: Cell::new(false) }
    }

    /// Starts anew.
    pub fn restart(&self, time: Duration) {
        self.end.set(Instant::now() + time);
        self.over.set(false);
    }

    pub fn stop(&self) {
        self.stopped.set(Instant::now());
    }

    pub fn go(&self) {
        self.end.set(self.end.get() + self.stopped.get().elapsed());
    }

    /// Whether the time is over; stays so.
    pub fn is_over(&self) -> bool {
        let over = self.over.get() || Instant::now() >= self.end.get();
        self.over.set(over);
        over
    }
}
