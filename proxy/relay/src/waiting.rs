//! The time that an execution has waited for a person: its clocks stand still meanwhile.

use parking_lot::{Mutex, MutexGuard};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The time in which at least one call of an execution waited.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<WaitState>);

#[derive(Debug, Default)]
struct WaitState {
    /// The number of waiting calls, and since when at least one does.
    now: usize,
    since: Option<Instant>,
    before: Duration,
}

/// Counts one waiting call until this is dropped.
#[derive(Debug)]
pub struct Waits(Arc<Waiting>);

impl Waiting {
    fn state(&self) -> MutexGuard<'_, WaitState> {
        self.0.lock()
    }

    /// Counts one more waiting call.
    pub fn begin(self: &Arc<Self>) -> Waits {
        let mut state = self.state();
        state.now += 1;
        state.since.get_or_insert_with(Instant::now);
        Waits(self.clone())
    }

    /// The whole time by now.
    pub fn so_far(&self) -> Duration {
        let state = self.state();
        state.before + state.since.map(|since| since.elapsed()).unwrap_or_default()
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.now -= 1;
        if state.now == 0
            && let Some(since) = state.since.take()
        {
            state.before += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_several_wait_counts_once_and_other_time_does_not() {
        let waiting = Arc::new(Waiting::default());
        let pause = || std::thread::sleep(Duration::from_millis(20));
        pause();
        assert_eq!(waiting.so_far(), Duration::ZERO);
        let (one, two) = (waiting.begin(), waiting.begin());
        pause();
        drop(one);
        pause();
        assert!(waiting.so_far() >= Duration::from_millis(40));
        drop(two);
        let whole = waiting.so_far();
        pause();
        assert_eq!(waiting.so_far(), whole);
    }
}
