//! Whether a program is started once more, after it ended or could not be started.

use crate::error::UpstreamError;
use gnomon_kit::Backoff;
use std::time::{Duration, Instant};

/// Whoever lives shorter is taken for one that ended at its start.
const STEADY: Duration = Duration::from_secs(30);
/// So many of those in a row, and it is left alone for a while.
const MOST: u32 = 5;
/// How long.
const WHILE: Duration = Duration::from_secs(60);
/// The wait after the second failure, which grows with the next ones.
const FIRST: Duration = Duration::from_secs(1);

/// How starts went lately.
#[derive(Debug)]
pub(super) struct Starts {
    failed: u32,
    pause: Backoff,
    not_before: Option<(Instant, String)>,
}

impl Default for Starts {
    fn default() -> Self {
        Self { failed: 0, pause: Backoff::new(FIRST, WHILE), not_before: None }
    }
}

impl Starts {
    /// Whether it may be started now.
    pub(super) fn check(&self, now: Instant) -> Result<(), UpstreamError> {
        match &self.not_before {
            Some((not_before, why)) if now < *not_before => {
                let left = (*not_before - now).as_secs() + 1;
                Err(UpstreamError::NotStarted(format!("{why}; it is started again in {left} s")))
            }
            _ => Ok(()),
        }
    }

    /// It ended by itself after so long.
    pub(super) fn ended(&mut self, now: Instant, lived: Duration) {
        if lived >= STEADY {
            *self = Self::default();
            return;
        }
        self.note(now, |failed| match failed {
            1 => "it ended within moments of its start".to_owned(),
            times => format!("it ended {times} times within moments of its start"),
        });
    }

    /// It was not started at all.
    pub(super) fn refused(&mut self, now: Instant, why: &str) {
        self.note(now, |_| why.to_owned());
    }

    fn note(&mut self, now: Instant, why: impl Fn(u32) -> String) {
        self.failed += 1;
        // The first time it may have been an accident.
        let wait = match self.failed {
            1 => Duration::ZERO,
            failed if failed < MOST => self.pause.failed(),
            _ => WHILE,
        };
        self.not_before = Some((now + wait, why(self.failed)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_keeps_ending_is_left_alone_for_a_while_and_says_so() {
        let (mut starts, now) = (Starts::default(), Instant::now());
        starts.ended(now, Duration::ZERO);
        assert!(starts.check(now).is_ok(), "once is an accident");
        for _ in 1..MOST {
            starts.ended(now, Duration::ZERO);
            assert!(starts.check(now).is_err());
        }
        let told = starts.check(now).unwrap_err().to_string();
        assert_eq!(told, "it ended 5 times within moments of its start; it is started again in 61 s");
        assert!(starts.check(now + WHILE).is_ok());
        starts.ended(now, STEADY);
        starts.ended(now, Duration::ZERO);
        assert!(starts.check(now).is_ok(), "a long life makes up for it");
    }
}
