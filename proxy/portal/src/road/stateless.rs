//! The road of clients of the stateless era: straight to a server of theirs, or through a session that is kept for them. What the
//! server asks there becomes the result of the call, which waits until the client comes back with an answer.

use super::{
    Driven, Road,
    again::no_question,
    exchange::{Kept, blamed},
};
use crate::results::{complete, wanted};
use bytes::Bytes;
use gnomon_audit as audit;
use gnomon_lists::route::Routed;
use gnomon_relay::{
    act::Leaving, call::Call, error::CallError, forms::KeptForm, judged::Judged, logs::LogLevel, owed::Cleared, parked::ParkedCall,
    pending::PendingUpstream, shares, stateless::asked_now,
};
use gnomon_upstream::{
    Answer, Client, Conversation, LegacySession, Presence, UpstreamError, as_text,
    era::{Era, meta},
    hears_logs,
    legacy::{is_question, undeclared},
    members::Members,
    rpc::{INTERNAL_ERROR, Id, Message, Outcome, Request, RpcError},
};
use serde_json::{Value, json};
use smol_str::SmolStr;
use std::sync::Arc;
use tokio::sync::mpsc;

impl Road {
    pub(super) async fn stateless(
        &self,
        call: &Call,
        client: &Client,
        (routed, leaving): (&Routed, &Leaving<'_>),
        (judged, cleared): (&Judged, &Cleared),
    ) -> Result<Outcome, CallError> {
        let server = &routed.server;
        // One that is of this era and is only just started again is waited for.
        let is_modern = matches!(server.presence(), Presence::Up { era: Era::Modern, .. });
        if server.modern().is_none() && !is_modern && server.may_have_sessions() {
            match self.legacy_stateless(call, client, (routed, leaving), (judged, cleared)).await {
                // The server turned out to be of the stateless era only.
                Err(CallError::Upstream(UpstreamError::Rpc(_) | UpstreamError::Status(_) | UpstreamError::Protocol(_)))
                    if !server.may_have_sessions() => {}
                other => return other,
            }
        }
        self.still_owns(call, routed, None).await?;
        if LogLevel::asked_for(routed.params.as_ref()).is_some() {
            hears_logs(shares::listener(&call.caller));
        }
        let again = self.cleared_again(call, (routed, leaving), routed.params.as_ref()).await?;
        let cleared = again.as_ref().unwrap_or(cleared);
        let answer = asked_now(cleared, leaving, server, (&routed.method, routed.params.as_ref()), &self.mirrored(routed)).await?;
        match self.drive(call, answer, routed, judged).await? {
            Driven::Answered(outcome) => match asks_too_much(&shares::owner(&call.caller), client, &outcome).await? {
                None => Ok(outcome),
                Some(error) => Err(error.into()),
            },
            Driven::Asked(..) => {
                Err(UpstreamError::Protocol("it sent a request, which servers of its protocol version must not do".to_owned()).into())
            }
        }
    }

    /// Stateless era to older era.
    async fn legacy_stateless(
        &self,
        call: &Call,
        client: &Client,
        (routed, leaving): (&Routed, &Leaving<'_>),
        (judged, cleared): (&Judged, &Cleared),
    ) -> Result<Outcome, CallError> {
        let members = Members::of(routed.params.as_ref()).unwrap_or_default();
        if let Some(state) = members.text("requestState").filter(|state| state.starts_with("gnomon.")) {
            return self.take_up(call, &members, &state, (routed, leaving, judged)).await;
        }
        let plain = self.without_era(&members);
        let plain = &plain;
        let exchange = |session: Arc<LegacySession>, id: Id, aside: Option<mpsc::Receiver<Message>>| async move {
            let answer = match aside {
                None => session.request(&id, &routed.method, Some(plain)).await?,
                Some(aside) => Answer::Going(session.converse(id, routed.method.clone(), Some(plain.clone()), aside)),
            };
            self.drive_on(call, (&session, client), answer, (routed, judged)).await
        };
        match self.exchange(cleared, call, Kept::Shared(client), (routed, leaving), exchange).await? {
            (Driven::Answered(outcome), under) => {
                under.answered();
                complete(&shares::owner(&call.caller), outcome).await
            }
            (Driven::Asked(question, conversation), under) => {
                self.park(call, (routed, leaving), question, conversation, under.session().clone(), under)
            }
        }
    }

    fn park(
        &self,
        call: &Call,
        (routed, leaving): (&Routed, &Leaving<'_>),
        question: Request,
        conversation: Conversation,
        session: Arc<LegacySession>,
        under: PendingUpstream,
    ) -> Result<Outcome, CallError> {
        let mut asked = json!({"method": question.method});
        if let Some(params) = question.params().and_then(|params| serde_json::from_slice::<Value>(params).ok()) {
            asked["params"] = params;
        }
        under.is_asked();
        let asked_with = digest(routed.arguments.as_ref());
        let whose = (call.caller.subject.clone(), routed.name.clone(), asked_with);
        let holder = shares::owner(&call.caller);
        let form = KeptForm::of(&question, &holder).map_err(|_| CallError::NotKept)?;
        let parked = ParkedCall::new(
            holder,
            whose,
            conversation,
            (routed.server.number, session),
            under,
            (question.id, form),
            leaving.act().waiting(),
        );
        let state = self.parked.keep(parked).ok_or(CallError::NotKept)?;
        Ok(Outcome::of(&json!({"resultType": "input_required", "inputRequests": {"question": asked}, "requestState": state})))
    }

    async fn take_up(
        &self,
        call: &Call,
        members: &Members<'_>,
        state: &str,
        (routed, leaving, judged): (&Routed, &Leaving<'_>, &Judged),
    ) -> Result<Outcome, CallError> {
        let asked_with = digest(routed.arguments.as_ref());
        let whose = (&*call.caller.subject, &*routed.name, &*asked_with);
        let responses = members.object("inputResponses").unwrap_or_default();
        let mut answer = responses.get("question").map(|answer| Bytes::copy_from_slice(answer.as_bytes()));
        if let (Some(asked), Some(given)) = (self.parked.form(state, whose)?, &mut answer) {
            *given = asked.answered(given).await.map_err(CallError::Unfit)?;
        }
        let parked = self.parked.take(state, whose)?;
        let outcome = match answer {
            Some(answer) => Outcome::Result(answer),
            None => RpcError::new(INTERNAL_ERROR, "the client did not answer").into(),
        };
        let ParkedCall { conversation, session, under, question, mut act, .. } = parked;
        leaving.act().takes_up(&act);
        // It is this one's from now on.
        act.is_another();
        routed.within.set(session.scope());
        under.goes_on();
        let driven = async {
            session.respond(&question, &outcome).await?;
            self.drive_on(call, (&session, call.whose().client), Answer::Going(conversation), (routed, judged)).await
        };
        match driven.await.map_err(|error| blamed(&session, error)) {
            Err(error) => {
                under.failed(&error);
                Err(error)
            }
            Ok(Driven::Answered(outcome)) => {
                under.answered();
                complete(&shares::owner(&call.caller), outcome).await
            }
            Ok(Driven::Asked(question, conversation)) => self.park(call, (routed, leaving), question, conversation, session, under),
        }
    }

    /// The parameters without what only the stateless era says in them.
    fn without_era(&self, members: &Members<'_>) -> Bytes {
        let gone = [(meta::VERSION, None), (meta::CLIENT, None), (meta::CAPABILITIES, None), (meta::LOG_LEVEL, None)];
        // With `task` a client of the older era wishes for one; here its server alone decides, and such a client could not follow it.
        match members.object("_meta").map(|meta| meta.with(&gone)) {
            Some(rest) if rest.len() > 2 => members.with(&[("_meta", Some(as_text(&rest))), ("task", None)]),
            _ => members.with(&[("_meta", None), ("task", None)]),
        }
    }
}

/// Why a client cannot go on with this result: it asks for what the client has not declared, or by what is no question.
async fn asks_too_much(owner: &SmolStr, client: &Client, outcome: &Outcome) -> Result<Option<UpstreamError>, CallError> {
    let Outcome::Result(result) = outcome else { return Ok(None) };
    // Most results ask for nothing, and are not read for it.
    if memchr::memmem::find(result, b"input_required").is_none() {
        return Ok(None);
    }
    let wrong = |(_, asked): &(String, Value)| {
        let method = asked["method"].as_str().unwrap_or_default();
        match client.lacks(method) {
            Some(lacking) => Some(UpstreamError::Protocol(undeclared(lacking).message)),
            None => (!is_question(method)).then(no_question),
        }
    };
    Ok(wanted(owner, result).await?.and_then(|wanted| wanted.requests.iter().find_map(wrong)))
}

/// A digest of a call's arguments while it waits: the same for all ways of writing them.
fn digest(arguments: Option<&Value>) -> SmolStr {
    let mut arguments = arguments.cloned().unwrap_or_default();
    arguments.sort_all_objects();
    audit::text_digest(&arguments.to_string())
}
