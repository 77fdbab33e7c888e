//! Finds, by their cookie, network namespaces of programs that had ended before their namespace could be looked up.
//!
//! A namespace tells its cookie only to a socket in it. So the namespaces that processes are in, and those that are mounted (`ip netns`,
//! CNI, Docker), are entered until the right one is found, and their cookies are remembered. A namespace that only an open descriptor holds
//! is not found. The search has a thread of its own, as requests must not wait for it; the trade-off is that some more connections go
//! direct, or are refused, while it searches.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

use gnomon_link::SensorEnd;

use crate::kernel::Kernel;
use crate::namespace_files::{Id, everywhere};
use crate::namespaces::{LeaseError, ListenError, Namespace, Namespaces};
use crate::{ServiceError, cost, os};

/// The most searches that wait; the proxy asks again with the next connection from there.
const WAITING: usize = 256;
/// The most namespaces entered in one turn; each takes about 0.1 ms.
const MOST_ENTERED: usize = 256;
/// The most namespaces whose cookie is remembered; 40 bytes each.
const MOST_KNOWN: usize = 1 << 14;
/// How long a device and inode are taken for the same namespace: the kernel reuses them.
const FRESH: Duration = Duration::from_secs(2);
/// The pause after a round, as a multiple of its duration, so that load by new processes and namespaces takes no more than a tenth of a
/// core.
const REST: u32 = 9;
/// The shortest and the longest pause.
const REST_AT_LEAST: Duration = Duration::from_millis(50);
const REST_AT_MOST: Duration = Duration::from_secs(5);

/// Starts the thread. It receives cookies, and ends when the sender is dropped or `ending` is closed.
pub(crate) fn start<'scope, 'env>(
    threads: &'scope Scope<'scope, 'env>,
    kernel: &'env Kernel,
    link: &'env SensorEnd,
    namespaces: &'env Namespaces,
    ending: OwnedFd,
) -> Result<SyncSender<u64>, ServiceError> {
    let (searches, waiting) = sync_channel(WAITING);
    let mut search = Search { kernel, link, namespaces, known: HashMap::new() };
    let body = move || {
        while let Some(cookies) = next(&waiting) {
            let began = Instant::now();
            search.turn(cookies);
            if cost::is_over(&ending, (began.elapsed() * REST).clamp(REST_AT_LEAST, REST_AT_MOST)) {
                return;
            }
        }
    };
    Builder::new().name("searches".to_owned()).spawn_scoped(threads, body).map_err(os("start a thread"))?;
    Ok(searches)
}

/// All cookies that wait: one round is for them together.
fn next(waiting: &Receiver<u64>) -> Option<HashSet<u64>> {
    let first = waiting.recv().ok()?;
    Some(std::iter::once(first).chain(waiting.try_iter()).collect())
}

struct Search<'env> {
    kernel: &'env Kernel,
    link: &'env SensorEnd,
    namespaces: &'env Namespaces,
    /// The cookies of namespaces, and when each was read.
    known: HashMap<Id, Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    cookie: u64,
    since: Instant,
}

impl Search<'_> {
    /// Opens listeners in the namespaces with these cookies, as far as they are found.
    fn turn(&mut self, mut wanted: HashSet<u64>) {
        wanted.retain(|cookie| !self.namespaces.is_visited(*cookie));
        if wanted.is_empty() {
            return;
        }
        let mut places = everywhere();
        self.known.retain(|id, _| places.contains_key(id));
        let served = self.namespaces.served();
        places.retain(|id, _| !served.contains(id));
        for (id, path) in order(&self.known, places, &wanted) {
            let found = self.look(id, &path, &wanted);
            if let Some(cookie) = found {
                wanted.remove(&cookie);
                if wanted.is_empty() {
                    return;
                }
            }
        }
        tracing::debug!(cookies = ?wanted, "network namespaces were not found: they may have ended with their programs");
    }

    /// Enters a namespace, and opens listeners in it if it is wanted; returns its cookie then.
    fn look(&mut self, id: Id, path: &Path, wanted: &HashSet<u64>) -> Option<u64> {
        // A process that ended meanwhile cannot connect any more.
        let namespace = Namespace::at(path).ok().filter(|namespace| namespace.id() == id)?;
        let cookie = namespace.cookie().ok().flatten()?;
        if self.known.len() < MOST_KNOWN || self.known.contains_key(&id) {
            self.known.insert(id, Known { cookie, since: Instant::now() });
        }
        if !wanted.contains(&cookie) {
            return None;
        }
        match self.namespaces.visit_at(self.kernel, self.link, &namespace, cookie) {
            Ok(()) | Err(LeaseError::Listen(ListenError::Gone | ListenError::Other)) => {}
            Err(LeaseError::Listen(error)) => self.namespaces.unserved(&error),
            Err(LeaseError::Link(error)) => tracing::debug!("the proxy did not take listeners: {error}"),
        }
        Some(cookie)
    }
}

/// The order in which namespaces are entered: wanted ones first, then those never entered, then those entered longest ago.
fn order(known: &HashMap<Id, Known>, places: HashMap<Id, PathBuf>, wanted: &HashSet<u64>) -> Vec<(Id, PathBuf)> {
    let now = Instant::now();
    let mut ranked: Vec<_> = places
        .into_iter()
        .filter_map(|(id, path)| match known.get(&id) {
            None => Some(((1, None), id, path)),
            Some(known) if wanted.contains(&known.cookie) => Some(((0, None), id, path)),
            Some(known) if now.duration_since(known.since) < FRESH => None,
            Some(known) => Some(((2, Some(known.since)), id, path)),
        })
        .collect();
    ranked.sort_by_key(|(rank, ..)| *rank);
    ranked.into_iter().take(MOST_ENTERED).map(|(_, id, path)| (id, path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_namespace_is_entered_once_and_again_only_after_a_while() {
        let now = Instant::now();
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        let said = |cookie, since| Known { cookie, since };
        let known =
            HashMap::from([((0, 1), said(11, now)), ((0, 2), said(12, ago(60))), ((0, 3), said(13, ago(90))), ((0, 4), said(14, now))]);
        let places = (1..=5).map(|inode| ((0, inode), PathBuf::from("/x"))).collect();
        let found = order(&known, places, &HashSet::from([14, 99]));
        // The fourth is known to be wanted, the fifth was never entered, and the first was entered a moment ago and is another.
        assert_eq!(found.iter().map(|(id, _)| id.1).collect::<Vec<_>>(), [4, 5, 3, 2]);
    }

    #[test]
    fn one_turn_enters_no_more_than_its_bound() {
        let places = (0..1000).map(|inode| ((0, inode), PathBuf::from("/x"))).collect();
        assert_eq!(order(&HashMap::new(), places, &HashSet::new()).len(), MOST_ENTERED);
    }
}
