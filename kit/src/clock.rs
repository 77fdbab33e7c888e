//! Time as numbers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch; 0 for anything before it.
#[must_use]
pub fn unix_millis(when: SystemTime) -> i64 {
    when.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Whole milliseconds; of what has more than a number holds, as many as it holds.
#[must_use]
pub fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_before_the_epoch_is_its_beginning_and_what_is_too_long_the_longest() {
        assert_eq!(unix_millis(UNIX_EPOCH + Duration::from_micros(1_999)), 1);
        assert_eq!(unix_millis(UNIX_EPOCH - Duration::from_secs(1)), 0);
        assert_eq!(whole_millis(Duration::MAX), u64::MAX);
    }
}
