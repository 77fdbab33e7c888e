//! A clock that a jump of the system's does not carry along at once, nor one that a restart follows.

use std::{
    mem,
    str::FromStr,
    time::{Duration, Instant},
};

/// The tolerated deviation of a clock from its expected time, milliseconds: clocks are adjusted by as much, and hosts sleep.
const TOLERANCE_MS: i64 = 60 * 60 * 1000;
/// How long a clock that jumped must stay steady before it is trusted.
const BELIEVED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest pause between two readings for which an untrusted clock counts as having gone on steadily, milliseconds: a week.
const PAUSE_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// The time by which what is old may be destroyed: never ahead of the system's clock, and where that clock jumps, what it was when it was last
/// believed and what has passed since, until it has stood for a day. So a clock that is wrong for a while destroys nothing; one that was put right
/// is late by that day. What it knows is to be kept ([`Memory`]): a restart finds things of the future that a wrong clock wrote.
#[derive(Clone, Copy, Debug)]
pub struct SteadyClock {
    /// The time as it was trusted last, milliseconds since the Unix epoch.
    believed_ms: i64,
    /// The moment of that.
    at: Instant,
    disputed: Option<Dispute>,
}

/// The system's clock is another than expected.
#[derive(Clone, Copy, Debug)]
struct Dispute {
    since: Instant,
    /// The time it had been steady before `since`, as seen by another process.
    stood: Duration,
    /// By how many milliseconds it is ahead.
    ahead_ms: i64,
    told: Told,
}

/// Whether a dispute was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Yes,
    NotYet,
}

/// A reading of a [`SteadyClock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteadyTime {
    /// The time, milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// By how many milliseconds the system's clock jumped, the first time that it is not believed: negative if it went back. A clock that was
    /// resumed tells that it is behind, and not that it is ahead, which a host that was off is too.
    pub jumped_ms: Option<i64>,
}

/// The state of a [`SteadyClock`], for the next process. Its text is three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The trusted time, milliseconds since the Unix epoch.
    pub believed_ms: i64,
    /// The system's clock at that moment, milliseconds since the Unix epoch. Equal to `believed_ms` if it is trusted.
    pub system_ms: i64,
    /// How long that clock has been steady, milliseconds; 0 if it is trusted.
    pub stood_ms: u64,
}

impl Memory {
    /// No stored state: all data counts as newer, so nothing is too old before the clock has been steady for a day.
    pub const NONE: Memory = Memory { believed_ms: 0, system_ms: 0, stood_ms: 0 };
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.believed_ms, self.system_ms, self.stood_ms)
    }
}

/// A text that is no [`Memory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl FromStr for Memory {
    type Err = NoMemory;

    fn from_str(text: &str) -> Result<Self, NoMemory> {
        let mut numbers = text.split_ascii_whitespace();
        let mut next = || numbers.next().ok_or(NoMemory);
        let (believed, system, stood) = (next()?, next()?, next()?);
        if next().is_ok() {
            return Err(NoMemory);
        }
        let time = |text: &str| text.parse().map_err(|_| NoMemory);
        Ok(Memory { believed_ms: time(believed)?, system_ms: time(system)?, stood_ms: stood.parse().map_err(|_| NoMemory)? })
    }
}

impl SteadyClock {
    /// Begins at this moment with the system's clock, which is trusted.
    #[must_use]
    pub fn begin(system_ms: i64, at: Instant) -> Self {
        Self { believed_ms: system_ms, at, disputed: None }
    }

    /// Continues at this moment with a stored state. Time that passed between processes is no jump; a clock that was not trusted has been
    /// steady since, if no more than a week passed by it.
    #[must_use]
    pub fn resume(known: Memory, system_ms: i64, at: Instant) -> Self {
        let ahead_ms = system_ms.saturating_sub(known.believed_ms);
        let went_on = (-TOLERANCE_MS..=PAUSE_MS).contains(&system_ms.saturating_sub(known.system_ms));
        let stood = if went_on { Duration::from_millis(known.stood_ms) } else { Duration::ZERO };
        let told = if ahead_ms < 0 { Told::NotYet } else { Told::Yes };
        let disputed = (ahead_ms.saturating_abs() > TOLERANCE_MS).then_some(Dispute { since: at, stood, ahead_ms, told });
        Self { believed_ms: known.believed_ms, at, disputed }
    }

