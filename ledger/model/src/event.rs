//! An event: an observation with its outcome, and the moment it happened.

use crate::encode;
use gnomon_kit::unix_millis;
use gnomon_observe::Observation;
use std::time::SystemTime;

/// An event: an [`Observation`] whose outcome fields are set, and its time.
///
/// Missing fields are filled in: `@timestamp` (from the moment given here), `event.id` (a new UUID
/// version 7), `event.kind` (`event`) and `gnomon.schema`.
#[derive(Clone, Debug)]
pub struct Event {
    observation: Observation,
    at_ms: i64,
}

impl Event {
    /// An event of this moment.
    #[must_use]
    pub fn now(observation: Observation) -> Self {
        Self::at(observation, SystemTime::now())
    }

    /// An event of that moment: for replay. Kept to the millisecond.
    #[must_use]
    pub fn at(observation: Observation, when: SystemTime) -> Self {
        Self { observation, at_ms: unix_millis(when) }
    }

    /// The observation, with the filled-in fields.
    #[must_use]
    pub fn observation(&self) -> &Observation {
        &self.observation
    }

    /// The time of the event, milliseconds since the Unix epoch.
    #[must_use]
    pub const fn at_ms(&self) -> i64 {
        self.at_ms
    }

    /// Fills in what is absent, writes the event's line with its line feed and hands both to `take`. An event that is longer
    /// than [`MAX_EVENT_BYTES`](crate::MAX_EVENT_BYTES) is shortened; `None` if that does not help.
    pub fn with_line<T>(mut self, take: impl FnOnce(&Observation, &[u8]) -> T) -> Option<T> {
        encode::with_line(&mut self.observation, self.at_ms, take)
    }
}
