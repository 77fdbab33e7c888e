//! What a server says by itself, in its client's terms.
//!
//! Servers and clients count their requests for themselves. A name that stands in what a server says is translated where the client
//! has another for it, and what is about something that is not that server's with this client goes no further: else one server could
//! take back another's question, or tell of the progress of another's call.

use crate::{
    call::{Call, From},
    held::Upstream,
    progress::{self, told_of},
    session::Session,
};
use bytes::Bytes;
use gnomon_upstream::{
    Scope,
    era::meta,
    legacy::text as as_text,
    members::Members,
    rpc::{Notification, Request},
};
use smol_str::SmolStr;

impl Session {
    /// A notification of a server, as this session's client is to get it; none where it is about nothing that is open between them.
    /// `whose` is the owner of the client's tasks, and within what the server tells them apart.
    pub fn translated(&self, upstream: &Upstream, whose: (&SmolStr, Scope), notification: Notification) -> Option<Notification> {
        let told = match notification.method.as_str() {
            "notifications/cancelled" => self.taken_back(&upstream.id, whose.1, &notification),
            "notifications/progress" => self.progress(upstream, whose, &notification),
            "notifications/elicitation/complete" => self.lent().and_then(|lent| lent.page_done(&upstream.id, &notification)),
            _ => Some(notification.clone()),
        };
        let told = noted(upstream, &notification, told)?;
        with_own_meta(upstream, told, |task| self.is_of(upstream, whose, task))
    }

    /// A server's question without what it says of tasks that are not its own with this client.
    pub(crate) fn cleaned(&self, upstream: &Upstream, within: Scope, request: &Request) -> Request {
        let owner = self.task_owner();
        let is_own = |task: &str| owner.as_ref().is_some_and(|owner| self.is_of(upstream, (owner, within), task));
        request.params().and_then(|params| own_meta(params, is_own)).map_or_else(|| request.clone(), |params| request.with(params))
    }

    /// The progress message of a server for this session's client.
    fn progress(&self, upstream: &Upstream, whose: (&SmolStr, Scope), notification: &Notification) -> Option<Notification> {
        let of_calls = self.reported().map(|reported| reported.at(&upstream.id)).unwrap_or_default();
        told_of(notification, &of_calls).or_else(|| told_of(notification, &upstream.held.tasks.reported(whose)))
    }

    /// Whether this is a task of the client's at that server, or one that it has for it.
    fn is_of(&self, upstream: &Upstream, whose: (&SmolStr, Scope), task: &str) -> bool {
        upstream.held.tasks.has(whose, task) || self.lent().is_some_and(|lent| lent.has_task(&upstream.id, task))
    }
}

/// Parameters without the names of subscriptions, which are the portal's to say, and of tasks that are not the speaker's own; none
/// where two readers could take different ones.
fn own_meta(params: &Bytes, is_own: impl Fn(&str) -> bool) -> Option<Bytes> {
    let members = Members::read(params).ok()?;
    let Some(text) = members.get("_meta").filter(|text| text.starts_with('{')) else { return Some(params.clone()) };
    let meta = Members::read(text.as_bytes()).ok()?;
    let task = meta.object(meta::TASK).and_then(|related| related.text("taskId").map(|id| is_own(&id)));
    let foreign = (task != Some(true)).then_some((meta::TASK, None));
    let gone: Vec<_> = [(meta::SUBSCRIPTION, None)].into_iter().chain(foreign).filter(|(key, _)| meta.get(key).is_some()).collect();
    if gone.is_empty() {
        return Some(params.clone());
    }
    Some(members.with(&[("_meta", Some(as_text(&meta.with(&gone))))]))
}

fn with_own_meta(upstream: &Upstream, told: Notification, is_own: impl Fn(&str) -> bool) -> Option<Notification> {
    let Some(params) = &told.params else { return Some(told) };
    let read = own_meta(params, is_own).map(|params| Notification { method: told.method.clone(), params: Some(params) });
    noted(upstream, &told, read)
}

/// The same within a call.
pub fn translated(
    (call, params): (&Call, Option<&Bytes>),
    upstream: &Upstream,
    whose: (&SmolStr, Scope),
    notification: Notification,
) -> Option<Notification> {
    if let From::Session(session) = &call.from {
        return session.translated(upstream, whose, notification);
    }
    let told = match notification.method.as_str() {
        // What it is asked is the result of its call, and has no id.
        "notifications/cancelled" => None,
        "notifications/progress" => progress::of_call(params, &notification),
        _ => Some(notification.clone()),
    };
    let told = noted(upstream, &notification, told)?;
    with_own_meta(upstream, told, |task| upstream.held.tasks.has(whose, task))
}

fn noted(upstream: &Upstream, said: &Notification, told: Option<Notification>) -> Option<Notification> {
    if told.is_none() {
        tracing::debug!(server = %upstream.id, "`{}` is dropped: it is about nothing of this server's", said.method);
    }
    told
}
