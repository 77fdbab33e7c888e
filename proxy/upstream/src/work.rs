//! Whether a server that says nothing may be at work: one that does one thing at a time answers nobody while it computes, and seen from
//! here that is how a frozen one looks as well. So what counts is for how long nothing was heard while calls were under way with it.

use parking_lot::Mutex;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The calls that are under way with a server, and its last sign of life.
#[derive(Debug)]
pub(crate) struct Work(Mutex<WorkState>);

#[derive(Debug)]
struct WorkState {
    calls: usize,
    /// Since when there is one.
    since: Instant,
    heard: Instant,
}

impl Default for Work {
    fn default() -> Self {
        let now = Instant::now();
        Self(Mutex::new(WorkState { calls: 0, since: now, heard: now }))
    }
}

/// A call in progress, until this is dropped.
pub(crate) struct OneCall(Arc<Work>);

impl Drop for OneCall {
    fn drop(&mut self) {
        self.0.0.lock().calls -= 1;
    }
}

impl Work {
    /// A call begins.
    pub fn begin(self: &Arc<Self>) -> OneCall {
        let mut state = self.0.lock();
        if state.calls == 0 {
            state.since = Instant::now();
        }
        state.calls += 1;
        OneCall(self.clone())
    }

    /// Something came of it, whatever it was.
    pub fn lives(&self) {
        self.0.lock().heard = Instant::now();
    }

    /// For how long nothing came of its calls.
    pub fn unheard(&self) -> Duration {
        self.0.lock().heard.elapsed()
    }

    /// For how long it has said nothing while it was at calls, where it was at one or was heard when it was `asked` whether it is there;
    /// none where it had nothing else to do than answer that.
    pub fn silence(&self, asked: Instant) -> Option<Duration> {
        let state = self.0.lock();
        let at_work = state.calls > 0 && state.since <= asked;
        (at_work || state.heard >= asked).then(|| state.since.max(state.heard).elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_at_work_with_what_it_was_given_before_it_was_asked_and_from_its_last_sign_of_life_on() {
        let work = Arc::new(Work::default());
        let before = Instant::now();
        std::thread::sleep(Duration::from_millis(5));
        assert!(work.silence(Instant::now()).is_none(), "it has nothing to do");
        let one = work.begin();
        assert!(work.silence(before).is_none(), "it was asked before it had");
        let asked = Instant::now();
        std::thread::sleep(Duration::from_millis(5));
        let two = work.begin();
        assert!(work.silence(asked).is_some_and(|silence| silence >= Duration::from_millis(5)), "a later call takes nothing from it");
        drop(one);
        work.lives();
        assert!(work.silence(asked).is_some_and(|silence| silence < Duration::from_millis(5)));
        drop(two);
        assert!(work.silence(Instant::now()).is_none());
    }
}
