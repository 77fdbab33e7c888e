//! The places for running scripts.
//!
//! A script holds a place among the workers for as long as the slowest tool that it calls, which may be its caller's own. So no caller
//! has more than is left for others, and a script that finds no place waits for one, within a share of its own. To find tools is
//! another matter than to call them: a search waits for no tool, and has places that no script takes.

use gnomon_shares::{Bounds, Turns};
use std::time::Duration;

/// One caller alone has at most so many times the places that are left: three quarters of all.
const TIMES_FREE: usize = 3;
/// The part of the workers that is there for searches besides.
const SEARCHES: usize = 8;

/// The number of concurrent searches beside so many executions.
pub(super) fn searches_beside(executions: usize) -> usize {
    executions.div_ceil(SEARCHES)
}

/// Places for so many scripts at the same time, and so many that wait for so long.
pub(super) fn places(places: usize, waiting: usize, patience: Duration) -> Turns {
    Turns::of(Bounds { all: places, each: places, times_free: TIMES_FREE }, waiting, patience)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;
    use tokio::time::timeout;

    #[tokio::test]
    async fn seven_others_find_places_at_once_beside_a_caller_that_took_all_it_could() {
        let turns = places(128, 128, Duration::from_secs(5));
        let greedy: Arc<str> = "greedy".into();
        let mut held = Vec::new();
        while let Ok(Ok(share)) = timeout(Duration::from_millis(20), turns.take(&greedy)).await {
            held.push(share);
        }
        assert_eq!(held.len(), 96);
        for number in 0..7 {
            let other = format!("other {number}").as_str().into();
            held.push(timeout(Duration::from_millis(20), turns.take(&other)).await.unwrap().unwrap());
        }
    }
}
