//! Reads that may never return, each on a thread of its own, with a time after which it is given up.
//!
//! A process can put its arguments or its executable on a file system that it serves itself, and
//! block readers. A thread that waits in the kernel cannot be called back; it is left
//! behind, and counts until it returns. The number of such threads is bounded: when they are all
//! stuck, further reads are refused at once instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Threads for reads that may hang.
#[derive(Debug)]
pub(super) struct ReadThreads {
    running: Arc<AtomicUsize>,
    most: usize,
}

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// Timed out.
    TimedOut,
    /// Too many are running already.
    Busy,
}

/// Counts a thread for as long as it runs, also if it panics.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ReadThreads {
    pub(super) fn new(most: usize) -> Self {
        Self { running: Arc::default(), most }
    }

    /// The result of `work`, if it comes within `limit`.
    pub(super) fn run<T: Send + 'static>(&self, limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Late> {
        let entered = self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < self.most).then_some(count + 1));
        if entered.is_err() {
            return Err(Late::Busy);
        }
        let running = Running(Arc::clone(&self.running));
        let (sender, receiver) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("gnomon-read".into()).stack_size(128 << 10).spawn(move || {
            let _running = running;
            // The receiver may have timed out.
            drop(sender.send(work()));
        });
        if thread.is_err() {
            return Err(Late::Busy);
        }
        receiver.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => Late::TimedOut,
            RecvTimeoutError::Disconnected => Late::Busy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_in_time_gives_its_result() {
        assert_eq!(ReadThreads::new(1).run(Duration::from_secs(10), || 7), Ok(7));
    }

    #[test]
    fn work_that_hangs_is_given_up_and_then_refused_until_it_returns() {
        let watch = ReadThreads::new(1);
        let (release, held) = mpsc::channel::<()>();
        let outcome = watch.run(Duration::from_millis(20), move || held.recv().is_ok());
        assert_eq!(outcome, Err(Late::TimedOut));
        assert_eq!(watch.run(Duration::from_secs(10), || true), Err(Late::Busy));
        drop(release);
        let mut later = watch.run(Duration::from_secs(10), || true);
        for _ in 0..1000 {
            if later.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
            later = watch.run(Duration::from_secs(10), || true);
        }
        assert_eq!(later, Ok(true));
    }
}
