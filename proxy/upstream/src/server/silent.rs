//! Servers that are at calls and answer nobody else meanwhile. Seen from here, a frozen one and one that does one thing at a time look the
//! same, so neither is taken for gone before its calls have had their time; but it is told at once, so that an operator need not wait for
//! that, and whoever calls it next knows why they wait.

use super::{Upstream, sync::LOOK_PATIENCE};
use crate::{oversight::Oversight, reach::Reach};
use std::time::{Duration, Instant, SystemTime};

/// How long a process owes an answer before it is asked whether it is there. With the interval of looks and the patience of one, a silent
/// one is known within 20 s.
const QUIET: Duration = Duration::from_secs(3);
/// What a clock and a look may differ by.
const SLACK: Duration = Duration::from_secs(1);

impl<H: Oversight> Upstream<H> {
    /// For how long the server has said nothing, where it is at calls and does not answer whether it is there.
    #[must_use]
    pub fn silence(&self) -> Option<Duration> {
        let silence = self.silent.lock().map(|since| since.elapsed())?;
        let still = match &self.reach {
            Reach::Program(program) => program.longest_silence(),
            Reach::Http { .. } | Reach::Api(_) => self.work.unheard(),
        };
        (still + SLACK >= silence).then_some(silence)
    }

    /// The longest silence of a process that owes an answer and does not say that it is there.
    pub(super) async fn silence_of_processes(&self) -> Option<Duration> {
        match &self.reach {
            Reach::Program(program) => program.silence(QUIET, LOOK_PATIENCE).await,
            Reach::Http { .. } | Reach::Api(_) => None,
        }
    }

    /// Notes that it is at calls, and was last heard so long ago.
    pub(super) fn falls_silent(&self, silence: Duration) {
        let since = Instant::now().checked_sub(silence).unwrap_or_else(Instant::now);
        let before = self.silent.lock().replace(since);
        if before.is_some_and(|before| since.saturating_duration_since(before) < SLACK) {
            return;
        }
        tracing::warn!(
            server = %self.id,
            "has said nothing for {} s while it is at calls: it is frozen, or does one thing at a time, and whoever calls it waits",
            silence.as_secs()
        );
        self.held.is_silent(&self.id, SystemTime::now().checked_sub(silence));
    }

    /// Notes that it answers, or is known to be gone.
    pub(super) fn is_silent_no_longer(&self) {
        if self.silent.lock().take().is_some() {
            self.held.is_silent(&self.id, None);
        }
    }
}
