//! One request that a server is to answer: where it goes, and how it gets there from either era to either.

mod again;
mod exchange;
mod skills;
mod stateless;
mod tasks;

use crate::results::{self, checked, refused};
use bytes::Bytes;
use exchange::Kept;
use gnomon_access::Caller;
use gnomon_audit::{self as audit, NotWritten, Status};
use gnomon_lists::{
    lists::{Offered, PortalLists},
    route::{NotRouted, Routed},
};
use gnomon_observe::Action;
use gnomon_relay::{
    act::{Act, Leaving},
    acts::{Acts, Ending},
    call::{Call, Origin},
    emission::Emission,
    error::CallError,
    ground::{Ground, RefusalCounts},
    held::{Upstream, outward},
    judged::{Judged, Rules},
    large,
    metrics::PortalMetrics,
    names::{Prefix, shortened},
    noted::Refused,
    outflow::Heard,
    owed::{Cleared, owed},
    parked::Parked,
    questions::nobody_listens,
    related,
    session::Session,
    shared::SharedSessions,
    shares, told,
    unsent::Recipient,
    uris,
};
use gnomon_shares::Lately;
use gnomon_upstream::{
    Answer, Client, Conversation, LegacySession, Said, UpstreamError,
    carried::{CARRIED_OUT, CarriedOut, Sent},
    catalogue::Listed,
    endpoint::{Endpoint, NAME},
    form::Form,
    legacy::undeclared,
    mirror,
    rpc::{INTERNAL_ERROR, INVALID_PARAMS, Id, Message, Outcome, Request, RpcError},
};
use http::HeaderMap;
use serde_json::{Value, json};
use smol_str::{SmolStr, ToSmolStr, format_smolstr};
use std::{pin::Pin, sync::Arc, time::Instant};
use tokio::sync::Notify;

pub(crate) use tasks::needs_tasks;

/// A server's answer to a request, and how it ends.
pub(crate) type Served<'a> = Pin<Box<dyn Future<Output = (Outcome, Ending)> + Send + 'a>>;

/// How far a conversation went.
enum Driven {
    Answered(Outcome),
    /// The server asks the client something.
    Asked(Request, Conversation),
}

/// The road to the servers.
pub(crate) struct Road {
    lists: Arc<PortalLists>,
    acts: Option<Arc<Acts>>,
    metrics: Option<PortalMetrics>,
    refusals: Option<RefusalCounts>,
    rules: Option<Rules>,
    /// The refusals that are events.
    refused: Lately,
    shared: SharedSessions,
    parked: Parked,
}

impl Road {
    /// The road to the servers of these lists.
    pub fn new(lists: Arc<PortalLists>, acts: Option<Arc<Acts>>, metrics: Option<PortalMetrics>, rules: Option<Rules>) -> Self {
        let refusals = metrics.as_ref().map(|metrics| metrics.refusals(lists.portal()));
        Self { lists, acts, metrics, refusals, rules, refused: Lately::default(), shared: SharedSessions::new(), parked: Parked::new() }
    }

    /// The lists.
    pub fn lists(&self) -> &Arc<PortalLists> {
        &self.lists
    }

