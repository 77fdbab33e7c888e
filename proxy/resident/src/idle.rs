//! Memory that a thread freed goes back to the system when that thread waits.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

thread_local! {
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The interval at which a waiting thread hands back what it has freed. Doing so costs about a millisecond, and what is made next has to
/// be had from the system again.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    every: Duration,
}

impl Idle {
    /// Hands back at most once in `every` on each thread.
    #[must_use]
    pub const fn every(every: Duration) -> Self {
        Self { every }
    }

    /// To be called when this thread is about to wait, as by `on_thread_park` of a runtime.
    pub fn waits(self) {
        let now = Instant::now();
        LAST.with(|last| match last.get() {
            Some(before) if now.duration_since(before) < self.every => {}
            _ => {
                last.set(Some(now));
                give_back_heap();
            }
        });
    }
}

/// Hands back what this thread has freed. Without effect where the program has another allocator.
#[allow(unsafe_code)]
fn give_back_heap() {
    // SAFETY: it takes no pointer, and touches only free memory. It may be called on any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[global_allocator]
    static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

    /// KiB.
    fn resident() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn what_a_burst_took_is_given_back_when_its_thread_waits() {
        let idle = Idle::every(Duration::ZERO);
        idle.waits();
        let before = resident();
        let burst: Vec<Box<[u8; 1000]>> = (0..64_000).map(|_| Box::new([1; 1000])).collect();
        let during = resident();
        assert!(during > before + 50_000, "{before} {during}");
        drop(burst);
        idle.waits();
        let after = resident();
        assert!(after < before + 8_000, "{before} {during} {after}");
    }
}
