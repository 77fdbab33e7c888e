//! Lines that were not written, and when somebody is told of them: with the cause, but not again and again of what lasts, and once more when
//! lines are written again.

use std::time::{Duration, Instant};

/// The interval at which lines that are missing are told.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Events whose lines are missing.
#[derive(Debug, Default)]
pub(crate) struct MissingLines {
    /// Since lines were written last without a gap.
    all: u64,
    /// Of those that were not told yet.
    untold: u64,
    /// Why the last one is.
    why: String,
    told: Option<Instant>,
}

impl MissingLines {
    /// More of them.
    pub(crate) fn add(&mut self, events: u64, why: &str) {
        (self.all, self.untold) = (self.all + events, self.untold + events);
        if self.why != why {
            why.clone_into(&mut self.why);
        }
    }

    /// How long it is until somebody is to be told; none if there is nothing to tell.
    pub(crate) fn due_in(&self, now: Instant) -> Option<Duration> {
        let waited = self.told.map_or(TELL_EVERY, |told| now.saturating_duration_since(told));
        (self.untold > 0).then(|| TELL_EVERY.saturating_sub(waited))
    }

    /// The number that nobody was told of, and why the last one is missing.
    pub(crate) fn tell(&mut self, now: Instant) -> (u64, &str) {
        self.told = Some(now);
        (std::mem::take(&mut self.untold), &self.why)
    }

    /// All that waited was written: the number that is missing from the time between, if any.
    pub(crate) fn end(&mut self) -> Option<u64> {
        let all = std::mem::take(self).all;
        (all > 0).then_some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_stay_missing_are_told_once_a_minute_with_their_cause_and_their_end_once() {
        let (mut missing, began) = (MissingLines::default(), Instant::now());
        assert_eq!((missing.due_in(began), missing.end()), (None, None));
        let mut told = Vec::new();
        for quarter in 0..8 * 60_u32 {
            let now = began + quarter * Duration::from_millis(250);
            missing.add(1, "Is a directory (os error 21)");
            if missing.due_in(now) == Some(Duration::ZERO) {
                let (events, why) = missing.tell(now);
                assert_eq!(why, "Is a directory (os error 21)");
                told.push(events);
            }
        }
        assert_eq!(told, [1, 240]);
        assert_eq!((missing.end(), missing.end()), (Some(480), None));
    }
}
