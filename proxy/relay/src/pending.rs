//! A request in progress within a session of the older era: cancelled when its caller no longer waits.

use crate::{
    call::Call,
    error::CallError,
    shared::{Lease, LeaseState},
    taken_back::TakenBack,
    telling::beside,
};
use gnomon_upstream::{
    LegacySession, UpstreamError,
    rpc::{Id, quoted},
};
use std::{borrow::Cow, sync::Arc};

/// A request in progress with a server of the older era: dropping it cancels it at the server.
pub struct PendingUpstream {
    session: Arc<LegacySession>,
    id: Option<Id>,
    taken_back: Arc<TakenBack>,
    why: &'static str,
    /// The call's part in a session that it shares.
    lease: Option<Lease>,
}

impl PendingUpstream {
    /// A request that was sent in a session under this id.
    pub fn new(session: Arc<LegacySession>, id: Id, call: &Call, lease: Option<Lease>) -> Self {
        // A script's calls are cancelled at its end, even if another caller waits.
        let why = if call.script.is_some() { "the script that made the call is over" } else { "the client has gone" };
        Self { session, id: Some(id), taken_back: call.taken_back.clone(), why, lease }
    }

    /// The session of the request.
    pub fn session(&self) -> &Arc<LegacySession> {
        &self.session
    }

    /// Notes that its client has been asked.
    pub fn is_asked(&self) {
        if let Some(lease) = &self.lease {
            lease.is(LeaseState::Waiting);
        }
    }

    /// Notes that its client has answered.
    pub fn goes_on(&self) {
        if let Some(lease) = &self.lease {
            lease.is(LeaseState::Asking);
        }
    }

    /// Notes that there was an answer.
    pub fn answered(mut self) {
        self.id = None;
    }

    /// Cancels it with this reason, as its caller no longer waits.
    pub fn given_up(mut self, why: &'static str) {
        self.why = why;
    }

    /// Notes that there was no answer. A server that may still work on it gets a cancellation with the reason.
    pub fn failed(mut self, error: &CallError) {
        match error {
            CallError::Upstream(UpstreamError::Timeout(_) | UpstreamError::Frozen(_)) => self.why = "no answer came in time",
            CallError::NoRoom => self.why = "the client does not read what it says",
            CallError::Refused(_) => self.why = "a rule refuses what it said",
            _ => self.id = None,
        }
    }
}

impl Drop for PendingUpstream {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let why: Cow<'static, str> = match self.taken_back.why() {
                Some(Some(reason)) => reason.clone().into(),
                Some(None) => "the client took it back".into(),
                None => self.why.into(),
            };
            let session = self.session.clone();
            // At shutdown the server may be gone.
            let _ = beside(Box::pin(async move {
                let params = format!("{{\"requestId\":{},\"reason\":{}}}", id.json(), quoted(&why));
                let _ = session.notify("notifications/cancelled", Some(params.as_bytes())).await;
            }));
        }
    }
}