    /// Notes among the events that a request was refused before its server was asked.
    fn turned_down(&self, call: &Call, server: Option<&SmolStr>, request: &Request, (code, why): (i32, &'static str)) {
        if let Some(rules) = &self.rules
            && let Some(requests) = self.refused.counts(&shares::owner(&call.caller).as_str().into())
        {
            let name = asked_for(request);
            let refused = Refused { server, method: &request.method, name: &name, code, why, requests };
            rules.turned_down(self.lists.portal(), call.whose(), &refused);
        }
    }

    /// A caller asks for something.
    pub fn begin(&self, kind: audit::RecordKind, call: &Call, method: &str) -> Act {
        Act::begin(self.acts.as_ref(), kind, call, method).counted(self.refusals.as_ref())
    }

    /// Counts the refusal of what is no act yet.
    pub fn refuses(&self, ground: Ground) {
        if let Some(refusals) = &self.refusals {
            refusals.count(ground);
        }
    }

    /// The share that messages for a caller are charged to.
    pub fn recipient(&self, caller: &Caller) -> Recipient {
        Recipient::of(caller, self.metrics.clone())
    }

    /// Ends sessions that are no longer used, for ever.
    pub async fn sweep(&self) {
        self.shared.sweep().await;
    }

    fn servers(&self) -> Arc<Offered> {
        self.lists.servers()
    }

    /// Ends all that the portal holds open with a server.
    pub fn part_with(&self, gone: &Upstream) {
        self.parked.part_with(gone);
        self.shared.part_with(gone);
    }

    /// The one road to a server, whichever way a request came.
    pub async fn direct(&self, call: &Call, request: &Request) -> Outcome {
        if request.method.starts_with("tasks/") {
            return self.of_tasks(call, request).await;
        }
        if request.method == "skills/list" {
            return self.list_skills(call, request).await;
        }
        let kind = match request.method.as_str() {
            "tools/call" | "prompts/get" | "resources/read" => audit::RecordKind::Call,
            _ => audit::RecordKind::Request,
        };
        let act = self.begin(kind, call, &request.method);
        let routed = match self.lists.route(&call.caller, request) {
            Ok(routed) => self.inward(call, routed),
            Err(not_routed) => return self.not_routed(call, request, act, not_routed).await,
        };
        act.names(|| routed.exposed.as_ref().map_or_else(|| routed.name.clone(), |exposed| exposed.entry.name.clone()));
        act.decided_by(routed.permit.line());
        act.takes(routed.arguments.as_ref(), request.params().map_or(0, Bytes::len));
        let server = &routed.server;
        act.goes_to(&server.id, server.reach.endpoint().map(Endpoint::shown), request.params().map_or(0, Bytes::len));
        if let Some(why) = barred(call, &routed) {
            self.turned_down(call, Some(&server.id), request, (INVALID_PARAMS, "it is not offered here"));
            return act.end(Ending::because(Status::Refused, "not_offered"), Outcome::failed_tool(&why)).await;
        }
        let (outcome, ending) = self.serve(call, &routed, &act).await;
        if let Some(counted) = &routed.server.held.counted {
            counted.ended(&ending);
        }
        if let "skills/get" | "resources/directory/read" = &*routed.method {
            let (outcome, instead) = self.of_skill(call, &routed, outcome).await;
            return act.end(instead.unwrap_or(ending), outcome).await;
        }
        let owner = shares::owner(&call.caller);
        let outcome = match self.outward(&owner, &routed, outcome).await {
            Ok(outcome) => outcome,
            Err(error) => {
                let (instead, ending) = refused(&routed, &error, Sent::Yes);
                return act.end(ending, instead).await;
            }
        };
        match self.began(call, &routed, outcome).await {
            Ok((outcome, task)) => {
                if let Some(task) = task {
                    act.is_of_task(&task);
                }
                act.end(ending, outcome).await
            }
            Err((instead, why)) => act.end(Ending::because(Status::Error, why), instead).await,
        }
    }

    /// A request with its server's own id of the task that it is part of.
    fn inward(&self, call: &Call, routed: Routed) -> Routed {
        let said = routed.params.as_ref().filter(|_| matches!(call.from, Origin::Session(_)));
        match said.and_then(|params| related::inward(&routed.server, &call.task_owner(), params)) {
            Some(params) => Routed { params: Some(params), ..routed },
            None => routed,
        }
    }

    /// The answer of a server, with the names by which clients know its entries.
    async fn outward(&self, owner: &SmolStr, routed: &Routed, outcome: Outcome) -> Result<Outcome, CallError> {
        match (self.lists.prefix(), outcome) {
            (Prefix::Always, Outcome::Result(result)) => {
                let (bytes, id, method) = (result.len(), routed.server.id.clone(), routed.method.clone());
                let known = move || uris::answered(&id, &method, &result).unwrap_or(result);
                large::read(owner, bytes, known).await.map(Outcome::Result)
            }
            (Prefix::Always | Prefix::Never, outcome) => Ok(outcome),
        }
    }

    /// The end of a call that a script makes of what its caller may not know of, or of nothing at all.
    pub async fn nowhere(&self, call: &Call, request: &Request) -> Outcome {
        let act = self.begin(audit::RecordKind::Call, call, &request.method);
        let not_routed = match self.lists.route(&call.caller, request) {
            Err(not_routed) => not_routed,
            // It did not exist, or was not allowed, when the script began; or two have the same name in scripts.
            Ok(_) => RpcError::new(INVALID_PARAMS, format!("Unknown tool: {}", asked_for(request))).into(),
        };
        self.not_routed(call, request, act, not_routed).await
    }

    /// Ends a request that leads to no server.
    async fn not_routed(&self, call: &Call, request: &Request, act: Act, NotRouted { error, line, ground }: NotRouted) -> Outcome {
        act.names(|| asked_for(request));
        act.decided_by(line.as_deref());
        let why = if line.is_some() { "policy does not allow it" } else { "it does not exist, or policy hides it" };
        self.turned_down(call, self.lists.named_server(&call.caller, request).as_ref(), request, (error.code, why));
        let ending = Ending::because(Status::Refused, error.code.to_smolstr()).on(ground);
        act.end(ending, in_era(&call.from, error).into()).await
    }

    /// Gets a server's answer. Boxed: a script's call is within its client's, and the compiler follows futures so far and no further.
    pub fn serve<'a>(&'a self, call: &'a Call, routed: &'a Routed, act: &'a Act) -> Served<'a> {
        Box::pin(self.asked_of_server(call, routed, act))
    }

    async fn asked_of_server(&self, call: &Call, routed: &Routed, act: &Act) -> (Outcome, Ending) {
        let server = &routed.server;
        if let Some(exposed) = routed.exposed.as_ref().filter(|_| routed.method == "tools/call") {
            let none = Value::Object(serde_json::Map::new());
            if let Err(error) = exposed.entry.check_arguments(&server.id, routed.arguments.as_ref().unwrap_or(&none)).await {
                let asked = Request::new(routed.id.clone(), routed.method.clone(), routed.params.clone());
                self.turned_down(call, Some(&server.id), &asked, (error.code, "its arguments do not fit the tool"));
                // A tool's error, so that the model reads it and can do better (2025-11-25, SEP-1303).
                return (Outcome::failed_tool(&error.message), Ending::because(Status::Refused, "invalid_arguments"));
            }
        }
        let (judged, rules) = match &server.held.judge {
            None => (Judged::unjudged(), Ok(Ok(Action::Allow))),
            Some(judge) => judge.request(call.whose(), &routed.id, &routed.method, routed.params.as_ref()).await,
        };
        let cleared = match rules.and_then(|rules| owed(&routed.permit, rules)) {
            Ok(cleared) => cleared,
            Err(error) => {
                judged.finish();
                return refused(routed, &error, Sent::No);
            }
        };
        let leaving = &Leaving::of(act);
        let begun = Instant::now();
        let asked = async {
            let outcome = match &call.from {
                // Boxed here: what is around them is moved several times on its way, and they are large.
                Origin::Session(session) => Box::pin(self.in_session(call, session, (routed, leaving), (&judged, &cleared))).await,
                Origin::Stateless(client) => Box::pin(self.stateless(call, client, (routed, leaving), (&judged, &cleared))).await,
            };
            // An error is an answer as well, whichever way it came.
            if let Ok(answer) | Err(CallError::Upstream(UpstreamError::Rpc(answer))) = &outcome {
                judged.answered(&routed.id, answer).await?;
            }
            outcome
        };
        let owner = shares::owner(&call.caller);
        let (served, sent) = match server.check() {
            Ok(()) => server.serve(&owner, asked).await,
            Err(error) => (Err(error.into()), Sent::No),
        };
        let upstream = Some(begun.elapsed());
        let looked = |answered: results::Answered| {
            if answered.unknown {
                server.look();
            }
            answered
        };
        let outcome = match served {
            Ok(outcome) => results::read(&owner, &routed.method, outcome).await.map(looked),
            Err(CallError::Upstream(UpstreamError::Rpc(error))) => {
                Err(match results::read(&owner, &routed.method, error).await.map(looked) {
                    Ok(answered) => UpstreamError::Rpc(answered.outcome).into(),
                    Err(wrong) => wrong,
                })
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(results::Answered { outcome, ending, .. }) => {
                judged.finish();
                (checked(&owner, routed, outcome).await, Ending { upstream, ..ending })
            }
            Err(error) => {
                if let CallError::Upstream(error) = &error {
                    server.suspect(error);
                    // Who ends a session ends its calls.
                    if let Some(counted) = server.held.counted.as_ref().filter(|_| !matches!(error, UpstreamError::Ended)) {
                        counted.failed(error);
                    }
                }
                if matches!(error, CallError::Refused(_) | CallError::Withheld(..) | CallError::Upstream(UpstreamError::Rpc(_))) {
                    judged.finish();
                } else {
                    judged.failed(&error);
                }
                if matches!(error, CallError::Unrecorded) && !leaving.has_left() {
                    return unrecorded(&server.id);
                }
                let (outcome, ending) = refused(routed, &error, sent);
                (outcome, Ending { upstream, ..ending })
            }
        }
    }

    async fn in_session(
        &self,
        call: &Call,
        session: &Arc<Session>,
        (routed, leaving): (&Routed, &Leaving<'_>),
        (judged, cleared): (&Judged, &Cleared),
    ) -> Result<Outcome, CallError> {
        let server = &routed.server;
        let _reported = session.reported().and_then(|reported| reported.begin(&server.id, routed.params.as_ref()));
        let _reachable = session.calls().map(|calls| calls.begin(&server.id, call.emit.clone(), self.recipient(&call.caller)));
        if server.may_have_sessions() {
            match self.legacy_in_session(call, session, (routed, leaving), (judged, cleared)).await {
                // The server turned out to be of the stateless era only.
                Err(CallError::Upstream(UpstreamError::Rpc(_) | UpstreamError::Status(_) | UpstreamError::Protocol(_)))
                    if !server.may_have_sessions() => {}
                other => return other,
            }
        }
        self.modern_in_session(call, session, (routed, leaving), (judged, cleared)).await
    }

    /// Older era to older era.
    async fn legacy_in_session(
        &self,
        call: &Call,
        session: &Arc<Session>,
        (routed, leaving): (&Routed, &Leaving<'_>),
        (judged, cleared): (&Judged, &Cleared),
    ) -> Result<Outcome, CallError> {
        let exchange =
            |upstream: Arc<LegacySession>, id: Id, _| async move { self.converse(call, session, &upstream, &id, (routed, judged)).await };
        let (outcome, under) = self.exchange(cleared, call, Kept::For(session), (routed, leaving), exchange).await?;
        under.answered();
        if let Some(lent) = session.lent() {
            lent.goes_to_pages(&routed.server.id, &outcome);
        }
        Ok(outcome)
    }

    /// Makes one request within a session, with the server's questions passed to the client.
    async fn converse(
        &self,
        call: &Call,
        session: &Session,
        upstream: &Arc<LegacySession>,
        id: &Id,
        (routed, judged): (&Routed, &Judged),
    ) -> Result<Outcome, CallError> {
        let mut answer = upstream.request(id, &routed.method, routed.params.as_ref()).await?;
        let mut waits = None;
        loop {
            let driven = self.drive_on(call, (upstream, &session.client), answer, (routed, judged)).await?;
            drop(waits.take());
            let (question, conversation) = match driven {
                Driven::Answered(outcome) => return Ok(outcome),
                Driven::Asked(question, conversation) => (question, conversation),
            };
            let server = &routed.server;
            match session.ask_for(server, upstream, &question) {
                Ok(text) => {
                    waits = call.waits();
                    if self.ask_client(call, session, text).await? == Heard::No {
                        session.withdraw(&server.id, upstream.scope(), &question.id);
                        upstream.respond(&question.id, &nobody_listens().into()).await?;
                    }
                }
                Err(error) => upstream.respond(&question.id, &error.into()).await?,
            }
            answer = Answer::Going(conversation);
        }
    }

    /// Asks the client of a session: in the answer of the call, else on any stream that it reads.
    async fn ask_client(&self, call: &Call, session: &Session, text: Bytes) -> Result<Heard, CallError> {
        if call.emit.is_closed() {
            return Ok(session.tell(text).await);
        }
        self.pass_on(call, text).await.map(|()| Heard::Yes)
    }

    /// The headers that mirror what is called and its arguments.
    fn mirrored(&self, routed: &Routed) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if routed.method.starts_with("tasks/")
            && let Some(name) = mirror::encoded(&routed.name).filter(|_| !routed.name.is_empty())
        {
            headers.insert(NAME, name);
        }
        if let (Some(exposed), "tools/call" | "prompts/get") = (&routed.exposed, &*routed.method)
            && let Some(name) = mirror::encoded(&exposed.entry.name)
        {
            headers.insert(NAME, name);
        }
        if let (Some(exposed), Some(arguments)) = (&routed.exposed, &routed.arguments) {
            exposed.entry.mirrored().iter().for_each(|mirrored| mirrored.put(&mut headers, arguments));
        }
        headers
    }

    /// The same within a session, until there is a question that the client can answer. A server that asks for what the client has
    /// not declared gets an error, and so does one whose form costs too much to check an answer by.
    async fn drive_on(
        &self,
        call: &Call,
        (session, client): (&LegacySession, &Client),
        mut answer: Answer,
        (routed, judged): (&Routed, &Judged),
    ) -> Result<Driven, CallError> {
        loop {
            let (question, conversation) = match self.drive(call, answer, routed, judged).await? {
                Driven::Asked(question, conversation) => (question, conversation),
                answered @ Driven::Answered(_) => return Ok(answered),
            };
            let ours = match client.cannot_answer(&question.method) {
                _ if question.method == "ping" => Outcome::Result(Bytes::from_static(b"{}")),
                // The client has no tasks for this server: none of its answers could have begun one.
                None if question.method.starts_with("tasks/") && matches!(call.from, Origin::Stateless(_)) => undeclared("tasks").into(),
                Some(error) => error.into(),
                None => match Form::of(&question) {
                    Ok(_) => return Ok(Driven::Asked(question, conversation)),
                    Err(error) => error.into(),
                },
            };
            session.respond(&question.id, &ours).await?;
            answer = Answer::Going(conversation);
        }
    }

    /// Passes a message on to a client.
    async fn pass_on(&self, call: &Call, text: Bytes) -> Result<(), CallError> {
        self.recipient(&call.caller).pass_on(&call.emit, text).await
    }

    /// Passes on what the server says, until it answers or asks.
    async fn drive(&self, call: &Call, answer: Answer, routed: &Routed, judged: &Judged) -> Result<Driven, CallError> {
        let mut conversation = match answer {
            Answer::Done(outcome) => return Ok(Driven::Answered(outcome)),
            Answer::Going(conversation) => conversation,
        };
        loop {
            let said = conversation.next().await?;
            if let Said::Message(message) = &said
                && let Err(error) = judged.hears(message).await
            {
                match message {
                    // The server waits for an answer that it will not get.
                    Message::Request(_) => return Err(error),
                    Message::Notification(_) | Message::Response(_) => continue,
                }
            }
            let emission = match said {
                Said::Answer(outcome) => return Ok(Driven::Answered(outcome)),
                Said::Message(Message::Request(request)) => return Ok(Driven::Asked(request, conversation)),
                Said::Message(Message::Notification(notification)) => {
                    let server = &routed.server;
                    // Lists are the portal's: they are fetched, and their listeners notified as of any other change.
                    if server.tells_of_lists(&notification.method) {
                        continue;
                    }
                    let owner = call.task_owner();
                    let whose = (&owner, routed.within.get());
                    if !self.lists.gate().tells(&call.caller, server, whose, &notification) {
                        continue;
                    }
                    if let Some(notification) = told::translated((call, routed.params.as_ref()), server, whose, notification) {
                        self.pass_on(call, outward(server, &notification)).await?;
                    }
                    continue;
                }
                Said::Message(Message::Response(_)) => continue,
                Said::Primed { retry } => Emission::Prime(retry),
                Said::Interrupted { .. } => {
                    let returned = Arc::new(Notify::new());
                    conversation.goes_on_with(returned.clone());
                    Emission::Pause(returned)
                }
            };
            // If the receiver is gone, this task is dropped soon.
            let _ = call.emit.send(emission).await;
        }
    }
}

/// The reason that an operation of a document is not called, if it is not: policy allows it, and the configuration does not offer it here.
fn barred(call: &Call, routed: &Routed) -> Option<SmolStr> {
    match routed.exposed.as_ref()?.entry.listed() {
        Listed::Everywhere => None,
        Listed::Searchable if call.script.is_some() => None,
        Listed::Searchable => Some(format_smolstr!(
            "`{}` is called within scripts of Code Mode only: `openapi.allow` of its server does not name it",
            shortened(&routed.name)
        )),
        Listed::Nowhere(why) => Some(why.clone()),
    }
}

/// The end of a call that has not left, as its beginning could not be recorded.
fn unrecorded(server: &SmolStr) -> (Outcome, Ending) {
    let text = format!("{NotWritten} of its beginning; {}; contact the operator of this portal", CarriedOut::No.words());
    let told = RpcError::new(INTERNAL_ERROR, text).with(json!({"server": server, CARRIED_OUT: CarriedOut::No.word()}));
    (told.into(), Ending::because(Status::Refused, "audit"))
}

/// The name that a request asked for, as its client wrote it.
fn asked_for(request: &Request) -> SmolStr {
    let Ok(members) = request.members() else { return SmolStr::default() };
    members.text("name").or_else(|| members.text("uri")).map(|text| shortened(&text).into()).unwrap_or_default()
}

/// The error in the caller's era: since 2026-07-28 a resource that does not exist is a wrong parameter.
fn in_era(from: &Origin, error: RpcError) -> RpcError {
    match from {
        Origin::Stateless(_) if error.code == -32002 => RpcError { code: INVALID_PARAMS, ..error },
        Origin::Stateless(_) | Origin::Session(_) => error,
    }
}
