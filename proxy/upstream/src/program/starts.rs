//! The decision to start a program once more, after it ended or could not be started.
//!
//! An owner whose process ended waits before the next start, and no other owner does: one session that ends its own process costs the
//! others nothing. All owners together have a bound as well, from which gnomon's own starts are exempt: they show the server's state.

use crate::error::UpstreamError;
use crate::owner::OWN;
use gnomon_kit::Backoff;
use smol_str::SmolStr;
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// A process that lives shorter counts as ended at its start.
const STEADY: Duration = Duration::from_secs(30);
/// The failures in a row after which it is not started for a while.
const MOST: u32 = 5;
/// The pause after that.
const WHILE: Duration = Duration::from_secs(60);
/// The wait after the second failure, which grows with the next ones.
const FIRST: Duration = Duration::from_secs(1);

/// After so many failures of all owners within [`WHILE`] it is started for no owner for a while.
const MOST_OF_ALL: usize = 30;
/// Most owners that are remembered.
const MOST_OWNERS: usize = 1024;

/// How starts went lately.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// The failures of each owner.
    owners: HashMap<SmolStr, Pace>,
    /// The times at which processes ended at their start, of all owners.
    all: VecDeque<Instant>,
    /// The program itself was refused, which is no owner's fault.
    refused: Pace,
}

/// The starts of one owner.
#[derive(Debug)]
struct Pace {
    failed: u32,
    pause: Backoff,
    not_before: Option<(Instant, String)>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { failed: 0, pause: Backoff::new(FIRST, WHILE), not_before: None }
    }
}

impl Starts {
    /// Fails if it may not be started for this owner now.
    pub(super) fn check(&self, owner: &str, now: Instant) -> Result<(), UpstreamError> {
        self.refused.check(now)?;
        if let Some(own) = self.owners.get(owner) {
            own.check(now)?;
        }
        let lately = self.all.iter().filter(|at| now.duration_since(**at) < WHILE);
        let (times, first) = (lately.clone().count(), lately.min());
        match first.filter(|_| times >= MOST_OF_ALL && owner != OWN) {
            None => Ok(()),
            Some(first) => {
                let left = (*first + WHILE).saturating_duration_since(now).as_secs() + 1;
                let text = format!("its processes ended {times} times within moments of their start; it is started again in {left} s");
                Err(UpstreamError::NotStarted(text))
            }
        }
    }

    /// Notes that this owner's process ended by itself after so long.
    pub(super) fn ended(&mut self, owner: &SmolStr, now: Instant, lived: Duration) {
        if lived >= STEADY {
            self.owners.remove(owner);
            return;
        }
        if self.all.len() >= MOST_OF_ALL {
            self.all.pop_front();
        }
        self.all.push_back(now);
        if self.owners.len() >= MOST_OWNERS && !self.owners.contains_key(owner) {
            self.owners.retain(|_, pace| pace.not_before.as_ref().is_some_and(|(not_before, _)| *not_before + WHILE > now));
            if self.owners.len() >= MOST_OWNERS {
                return;
            }
        }
        self.owners.entry(owner.clone()).or_default().note(now, |failed| match failed {
            1 => "it ended within moments of its start".to_owned(),
            times => format!("it ended {times} times within moments of its start"),
        });
    }

    /// Notes that it could not be started.
    pub(super) fn refused(&mut self, now: Instant, why: &str) {
        self.refused.note(now, |_| why.to_owned());
    }

    /// Notes that it was started.
    pub(super) fn begun(&mut self) {
        self.refused = Pace::default();
    }
}

impl Pace {
    fn check(&self, now: Instant) -> Result<(), UpstreamError> {
        match &self.not_before {
            Some((not_before, why)) if now < *not_before => {
                let left = (*not_before - now).as_secs() + 1;
                Err(UpstreamError::NotStarted(format!("{why}; it is started again in {left} s")))
            }
            _ => Ok(()),
        }
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
        let (mut starts, now, own) = (Starts::default(), Instant::now(), SmolStr::default());
        starts.ended(&own, now, Duration::ZERO);
        assert!(starts.check(&own, now).is_ok(), "once is an accident");
        for _ in 1..MOST {
            starts.ended(&own, now, Duration::ZERO);
            assert!(starts.check(&own, now).is_err());
        }
        let told = starts.check(&own, now).unwrap_err().to_string();
        assert_eq!(told, "it ended 5 times within moments of its start; it is started again in 61 s");
        assert!(starts.check(&own, now + WHILE).is_ok());
        starts.ended(&own, now, STEADY);
        starts.ended(&own, now, Duration::ZERO);
        assert!(starts.check(&own, now).is_ok(), "a long life makes up for it");
    }

    #[test]
    fn whoever_has_it_end_waits_alone_until_there_are_too_many_of_them() {
        let (mut starts, now) = (Starts::default(), Instant::now());
        let owner = |n: usize| SmolStr::new(format!("session {n}"));
        for _ in 0..MOST {
            starts.ended(&owner(0), now, Duration::ZERO);
        }
        assert!(starts.check(&owner(0), now).is_err() && starts.check(&owner(1), now).is_ok() && starts.check(OWN, now).is_ok());
        for n in 1..=MOST_OF_ALL {
            starts.ended(&owner(n), now, Duration::ZERO);
        }
        let told = starts.check(&owner(99), now).unwrap_err().to_string();
        assert_eq!(told, "its processes ended 30 times within moments of their start; it is started again in 61 s");
        assert!(starts.check(OWN, now).is_ok(), "what it offers is known all the same");
        assert!(starts.check(&owner(99), now + WHILE).is_ok());
    }
}
