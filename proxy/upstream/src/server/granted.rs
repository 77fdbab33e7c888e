//! The resources of a server that callers subscribe to, and whether the server agreed to announce their changes.

use parking_lot::{Mutex, MutexGuard};
use smol_str::SmolStr;
use std::collections::{BTreeSet, HashMap};
use tokio::sync::{Notify, watch};

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
}
