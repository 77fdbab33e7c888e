//! One registered server: how it is reached, what it offers, whether it is there.
//!
//! A task of its own keeps a connection to it, fetches its lists, listens for changes, and looks for it
//! when it is gone. So one server that is dead, slow or lying costs the others nothing: clients get the
//! lists that were fetched last, and calls to a server that is known to be gone fail at once.

mod given_up;
mod granted;
mod leaving;
mod look;
mod own;
mod silent;
mod sync;
mod under_way;

pub use granted::Granting;
pub use sync::Change;

use crate::{
    era::Era,
    error::UpstreamError,
    legacy::{Client, LegacySession, ServerFace, is_of_other_era},
    modern::ModernPeer,
    oversight::Oversight,
    owner::Owner,
    reach::Reach,
    work::Work,
};
use arc_swap::ArcSwap;
use gnomon_catalogue::catalogue::{Kind, Lists};
use gnomon_shares::Turns;
use granted::Watched;
use leaving::Stays;
use parking_lot::Mutex;
use smol_str::SmolStr;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, broadcast, watch};

/// The timeout of opening a session.
const OPENED_WITHIN: Duration = Duration::from_secs(30);
/// How long a call waits for a server that has just turned out to be of the other era.
const FOUND_WITHIN: Duration = Duration::from_secs(5);

/// Whether a server is up.
#[derive(Clone, Debug)]
pub enum Presence {
    /// Not known yet: it was never reached, and the first attempt is in progress.
    Unknown,
    /// It answers.
    Up {
        /// Its era.
        era: Era,
        /// The server's description of itself.
        face: Arc<ServerFace>,
    },
    /// It does not answer.
    Down {
        /// The time since when.
        since: Instant,
        /// The reason.
        why: UpstreamError,
        /// The server's last description of itself.
        face: Option<Arc<ServerFace>>,
    },
}

impl Presence {
    /// The server's current or last description of itself.
    #[must_use]
    pub fn face(&self) -> Option<&Arc<ServerFace>> {
        match self {
            Self::Unknown => None,
            Self::Up { face, .. } => Some(face),
            Self::Down { face, .. } => face.as_ref(),
        }
    }

    /// True if it answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

/// A registered server. `H` is the registrar's own data on it.
pub struct Upstream<H> {
    /// The id in the configuration.
    pub id: SmolStr,
    /// A number unique in this process, also among servers that have had the same id.
    pub number: u64,
    /// Its endpoint, program or API.
    pub reach: Reach,
    /// The registrar's own data on the server.
    pub held: H,
    own: Client,
    presence: watch::Sender<Presence>,
    lists: ArcSwap<Lists>,
    changes: broadcast::Sender<(SmolStr, Change)>,
    modern: arc_swap::ArcSwapOption<ModernPeer>,
    no_legacy: AtomicBool,
    look: Notify,
    refresh: Notify,
    /// Lists that were announced to have changed.
    changed: Mutex<Vec<Kind>>,
    watched: Watched,
    patience: given_up::Patience,
    work: Arc<Work>,
    /// Since when it has said nothing, although it is at calls.
    silent: Mutex<Option<Instant>>,
    under_way: Turns,
    stays: watch::Sender<Stays>,
    /// The edition of the rules by which its lists were judged last.
    judged_by: AtomicU64,
}

impl<H: Oversight> Upstream<H> {
    /// A server that was not connected to yet. `own` is gnomon as its client; changes are sent to `changes`.
    #[must_use]
    pub fn new(id: SmolStr, reach: Reach, own: Client, changes: broadcast::Sender<(SmolStr, Change)>, held: H) -> Arc<Self> {
        /// The number of servers registered so far.
        static REGISTERED: AtomicU64 = AtomicU64::new(0);
        let no_legacy = AtomicBool::new(reach.api().is_some());
        Arc::new(Self {
            under_way: under_way::at(&reach),
            id,
            number: REGISTERED.fetch_add(1, Ordering::Relaxed),
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
            changed: Mutex::default(),
            watched: Watched::default(),
            patience: given_up::Patience::default(),
            work: Arc::default(),
            silent: Mutex::default(),
            stays: watch::Sender::new(Stays::InForce),
            judged_by: AtomicU64::new(0),
        })
    }

    /// Whether it answers, as far as is known.
    #[must_use]
    pub fn presence(&self) -> Presence {
        self.presence.borrow().clone()
    }

    /// Whether it answers, once the first attempt to reach it has ended or `patience` has passed.
    pub async fn settled(&self, patience: Duration) -> Presence {
        let mut presence = self.presence.subscribe();
        let known = presence.wait_for(|presence| !matches!(presence, Presence::Unknown));
        let _ = tokio::time::timeout(patience, known).await;
        self.presence()
    }

