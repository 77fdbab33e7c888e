//! What a client says to a server without a call passes where policy lets its caller use the server at this moment, and no rule
//! refuses it: notifications, levels of logs, and answers to what servers ask. Calls have a road of their own, which holds a permit
//! for what they name.
//!
//! A client with a session says it by `Session::say` and its neighbours; for a client without one, only the level of logs is said.

use crate::{error::CallError, gate::Gate, held::Upstream, judged::Whose, logs::LogLevel, owed::owed};
use bytes::Bytes;
use gnomon_observe::Action;
use gnomon_upstream::{
    LegacySession, UpstreamError,
    rpc::{self, Id, Outcome, quoted},
};
use std::{sync::Arc, time::Duration};

/// The request for a level of logs.
pub const SET_LEVEL: &str = "logging/setLevel";
/// How long a call waits for its server to take a level of logs.
const LEVEL_WITHIN: Duration = Duration::from_secs(1);

/// Whether a server may be told this by a client.
///
/// # Errors
/// [`CallError::Withdrawn`] where the caller may not use the server, [`CallError::Refused`] by a rule.
pub(crate) fn may_say(gate: &Gate, whose: Whose<'_>, upstream: &Upstream, message: &[u8]) -> Result<(), CallError> {
    let permit = gate.reach(whose.caller, &upstream.id).ok_or(CallError::Withdrawn)?;
    let rules = upstream.held.judge.as_ref().map_or(Ok(Action::Allow), |judge| judge.said(whose, message));
    owed(&permit, rules).map(drop)
}

/// A level of logs that a server may be asked for.
#[derive(Clone)]
pub(crate) struct LevelRequest(Bytes);

impl LevelRequest {
    /// The request of a client for this level, where it may say that.
    pub fn permitted(gate: &Gate, whose: Whose<'_>, upstream: &Upstream, level: LogLevel) -> Option<Self> {
        let params = Bytes::from(format!("{{\"level\":{}}}", quoted(level.as_str())));
        let text = rpc::request(&Id::number(0), SET_LEVEL, Some(&params));
        may_say(gate, whose, upstream, &text).is_ok().then_some(Self(params))
    }

    /// Asks a server, and waits for its answer.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn ask(&self, session: &Arc<LegacySession>) -> Result<Outcome, UpstreamError> {
        session.request(&session.id(), SET_LEVEL, Some(&self.0)).await?.outcome().await
    }

    /// Asks a server before a call: one that does not answer within a second does not hold the call up.
    ///
    /// # Errors
    /// As [`LevelRequest::ask`], and [`UpstreamError::Timeout`].
    pub async fn ask_before_a_call(&self, session: &Arc<LegacySession>) -> Result<Outcome, UpstreamError> {
        let asked = tokio::time::timeout(LEVEL_WITHIN, self.ask(session)).await;
        asked.unwrap_or(Err(UpstreamError::Timeout(LEVEL_WITHIN)))
    }
}
