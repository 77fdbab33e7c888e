//! The limit on concurrent connections to upstreams, shared by all that dial.
//!
//! A process has so many descriptors, and its listeners, its ledger and its metrics need some of them whatever its clients
//! do. So each connection to an upstream takes a place here before it is dialled. Where places are short, idle connections
//! are closed first: the principal's own where it has its share, else those of the principal with most. Then only the principal with most
//! is refused.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use gnomon_shares::{Bounds, Refused, Share, Shares};
use tokio::time::{Instant, timeout_at};

use crate::windows::{Ahead, Windows};

/// How many times the free places one principal may hold: alone, a half of all.
const TIMES_FREE: usize = 1;
/// How long a dial waits for an idle connection to be closed in its favour.
const CLOSES: Duration = Duration::from_millis(500);
/// One in so many idle connections is closed at a time, as finding them takes a look at all.
const CLOSED_AT_ONCE: usize = 16;
/// The default bound on connections without a request.
const MOST_IDLE: usize = 1024;

/// Places for connections to upstreams, shared by all dialers and pools of a process.
#[derive(Debug)]
pub struct UpstreamBudget {
    places: Arc<Shares>,
    most_idle: usize,
    idle: AtomicI64,
    refused: AtomicU64,
    closed: AtomicU64,
    ahead: Arc<Ahead>,
    pools: Mutex<Vec<Weak<dyn Reclaim>>>,
}

/// The counters of an [`UpstreamBudget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamCounts {
    /// Connections that are open or being opened.
    pub open: usize,
    /// The bound on connections.
    pub most: usize,
    /// The open ones that carry no request.
    pub idle: usize,
    /// The bound on those.
    pub most_idle: usize,
    /// Dials that were refused for want of a place.
    pub refused: u64,
    /// Idle connections that were closed to make room.
    pub closed: u64,
}

/// The moment since when a connection is idle, and its principal.
pub(crate) type Idle = (std::time::Instant, Arc<str>);

/// A keeper of idle connections.
pub(crate) trait Reclaim: Send + Sync {
    /// Adds the idle connections.
    fn idle(&self, found: &mut Vec<Idle>);
    /// Closes the principal's connections that are idle since then or longer, and says how many.
    fn close(&self, principal: &str, since: std::time::Instant) -> usize;
}

impl UpstreamBudget {
    /// A budget of so many connections at a time, and of so many without a request among them.
    #[must_use]
    pub fn new(connections: usize, idle: usize) -> Arc<Self> {
        Self::with(Bounds { all: connections, each: connections, times_free: TIMES_FREE }, idle)
    }

    /// A budget without a bound of its own; at most 1,024 connections are without a request.
    #[must_use]
    pub fn unbounded() -> Arc<Self> {
        Self::with(Bounds::NONE, MOST_IDLE)
    }

    fn with(bounds: Bounds, most_idle: usize) -> Arc<Self> {
        Arc::new(Self {
            places: Shares::new(bounds),
            most_idle,
            idle: AtomicI64::new(0),
            refused: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            ahead: Arc::default(),
            pools: Mutex::default(),
        })
    }

    /// The current counts.
    #[must_use]
    pub fn counts(&self) -> UpstreamCounts {
        UpstreamCounts {
            open: self.places.all_held(),
            most: self.places.bounds().all,
            idle: usize::try_from(self.idle.load(Ordering::Relaxed)).unwrap_or(0),
            most_idle: self.most_idle,
            refused: self.refused.load(Ordering::Relaxed),
            closed: self.closed.load(Ordering::Relaxed),
        }
    }

    /// A place for a connection that is about to be dialled, where need be at the cost of idle ones.
    pub(crate) async fn take(&self, principal: &Arc<str>) -> Result<Share, Refused> {
        let until = Instant::now() + CLOSES;
        loop {
            let mut freed = std::pin::pin!(self.places.freed());
            freed.as_mut().enable();
            let refused = match self.places.take(principal) {
                Ok(place) => return Ok(place),
                Err(refused) => refused,
            };
            let closed = self.reclaim(match refused {
                Refused::OverShare => Whose::This(principal),
                Refused::Full => Whose::Biggest,
            });
            // A closed connection frees its place once its task has run.
            if closed == 0 && Instant::now() >= until || timeout_at(until, freed).await.is_err() {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(refused);
            }
        }
    }

    /// A place for a further attempt of a dial that has one: only where there is one at once.
    pub(crate) fn take_another(&self, principal: &Arc<str>) -> Option<Share> {
        self.places.take(principal).ok()
    }

    /// Closes idle connections of the principals with most because the system is out of descriptors. Returns how many were closed.
    pub fn shed(&self) -> usize {
        self.reclaim(Whose::Biggest)
    }

    pub(crate) fn windows(&self, principal: &Arc<str>) -> Windows {
        self.ahead.grant(principal)
    }

    /// Registers pools whose idle connections may be closed for others.
    pub(crate) fn keeps(&self, pools: Weak<dyn Reclaim>) {
        let mut all = self.pools.lock();
        all.retain(|pools| pools.strong_count() > 0);
        all.push(pools);
    }

    /// Counts so many more connections without a request, or so many fewer. Must be called where the caller's own locks are not held.
    pub(crate) fn idle_changed(&self, by: i64) {
        let idle = self.idle.fetch_add(by, Ordering::Relaxed).saturating_add(by);
        if by > 0 && usize::try_from(idle).is_ok_and(|idle| idle > self.most_idle) {
            self.reclaim(Whose::Biggest);
        }
    }

    fn reclaim(&self, whose: Whose<'_>) -> usize {
        let pools: Vec<_> = {
            let all = self.pools.lock();
            all.iter().filter_map(Weak::upgrade).collect()
        };
        let mut idle = Vec::new();
        pools.iter().for_each(|pools| pools.idle(&mut idle));
        let principal: Arc<str> = match whose {
            Whose::This(principal) => principal.into(),
            Whose::Biggest => {
                let mut of: HashMap<&str, usize> = HashMap::new();
                idle.iter().for_each(|(_, principal)| *of.entry(principal).or_default() += 1);
                let Some((biggest, _)) = of.into_iter().max_by_key(|(_, count)| *count) else { return 0 };
                biggest.into()
            }
        };
        let mut since: Vec<_> = idle.into_iter().filter(|(_, whose)| *whose == principal).map(|(since, _)| since).collect();
        since.sort_unstable();
        let Some(&oldest) = since.get(since.len() / CLOSED_AT_ONCE) else { return 0 };
        let closed = pools.iter().map(|pools| pools.close(&principal, oldest)).sum();
        self.closed.fetch_add(closed as u64, Ordering::Relaxed);
        closed
    }
}

/// The principals whose idle connections are to be closed.
#[derive(Clone, Copy)]
enum Whose<'a> {
    This(&'a str),
    Biggest,
}
