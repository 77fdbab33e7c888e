//! Looks again at addresses that are refused to a user's programs, as nobody answered there a moment ago: a server that was only starting is
//! there by now, and its clients try again and again.
//!
//! Each look is owed to a program's own attempt, once a second at most. It is a connection as that program would have made it, as its user
//! and from its network namespace, which says nothing and is closed at once. Where it comes about, the address is refused no longer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gnomon_http::{HostUser, IpFamily, NearEnd, NetNs};
use gnomon_link::ToSensor;
use gnomon_sensor::Owner;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::asking::{ask, open};
use crate::session::Session;

/// Attempts that wait to be taken up; with more, none is looked at.
pub(crate) const QUEUE: usize = 256;
/// The interval of looks at one address for one user.
const EVERY: Duration = Duration::from_secs(1);
/// The time for an address to answer, the sensor's to open a socket included.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most looks at a time, and of one user.
const MOST: usize = 64;
const MOST_OF_USER: usize = 8;
/// Most addresses that are remembered.
const REMEMBERED: usize = 4096;

/// An address that is refused to a user, as the kernel half keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Refused {
    netns: u64,
    address: SocketAddr,
    uid: u32,
}

/// The looks of late, and those under way.
#[derive(Debug, Default)]
struct Looks {
    last: HashMap<Refused, Instant>,
    of_users: HashMap<u32, usize>,
    open: usize,
}

impl Looks {
    /// True if this is to be looked at now; it counts as under way then.
    fn begin(&mut self, refused: Refused, now: Instant) -> bool {
        let is_recent = |last: &Instant| now.saturating_duration_since(*last) < EVERY;
        if self.last.len() >= REMEMBERED {
            self.last.retain(|_, last| is_recent(last));
        }
        let of_user = self.of_users.entry(refused.uid).or_default();
        let full = self.open >= MOST || *of_user >= MOST_OF_USER || self.last.len() >= REMEMBERED;
        if full || self.last.get(&refused).is_some_and(is_recent) {
            return false;
        }
        *of_user += 1;
        self.open += 1;
        self.last.insert(refused, now);
        true
    }

    fn over(&mut self, uid: u32) {
        self.open = self.open.saturating_sub(1);
        if let Some(of_user) = self.of_users.get_mut(&uid) {
            *of_user = of_user.saturating_sub(1);
        }
        self.of_users.retain(|_, of_user| *of_user > 0);
    }
}

/// Looks at what programs tried and were refused, until the session ends.
pub(crate) async fn look(session: Arc<Session>, mut tried: mpsc::Receiver<Owner>) {
    let (mut looks, mut under_way) = (Looks::default(), JoinSet::new());
    loop {
        tokio::select! {
            next = tried.recv() => {
                let Some(owner) = next else { return };
                let address = SocketAddr::new(owner.original.ip().to_canonical(), owner.original.port());
                let refused = Refused { netns: owner.netns, address, uid: owner.uid };
                if looks.begin(refused, Instant::now()) {
                    under_way.spawn(look_at(session.clone(), refused, owner.gid));
                }
            }
            Some(over) = under_way.join_next() => {
                if let Ok(uid) = over {
                    looks.over(uid);
                }
            }
        }
    }
}

/// Looks once, and gives back whose look it was.
async fn look_at(session: Arc<Session>, refused: Refused, gid: u32) -> u32 {
    let Refused { netns, address, uid } = refused;
    let near = NearEnd { netns: session.elsewhere(netns).map(NetNs), user: Some(HostUser { uid, gid }) };
    let family = if address.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 };
    let connected = async { open(&session, near, family).await?.connect(address).await };
    if let Ok(Ok(_)) = timeout(PATIENCE, connected).await {
        let failed = |token| ToSensor::Failed { token, netns_cookie: netns, address, uid, seconds: 0 };
        if let Err(error) = ask(&session, failed).await {
            tracing::debug!(%error, %address, "an address that answers again stays refused for its time");
        }
    }
    uid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_looked_at_once_a_second_and_one_users_looks_leave_room_for_others() {
        let mut looks = Looks::default();
        let start = Instant::now();
        let refused = |port: u16, uid| Refused { netns: 1, address: SocketAddr::from(([192, 0, 2, 1], port)), uid };
        assert!(looks.begin(refused(1, 7), start));
        assert!(!looks.begin(refused(1, 7), start + EVERY / 2) && looks.begin(refused(1, 8), start), "of each user");
        assert!(looks.begin(refused(1, 7), start + EVERY));
        let begun = (10..30).filter(|port| looks.begin(refused(*port, 7), start)).count();
        assert_eq!(begun, MOST_OF_USER - 2);
        assert!(looks.begin(refused(2, 8), start));
        looks.over(7);
        assert!(looks.begin(refused(99, 7), start));
        let others = (0..100).filter(|uid| looks.begin(refused(1, 100 + uid), start)).count();
        assert_eq!(others, MOST - MOST_OF_USER - 2, "and all together");
    }
}
