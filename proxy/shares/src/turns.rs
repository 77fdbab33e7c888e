//! Places that are waited for.
//!
//! A place cannot be taken back from a running script or a call in progress. So a request that finds none waits for the next that is freed;
//! and while an owner with less than an [eighth](Bounds::while_waited) waits, no place goes to one that has as much.

use crate::{Bounds, Refused, Share, Shares};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::time::timeout;

/// The most waiting requests of one owner, as a multiple of those still free.
const WAITING_TIMES_FREE: usize = 3;

/// Places, and those who wait for one.
#[derive(Debug)]
pub struct Turns {
    places: Arc<Shares>,
    waiting: Arc<Shares>,
    patience: Duration,
}

/// A waiting request, until this is dropped.
struct Waits<'a> {
    places: &'a Shares,
    principal: &'a Arc<str>,
}

impl<'a> Waits<'a> {
    fn begin(places: &'a Shares, principal: &'a Arc<str>) -> Self {
        *places.held().waiting.entry(principal.clone()).or_default() += 1;
        Self { places, principal }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut held = self.places.held();
        if let Some(count) = held.waiting.get_mut(self.principal) {
            *count -= 1;
            if *count == 0 {
                held.waiting.remove(self.principal);
            }
        }
        drop(held);
        // Those that had to let it go first need wait no longer.
        self.places.freed.notify_waiters();
    }
}

impl Turns {
    /// Places, so many who wait for one at a time, and for so long.
    #[must_use]
    pub fn of(places: Bounds, waiting: usize, patience: Duration) -> Self {
        let waiting = Shares::new(Bounds { all: waiting, each: waiting, times_free: WAITING_TIMES_FREE });
        Self { places: Shares::new(places), waiting, patience }
    }

    /// A place, as soon as there is one.
    ///
    /// # Errors
    /// If none was free in time, or too many wait; says whose bound it is.
    pub async fn take(&self, principal: &Arc<str>) -> Result<Share, Refused> {
        let refused = match self.places.take(principal) {
            Ok(share) => return Ok(share),
            Err(refused) => refused,
        };
        let _place = self.waiting.take(principal)?;
        let _waits = Waits::begin(&self.places, principal);
        let comes = async {
            loop {
                let mut freed = pin!(self.places.freed());
                freed.as_mut().enable();
                if let Ok(share) = self.places.take(principal) {
                    return share;
                }
                freed.await;
            }
        };
        timeout(self.patience, comes).await.map_err(|_| refused)
    }

    /// The places.
    #[must_use]
    pub fn places(&self) -> &Arc<Shares> {
        &self.places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    fn turns(places: Bounds, patience: u64) -> Turns {
        Turns::of(places, places.all, Duration::from_millis(patience))
    }

    async fn all_of(turns: &Turns, principal: &Arc<str>) -> Vec<Share> {
        let mut held = Vec::new();
        while let Ok(Ok(share)) = timeout(SOON, turns.take(principal)).await {
            held.push(share);
        }
        held
    }

    #[tokio::test]
    async fn one_owner_s_places_leave_some_to_others_and_its_own_wait_within_a_share() {
        let turns = Turns::of(Bounds { all: 8, each: 8, times_free: 3 }, 4, Duration::from_millis(200));
        let (greedy, other): (Arc<str>, Arc<str>) = ("greedy".into(), "other".into());
        let mut held = all_of(&turns, &greedy).await;
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

    #[tokio::test]
    async fn one_owner_takes_all_of_a_pool_and_seven_others_have_the_next_places_before_it_has_another() {
        let turns = Arc::new(turns(Bounds { all: 16, each: 16, times_free: 0 }, 5000));
        let greedy: Arc<str> = "greedy".into();
        let mut held = all_of(&turns, &greedy).await;
        assert_eq!(held.len(), 16);
        let mut waiting = tokio::task::JoinSet::new();
        // It asks first, and more often than all others together.
        for _ in 0..8 {
            let (turns, greedy) = (turns.clone(), greedy.clone());
            waiting.spawn(async move { ("greedy".to_owned(), turns.take(&greedy).await) });
        }
        tokio::time::sleep(SOON).await;
        for number in 0..7 {
            let turns = turns.clone();
            waiting.spawn(async move {
                let name = format!("other {number}");
                let share = turns.take(&name.as_str().into()).await;
                (name, share)
            });
        }
        tokio::time::sleep(SOON).await;
        let mut served = Vec::new();
        for _ in 0..7 {
            held.pop();
            let (name, share) = waiting.join_next().await.unwrap().unwrap();
            assert!(share.is_ok() && name != "greedy", "{name}: {share:?}");
            served.push(share);
        }
        // Nobody else waits any more.
        held.pop();
        let (name, share) = waiting.join_next().await.unwrap().unwrap();
        assert!(share.is_ok() && name == "greedy", "{name}: {share:?}");
    }
}
