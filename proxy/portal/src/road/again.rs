//! A request that leaves for its server more than once: by policy and rules as they are in force each time. Here too a client of the older
//! era with a server of the stateless era, which says in its result what it wants to know, and is called again with that.

use super::{Driven, Road, in_era};
use crate::results::wanted;
use bytes::Bytes;
use gnomon_access::Permit;
use gnomon_lists::route::{NotRouted, Routed};
use gnomon_observe::Action;
use gnomon_relay::{
    act::Leaving,
    call::Call,
    error::CallError,
    input::MAX_ROUNDS,
    judged::Judged,
    outflow::Heard,
    owed::{Cleared, owed},
    questions::nobody_listens,
    session::Session,
    shares,
    stateless::asked_now,
};
use gnomon_upstream::{
    Listener, UpstreamError,
    era::meta,
    hears_logs,
    legacy::is_question,
    members::Members,
    modern::with_meta,
    rpc::{self, Id, Message, Outcome, Request, quoted},
};
use serde_json::{Map, Value};
use std::{sync::Arc, time::Duration};

/// The timeout of a client's answer to a question.
const QUESTION_PATIENCE: Duration = Duration::from_secs(10 * 60);

impl Road {
    /// Sees again to what policy and rules oblige to where a request left before; `params` are what its server gets now. None where it did
    /// not: what was seen to when it came holds.
    ///
    /// # Errors
    /// [`CallError::Denied`] by the policy in force, [`CallError::Refused`] by a rule, and those of [`owed`].
    pub(super) async fn cleared_again(
        &self,
        call: &Call,
        (routed, leaving): (&Routed, &Leaving<'_>),
        params: Option<&Bytes>,
    ) -> Result<Option<Cleared>, CallError> {
        if !leaving.has_left() {
            return Ok(None);
        }
        let permit = self.permitted_now(call, (routed, leaving))?;
        leaving.act().decided_by(permit.line());
        let rules = match &routed.server.held.judge {
            None => Ok(Action::Allow),
            Some(judge) => judge.once_more(call.whose(), &routed.id, &routed.method, params).await?,
        };
        owed(&permit, rules).map(Some)
    }

    /// The permit for a request by the policy in force now.
    fn permitted_now(&self, call: &Call, (routed, leaving): (&Routed, &Leaving<'_>)) -> Result<Permit, CallError> {
        let now = match &*routed.method {
            // What is a caller's own as a whole.
            "tasks/list" | "skills/list" => {
                return self.lists.gate().reach(&call.caller, &routed.server.id).ok_or(CallError::Withdrawn);
            }
            method if method.starts_with("tasks/") => self.route_task(call, &routed.request),
            _ => self.lists.route(&call.caller, &routed.request),
        };
        match now {
            Ok(now) if now.server.number == routed.server.number => Ok(now.permit),
            Ok(_) => Err(UpstreamError::Removed.into()),
            Err(NotRouted { error, line, .. }) => {
                leaving.act().decided_by(line.as_deref());
                Err(CallError::Denied(Box::new(in_era(&call.from, error))))
            }
        }
    }

    /// Older era to stateless era: what the server wants to know it says in its result, and is called again.
    pub(super) async fn modern_in_session(
        &self,
        call: &Call,
        session: &Arc<Session>,
        (routed, leaving): (&Routed, &Leaving<'_>),
        (judged, cleared): (&Judged, &Cleared),
    ) -> Result<Outcome, CallError> {
        if matches!(routed.method.as_str(), "resources/subscribe" | "resources/unsubscribe") {
            return Err(CallError::Untranslatable("this server reports changed resources only to clients of the 2026-07-28 protocol"));
        }
        let level = session.log_level().map(|level| quoted(level.as_str()));
        if level.is_some() {
            // Of a program all use one line, on which what it logs names no call: calls that listen are told. Those of a session are one's.
            hears_logs(Listener::Proven(call.task_owner()));
        }
        let further: Vec<_> = level.iter().map(|level| (meta::LOG_LEVEL, Some(level.as_str()))).collect();
        let mut params = routed.params.clone();
        for _ in 0..MAX_ROUNDS {
            let again = self.cleared_again(call, (routed, leaving), params.as_ref()).await?;
            let cleared = again.as_ref().unwrap_or(cleared);
            let sent = with_meta(&Members::of(params.as_ref()).unwrap_or_default(), &session.client, &further);
            self.still_owns(call, routed, None).await?;
            let answer = asked_now(cleared, leaving, &routed.server, (&routed.method, Some(&sent)), &self.mirrored(routed)).await?;
            let outcome = match self.drive(call, answer, routed, judged).await? {
                Driven::Answered(outcome) => outcome,
                Driven::Asked(..) => {
                    return Err(
                        UpstreamError::Protocol("it sent a request, which servers of its protocol version must not do".to_owned()).into()
                    );
                }
            };
            let Outcome::Result(result) = &outcome else { return Ok(outcome) };
            let Some(wanted) = wanted(&shares::owner(&call.caller), result).await? else { return Ok(outcome) };
            // The client is asked nothing before all is judged.
            let mut questions = Vec::new();
            for (key, request) in wanted.requests {
                let method = request["method"].as_str().unwrap_or_default();
                if !is_question(method) {
                    return Err(no_question().into());
                }
                let params = request.get("params").map(Value::to_string);
                let asked = Request::new(Id::number(0), method.into(), params.map(Bytes::from));
                judged.hears(&Message::Request(asked.clone())).await?;
                questions.push((key, asked));
            }
            let mut answers = Map::new();
            for (key, asked) in questions {
                answers.insert(key, self.ask_in_session(call, session, routed, &asked).await?);
            }
            let answers = Value::Object(answers).to_string();
            let members = Members::of(routed.params.as_ref()).unwrap_or_default();
            params = Some(members.with(&[("inputResponses", Some(&answers)), ("requestState", wanted.state.as_deref())]));
        }
        Err(UpstreamError::Protocol(format!("it asked for more input {MAX_ROUNDS} times")).into())
    }

    /// Asks a client of the older era, and waits for its answer.
    async fn ask_in_session(&self, call: &Call, session: &Session, routed: &Routed, asked: &Request) -> Result<Value, CallError> {
        let asked = session.ask(&routed.server, routed.within.get(), asked);
        let (text, answer) = asked.map_err(|error| UpstreamError::Protocol(error.message))?;
        let _waits = call.waits();
        if self.ask_client(call, session, text).await? == Heard::No {
            return Err(UpstreamError::Rpc(nobody_listens().into()).into());
        }
        match tokio::time::timeout(QUESTION_PATIENCE, answer).await {
            Ok(Ok(Outcome::Result(result))) => {
                session.may_say(call.whose(), &routed.server, &rpc::response(None, &Outcome::Result(result.clone())))?;
                Ok(serde_json::from_slice(&result).unwrap_or_default())
            }
            Ok(Ok(error @ Outcome::Error(_))) => Err(UpstreamError::Rpc(error).into()),
            Ok(Err(_)) => Err(UpstreamError::Aborted.into()),
            Err(_) => Err(UpstreamError::Timeout(QUESTION_PATIENCE).into()),
        }
    }
}

/// What a server asks within a result is none of the requests that clients answer there.
pub(super) fn no_question() -> UpstreamError {
    let may = "elicitation/create, sampling/createMessage and roots/list";
    UpstreamError::Protocol(format!("it asks for input by a request that clients are not put: only {may} are"))
}
