//! The task that a message is part of, or tells of.

use crate::held::Upstream;
use bytes::Bytes;
use gnomon_upstream::{as_text, era::meta, members::Members, rpc::quoted};

/// Whether a notification tells of a task, in either era.
pub(crate) fn is_of_task(method: &str) -> bool {
    matches!(method, "notifications/tasks/status" | "notifications/tasks")
}

/// Rewrites parameters or a result of a client for a server, with the server's own id of the task that they are part of; none if they are
/// part of no task.
#[must_use]
pub fn inward(upstream: &Upstream, owner: &str, said: &Bytes) -> Option<Bytes> {
    // Most say nothing of it, and are not read for it.
    memchr::memmem::find(said, meta::TASK.as_bytes())?;
    let members = Members::read(said).ok()?;
    let meta = members.object("_meta")?;
    let related = meta.object(meta::TASK)?;
    let own = upstream.held.own_task(owner, &related.text("taskId")?)?;
    let related = related.with(&[("taskId", Some(&quoted(&own)))]);
    Some(members.with(&[("_meta", Some(as_text(&meta.with(&[(meta::TASK, Some(as_text(&related)))]))))]))
}