    /// The time at this moment, where the system's clock says `system_ms`.
    pub fn read(&mut self, system_ms: i64, at: Instant) -> SteadyTime {
        let expected = self.expected(at);
        let ahead_ms = system_ms.saturating_sub(expected);
        let same = |other: i64| ahead_ms.saturating_sub(other).saturating_abs() <= TOLERANCE_MS;
        let (believed, jumped_ms) = match &mut self.disputed {
            _ if same(0) => (true, None),
            Some(dispute) if same(dispute.ahead_ms) => {
                let untold = mem::replace(&mut dispute.told, Told::Yes) == Told::NotYet;
                (dispute.stood_at(at) >= BELIEVED_AFTER, untold.then_some(ahead_ms))
            }
            Some(_) | None => {
                self.disputed = Some(Dispute { since: at, stood: Duration::ZERO, ahead_ms, told: Told::Yes });
                (false, Some(ahead_ms))
            }
        };
        if believed {
            *self = Self::begin(system_ms, at);
        }
        SteadyTime { now_ms: if believed { system_ms } else { expected.min(system_ms) }, jumped_ms }
    }

    /// The state to store at this moment.
    #[must_use]
    pub fn memory(&self, at: Instant) -> Memory {
        let believed_ms = self.expected(at);
        match self.disputed {
            None => Memory { believed_ms, system_ms: believed_ms, stood_ms: 0 },
            Some(dispute) => Memory {
                believed_ms,
                system_ms: believed_ms.saturating_add(dispute.ahead_ms),
                stood_ms: u64::try_from(dispute.stood_at(at).as_millis()).unwrap_or(u64::MAX),
            },
        }
    }

    /// The time at this moment: the last trusted one, and the time passed since. May be ahead of the system's clock, where that went back.
    #[must_use]
    pub fn expected(&self, at: Instant) -> i64 {
        let passed = i64::try_from(at.saturating_duration_since(self.at).as_millis()).unwrap_or(i64::MAX);
        self.believed_ms.saturating_add(passed)
    }
}

