//! Rate limit of what is told of a client's requests that are refused, odd, pass unread, or find no connection: of each client so many in a
//! while are told one by one, and the next after that says how many it stands for. So nobody fills a record with them.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// So many of one client's are told one by one …
const EACH: u32 = 64;
/// … in this time.
const WHILE: Duration = Duration::from_secs(10);
/// Clients that are remembered; beyond that those who are not reported at the moment are forgotten, else all, and reported anew.
const CLIENTS: usize = 4096;

/// What was told lately, by client.
#[derive(Debug, Default)]
pub struct Lately(Mutex<HashMap<Arc<str>, Told>>);

#[derive(Debug)]
struct Told {
    since: Instant,
    events: u32,
    /// Requests that were not reported.
    more: u64,
}

impl Lately {
    /// The number of requests that what is told of this client stands for now. None: it is summed up with the next.
    #[must_use]
    pub fn counts(&self, client: &Arc<str>) -> Option<u64> {
        self.counts_some(client, 1)
    }

    /// The same of so many requests at once.
    #[must_use]
    pub fn counts_some(&self, client: &Arc<str>, requests: u64) -> Option<u64> {
        let mut clients = self.0.lock();
        let now = Instant::now();
        if clients.len() >= CLIENTS && !clients.contains_key(client) {
            clients.retain(|_, told| told.more > 0 || now.duration_since(told.since) < WHILE);
            if clients.len() >= CLIENTS {
                clients.clear();
            }
        }
        let told = clients.entry(client.clone()).or_insert(Told { since: now, events: 0, more: 0 });
        if now.duration_since(told.since) >= WHILE {
            (told.since, told.events) = (now, 0);
        }
        if told.events >= EACH {
            told.more = told.more.saturating_add(requests);
            return None;
        }
        told.events += 1;
        Some(requests.saturating_add(std::mem::take(&mut told.more)))
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
        assert_eq!((lately.counts_some(&other, 7), lately.counts(&other)), (Some(7), Some(1)));
    }

    #[test]
    fn whose_requests_are_still_to_be_told_of_is_not_forgotten_for_those_who_came_once() {
        let (lately, one) = (Lately::default(), "one".into());
        let told = (0..EACH + 5).filter(|_| lately.counts(&one).is_some()).count();
        assert_eq!(told, EACH as usize);
        for client in 0..CLIENTS - 1 {
            assert_eq!(lately.counts(&client.to_string().into()), Some(1));
        }
        lately.0.lock().values_mut().for_each(|told| told.since -= WHILE);
        assert_eq!(lately.counts(&"new".into()), Some(1));
        let left = lately.0.lock().len();
        assert_eq!((left, lately.counts(&one)), (2, Some(6)));
    }
}
