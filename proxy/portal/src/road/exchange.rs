//! A request within a session of the older era, asked once more where the server has forgotten the session, or its program hangs.

use super::Road;
use gnomon_lists::route::Routed;
use gnomon_relay::{
    act::Leaving, call::Call, error::CallError, logs::LogLevel, owed::Cleared, pending::PendingUpstream, session::Session, shared::Lease,
    shares,
};
use gnomon_upstream::{
    Client, LegacySession, UpstreamError,
    rpc::{Id, Message},
};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The keeper of the session with a server.
#[derive(Clone, Copy)]
pub(super) enum Kept<'a> {
    /// The client's own session does.
    For(&'a Arc<Session>),
    /// The portal does, for clients of the stateless era of this kind.
    Shared(&'a Client),
}

impl Road {
    /// One exchange within a session with a server. Where the server has forgotten it, as it was restarted, say, or the session's program
    /// does not say that it is there, it is had once more in a new one, without the client noticing, as any that
    /// leaves again: the server may have acted before.
    pub(super) async fn exchange<T, F>(
        &self,
        cleared: &Cleared,
        call: &Call,
        kept: Kept<'_>,
        (routed, leaving): (&Routed, &Leaving<'_>),
        exchange: impl Fn(Arc<LegacySession>, Id, Option<mpsc::Receiver<Message>>) -> F,
    ) -> Result<(T, PendingUpstream), CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let (mut retried, server) = (false, &routed.server);
        loop {
            let again = self.cleared_again(call, (routed, leaving), routed.params.as_ref()).await?;
            let cleared = again.as_ref().unwrap_or(cleared);
            let mut lease = match kept {
                Kept::For(_) => None,
                Kept::Shared(client) => {
                    let task = || server.held.tasks.of(&call.task_owner(), &routed.name).map(|made| made.scope);
                    let scope = if routed.method.starts_with("tasks/") { task() } else { None };
                    let logs = LogLevel::asked_for(routed.params.as_ref());
                    if logs.is_some() {
                        gnomon_upstream::hears_logs(shares::listener(&call.caller));
                    }
                    let lease = self.shared.get(cleared, (self.lists.gate(), call.whose()), server, client, (scope, logs));
                    Some(lease.await.map_err(unopened)?)
                }
            };
            let session = match (kept, &lease) {
                (Kept::For(session), _) => session.server(cleared, server).await.map_err(unopened)?,
                (Kept::Shared(_), Some(lease)) => lease.session().clone(),
                (Kept::Shared(_), None) => return Err(UpstreamError::Aborted.into()),
            };
            let aside = lease.as_mut().and_then(Lease::take_heard);
            self.still_owns(call, routed, Some(&session)).await?;
            leaving.leaves().await?;
            let id = session.id();
            let under = PendingUpstream::new(session.clone(), id.clone(), call, lease);
            let done = exchange(session.clone(), id, aside).await.map_err(|error| blamed(&session, error));
            match done {
                Err(CallError::Upstream(UpstreamError::SessionGone | UpstreamError::Hangs(_))) if !retried => {
                    under.answered();
                    server.held.tasks.forget(session.scope());
                    match kept {
                        Kept::For(own) => own.forget(server, &session).await,
                        Kept::Shared(_) => self.shared.forget(&session),
                    }
                    retried = true;
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

/// A session that did not come about: what the server said of that is no answer to the call, which it never got.
fn unopened(error: UpstreamError) -> UpstreamError {
    match error {
        UpstreamError::Rpc(outcome) => {
            UpstreamError::Protocol(format!("it refused to begin a session (error {})", outcome.code().unwrap_or_default()))
        }
        other => other,
    }
}

/// An error within a session, whoever ended that.
pub(super) fn blamed(session: &LegacySession, error: CallError) -> CallError {
    match error {
        CallError::Upstream(error) => session.blame(error).into(),
        other => other,
    }
}
