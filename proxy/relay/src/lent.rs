//! State that a session's client holds for servers: tasks of its own that their questions began, and pages that they sent it to
//! (`elicitationId`).
//!
//! The client does not tell servers apart, as it sees one. So a server may ask for and cancel tasks, and say that a person is done with
//! a page, only where its own question brought them about. Each session keeps so many; of more, the oldest is forgotten.

use crate::{
    held::{Reached, Upstream},
    large::LARGE,
    names::shortened,
    tasks::begun,
};
use gnomon_upstream::{
    LegacySession,
    members::Members,
    rpc::{INVALID_PARAMS, Notification, Outcome, Request, RpcError},
};
use parking_lot::{Mutex, MutexGuard};
use serde_json::value::RawValue;
use smol_str::SmolStr;
use std::{collections::VecDeque, sync::Arc};

/// Most tasks, and most pages, that a session keeps.
const MOST: usize = 128;
/// Longest id of either that is kept, bytes.
const LONGEST: usize = 512;
/// The error of a call that needs a person to go to a page first (2025-11-25, URL mode).
const PAGE_FIRST: i64 = -32042;

/// The tasks and pages of one session's client for servers.
#[derive(Default)]
pub struct Lent(Mutex<Table>);

#[derive(Default)]
struct Table {
    tasks: VecDeque<(Arc<Upstream>, Arc<LegacySession>, SmolStr)>,
    pages: VecDeque<(SmolStr, SmolStr)>,
}

impl Lent {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock()
    }

    /// Whether the client has this task for that server.
    pub fn has_task(&self, server: &SmolStr, id: &str) -> bool {
        self.table().tasks.iter().any(|(upstream, _, task)| upstream.id == *server && task == id)
    }

    /// Removes a server's entries, at its end.
    pub(crate) fn part_with(&self, gone: &Upstream) {
        let mut table = self.table();
        table.tasks.retain(|(upstream, ..)| upstream.number != gone.number);
        table.pages.retain(|(server, _)| *server != gone.id);
    }

    /// A server asks the client for something.
    ///
    /// # Errors
    /// The error for the server, if this is about a task that the client does not have for it.
    pub fn may_ask(&self, server: &SmolStr, request: &Request) -> Result<(), RpcError> {
        match request.method.as_str() {
            "tasks/get" | "tasks/result" | "tasks/cancel" => {
                let params = request.members()?;
                let id = params.text("taskId").unwrap_or_default();
                self.has_task(server, &id)
                    .then_some(())
                    .ok_or_else(|| RpcError::new(INVALID_PARAMS, format!("Unknown task: {}", shortened(&id))))
            }
            "elicitation/create" => {
                if let Some(id) = request.members()?.text("elicitationId") {
                    self.goes_to_page(server, &id);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The client answers what a server asked by this method: what of that is for the server.
    pub fn lends(&self, (upstream, session): (&Arc<Upstream>, &Arc<LegacySession>), method: &str, outcome: Outcome) -> Outcome {
        let Outcome::Result(result) = &outcome else { return outcome };
        match method {
            "tasks/list" => Outcome::Result(own_tasks(self, &upstream.id, result)),
            _ => {
                if let Some((id, _)) = begun(result).filter(|(id, _)| id.len() <= LONGEST) {
                    push(&mut self.table().tasks, (upstream.clone(), session.clone(), id));
                }
                outcome
            }
        }
    }

    /// The server whose question began the task that the client tells of.
    pub fn asker(&self, notification: &Notification) -> Option<Reached> {
        let id = Members::of(notification.params.as_ref()).ok().and_then(|params| params.text("taskId").map(SmolStr::new));
        let of = |id: SmolStr| {
            let table = self.table();
            table.tasks.iter().rfind(|(_, _, task)| *task == id).map(|(upstream, session, _)| (upstream.clone(), session.clone()))
        };
        let asker = id.and_then(of);
        if asker.is_none() {
            tracing::debug!("a client's `{}` is dropped: no server's question began that task", notification.method);
        }
        asker
    }

    fn goes_to_page(&self, server: &SmolStr, id: &str) {
        if id.len() <= LONGEST {
            push(&mut self.table().pages, (server.clone(), SmolStr::new(id)));
        }
    }

    /// The answer to a call, which may send the client to pages.
    pub fn goes_to_pages(&self, server: &SmolStr, outcome: &Outcome) {
        // So many pages as are known are named in less.
        let Outcome::Error(error) = outcome else { return };
        if error.len() >= LARGE || outcome.code() != Some(PAGE_FIRST) {
            return;
        }
        let data = Members::read(error).ok().and_then(|error| error.object("data"));
        let pages: Option<Vec<&RawValue>> = data.as_ref().and_then(|data| serde_json::from_str(data.get("elicitations")?).ok());
        for page in pages.unwrap_or_default().into_iter().take(MOST) {
            if let Some(id) = Members::read(page.get().as_bytes()).ok().and_then(|page| page.text("elicitationId").map(SmolStr::new)) {
                self.goes_to_page(server, &id);
            }
        }
    }

    /// A server's word that a person is done with a page, where it sent them there.
    pub fn page_done(&self, server: &SmolStr, notification: &Notification) -> Option<Notification> {
        let params = Members::of(notification.params.as_ref()).ok()?;
        let id = params.text("elicitationId")?;
        let is_its_own = self.table().pages.iter().any(|(at, page)| at == server && *page == *id);
        is_its_own.then(|| notification.clone())
    }
}

fn push<T>(queue: &mut VecDeque<T>, one: T) {
    if queue.len() >= MOST {
        queue.pop_front();
    }
    queue.push_back(one);
}

/// A client's list of its tasks with those alone that are for this server.
fn own_tasks(lent: &Lent, server: &SmolStr, result: &[u8]) -> bytes::Bytes {
    let members = Members::read(result).unwrap_or_default();
    let tasks: Vec<&RawValue> = members.get("tasks").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let is_own = |task: &&&RawValue| {
        let id = Members::read(task.get().as_bytes()).ok().and_then(|task| task.text("taskId").map(SmolStr::new));
        id.is_some_and(|id| lent.has_task(server, &id))
    };
    let own: Vec<&str> = tasks.iter().filter(is_own).map(|task| task.get()).collect();
    members.with(&[("tasks", Some(&format!("[{}]", own.join(","))))])
}
