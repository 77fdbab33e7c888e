//! Rate limit of events on a client's requests that are odd, or pass unread: each client has so many events in a while, and the next after
//! that says how many it stands for.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// So many of one client's are an event each …
const EACH: u32 = 64;
/// … in this time.
const WHILE: Duration = Duration::from_secs(10);
/// Clients that are remembered; beyond that all are forgotten, and reported anew.
const CLIENTS: usize = 4096;

/// The recent events by client.
#[derive(Debug, Default)]
pub(crate) struct Lately(Mutex<HashMap<Arc<str>, Told>>);

#[derive(Debug)]
struct Told {
    since: Instant,
    events: u32,
    /// Requests that were not reported.
    more: u64,
}

impl Lately {
    /// The number of requests that an event of this client stands for now. None: it is summed up with the next.
    pub fn counts(&self, client: &Arc<str>) -> Option<u64> {
        let mut clients = self.0.lock();
        if clients.len() >= CLIENTS && !clients.contains_key(client) {
            clients.clear();
        }
        let now = Instant::now();
        let told = clients.entry(client.clone()).or_insert(Told { since: now, events: 0, more: 0 });
        if now.duration_since(told.since) >= WHILE {
            (told.since, told.events) = (now, 0);
        }
        if told.events >= EACH {
            told.more += 1;
            return None;
        }
        told.events += 1;
        Some(1 + std::mem::take(&mut told.more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_odd_requests_without_end_has_so_many_events_and_nobody_else_has_fewer() {
        let (lately, one, other) = (Lately::default(), "one".into(), "other".into());
        let told = (0..20_000).filter_map(|_| lately.counts(&one)).collect::<Vec<_>>();
        assert_eq!(told, [1; EACH as usize]);
        assert_eq!(lately.counts(&other), Some(1));
        lately.0.lock().get_mut(&one).unwrap().since -= WHILE;
        assert_eq!((lately.counts(&one), lately.counts(&one)), (Some(1 + 20_000 - u64::from(EACH)), Some(1)));
    }
}
