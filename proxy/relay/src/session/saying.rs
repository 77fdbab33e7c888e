//! What a session's client says to its servers without a call.

use crate::{
    error::CallError,
    held::{Reached, Upstream},
    judged::Whose,
    logs::LogLevel,
    saying::{self, LevelRequest},
    session::Session,
    telling::{Telling, at_once},
};
use gnomon_upstream::rpc::{self, Notification};

impl Session {
    /// Whether a server may be told this by the client.
    ///
    /// # Errors
    /// [`CallError::Withdrawn`] where the caller may not use the server, [`CallError::Refused`] by a rule.
    pub fn may_say(&self, whose: Whose<'_>, upstream: &Upstream, message: &[u8]) -> Result<(), CallError> {
        saying::may_say(&self.gate, whose, upstream, message)
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
    pub async fn ask_for_logs(&self, whose: Whose<'_>, level: LogLevel) {
        self.set_log_level(level);
        let asked = self.servers().into_iter().filter_map(|(upstream, server)| {
            let request = LevelRequest::permitted(&self.gate, whose, &upstream, level)?;
            Some(Box::pin(async move {
                let _ = request.ask(&server).await;
            }) as Telling)
        });
        at_once(asked.collect()).await;
    }

    /// The level of logs that a server is asked for as its session opens, where it may be asked.
    pub(super) fn level_for(&self, upstream: &Upstream) -> Option<LevelRequest> {
        let open = self.opened()?;
        let (level, caller) = ((*open.log_level.lock())?, open.caller.lock().clone()?);
        let whose = Whose { caller: &caller, client: &self.client, agent: None, execution: None, program: None };
        LevelRequest::permitted(&self.gate, whose, upstream, level)
    }
}
