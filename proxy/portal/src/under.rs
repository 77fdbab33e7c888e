//! A request within a session of the older era: it is taken back when nobody waits for it any more, and asked once more where the
//! server has forgotten the session.

use crate::{acts::Act, call::Call, portal::Portal, route::Routed, session::Session};
use gnomon_upstream::{
    Client, LegacySession, UpstreamError,
    rpc::{Id, quoted},
};
use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};
use tokio::sync::Notify;

/// Most characters of a client's reason that a server is told.
const LONGEST_REASON: usize = 200;

/// Whether, and why, a client took a request of its back.
#[derive(Debug, Default)]
pub struct TakenBack {
    notice: Notify,
    why: OnceLock<Option<String>>,
}

impl TakenBack {
    /// The client takes it back, with what it says of that.
    pub fn because(&self, reason: Option<&str>) {
        let _ = self.why.set(reason.map(|reason| reason.chars().take(LONGEST_REASON).collect()));
        self.notice.notify_one();
    }

    /// Until the client takes it back.
    pub async fn noticed(&self) {
        self.notice.notified().await;
    }
}

/// A request under way with a server of the older era: it is told when nobody waits any more.
pub(crate) struct Under {
    session: Arc<LegacySession>,
    id: Option<Id>,
    taken_back: Arc<TakenBack>,
    why: &'static str,
}

impl Under {
    fn new(session: Arc<LegacySession>, id: Id, call: &Call) -> Self {
        // A script ends its calls with itself, whoever waits for it.
        let why = if call.script.is_some() { "the script that made the call is over" } else { "the client has gone" };
        Self { session, id: Some(id), taken_back: call.taken_back.clone(), why }
    }

    /// The session that it is under way in.
    pub fn session(&self) -> &Arc<LegacySession> {
        &self.session
    }

    /// There was an answer.
    pub fn answered(mut self) {
        self.id = None;
    }

    /// Nobody will wait for an answer any more, for this reason.
    pub fn given_up(mut self, why: &'static str) {
        self.why = why;
    }

    /// There was no answer. A server that may still be at it is told that nobody waits for it, and why.
    pub fn failed(mut self, error: &UpstreamError) {
        match error {
            UpstreamError::Timeout(_) => self.why = "no answer came in time",
            UpstreamError::NoRoom => self.why = "the client does not read what it says",
            UpstreamError::Refused(_) => self.why = "a rule refuses what it said",
            _ => self.id = None,
        }
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let why: Cow<'static, str> = match self.taken_back.why.get() {
                Some(Some(reason)) => reason.clone().into(),
                Some(None) => "the client took it back".into(),
                None => self.why.into(),
            };
            let session = self.session.clone();
            // While everything ends there may be nobody left to tell it.
            let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
            runtime.spawn(async move {
                let params = format!("{{\"requestId\":{},\"reason\":{}}}", id.json(), quoted(&why));
                let _ = session.notify("notifications/cancelled", Some(params.as_bytes())).await;
            });
        }
    }
}

/// Who keeps the session with a server.
#[derive(Clone, Copy)]
pub(crate) enum Kept<'a> {
    /// The client's own session does.
    For(&'a Arc<Session>),
    /// The portal does, for clients of the stateless era of this kind.
    Shared(&'a Client),
}

impl Portal {
    /// One exchange within a session with a server. Where the server has forgotten it, as it was restarted, say, it is had once more
    /// in a new one, without the client noticing: `act` tells that, as the server may have acted before.
    pub(crate) async fn exchange<T, F>(
        &self,
        call: &Call,
        kept: Kept<'_>,
        (routed, act): (&Routed, &Act),
        exchange: impl Fn(Arc<LegacySession>, Id) -> F,
    ) -> Result<(T, Under), UpstreamError>
    where
        F: Future<Output = Result<T, UpstreamError>>,
    {
        let (mut retried, server) = (false, routed.server);
        loop {
            let session = match kept {
                Kept::For(session) => session.server(&self.servers, server).await?,
                Kept::Shared(client) => self.shared.get(&call.caller, &self.servers[server], client).await?,
            };
            self.still_owns(call, routed, Some(&session)).await?;
            let id = session.id();
            let under = Under::new(session.clone(), id.clone(), call);
            match exchange(session.clone(), id).await {
                Err(UpstreamError::SessionGone) if !retried => {
                    under.answered();
                    self.servers[server].held.tasks.forget(session.scope());
                    match kept {
                        Kept::For(own) => own.forget(server, &session).await,
                        Kept::Shared(_) => self.shared.forget(&session),
                    }
                    retried = true;
                    act.leaves_again().await.map_err(|_| UpstreamError::Unrecorded)?;
                }
                Err(error) => {
                    under.failed(&error);
                    return Err(error);
                }
                Ok(done) => return Ok((done, under)),
            }
        }
    }
}
