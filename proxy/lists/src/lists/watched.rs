//! Resources that subscribers of the stateless era watch: the portal's own subscription on each server.

use super::PortalLists;
use gnomon_access::{Caller, Capability};
use gnomon_relay::{held::Upstream, shares::owner};
use gnomon_shares::{Bounds, Share, Shares};
use gnomon_upstream::Granting;
use smol_str::SmolStr;
use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

/// The timeout for servers to agree to announce changes.
const GRANTED_WITHIN: Duration = Duration::from_secs(1);

/// Most resources that are watched at a portal, each counted for each subscription.
const MOST: usize = 16_384;
/// A caller's bound, as a multiple of the subscriptions that are left.
const TIMES_FREE: usize = 3;

/// Places for what is watched at one portal.
pub(crate) fn places() -> Arc<Shares> {
    Shares::new(Bounds { all: MOST, each: MOST, times_free: TIMES_FREE })
}

/// Watches resources until it is dropped.
pub struct Watching(Vec<Watched>);

struct Watched {
    /// Not held: one that is offered no longer is let go of.
    server: Weak<Upstream>,
    /// The server's own URI.
    own: SmolStr,
    /// The URI as the client named it.
    known: SmolStr,
    _place: Share,
}

impl PortalLists {
    /// Has servers announce changes of these resources, named as clients know them. A resource that the caller may not read, or does not
    /// exist, is left out, and so is what its server has not agreed to within a second, and what is beyond the caller's share.
    pub async fn watch(&self, caller: &Caller, resources: &[&str]) -> Watching {
        let principal = owner(caller).as_str().into();
        let (mut watched, until): (Vec<(Watched, Granting)>, _) = (Vec::new(), Instant::now() + GRANTED_WITHIN);
        for uri in resources {
            let Ok((server, own, _)) = self.resource(caller, uri) else { continue };
            if watched.iter().any(|(other, _)| other.known == *uri) {
                continue;
            }
            let Ok(_place) = self.watched.take(&principal) else { break };
            let own = SmolStr::new(own);
            let granting = server.watch(&own);
            watched.push((Watched { server: Arc::downgrade(&server), own, known: SmolStr::new(uri), _place }, granting));
        }
        let mut granted = Vec::with_capacity(watched.len());
        for (one, mut granting) in watched {
            // All at once: what was granted by then is known without waiting.
            if tokio::time::timeout_at(until.into(), granting.is_granted()).await.is_ok_and(|granted| granted) {
                granted.push(one);
            }
        }
        Watching(granted)
    }

    /// The client's names for what it watches and may read now, of servers that are still offered: for all of it, or for those resources
    /// of one server that have changed, in that order. The whole URI counts.
    pub fn news<'w>(&self, caller: &Caller, watching: &'w Watching, changed: Option<(&str, &[SmolStr])>) -> Vec<&'w str> {
        let meant: Vec<&'w Watched> = match changed {
            None => watching.0.iter().collect(),
            Some((server, changed)) => {
                let is_its = |watched: &&Watched| watched.server.upgrade().is_some_and(|at| at.id == server);
                let its: Vec<&'w Watched> = watching.0.iter().filter(is_its).collect();
                changed.iter().flat_map(|own| its.iter().filter(move |watched| watched.own == *own)).copied().collect()
            }
        };
        let may_read = |watched: &&Watched| {
            let server = watched.server.upgrade().filter(|server| !server.is_leaving());
            server.is_some_and(|server| self.gate.may_read(caller, &server.id, Capability::Resource, &watched.own).is_allow())
        };
        meant.into_iter().filter(may_read).map(|watched| watched.known.as_str()).collect()
    }
}

impl Watching {
    /// The watched resources, as the client named them.
    pub fn granted(&self) -> Vec<&str> {
        self.0.iter().map(|watched| watched.known.as_str()).collect()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(server) = self.server.upgrade() {
            server.unwatch(&self.own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_others_watch_what_they_want_beside_a_caller_that_watches_all_it_may() {
        let places = places();
        let greedy = "greedy".into();
        let mut held: Vec<_> = std::iter::from_fn(|| places.take(&greedy).ok()).collect();
        assert_eq!(held.len(), MOST / 4 * 3);
        for number in 0..7 {
            let other = format!("other {number}").as_str().into();
            held.extend((0..256).map(|_| places.take(&other).unwrap()));
        }
    }
}
