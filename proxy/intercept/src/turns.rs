//! Turns for setting up redirected connections, so that a user who opens them without end delays no other.
//!
//! Seats bound the number of connections, and not their rate: a program that connects and closes at once,
//! thousands of times a second, holds few seats and all the processors. So of one user only some are set up at a time; the
//! others wait their turn, in which they cost nothing, and those above the user's share of that are refused where they are
//! accepted, by a thread that does nothing else.

use gnomon_shares::{Bounds, Refused, Share, Shares};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{sync::Semaphore, time::timeout};

/// The number of connections of one user that are set up concurrently.
const AT_A_TIME: usize = 8;
/// The longest turn: a server that does not answer keeps none of its user's other connections waiting.
const LASTS: Duration = Duration::from_millis(10);
/// Users that are remembered without a look whether they still have connections that wait.
const REMEMBERED: usize = 256;

/// The turns of one proxy.
#[derive(Debug)]
pub(crate) struct Turns {
    waiting: Arc<Shares>,
    users: Mutex<HashMap<Arc<str>, Weak<Semaphore>>>,
}

/// A connection that waits for its turn.
#[derive(Debug)]
pub(crate) struct Queued {
    turns: Arc<Semaphore>,
    waiting: Share,
}

impl Turns {
    /// Bounds on waiting: so many in all, and of one user as many as have a seat and as many as pass beyond the user's share.
    pub fn new(all: usize, each: usize) -> Self {
        let waiting = Shares::new(Bounds { all, each: each.saturating_add(all / 2), times_free: 0 });
        Self { waiting, users: Mutex::default() }
    }

    /// Takes in a connection of this user.
    ///
    /// # Errors
    /// If as many of the user's wait as may.
    pub fn queue(&self, user: &Arc<str>) -> Result<Queued, Refused> {
        let waiting = self.waiting.take(user)?;
        let mut users = self.users.lock();
        let known = users.get(user).and_then(Weak::upgrade);
        let turns = known.unwrap_or_else(|| {
            if users.len() >= REMEMBERED {
                users.retain(|_, turns| turns.strong_count() > 0);
            }
            let turns = Arc::new(Semaphore::new(AT_A_TIME));
            users.insert(user.clone(), Arc::downgrade(&turns));
            turns
        });
        Ok(Queued { turns, waiting })
    }
}

impl Queued {
    /// Serves the connection once it is its turn.
    pub async fn serve(self, serving: impl Future<Output = ()>) {
        // Never closed.
        let turn = self.turns.acquire().await;
        let mut serving = pin!(serving);
        let served = timeout(LASTS, serving.as_mut()).await;
        drop(turn);
        drop(self.waiting);
        if served.is_err() {
            serving.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn one_users_connections_are_set_up_some_at_a_time_and_none_of_anothers_waits_for_them() {
        let turns = Arc::new(Turns::new(400, 100));
        let (one, other): (Arc<str>, Arc<str>) = ("1".into(), "2".into());
        let begun = Arc::new(AtomicUsize::new(0));
        let begin = |user: &Arc<str>, lasts: Duration| {
            let (queued, begun) = (turns.queue(user).unwrap(), begun.clone());
            tokio::spawn(queued.serve(async move {
                begun.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(lasts).await;
            }))
        };
        // A server that does not answer.
        let tasks: Vec<_> = (0..300).map(|_| begin(&one, Duration::from_secs(60))).collect();
        assert!(turns.queue(&one).is_err(), "as many wait as may");
        tokio::task::yield_now().await;
        assert_eq!(begun.load(Ordering::Relaxed), AT_A_TIME);
        begin(&other, Duration::ZERO).await.unwrap();
        assert!(begun.load(Ordering::Relaxed) < 300, "before those that were there first");
        // Who is not answered keeps others of the same user waiting no longer.
        while begun.load(Ordering::Relaxed) < 301 {
            tokio::time::sleep(LASTS).await;
        }
        assert!(turns.queue(&one).is_ok());
        drop(tasks);
    }
}
