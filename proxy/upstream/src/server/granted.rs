//! The resources of a server that callers subscribe to, whether the server agreed to announce their changes, and what it announced.

use parking_lot::{Mutex, MutexGuard};
use smol_str::SmolStr;
use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};
use tokio::sync::{Notify, watch};

/// Most changed resources that are told of at once; the others wait for the next time.
const MOST_AT_ONCE: usize = 256;

/// A server's answer to a request to watch a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granted {
    /// No answer yet.
    Unknown,
    Yes,
    No,
}

/// The watched resources, by the server's own URIs.
#[derive(Default)]
pub(super) struct Watched {
    by: Mutex<HashMap<SmolStr, (usize, watch::Sender<Granted>)>>,
    changed: Notify,
    updated: Mutex<Updated>,
}

/// The watched resources that changed and were not told of yet.
#[derive(Default)]
struct Updated {
    waiting: VecDeque<SmolStr>,
    /// The same, to be found.
    known: HashSet<SmolStr>,
}

/// Follows whether the server grants to watch a resource.
pub struct Granting(watch::Receiver<Granted>);

impl Granting {
    /// Whether the server agrees, once it has answered.
    pub async fn is_granted(&mut self) -> bool {
        self.0.wait_for(|granted| *granted != Granted::Unknown).await.is_ok_and(|granted| *granted == Granted::Yes)
    }
}

impl Watched {
    fn table(&self) -> MutexGuard<'_, HashMap<SmolStr, (usize, watch::Sender<Granted>)>> {
        self.by.lock()
    }

    pub fn add(&self, uri: &SmolStr) -> Granting {
        let mut table = self.table();
        let (count, granted) = table.entry(uri.clone()).or_insert_with(|| (0, watch::Sender::new(Granted::Unknown)));
        *count += 1;
        let granting = Granting(granted.subscribe());
        drop(table);
        self.changed.notify_one();
        granting
    }

    pub fn remove(&self, uri: &SmolStr) {
        let mut table = self.table();
        if let Some((count, _)) = table.get_mut(uri) {
            *count -= 1;
            if *count == 0 {
                table.remove(uri);
            }
        }
        drop(table);
        self.changed.notify_one();
    }

    /// Waits until there may be more or fewer.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    pub fn all(&self) -> BTreeSet<SmolStr> {
        self.table().keys().cloned().collect()
    }

    /// The server answered.
    pub fn says(&self, uri: &SmolStr, says: Granted) {
        if let Some((_, granted)) = self.table().get(uri) {
            granted.send_replace(says);
        }
    }

    /// The server announced that a resource changed. Of one that nobody watches nothing is kept, and of the others each is kept once,
    /// however much a server announces.
    pub fn is_updated(&self, uri: &str) {
        let table = self.table();
        let Some((uri, _)) = table.get_key_value(uri) else { return };
        let mut updated = self.updated.lock();
        if !updated.known.insert(uri.clone()) {
            return;
        }
        // As many as are watched wait already, so some of these are not watched any more.
        if updated.waiting.len() >= table.len() {
            updated.waiting.retain(|uri| table.contains_key(uri));
            updated.known.retain(|uri| table.contains_key(uri));
        }
        updated.waiting.push_back(uri.clone());
    }

    /// Whether there are changed resources to tell of.
    pub fn has_updates(&self) -> bool {
        !self.updated.lock().waiting.is_empty()
    }

    /// Takes the first of the changed resources, in the order in which they were announced.
    pub fn take_updates(&self) -> Arc<[SmolStr]> {
        let mut updated = self.updated.lock();
        let count = updated.waiting.len().min(MOST_AT_ONCE);
        let taken: Arc<[SmolStr]> = updated.waiting.drain(..count).collect();
        for uri in taken.iter() {
            updated.known.remove(uri);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol_str::format_smolstr;

    fn uri(number: usize) -> SmolStr {
        format_smolstr!("doc://{number}")
    }

    #[test]
    fn of_what_a_server_announces_that_is_kept_which_is_watched_once_and_in_its_order() {
        let watched = Watched::default();
        (0..300).for_each(|number| drop(watched.add(&uri(number))));
        for number in (0..5_000).rev().chain(0..300) {
            watched.is_updated(&uri(number));
        }
        let (first, rest) = (watched.take_updates(), watched.take_updates());
        let all: Vec<SmolStr> = first.iter().chain(rest.iter()).cloned().collect();
        assert_eq!(all, (0..300).rev().map(uri).collect::<Vec<_>>());
        assert!(first.len() == MOST_AT_ONCE && !watched.has_updates());
        watched.is_updated(&uri(7));
        assert_eq!(watched.take_updates().to_vec(), [uri(7)], "what was told of is kept again when it changes again");
    }

    #[test]
    fn what_is_no_longer_watched_fills_nothing_up() {
        let watched = Watched::default();
        (0..10).for_each(|number| drop(watched.add(&uri(number))));
        for number in 10..1_000 {
            drop(watched.add(&uri(number)));
            watched.is_updated(&uri(number));
            watched.remove(&uri(number));
        }
        watched.is_updated(&uri(3));
        let updated = watched.updated.lock();
        assert!(updated.waiting.len() <= 12 && updated.waiting.contains(&uri(3)), "{}", updated.waiting.len());
        assert_eq!(updated.waiting.len(), updated.known.len());
    }
}
