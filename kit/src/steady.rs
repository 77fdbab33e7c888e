//! A clock that a jump of the system's does not carry along at once.

use std::time::{Duration, Instant};

/// What a clock may be ahead of or behind what was expected, milliseconds: it is put right by as much, and hosts sleep.
const TOLERANCE_MS: i64 = 60 * 60 * 1000;
/// How long a clock that jumped must stand before it is believed.
const BELIEVED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The time by which what is old may be destroyed: never ahead of the system's clock, and where that clock jumps, what it was when it was last
/// believed and what has passed since, until it has stood for a day. So a clock that is wrong for a while destroys nothing; one that was put right
/// is late by that day.
#[derive(Clone, Copy, Debug)]
pub struct SteadyClock {
    /// The time as it was believed last, milliseconds since the Unix epoch.
    believed_ms: i64,
    /// The moment of that.
    at: Instant,
    /// Since when the system's clock is another, and by how many milliseconds.
    disputed: Option<(Instant, i64)>,
}

/// A reading of a [`SteadyClock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteadyTime {
    /// The time, milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// By how many milliseconds the system's clock jumped, the first time that it is not believed.
    pub jumped_ms: Option<i64>,
}

impl SteadyClock {
    /// Begins at this moment with the time of the newest thing that is known to have happened; without one the system's clock is believed.
    #[must_use]
    pub fn begin(newest_ms: Option<i64>, system_ms: i64, at: Instant) -> Self {
        let believed_ms = newest_ms.unwrap_or(system_ms);
        let ahead = system_ms.saturating_sub(believed_ms);
        // That time passed while nobody looked is no jump to tell of.
        Self { believed_ms, at, disputed: (ahead.saturating_abs() > TOLERANCE_MS).then_some((at, ahead)) }
    }

    /// The time at this moment, where the system's clock says `system_ms`.
    pub fn read(&mut self, system_ms: i64, at: Instant) -> SteadyTime {
        let passed = i64::try_from(at.saturating_duration_since(self.at).as_millis()).unwrap_or(i64::MAX);
        let expected = self.believed_ms.saturating_add(passed);
        let ahead = system_ms.saturating_sub(expected);
        let same = |other: i64| ahead.saturating_sub(other).saturating_abs() <= TOLERANCE_MS;
        let (believed, jumped_ms) = match self.disputed {
            _ if same(0) => (true, None),
            Some((since, by)) if same(by) => (at.saturating_duration_since(since) >= BELIEVED_AFTER, None),
            Some(_) | None => {
                self.disputed = Some((at, ahead));
                (false, Some(ahead))
            }
        };
        if believed {
            *self = Self { believed_ms: system_ms, at, disputed: None };
        }
        SteadyTime { now_ms: if believed { system_ms } else { expected.min(system_ms) }, jumped_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 60 * 60 * 1000;
    const DAY: i64 = 24 * HOUR;
    const NOW: i64 = 20_000 * DAY;

    fn after(begin: Instant, ms: i64) -> Instant {
        begin + Duration::from_millis(ms.unsigned_abs())
    }

    #[test]
    fn a_clock_that_is_wrong_for_seconds_carries_nothing_along() {
        let begin = Instant::now();
        let mut clock = SteadyClock::begin(None, NOW, begin);
        assert_eq!(clock.read(NOW + 1_000, after(begin, 1_000)), SteadyTime { now_ms: NOW + 1_000, jumped_ms: None });
        let jumped = clock.read(NOW + 2_000 + 40 * DAY, after(begin, 2_000));
        assert_eq!(jumped, SteadyTime { now_ms: NOW + 2_000, jumped_ms: Some(40 * DAY) });
        // Told once.
        assert_eq!(clock.read(NOW + 3_000 + 40 * DAY, after(begin, 3_000)), SteadyTime { now_ms: NOW + 3_000, jumped_ms: None });
        assert_eq!(clock.read(NOW + 10_000, after(begin, 10_000)), SteadyTime { now_ms: NOW + 10_000, jumped_ms: None });
        // Backwards: never ahead of the system's clock.
        assert_eq!(clock.read(NOW - 400 * DAY, after(begin, 11_000)).now_ms, NOW - 400 * DAY);
        assert_eq!(clock.read(NOW + 12_000, after(begin, 12_000)).now_ms, NOW + 12_000);
    }

    #[test]
    fn a_clock_that_stands_for_a_day_is_believed_and_one_that_jumps_on_is_not() {
        let begin = Instant::now();
        let mut clock = SteadyClock::begin(None, NOW, begin);
        assert!(clock.read(NOW + 40 * DAY, begin).jumped_ms.is_some());
        let on = clock.read(NOW + 400 * DAY + 23 * HOUR, after(begin, 23 * HOUR));
        assert_eq!(on, SteadyTime { now_ms: NOW + 23 * HOUR, jumped_ms: Some(400 * DAY) });
        assert_eq!(clock.read(NOW + 400 * DAY + 25 * HOUR, after(begin, 25 * HOUR)).now_ms, NOW + 25 * HOUR);
        assert_eq!(clock.read(NOW + 400 * DAY + 47 * HOUR, after(begin, 47 * HOUR)).now_ms, NOW + 400 * DAY + 47 * HOUR);
    }

    #[test]
    fn after_a_start_the_newest_that_is_known_counts_until_the_clock_has_stood_for_a_day() {
        let begin = Instant::now();
        let mut clock = SteadyClock::begin(Some(NOW), NOW + 40 * DAY, begin);
        assert_eq!(clock.read(NOW + 40 * DAY, begin), SteadyTime { now_ms: NOW, jumped_ms: None });
        assert_eq!(clock.read(NOW + 41 * DAY, after(begin, DAY)).now_ms, NOW + 41 * DAY);
        // What was written while the clock was ahead moves nothing on.
        let mut clock = SteadyClock::begin(Some(NOW + 40 * DAY), NOW, begin);
        assert_eq!(clock.read(NOW, begin).now_ms, NOW);
    }
}
