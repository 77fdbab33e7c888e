//! Whose script may run now.
//!
//! A script holds a place among the workers for as long as the slowest tool that it calls, which may be its caller's own. So nobody
//! has more than is left for others, and a script that finds no place waits for one, within a share of its own. To find tools is
//! another matter than to call them: a search waits for no tool, and has places that no script takes.

use gnomon_shares::{Bounds, Refused, Share, Shares};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::time::timeout;

/// A caller alone has at most so many times the places that are left.
const TIMES_FREE: usize = 3;
/// The part of the workers that is there for searches besides.
const SEARCHES: usize = 8;

/// Places for scripts of one kind.
pub(super) struct Turns {
    places: Arc<Shares>,
    waiting: Arc<Shares>,
    patience: Duration,
}

/// How many searches there may be at the same time beside so many executions.
pub(super) fn searches_beside(executions: usize) -> usize {
    executions.div_ceil(SEARCHES)
}

impl Turns {
    /// Turns for so many at the same time, and so many that wait for so long.
    pub fn of(places: usize, waiting: usize, patience: Duration) -> Self {
        let shares = |all| Shares::new(Bounds { all, each: all, times_free: TIMES_FREE });
        Self { places: shares(places), waiting: shares(waiting), patience }
    }

    /// A place for a script of this caller, as soon as there is one.
    ///
    /// # Errors
    /// There was none in time: whose bound it is.
    pub async fn take(&self, owner: &Arc<str>) -> Result<Share, Refused> {
        let refused = match self.places.take(owner) {
            Ok(share) => return Ok(share),
            Err(refused) => refused,
        };
        let _waits = self.waiting.take(owner)?;
        let comes = async {
            loop {
                let mut freed = pin!(self.places.freed());
                freed.as_mut().enable();
                if let Ok(share) = self.places.take(owner) {
                    return share;
                }
                freed.await;
            }
        };
        timeout(self.patience, comes).await.map_err(|_| refused)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn one_caller_s_scripts_leave_places_to_others_and_its_own_wait_within_a_share() {
        let turns = Turns::of(8, 4, Duration::from_millis(200));
        let (greedy, other): (Arc<str>, Arc<str>) = ("greedy".into(), "other".into());
        let mut held = Vec::new();
        while let Ok(Ok(share)) = timeout(Duration::from_millis(20), turns.take(&greedy)).await {
            held.push(share);
        }
        assert_eq!(held.len(), 6);
        let others = turns.take(&other).await.unwrap();
        let (one, two, three) = (turns.take(&greedy), turns.take(&greedy), turns.take(&greedy));
        let last = async { turns.take(&greedy).await };
        let (one, two, three, last) = tokio::join!(one, two, three, last);
        assert!([one.err(), two.err(), three.err(), last.err()].iter().all(|refused| *refused == Some(Refused::OverShare)));
        drop(others);
        let next = async {
            tokio::task::yield_now().await;
            held.pop();
        };
        assert!(tokio::join!(turns.take(&greedy), next).0.is_ok(), "whoever waits has the next place");
    }
}
