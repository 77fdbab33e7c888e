//! A client session's own sessions with servers, each opened when it is first needed, and what hears the server in it.

use crate::{hearing::Hearing, held::Upstream};
use gnomon_upstream::LegacySession;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

/// The sessions with servers, one with each that was needed.
#[derive(Default)]
pub(crate) struct OwnSessions(Mutex<Vec<Arc<OwnSession>>>);

/// The session with one server, which may not be open yet, or no longer.
pub(crate) struct OwnSession {
    pub upstream: Arc<Upstream>,
    /// Locked while it is opened.
    pub session: tokio::sync::Mutex<Option<Arc<LegacySession>>>,
    hearing: Mutex<Option<Hearing>>,
}

impl OwnSession {
    fn hearing(&self) -> MutexGuard<'_, Option<Hearing>> {
        self.hearing.lock()
    }

    /// The server is heard by this from now on.
    pub fn hears(&self, hearing: Hearing) {
        *self.hearing() = Some(hearing);
    }

    /// Whether the server's own messages are received.
    pub fn is_heard(&self) -> bool {
        self.hearing().as_ref().is_some_and(Hearing::is_on)
    }
}

impl OwnSessions {
    fn list(&self) -> MutexGuard<'_, Vec<Arc<OwnSession>>> {
        self.0.lock()
    }

    /// True if none was needed.
    pub fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    /// All sessions.
    pub fn all(&self) -> Vec<Arc<OwnSession>> {
        self.list().clone()
    }

    /// The session with this server, if there is one.
    pub fn of(&self, upstream: &Upstream) -> Option<Arc<OwnSession>> {
        self.list().iter().find(|own| own.upstream.number == upstream.number).cloned()
    }

    /// The session with this server, which is made if there is none.
    pub fn with(&self, upstream: &Arc<Upstream>) -> Arc<OwnSession> {
        let mut list = self.list();
        if let Some(own) = list.iter().find(|own| own.upstream.number == upstream.number) {
            return own.clone();
        }
        let own = Arc::new(OwnSession { upstream: upstream.clone(), session: tokio::sync::Mutex::default(), hearing: Mutex::default() });
        list.push(own.clone());
        own
    }

    /// Takes the one with this server out.
    pub fn take(&self, upstream: &Upstream) -> Option<Arc<OwnSession>> {
        let mut list = self.list();
        let place = list.iter().position(|own| own.upstream.number == upstream.number)?;
        Some(list.swap_remove(place))
    }
}