    /// The current or last lists.
    #[must_use]
    pub fn lists(&self) -> Arc<Lists> {
        self.lists.load_full()
    }

    /// Refuses at once where the server is known to be gone.
    ///
    /// # Errors
    /// [`UpstreamError::Down`], with why.
    pub fn check(&self) -> Result<(), UpstreamError> {
        match &*self.presence.borrow() {
            Presence::Down { since, why, .. } => {
                Err(UpstreamError::Down { since: Duration::from_secs(since.elapsed().as_secs()), why: why.to_string() })
            }
            Presence::Unknown | Presence::Up { .. } => Ok(()),
        }
    }

    /// A request failed in a way that says the server is gone: have it looked for. Where it cannot even be connected to,
    /// it is gone, and further callers get an error.
    pub fn suspect(&self, error: &UpstreamError) {
        // An API gets no requests but callers': each finds out by itself whether it answers.
        if error.is_absence() && self.reach.api().is_none() && !self.is_leaving() {
            if let UpstreamError::Unreachable { .. } = error {
                self.gone(error.clone());
            }
            self.look.notify_one();
        }
    }

    /// Notes a notification of the server: if it says that a list changed, it is fetched, however often and to whomever it is said, and
    /// its listeners are notified. True if it does.
    pub fn tells_of_lists(&self, method: &str) -> bool {
        let kinds = Kind::changed_by(method);
        if kinds.is_empty() {
            return false;
        }
        let mut changed = self.changed.lock();
        for kind in kinds {
            if !changed.contains(kind) {
                changed.push(*kind);
            }
        }
        drop(changed);
        self.refresh.notify_one();
        true
    }

    fn take_changed(&self) -> Vec<Kind> {
        std::mem::take(&mut *self.changed.lock())
    }

    /// Asks to be told when a resource changes: whether its server grants that.
    pub fn watch(&self, uri: &SmolStr) -> Granting {
        self.watched.add(uri)
    }

    /// Ends such a request.
    pub fn unwatch(&self, uri: &SmolStr) {
        self.watched.remove(uri);
    }

    /// The server as one of the stateless era, if it is.
    #[must_use]
    pub fn modern(&self) -> Option<Arc<ModernPeer>> {
        self.modern.load_full().filter(|peer| !peer.is_closed())
    }

    /// True if sessions can be opened with it, as far as is known.
    #[must_use]
    pub fn may_have_sessions(&self) -> bool {
        !self.no_legacy.load(Ordering::Acquire)
    }

    /// The server as one of the stateless era, where it has just turned out to be: waits a little until it is known as that.
    pub async fn turns_modern(&self) -> Option<Arc<ModernPeer>> {
        let mut presence = self.presence.subscribe();
        let found = presence.wait_for(|presence| matches!(presence, Presence::Up { era: Era::Modern, .. }) && self.modern().is_some());
        let _ = tokio::time::timeout(FOUND_WITHIN, found).await;
        self.modern()
    }

    /// An answer shows that it may be of the other era now: have it looked at.
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// Opens a session on behalf of a client. A server of the stateless era that refuses is not asked again.
    ///
    /// # Errors
    /// When the server refuses or is not there, or is found to be gone meanwhile.
    pub async fn open_session(&self, client: &Client, owner: Owner<'_>) -> Result<Arc<LegacySession>, UpstreamError> {
        let opened = tokio::select! {
            opened = tokio::time::timeout(OPENED_WITHIN, self.reach.legacy(client, owner)) => {
                opened.unwrap_or(Err(UpstreamError::Timeout(OPENED_WITHIN)))
            }
            error = self.found_gone() => Err(error),
        };
        if let (Ok(session), Some(open)) = (&opened, self.held.sessions()) {
            session.counts_in(open);
        }
        if let Err(error) = &opened {
            self.suspect(error);
            let refused = matches!(error, UpstreamError::Rpc(_) | UpstreamError::Status(_) | UpstreamError::Protocol(_));
            let other_era = matches!(error, UpstreamError::Rpc(outcome) if is_of_other_era(outcome));
            if other_era {
                self.look();
            }
            if other_era || refused && self.modern.load().is_some() {
                self.no_legacy.store(true, Ordering::Release);
            }
        }
        opened
    }

    /// Waits until the server is known to be gone.
    async fn found_gone(&self) -> UpstreamError {
        let mut presence = self.presence.subscribe();
        let gone = presence.wait_for(|presence| matches!(presence, Presence::Down { .. })).await.map(drop);
        match (gone, self.check()) {
            (Ok(()), Err(error)) => error,
            _ => std::future::pending().await,
        }
    }
}
