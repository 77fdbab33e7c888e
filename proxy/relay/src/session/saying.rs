//! The one way for what a session's client says to its servers without a call: notifications, levels of logs, and answers to what
//! servers ask.
//!
//! It passes where policy lets the caller use the server at this moment, and no rule refuses it. Calls have a road of their own, which
//! holds a permit for what they name.

use crate::{
    error::CallError,
    held::{Reached, Upstream},
    judged::Whose,
    owed::owed,
    session::Session,
    telling::{Telling, at_once},
};
use bytes::Bytes;
use gnomon_observe::Action;
use gnomon_upstream::rpc::{self, Id, Notification, quoted};

const SET_LEVEL: &str = "logging/setLevel";

/// What a server is asked for a level of logs.
pub(super) fn level_of(level: &str) -> Bytes {
    Bytes::from(format!("{{\"level\":{}}}", quoted(level)))
}

impl Session {
    /// Whether a server may be told this by the client.
    ///
    /// # Errors
    /// [`CallError::Withdrawn`] where the caller may not use the server, [`CallError::Refused`] by a rule.
    pub fn may_say(&self, whose: Whose<'_>, upstream: &Upstream, message: &[u8]) -> Result<(), CallError> {
        let permit = self.gate.reach(whose.caller, &upstream.id).ok_or(CallError::Withdrawn)?;
        let rules = upstream.held.judge.as_ref().map_or(Ok(Action::Allow), |judge| judge.said(whose, message));
        owed(&permit, rules)
    }

    /// Tells each of these servers what the client has to tell, where it may be told.
    pub async fn say(&self, whose: Whose<'_>, to: impl IntoIterator<Item = Reached>, notification: &Notification) {
        let text = rpc::notification(&notification.method, notification.params.as_deref());
        let told = to.into_iter().filter(|(server, _)| self.may_say(whose, server, &text).is_ok()).map(|(_, server)| {
            let notification = notification.clone();
            Box::pin(async move {
                let _ = server.notify(&notification.method, notification.params.as_deref()).await;
            }) as Telling
        });
        at_once(told.collect()).await;
    }

    /// Asks each open server for a level of logs, where it may be asked; each that is opened later as well.
    pub async fn ask_for_logs(&self, whose: Whose<'_>, level: &str) {
        self.set_log_level(level);
        let params = level_of(level);
        let asked =
            self.servers().into_iter().filter(|(upstream, _)| self.may_ask_for_logs(whose, upstream, &params)).map(|(_, server)| {
                let params = params.clone();
                Box::pin(async move {
                    if let Ok(answer) = server.request(&server.id(), SET_LEVEL, Some(&params)).await {
                        let _ = answer.outcome().await;
                    }
                }) as Telling
            });
        at_once(asked.collect()).await;
    }

    fn may_ask_for_logs(&self, whose: Whose<'_>, upstream: &Upstream, params: &[u8]) -> bool {
        self.may_say(whose, upstream, &rpc::request(&Id::number(0), SET_LEVEL, Some(params))).is_ok()
    }

    /// The level of logs that a server is asked for as its session opens, where it may be asked.
    pub(super) fn level_for(&self, upstream: &Upstream) -> Option<Bytes> {
        let open = self.opened()?;
        let (level, caller) = (open.log_level.lock().clone()?, open.caller.lock().clone()?);
        let whose = Whose { caller: &caller, client: &self.client, agent: None, execution: None, program: None };
        let params = level_of(&level);
        self.may_ask_for_logs(whose, upstream, &params).then_some(params)
    }
}
