//! Detection of lost owners in the kernel half.
//!
//! The kernel half keeps owners in an LRU table, and adds none while its table of flows is full. Either takes a flood: without one, a
//! connection without an owner is one whose beginning was not watched.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

use gnomon_sensor::OWNERS;

/// The longest a connection waits to be accepted, in seconds, for its owner to be taken as still filed.
const WAITS: usize = 10;
/// The most owners that are filed meanwhile. A part of the table's size, as the kernel does not evict in order (an LRU of several
/// processors).
const MOST: u64 = OWNERS as u64 / 4;
/// The time for which owners that were not filed are remembered: longer than the interval of the sensor's counters, and than connections
/// wait.
const REMEMBERED: Duration = Duration::from_secs(30);

/// The owners filed of late, second by second, and those that were not.
#[derive(Debug)]
pub(crate) struct Losses(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    began: Instant,
    second: u64,
    filed: [u64; WAITS],
    unfiled: Option<Instant>,
}

impl Losses {
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(Seen { began: now, second: 0, filed: [0; WAITS], unfiled: None }))
    }

    /// A connection that the proxy may ask for began.
    pub fn filed(&self, now: Instant) {
        let mut seen = self.0.lock();
        seen.turn(now);
        let place = seen.second as usize % WAITS;
        if let Some(filed) = seen.filed.get_mut(place) {
            *filed += 1;
        }
    }

    /// Notes a connection whose owner was not filed, or of which nothing is known.
    pub fn unfiled(&self, now: Instant) {
        self.0.lock().unfiled = Some(now);
    }

    /// True if an owner that is not there can have been lost.
    pub fn are_possible(&self, now: Instant) -> bool {
        let mut seen = self.0.lock();
        seen.turn(now);
        seen.filed.iter().sum::<u64>() > MOST || seen.unfiled.is_some_and(|at| now.saturating_duration_since(at) < REMEMBERED)
    }
}

impl Seen {
    fn turn(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.began).as_secs();
        let passed = second.saturating_sub(self.second);
        for later in 1..=passed.min(WAITS as u64) {
            if let Some(filed) = self.filed.get_mut((self.second + later) as usize % WAITS) {
                *filed = 0;
            }
        }
        self.second = self.second.max(second);
        if passed >= WAITS as u64 {
            self.filed = [0; WAITS];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_can_be_lost_while_more_are_filed_than_the_kernel_keeps_for_sure_and_after_one_was_not_filed() {
        let start = Instant::now();
        let losses = Losses::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..MOST {
            losses.filed(at(1));
        }
        assert!(!losses.are_possible(at(1)));
        losses.filed(at(5));
        assert!(losses.are_possible(at(5)) && losses.are_possible(at(10)));
        assert!(!losses.are_possible(at(11)), "the first are old by now");
        losses.unfiled(at(20));
        assert!(losses.are_possible(at(49)) && !losses.are_possible(at(50)));
        // Long after, nothing is left.
        losses.filed(at(1000));
        assert!(!losses.are_possible(at(1000)));
    }
}
