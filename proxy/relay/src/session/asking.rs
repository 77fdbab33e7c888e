//! A session's client is asked what servers ask, and its answers go back to them.

use crate::{
    forms::{KeptForm, held},
    held::Upstream,
    judged::Whose,
    progress::token,
    questions::{Asked, Asker},
    related::inward,
    session::Session,
    telling::at_once,
};
use bytes::Bytes;
use gnomon_upstream::{
    LegacySession, Scope, as_text,
    members::Members,
    rpc::{self, Id, Notification, Outcome, Request, Response},
};
use smol_str::SmolStr;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The text of a question under this id, by which the client reports on it as well, in place of its server's own token.
fn asking(id: &Id, request: &Request) -> Bytes {
    let reporting = || {
        let params = request.members().ok()?;
        let meta = params.object("_meta").filter(|meta| meta.get("progressToken").is_some())?;
        let meta = meta.with(&[("progressToken", Some(id.json()))]);
        Some(params.with(&[("_meta", Some(as_text(&meta)))]))
    };
    let params = reporting().or_else(|| request.params().cloned());
    rpc::request(id, &request.method, params.as_deref())
}

/// Refuses a question of which two readers could take different tokens.
fn readable(request: &Request) -> Result<(), rpc::RpcError> {
    match request.members()?.get("_meta") {
        Some(meta) if meta.starts_with('{') && Members::read(meta.as_bytes()).is_err() => {
            Err(rpc::RpcError::new(rpc::INVALID_PARAMS, "`_meta` is ambiguous"))
        }
        _ => Ok(()),
    }
}

impl Session {
    /// The text of a server's request as the client gets it; its answer will go to that server.
    ///
    /// # Errors
    /// When too many wait already, the client has not declared that it answers such, it cannot be read as one thing, is about a task
    /// that is not that server's, or no answer to it could be checked.
    pub fn ask_for(&self, upstream: &Arc<Upstream>, server: &Arc<LegacySession>, request: &Request) -> Result<Bytes, rpc::RpcError> {
        let (request, form) = self.asks_of(upstream, server.scope(), request)?;
        let (token, method) = (token(request.params()), request.method.clone());
        let asker = Asker { upstream: upstream.clone(), session: server.clone(), id: request.id.clone(), token, method, form };
        let id = self.remember(Asked::Server(asker))?;
        Ok(asking(&id, &request))
    }

    /// The text of a request of our own, for a server that asks in its answer, and where the client's will come.
    ///
    /// # Errors
    /// See [`Session::ask_for`].
    pub fn ask(&self, upstream: &Upstream, within: Scope, request: &Request) -> Result<(Bytes, oneshot::Receiver<Outcome>), rpc::RpcError> {
        let (request, form) = self.asks_of(upstream, within, request)?;
        let (sender, answer) = oneshot::channel();
        let id = self.remember(Asked::Us(sender, form))?;
        Ok((asking(&id, &request), answer))
    }

    /// A server's question, as far as the client may be asked it, and the form that its answer must fit.
    fn asks_of(&self, upstream: &Upstream, within: Scope, request: &Request) -> Result<(Request, Option<KeptForm>), rpc::RpcError> {
        self.can_answer(&request.method)?;
        readable(request)?;
        if let Some(lent) = self.lent() {
            lent.may_ask(&upstream.id, request)?;
        }
        let form = KeptForm::of(request, &self.holder)?;
        Ok((self.cleaned(upstream, within, request), form))
    }

    /// Drops a server's question, which could not be sent to the client.
    pub fn withdraw(&self, server: &SmolStr, within: Scope, id: &Id) {
        if let Some(questions) = self.questions() {
            questions.drop_of(server, within, id);
        }
    }

    fn can_answer(&self, method: &str) -> Result<(), rpc::RpcError> {
        self.client.cannot_answer(method).map_or(Ok(()), Err)
    }

    fn remember(&self, asked: Asked) -> Result<Id, rpc::RpcError> {
        let busy = || rpc::RpcError::new(rpc::INTERNAL_ERROR, "the client has not answered earlier questions");
        self.questions().and_then(|questions| questions.keep(asked)).ok_or_else(busy)
    }

    /// The client's answer to a server's request, or to ours. One to what was taken back goes nowhere.
    pub async fn answered(&self, whose: Whose<'_>, response: Response) {
        let asked = self.questions().zip(response.id.as_ref()).and_then(|(questions, id)| questions.take(id));
        match asked {
            Some(Asked::Server(Asker { upstream, session, id, method, form, .. })) => {
                let own = |result: &Bytes| inward(&upstream, &self.task_owner()?, result);
                let said = match held(form, response.outcome).await {
                    Outcome::Result(result) => Outcome::Result(own(&result).unwrap_or(result)),
                    error @ Outcome::Error(_) => error,
                };
                let outcome = match self.may_say(whose, &upstream, &rpc::response(Some(&id), &said)) {
                    Err(refused) => refused.outcome(&upstream.id, None),
                    Ok(()) => match self.lent() {
                        Some(lent) => lent.lends((&upstream, &session), &method, said),
                        None => said,
                    },
                };
                let told = Box::pin(async move {
                    if let Err(error) = session.respond(&id, &outcome).await {
                        tracing::debug!("an answer did not reach its server: {error}");
                    }
                });
                at_once(vec![told]).await;
            }
            Some(Asked::Us(answer, form)) => {
                let _ = answer.send(held(form, response.outcome).await);
            }
            None => {}
        }
    }

    /// Passes a client's progress on a question to the server that asked, under that server's own token. Other progress is dropped.
    pub async fn progressed(&self, whose: Whose<'_>, notification: &Notification) {
        let Ok(params) = Members::of(notification.params.as_ref()) else { return };
        let known = params.get("progressToken").and_then(|token| Id::of_json(token.as_bytes()));
        let asker = self.questions().zip(known).and_then(|(questions, token)| questions.reported(&token));
        let Some((upstream, session, token)) = asker else {
            tracing::debug!("a client's `{}` is dropped: no open question asks for it", notification.method);
            return;
        };
        let params = params.with(&[("progressToken", Some(token.json()))]);
        let reported = Notification { params: Some(params), ..notification.clone() };
        self.say(whose, [(upstream, session)], &reported).await;
    }

    /// A server's word that it waits for an answer no longer, as its client knows the question. None where the question is none of
    /// that server's in this session, or was answered.
    pub fn taken_back(&self, server: &SmolStr, within: Scope, notification: &Notification) -> Option<Notification> {
        let params = Members::of(notification.params.as_ref()).ok()?;
        let id = Id::of_json(params.get("requestId")?.as_bytes())?;
        let known = self.questions()?.drop_of(server, within, &id)?;
        let params = params.with(&[("requestId", Some(known.json()))]);
        Some(Notification { method: notification.method.clone(), params: Some(params) })
    }
}
