//! Requests of servers to the client of a session, until they are answered.
//!
//! Each server counts its questions for itself, so two may give theirs the same id: the client knows them by ids of ours. By those its
//! answer finds its server, and what a server says of its own question finds the client's name for that. Asking and answering is the
//! session's (`session/asking.rs`).

use crate::{forms::KeptForm, held::Upstream};
use gnomon_upstream::{
    LegacySession, Scope,
    rpc::{self, Id, Outcome},
};
use parking_lot::{Mutex, MutexGuard};
use smol_str::SmolStr;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::oneshot;

/// Most requests of servers that a client has not answered.
const MOST: usize = 64;

/// The error for a server whose client reads no stream in which it could be asked.
pub fn nobody_listens() -> rpc::RpcError {
    rpc::RpcError::new(rpc::INTERNAL_ERROR, "the client cannot be asked now: it reads no event stream")
}

/// The questions of one session.
#[derive(Default)]
pub struct Questions(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// The open questions by our ids, in the order in which they were asked.
    open: BTreeMap<u64, Asked>,
    last: u64,
}

/// The asker of a question.
pub(crate) enum Asked {
    /// A server.
    Server(Asker),
    /// We ourselves, with the form that the answer must fit.
    Us(oneshot::Sender<Outcome>, Option<KeptForm>),
}

/// A server that asked.
pub(crate) struct Asker {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) session: Arc<LegacySession>,
    /// The server's id of its question.
    pub(crate) id: Id,
    /// The server's token for its progress, if it asked for that.
    pub(crate) token: Option<Id>,
    pub(crate) method: SmolStr,
    /// The form that the answer must fit.
    pub(crate) form: Option<KeptForm>,
}

impl Asker {
    fn is(&self, server: &SmolStr, within: Scope) -> bool {
        self.upstream.id == *server && self.session.scope() == within
    }
}

impl Questions {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock()
    }

    /// None if too many wait.
    pub(crate) fn keep(&self, asked: Asked) -> Option<Id> {
        let mut table = self.table();
        if table.open.len() >= MOST {
            return None;
        }
        table.last += 1;
        let number = table.last;
        table.open.insert(number, asked);
        Some(Id::number(number))
    }

    pub(crate) fn take(&self, id: &Id) -> Option<Asked> {
        self.table().open.remove(&id.json().parse().ok()?)
    }

    /// Drops the question that a server knows by this id, as it was cancelled. Returns the client's id of it.
    pub(crate) fn drop_of(&self, server: &SmolStr, within: Scope, id: &Id) -> Option<Id> {
        let mut table = self.table();
        let is = |asked: &Asked| matches!(asked, Asked::Server(asker) if asker.is(server, within) && asker.id == *id);
        let number = table.open.iter().rev().find(|(_, asked)| is(asked)).map(|(number, _)| *number)?;
        table.open.remove(&number);
        Some(Id::number(number))
    }

    /// Removes a server's questions, at its end.
    pub(crate) fn part_with(&self, gone: &Upstream) {
        self.table().open.retain(|_, asked| !matches!(asked, Asked::Server(asker) if asker.upstream.number == gone.number));
    }

    /// The server that asked what its client reports on by this token, and its own token.
    pub(crate) fn reported(&self, token: &Id) -> Option<(Arc<Upstream>, Arc<LegacySession>, Id)> {
        match self.table().open.get(&token.json().parse().ok()?)? {
            Asked::Server(Asker { upstream, session, token, .. }) => Some((upstream.clone(), session.clone(), token.clone()?)),
            Asked::Us(..) => None,
        }
    }
}
