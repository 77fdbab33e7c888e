//! Unsolicited messages of a server, in its client's terms.
//!
//! Servers and clients count their requests for themselves. A name that stands in what a server says is translated where the client
//! has another for it, and what is about something that is not that server's with this client goes no further: else one server could
//! take back another's question, or tell of the progress of another's call.

use crate::{
    call::{Call, Origin},
    held::Upstream,
    logs::{LOGGED, LogLevel},
    progress::{self, told_of},
    related::is_of_task,
    session::Session,
};
use bytes::Bytes;
use gnomon_upstream::{
    Scope, as_text,
    era::meta,
    members::Members,
    rpc::{Notification, Request, quoted},
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
            // Another call of its caller may have asked for more.
            LOGGED if self.log_level().is_some_and(|level| level.leaves_out(&notification)) => None,
            _ => Some(notification.clone()),
        };
        let told = noted(upstream, &notification, told)?;
        with_own_meta(upstream, known_task(upstream, whose.0, told)?, |task| self.knows(upstream, whose, task))
    }

    /// A server's question without what it says of tasks that are not its own with this client.
    pub(crate) fn cleaned(&self, upstream: &Upstream, within: Scope, request: &Request) -> Request {
        let owner = self.task_owner();
        let known = |task: &str| self.knows(upstream, (owner.as_ref()?, within), task);
        request.params().and_then(|params| own_meta(params, known)).map_or_else(|| request.clone(), |params| request.with(params))
    }

    /// The progress message of a server for this session's client.
    fn progress(&self, upstream: &Upstream, whose: (&SmolStr, Scope), notification: &Notification) -> Option<Notification> {
        let of_calls = self.reported().map(|reported| reported.at(&upstream.id)).unwrap_or_default();
        told_of(notification, &of_calls).or_else(|| told_of(notification, &upstream.held.tasks.reported(whose)))
    }

    /// How the client knows a task of its own at that server, or one that it has for it; none where it is neither.
    fn knows(&self, upstream: &Upstream, whose: (&SmolStr, Scope), task: &str) -> Option<SmolStr> {
        if upstream.held.tasks.has(whose, task) {
            return upstream.held.known_task(whose.0, task);
        }
        self.lent().is_some_and(|lent| lent.has_task(&upstream.id, task)).then(|| SmolStr::new(task))
    }
}

/// Parameters without the names of subscriptions, which are the portal's to say, and of tasks that are not the speaker's own, others
/// as the client knows them; none where two readers could take different ones.
fn own_meta(params: &Bytes, known: impl Fn(&str) -> Option<SmolStr>) -> Option<Bytes> {
    let members = Members::read(params).ok()?;
    let Some(text) = members.get("_meta").filter(|text| text.starts_with('{')) else { return Some(params.clone()) };
    let meta = Members::read(text.as_bytes()).ok()?;
    let related = meta.object(meta::TASK).and_then(|related| {
        let known = known(&related.text("taskId")?)?;
        Some(related.with(&[("taskId", Some(&quoted(&known)))]))
    });
    let task = (meta::TASK, related.as_ref().map(|related| as_text(related)));
    let changes: Vec<_> = [(meta::SUBSCRIPTION, None), task].into_iter().filter(|(key, _)| meta.get(key).is_some()).collect();
    if changes.is_empty() {
        return Some(params.clone());
    }
    Some(members.with(&[("_meta", Some(as_text(&meta.with(&changes))))]))
}

/// News of a task under the id by which its owner knows it.
fn known_task(upstream: &Upstream, owner: &str, told: Notification) -> Option<Notification> {
    if !is_of_task(&told.method) {
        return Some(told);
    }
    let params = Members::of(told.params.as_ref()).ok()?;
    let known = upstream.held.known_task(owner, &params.text("taskId")?)?;
    Some(Notification { params: Some(params.with(&[("taskId", Some(&quoted(&known)))])), method: told.method.clone() })
}

fn with_own_meta(upstream: &Upstream, told: Notification, known: impl Fn(&str) -> Option<SmolStr>) -> Option<Notification> {
    let Some(params) = &told.params else { return Some(told) };
    let read = own_meta(params, known).map(|params| Notification { method: told.method.clone(), params: Some(params) });
    noted(upstream, &told, read)
}

/// The same within a call.
pub fn translated(
    (call, params): (&Call, Option<&Bytes>),
    upstream: &Upstream,
    whose: (&SmolStr, Scope),
    notification: Notification,
) -> Option<Notification> {
    if let Origin::Session(session) = &call.from {
        return session.translated(upstream, whose, notification);
    }
    let told = match notification.method.as_str() {
        // The request to cancel is its call's result here, and has no id.
        "notifications/cancelled" => None,
        "notifications/progress" => progress::of_call(params, &notification),
        LOGGED => LogLevel::asked_for(params).filter(|level| level.wants(&notification)).map(|_| notification.clone()),
        _ => Some(notification.clone()),
    };
    let told = noted(upstream, &notification, told)?;
    let known = |task: &str| upstream.held.known_task(whose.0, task).filter(|_| upstream.held.tasks.has(whose, task));
    with_own_meta(upstream, known_task(upstream, whose.0, told)?, known)
}

fn noted(upstream: &Upstream, said: &Notification, told: Option<Notification>) -> Option<Notification> {
    if told.is_none() {
        tracing::debug!(server = %upstream.id, "`{}` is dropped: it does not belong to this server", said.method);
    }
    told
}
