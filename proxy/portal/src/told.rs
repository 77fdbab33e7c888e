//! What a server says by itself, in its client's terms.
//!
//! Servers and clients count their requests for themselves. A name that stands in what a server says is translated where the client
//! has another for it, and what is about something that is not that server's with this client goes no further: else one server could
//! take back another's question, or tell of the progress of another's call.

use crate::{
    call::{Call, From},
    progress,
    route::Routed,
    rpc::Notification,
    session::Session,
    upstream::{Scope, Upstream},
};
use smol_str::SmolStr;

impl Session {
    /// A notification of a server, as this session's client is to get it; none where it is about nothing that is open between them.
    /// `whose` is the owner of the client's tasks, and within what the server tells them apart.
    pub(crate) fn translated(&self, upstream: &Upstream, whose: (&SmolStr, Scope), notification: Notification) -> Option<Notification> {
        let told = match notification.method.as_str() {
            "notifications/cancelled" => self.taken_back(&upstream.id, whose.1, &notification),
            "notifications/progress" => self.progress(upstream, whose, &notification),
            _ => return Some(notification),
        };
        noted(upstream, &notification, told)
    }
}

/// The same in the middle of a call.
pub(crate) fn translated(
    (call, routed): (&Call, &Routed),
    upstream: &Upstream,
    whose: (&SmolStr, Scope),
    notification: Notification,
) -> Option<Notification> {
    match &call.from {
        From::Session(session) => session.translated(upstream, whose, notification),
        From::Stateless(_) => match notification.method.as_str() {
            // What it is asked is the result of its call, and has no id.
            "notifications/cancelled" => noted(upstream, &notification, None),
            "notifications/progress" => noted(upstream, &notification, progress::of_call(routed, &notification)),
            _ => Some(notification),
        },
    }
}

fn noted(upstream: &Upstream, said: &Notification, told: Option<Notification>) -> Option<Notification> {
    if told.is_none() {
        tracing::debug!(server = %upstream.id, "`{}` is dropped: it is about nothing of this server's", said.method);
    }
    told
}
