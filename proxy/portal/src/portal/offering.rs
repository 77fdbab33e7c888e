//! The servers that a portal offers, which may change while it serves.
//!
//! One that is taken out is no longer shown, and nothing new reaches it, from that moment on. What is under way with it may end, for
//! so long; then whatever the portal has open with it ends: calls, sessions, streams, the tasks that looked after it. Sessions of clients
//! stay, and so do the servers that stay.

use super::{Portal, PortalOptions};
use gnomon_http::server::Tasks;
use gnomon_lists::lists::Changed;
use gnomon_relay::{
    held::{Held, Upstream},
    judged::Judge,
};
use gnomon_upstream::{Client, Reach};
use parking_lot::{Mutex, MutexGuard};
use smol_str::SmolStr;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::{
    sync::{broadcast, oneshot},
    task::JoinSet,
};

/// A server that a portal is to offer.
pub enum Registration {
    /// The server of this id that it offers, with all that is open there.
    AsBefore(SmolStr),
    /// A new connection to the server of this id.
    Anew(SmolStr, Reach),
}

/// Follows the end of servers that are offered no longer.
pub struct Parting(Option<oneshot::Receiver<()>>);

impl Parting {
    /// Waits until the portal has nothing open with them any more.
    pub async fn is_over(self) {
        if let Some(over) = self.0 {
            // A dropped sender counts as the end.
            let _ = over.await;
        }
    }
}

/// The tasks that look after a portal's servers, and see them off.
#[derive(Default)]
pub(crate) struct Keeping {
    /// The numbers of those that are looked after; none before the portal serves.
    kept: Mutex<Option<HashSet<u64>>>,
    tasks: Tasks,
}

impl Keeping {
    fn kept(&self) -> MutexGuard<'_, Option<HashSet<u64>>> {
        self.kept.lock()
    }

    /// Looks after a server, once the portal serves.
    fn keep(&self, server: &Arc<Upstream>) {
        if self.kept().as_mut().is_some_and(|kept| kept.insert(server.number)) {
            self.tasks.spawn(server.clone().keep());
        }
    }

    /// Ends them all, and waits until they have.
    pub async fn cut_off(&self) {
        self.tasks.cut_off().await;
    }
}

/// A server of a portal that was not connected to yet.
pub(super) fn upstream(options: &PortalOptions, id: SmolStr, reach: Reach, changes: broadcast::Sender<Changed>) -> Arc<Upstream> {
    let judge = options.rules.clone().map(|rules| Judge::new(rules, &options.id, &id, &reach));
    let held = Held::new((&options.id, &id), options.prefix, judge, options.metrics.clone());
    Upstream::new(id, reach, Client::portal(), changes, held)
}

impl Portal {
    /// Begins to look after the servers.
    pub(crate) fn tend_servers(&self) {
        self.keeping.kept().get_or_insert_default();
        self.lists.servers().iter().for_each(|server| self.keeping.keep(server));
    }

    /// Offers the servers of these ids no longer, at once. What is under way with them may take so long to end, and is cut off then.
    pub fn withdraw(self: &Arc<Self>, ids: &HashSet<SmolStr>, patience: Duration) -> Parting {
        let (gone, stay): (Vec<_>, Vec<_>) = self.lists.servers().iter().cloned().partition(|server| ids.contains(&server.id));
        if gone.is_empty() {
            return Parting(None);
        }
        self.lists.offer(stay);
        for server in &gone {
            server.held.retire();
            server.leave();
            if let Some(kept) = self.keeping.kept().as_mut() {
                kept.remove(&server.number);
            }
        }
        let (over, told) = oneshot::channel();
        let portal = self.clone();
        self.keeping.tasks.spawn(async move {
            let mut parting: JoinSet<()> = gone.into_iter().map(|server| portal.clone().part_with(server, patience)).collect();
            while parting.join_next().await.is_some() {}
            let _ = over.send(());
        });
        Parting(Some(told))
    }

    async fn part_with(self: Arc<Self>, server: Arc<Upstream>, patience: Duration) {
        server.at_rest(patience).await;
        server.end();
        self.road.part_with(&server);
        self.sessions.part_with(&server).await;
        tracing::info!(server = %server.id, portal = %self.options.id, "is no longer offered, and nothing is open with it");
    }

    /// Offers these servers, in this order; those that go were [withdrawn](Self::withdraw) before. One that is new is looked for in the
    /// background: no request waits for it.
    pub fn offer(&self, servers: Vec<Registration>) {
        let before = self.lists.servers();
        let registered = |server| match server {
            Registration::AsBefore(id) => before.named(&id).cloned(),
            Registration::Anew(id, reach) => Some(upstream(&self.options, id, reach, self.lists.announced())),
        };
        let servers: Vec<Arc<Upstream>> = servers.into_iter().filter_map(registered).collect();
        let is_same = servers.len() == before.len() && servers.iter().zip(before.iter()).all(|(now, old)| now.number == old.number);
        if is_same {
            return;
        }
        self.lists.offer(servers.clone());
        servers.iter().for_each(|server| self.keeping.keep(server));
    }
}