impl Dispute {
    fn stood_at(&self, at: Instant) -> Duration {
        self.stood.saturating_add(at.saturating_duration_since(self.since))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOUR: i64 = 60 * 60 * 1000;
    const DAY: i64 = 24 * HOUR;
    const NOW: i64 = 20_000 * DAY;

    fn after(begin: Instant, ms: i64) -> Instant {
        begin + Duration::from_millis(ms.unsigned_abs())
    }

    /// The next process's clock at that moment, by way of the stored text.
    fn restarted(clock: &SteadyClock, system_ms: i64, at: Instant) -> SteadyClock {
        SteadyClock::resume(clock.memory(at).to_string().parse().unwrap(), system_ms, at)
    }

    #[test]
    fn a_clock_that_is_wrong_for_seconds_carries_nothing_along() {
        let begin = Instant::now();
        let mut clock = SteadyClock::begin(NOW, begin);
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
        let mut clock = SteadyClock::begin(NOW, begin);
        assert!(clock.read(NOW + 40 * DAY, begin).jumped_ms.is_some());
        let on = clock.read(NOW + 400 * DAY + 23 * HOUR, after(begin, 23 * HOUR));
        assert_eq!(on, SteadyTime { now_ms: NOW + 23 * HOUR, jumped_ms: Some(400 * DAY) });
        assert_eq!(clock.read(NOW + 400 * DAY + 25 * HOUR, after(begin, 25 * HOUR)).now_ms, NOW + 25 * HOUR);
        assert_eq!(clock.read(NOW + 400 * DAY + 47 * HOUR, after(begin, 47 * HOUR)).now_ms, NOW + 400 * DAY + 47 * HOUR);
    }

    #[test]
    fn a_host_that_was_off_is_believed_once_its_clock_has_stood_for_a_day() {
        let begin = Instant::now();
        let off = Memory { believed_ms: NOW, system_ms: NOW, stood_ms: 0 };
        let mut clock = SteadyClock::resume(off, NOW + 40 * DAY, begin);
        assert_eq!(clock.read(NOW + 40 * DAY, begin), SteadyTime { now_ms: NOW, jumped_ms: None });
        assert_eq!(clock.read(NOW + 41 * DAY, after(begin, DAY)).now_ms, NOW + 41 * DAY);
    }

    #[test]
    fn a_clock_that_is_behind_what_is_known_is_told_of_by_each_process_once() {
        let begin = Instant::now();
        let mut clock = SteadyClock::begin(NOW, begin);
        for _ in 0..3 {
            clock = restarted(&clock, NOW - 730 * DAY, begin);
            assert_eq!(clock.read(NOW - 730 * DAY, begin), SteadyTime { now_ms: NOW - 730 * DAY, jumped_ms: Some(-730 * DAY) });
            assert_eq!(clock.read(NOW - 730 * DAY, begin).jumped_ms, None);
            assert_eq!(clock.expected(begin), NOW);
        }
        assert_eq!(clock.read(NOW, begin), SteadyTime { now_ms: NOW, jumped_ms: None });
    }

    #[test]
    fn a_clock_that_jumped_is_not_believed_after_restarts_before_it_has_stood_for_a_day_of_running() {
        let begin = Instant::now();
        let mut clock = SteadyClock::begin(NOW, begin);
        let ahead = 3 * 365 * DAY;
        assert_eq!(clock.read(NOW + ahead, begin).now_ms, NOW);
        for hours in 1..24 {
            let (at, system_ms) = (after(begin, hours * HOUR), NOW + ahead + hours * HOUR);
            clock = restarted(&clock, system_ms, at);
            assert_eq!(clock.read(system_ms, at), SteadyTime { now_ms: NOW + hours * HOUR, jumped_ms: None });
        }
        let (at, system_ms) = (after(begin, 24 * HOUR), NOW + ahead + 24 * HOUR);
        assert_eq!(restarted(&clock, system_ms, at).read(system_ms, at).now_ms, system_ms);
    }

    #[test]
    fn a_clock_that_is_set_right_again_after_a_restart_is_believed_at_once() {
        let begin = Instant::now();
        let mut clock = SteadyClock::begin(NOW, begin);
        assert_eq!(clock.read(NOW + 400 * DAY, begin).now_ms, NOW);
        let mut clock = restarted(&clock, NOW + 400 * DAY, begin);
        assert_eq!(clock.read(NOW + 400 * DAY, begin).now_ms, NOW);
        let mut clock = restarted(&clock, NOW + 60_000, begin);
        assert_eq!(clock.read(NOW + 60_000, begin), SteadyTime { now_ms: NOW + 60_000, jumped_ms: None });
        assert_eq!(clock.memory(begin), Memory { believed_ms: NOW + 60_000, system_ms: NOW + 60_000, stood_ms: 0 });
    }

    #[test]
    fn a_clock_that_jumps_on_while_nobody_looks_has_not_stood() {
        let begin = Instant::now();
        let mut clock = SteadyClock::begin(NOW, begin);
        assert_eq!(clock.read(NOW + 40 * DAY, begin).now_ms, NOW);
        let at = after(begin, 23 * HOUR);
        let mut clock = restarted(&clock, NOW + 80 * DAY, at);
        assert_eq!(clock.read(NOW + 80 * DAY + 2 * HOUR, after(at, 2 * HOUR)).now_ms, NOW + 25 * HOUR);
    }

    #[test]
    fn a_host_that_is_on_by_day_alone_is_believed_within_days() {
        let begin = Instant::now();
        let mut clock = SteadyClock::begin(NOW, begin);
        let (mut at, mut late) = (begin, 0);
        for day in 1..30 {
            // Eight hours of running a day.
            let morning = NOW + day * DAY;
            clock = restarted(&clock, morning, at);
            at = after(at, 8 * HOUR);
            late = morning + 8 * HOUR - clock.read(morning + 8 * HOUR, at).now_ms;
            assert!(late < 3 * DAY, "day {day}: late by {} hours", late / HOUR);
        }
        assert!(late > 0);
    }

    #[test]
    fn where_nothing_is_known_nothing_is_too_old_for_a_day() {
        let begin = Instant::now();
        let mut clock = SteadyClock::resume(Memory::NONE, NOW, begin);
        assert_eq!(clock.read(NOW, begin), SteadyTime { now_ms: 0, jumped_ms: None });
        assert_eq!(clock.read(NOW + DAY, after(begin, DAY)).now_ms, NOW + DAY);
    }

    #[test]
    fn a_text_that_is_no_three_numbers_is_no_memory() {
        for text in ["", "1 2", "1 2 3 4", "1 2 -3", "a b c"] {
            assert_eq!(text.parse::<Memory>(), Err(NoMemory), "{text:?}");
        }
    }
}
