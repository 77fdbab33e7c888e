//! What servers ask the client of a session, until it has answered.
//!
//! Each server counts its questions for itself, so two may give theirs the same id: the client knows them by ids of ours. By those its
//! answer finds its server, and what a server says of its own question finds the client's name for that.

use crate::{
    judged::Whose,
    members::Members,
    rpc::{self, Id, Notification, Outcome, Request, Response},
    session::Session,
    upstream::{LegacySession, Scope, Upstream, legacy::undeclared},
};
use bytes::Bytes;
use smol_str::SmolStr;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// Most requests of servers that a client has not answered.
const MOST: usize = 64;

/// The questions of one session.
#[derive(Default)]
pub(crate) struct Questions(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// By our ids, in the order in which they were asked.
    open: BTreeMap<u64, Asked>,
    last: u64,
}

/// Who waits for a client's answer.
enum Asked {
    /// A server.
    Server(Asker),
    /// We ourselves.
    Us(oneshot::Sender<Outcome>),
}

/// A server that asked.
struct Asker {
    upstream: Arc<Upstream>,
    session: Arc<LegacySession>,
    /// What it calls its question.
    id: Id,
}

impl Asker {
    fn is(&self, server: &SmolStr, within: Scope) -> bool {
        self.upstream.id == *server && self.session.scope() == within
    }
}

impl Questions {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None where too many wait.
    fn keep(&self, asked: Asked) -> Option<Id> {
        let mut table = self.table();
        if table.open.len() >= MOST {
            return None;
        }
        table.last += 1;
        let number = table.last;
        table.open.insert(number, asked);
        Some(Id::number(number))
    }

    fn take(&self, id: &Id) -> Option<Asked> {
        self.table().open.remove(&id.json().parse().ok()?)
    }

    /// Nobody waits for the answer any more to what a server calls this: what its client calls it.
    fn drop_of(&self, server: &SmolStr, within: Scope, id: &Id) -> Option<Id> {
        let mut table = self.table();
        let is = |asked: &Asked| matches!(asked, Asked::Server(asker) if asker.is(server, within) && asker.id == *id);
        let number = table.open.iter().rev().find(|(_, asked)| is(asked)).map(|(number, _)| *number)?;
        table.open.remove(&number);
        Some(Id::number(number))
    }
}

impl Session {
    /// The text of a server's request as the client gets it; its answer will go to that server.
    ///
    /// # Errors
    /// When too many wait already, or the client has not declared that it answers such.
    pub fn ask_for(&self, upstream: &Arc<Upstream>, server: &Arc<LegacySession>, request: &Request) -> Result<Bytes, rpc::RpcError> {
        self.can_answer(&request.method)?;
        let asker = Asker { upstream: upstream.clone(), session: server.clone(), id: request.id.clone() };
        let id = self.remember(Asked::Server(asker))?;
        Ok(rpc::request(&id, &request.method, request.params().map(|params| &**params)))
    }

    /// The text of a request of our own, and where its answer will come.
    ///
    /// # Errors
    /// When too many wait already, or the client has not declared that it answers such.
    pub fn ask(&self, method: &str, params: Option<&[u8]>) -> Result<(Bytes, oneshot::Receiver<Outcome>), rpc::RpcError> {
        self.can_answer(method)?;
        let (sender, answer) = oneshot::channel();
        let id = self.remember(Asked::Us(sender))?;
        Ok((rpc::request(&id, method, params), answer))
    }

    fn can_answer(&self, method: &str) -> Result<(), rpc::RpcError> {
        self.client.lacks(method).map_or(Ok(()), |lacking| Err(undeclared(lacking)))
    }

    fn remember(&self, asked: Asked) -> Result<Id, rpc::RpcError> {
        let busy = || rpc::RpcError::new(rpc::INTERNAL_ERROR, "the client has not answered earlier questions");
        self.questions().and_then(|questions| questions.keep(asked)).ok_or_else(busy)
    }

    /// The client's answer to a server's request, or to ours. One to what was taken back goes nowhere.
    pub async fn answered(&self, whose: Whose<'_>, response: Response) {
        let asked = self.questions().zip(response.id.as_ref()).and_then(|(questions, id)| questions.take(id));
        match asked {
            Some(Asked::Server(Asker { upstream, session, id })) => {
                let text = || rpc::response(Some(&id), &response.outcome);
                let outcome = match upstream.judge.as_ref().map(|judge| judge.said(whose, &text())) {
                    Some(Err(refused)) => refused.outcome(&upstream.id),
                    Some(Ok(())) | None => response.outcome,
                };
                if let Err(error) = session.respond(&id, &outcome).await {
                    tracing::debug!("an answer did not reach its server: {error}");
                }
            }
            Some(Asked::Us(answer)) => {
                let _ = answer.send(response.outcome);
            }
            None => {}
        }
    }

    /// A server's word that it waits for an answer no longer, as its client knows the question. None where the question is none of
    /// that server's in this session, or was answered.
    pub(crate) fn taken_back(&self, server: &SmolStr, within: Scope, notification: &Notification) -> Option<Notification> {
        let params = Members::of(notification.params.as_ref()).ok()?;
        let id = Id::of_json(params.get("requestId")?.as_bytes())?;
        let known = self.questions()?.drop_of(server, within, &id)?;
        let params = params.with(&[("requestId", Some(known.json()))]);
        Some(Notification { method: notification.method.clone(), params: Some(params) })
    }
}
