//! How long to wait after a failure: twice as long each time, with jitter, so that many hosts do not come back at once.

use gnomon_kit::Backoff as Growing;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// A server that asks for more than this is not believed.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// Waits between attempts.
#[derive(Debug)]
pub(crate) struct Backoff {
    whole: Growing,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { whole: Growing::new(FIRST, LONGEST) }
    }
}

impl Backoff {
    /// It went well.
    pub(crate) fn reset(&mut self) {
        self.whole.reset();
    }

    /// How long to wait after one more failure: between half and all of 1 s, 2 s … 60 s, and at least as long as the
    /// receiver asked for (up to 10 minutes).
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let whole = self.whole.failed();
        // Without randomness the whole wait is as good as any.
        let share = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
        let wait = whole.mul_f64(0.5 + share / 2.0);
        wait.max(asked.unwrap_or_default().min(LONGEST_ASKED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_are_never_less_than_half() {
        let mut backoff = Backoff::default();
        for whole in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let wait = backoff.next(None).as_secs_f64();
            assert!((whole / 2.0..=whole).contains(&wait), "{wait} of {whole}");
        }
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
    }

    #[test]
    fn what_the_receiver_asks_for_is_kept_within_reason() {
        assert!(Backoff::default().next(Some(Duration::from_secs(7))) >= Duration::from_secs(7));
        assert_eq!(Backoff::default().next(Some(Duration::from_secs(1 << 40))), LONGEST_ASKED);
    }
}
