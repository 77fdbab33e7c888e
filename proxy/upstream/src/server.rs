//! One registered server: how it is reached, what it offers, whether it is there.
//!
//! A task of its own keeps a connection to it, fetches its lists, listens for changes, and looks for it
//! when it is gone. So one server that is dead, slow or lying costs the others nothing: clients get the
//! lists that were fetched last, and calls to a server that is known to be gone fail at once.

mod sync;

pub use sync::Change;

use crate::{
    catalogue::Lists,
    era::Era,
    error::UpstreamError,
    legacy::{Client, LegacySession, ServerFace},
    modern::ModernPeer,
    oversight::Oversight,
    reach::Reach,
};
use arc_swap::ArcSwap;
use smol_str::SmolStr;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, broadcast, watch};

/// Whether a server is there.
#[derive(Clone, Debug)]
pub enum Presence {
    /// Not known yet: it was never reached, and the first attempt is under way.
    Unknown,
    /// It answers.
    Up {
        /// How it speaks.
        era: Era,
        /// What it says of itself.
        face: Arc<ServerFace>,
    },
    /// It does not.
    Down {
        /// Since when.
        since: Instant,
        /// Why.
        why: UpstreamError,
        /// What it said of itself when it was there.
        face: Option<Arc<ServerFace>>,
    },
}

impl Presence {
    /// What the server says, or last said, of itself.
    #[must_use]
    pub fn face(&self) -> Option<&Arc<ServerFace>> {
        match self {
            Self::Unknown => None,
            Self::Up { face, .. } => Some(face),
            Self::Down { face, .. } => face.as_ref(),
        }
    }

    /// Whether it answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

/// A registered server. `H` is what whoever registered it holds of it.
pub struct Upstream<H> {
    /// Its id in the configuration.
    pub id: SmolStr,
    /// How it is reached.
    pub reach: Reach,
    /// What whoever registered it holds of it.
    pub held: H,
    own: Client,
    presence: watch::Sender<Presence>,
    lists: ArcSwap<Lists>,
    changes: broadcast::Sender<(SmolStr, Change)>,
    modern: arc_swap::ArcSwapOption<ModernPeer>,
    no_legacy: AtomicBool,
    look: Notify,
    refresh: Notify,
    /// How many clients watch a resource, by the server's own URI.
    watched: Mutex<HashMap<SmolStr, usize>>,
    rewatch: Notify,
}

impl<H: Oversight> Upstream<H> {
    /// A server that nobody has tried to reach yet. `own` is who gnomon is to it, on its own behalf; what changes is told to `changes`.
    #[must_use]
    pub fn new(id: SmolStr, reach: Reach, own: Client, changes: broadcast::Sender<(SmolStr, Change)>, held: H) -> Arc<Self> {
        let no_legacy = AtomicBool::new(reach.api().is_some());
        Arc::new(Self {
            id,
            reach,
            held,
            own,
            presence: watch::Sender::new(Presence::Unknown),
            lists: ArcSwap::default(),
            changes,
            modern: arc_swap::ArcSwapOption::empty(),
            no_legacy,
            look: Notify::new(),
            refresh: Notify::new(),
            watched: Mutex::default(),
            rewatch: Notify::new(),
        })
    }

    /// Whether it is there, as far as is known.
    #[must_use]
    pub fn presence(&self) -> Presence {
        self.presence.borrow().clone()
    }

    /// The same, once the first attempt to reach it is over or `patience` has passed.
    pub async fn settled(&self, patience: Duration) -> Presence {
        let mut presence = self.presence.subscribe();
        let known = presence.wait_for(|presence| !matches!(presence, Presence::Unknown));
        let _ = tokio::time::timeout(patience, known).await;
        self.presence()
    }

    /// What it offers, or last offered.
    #[must_use]
    pub fn lists(&self) -> Arc<Lists> {
        self.lists.load_full()
    }

    /// Refuses at once where the server is known to be gone.
    ///
    /// # Errors
    /// [`UpstreamError::Down`].
    pub fn check(&self) -> Result<(), UpstreamError> {
        match &*self.presence.borrow() {
            Presence::Down { since, .. } => Err(UpstreamError::Down(Duration::from_secs(since.elapsed().as_secs()))),
            Presence::Unknown | Presence::Up { .. } => Ok(()),
        }
    }

    /// A request failed in a way that says the server is gone: have it looked for. Where it cannot even be connected to,
    /// it is gone, and whoever asks next is told so.
    pub fn suspect(&self, error: &UpstreamError) {
        // Nothing is asked of an API but what callers ask: each finds out for itself whether it is there.
        if error.is_absence() && self.reach.api().is_none() {
            if let UpstreamError::Unreachable { detail } = error {
                tracing::info!(server = %self.id, "not reachable: {detail}");
                self.gone(error.clone());
            }
            self.look.notify_one();
        }
    }

    /// Somebody heard that its lists changed: have them fetched.
    pub fn lists_changed(&self) {
        self.refresh.notify_one();
    }

    /// Somebody wants to be told when a resource changes.
    pub fn watch(&self, uri: &SmolStr) {
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner).entry(uri.clone()).or_default() += 1;
        self.rewatch.notify_one();
    }

    /// They no longer do.
    pub fn unwatch(&self, uri: &SmolStr) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = watched.get_mut(uri) {
            *count -= 1;
            if *count == 0 {
                watched.remove(uri);
            }
        }
        drop(watched);
        self.rewatch.notify_one();
    }

    fn watched(&self) -> BTreeSet<SmolStr> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// The server as one of the stateless era, if it is.
    #[must_use]
    pub fn modern(&self) -> Option<Arc<ModernPeer>> {
        self.modern.load_full().filter(|peer| !peer.is_closed())
    }

    /// Whether sessions can be opened with it, as far as is known.
    #[must_use]
    pub fn may_have_sessions(&self) -> bool {
        !self.no_legacy.load(Ordering::Acquire)
    }

    /// Opens a session on behalf of a client. A server of the stateless era that refuses is not asked again.
    ///
    /// # Errors
    /// When the server refuses or is not there.
    pub async fn open_session(&self, client: &Client) -> Result<Arc<LegacySession>, UpstreamError> {
        let opened = self.reach.legacy(client).await;
        if let Err(error) = &opened {
            self.suspect(error);
            let refused = matches!(error, UpstreamError::Rpc(_) | UpstreamError::Status(_) | UpstreamError::Protocol(_));
            if refused && self.modern.load().is_some() {
                self.no_legacy.store(true, Ordering::Release);
            }
        }
        opened
    }
}
