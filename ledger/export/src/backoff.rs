//! Waits before a receiver is tried again: with jitter, so that many hosts do not come back at once, and at least as long as it asks for.

use gnomon_kit::Backoff;
use std::time::Duration;

/// The wait after a failure, the first time and at most.
pub(crate) const WAITS: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// A receiver that asks for more than this is not believed.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// Between half and all of the wait, and at least as long as the receiver asked for (up to 10 minutes).
pub(crate) fn left_alone(wait: Duration, asked: Option<Duration>) -> Duration {
    // Without randomness the whole wait is as good as any.
    let share = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
    wait.mul_f64(0.5 + share / 2.0).max(asked.unwrap_or_default().min(LONGEST_ASKED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_are_never_less_than_half() {
        let mut waits = WAITS;
        for whole in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let wait = left_alone(waits.failed(), None).as_secs_f64();
            assert!((whole / 2.0..=whole).contains(&wait), "{wait} of {whole}");
        }
    }

    #[test]
    fn what_the_receiver_asks_for_is_kept_within_reason() {
        let asked = |seconds| left_alone(WAITS.wait(), Some(Duration::from_secs(seconds)));
        assert!(asked(7) >= Duration::from_secs(7));
        assert_eq!(asked(1 << 40), LONGEST_ASKED);
    }
}
