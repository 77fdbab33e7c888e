//! The sign of life: a thread that beats only as long as the runtime gets on.
//!
//! A beat promises that a redirected connection will be accepted. So it is not the runtime's own task that beats (it
//! would be late under load) and not a thread that knows nothing (it would beat for a runtime that hangs): a task of
//! the runtime counts up, and the thread beats while the count moves.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, sync::Arc};

use gnomon_sensor::{Heartbeat, PERIOD};

/// The interval of the runtime's count.
const COUNT: Duration = Duration::from_millis(100);
/// The time for which the count may stand still. With the age that the kernel half allows (1 s) a runtime that hangs gets connections for
/// 1.75 s at most.
const PATIENCE: Duration = Duration::from_millis(500);

/// A heartbeat.
pub(crate) trait Beat: Send + 'static {
    fn beat(&self);
    fn stop(&self);
}

impl Beat for Heartbeat {
    fn beat(&self) {
        Heartbeat::beat(self);
    }
    fn stop(&self) {
        Heartbeat::stop(self);
    }
}

#[derive(Debug, Default)]
struct HeartState {
    count: AtomicU64,
    stopped: AtomicBool,
}

/// A heart that beats until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Heart {
    state: Arc<HeartState>,
    thread: JoinHandle<()>,
}

impl Heart {
    /// # Errors
    /// No thread can be started.
    pub fn start(beat: impl Beat) -> io::Result<Self> {
        let state = Arc::new(HeartState::default());
        let shared = state.clone();
        let thread = thread::Builder::new().name("gnomon-heart".to_owned()).spawn(move || run(&shared, &beat))?;
        Ok(Self { state, thread })
    }

    /// The task for the runtime: counts until the heart is stopped.
    pub fn counting(&self) -> impl Future<Output = ()> + Send + use<> {
        let state = self.state.clone();
        async move {
            let mut every = tokio::time::interval(COUNT);
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !state.stopped.load(Ordering::Acquire) {
                every.tick().await;
                state.count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Stops redirection. Does not wait.
    pub fn stop(&self) {
        self.state.stopped.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(state: &HeartState, beat: &impl Beat) {
    let (mut known, mut moved) = (0, None::<Instant>);
    while !state.stopped.load(Ordering::Acquire) {
        let count = state.count.load(Ordering::Relaxed);
        if count != known {
            (known, moved) = (count, Some(Instant::now()));
        }
        if moved.is_some_and(|moved| moved.elapsed() < PATIENCE) {
            beat.beat();
        }
        thread::park_timeout(PERIOD);
    }
    beat.stop();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

    #[derive(Debug, PartialEq, Eq)]
    enum Said {
        Beat,
        Stop,
    }

    struct Told(Sender<Said>);

    impl Beat for Told {
        fn beat(&self) {
            let _ = self.0.send(Said::Beat);
        }
        fn stop(&self) {
            let _ = self.0.send(Said::Stop);
        }
    }

    fn heart() -> (Heart, Receiver<Said>) {
        let (tell, told) = channel();
        (Heart::start(Told(tell)).unwrap(), told)
    }

    #[test]
    fn it_beats_while_the_runtime_counts_and_not_when_it_hangs() {
        let (heart, told) = heart();
        assert_eq!(told.recv_timeout(Duration::from_millis(600)), Err(RecvTimeoutError::Timeout), "nobody counts yet");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            tokio::spawn(heart.counting());
            tokio::time::sleep(Duration::from_millis(400)).await;
        });
        assert_eq!(told.try_recv(), Ok(Said::Beat));
        // Nobody drives the runtime any more.
        thread::sleep(PATIENCE + PERIOD);
        while told.try_recv().is_ok() {}
        assert_eq!(told.recv_timeout(Duration::from_millis(600)), Err(RecvTimeoutError::Timeout));
    }

    #[test]
    fn stopping_it_is_told_at_once() {
        let (heart, told) = heart();
        drop(heart);
        assert_eq!(told.recv_timeout(Duration::from_secs(5)), Ok(Said::Stop));
    }
}
