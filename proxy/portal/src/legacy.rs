//! Clients of the era with sessions (2025-03-26 to 2025-11-25).

use crate::{
    answering::{Accepts, Way, respond},
    front::Asker,
    log_in::{Proof, Visitor},
    portal::Portal,
    responses::{answered, no_room_to_send, pieces, plain, refused, streamed, unrecorded},
};
use bytes::Bytes;
use gnomon_access::Caller;
use gnomon_audit::Status;
use gnomon_lists::sight::Sight;
use gnomon_relay::{
    acts::Ending,
    call::{Call, Origin},
    ground::Ground,
    judged::Whose,
    logs::{LEVELS, LogLevel},
    offer::Offer,
    outflow::{Outflow, event},
    saying::SET_LEVEL,
    session::{Session, StandingStream},
};
use gnomon_upstream::{
    Change, Client,
    catalogue::Kind,
    endpoint::{LAST_EVENT, SESSION, VERSION},
    era::{self, Era},
    extensions,
    members::Members,
    rpc::{self, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, Id, Message, Notification, Outcome, Request, RpcError},
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header::USER_AGENT};
use serde_json::json;
use smol_str::ToSmolStr;
use std::{pin::pin, sync::Arc};
use tokio::sync::{broadcast::error::RecvError, mpsc};

/// Most messages of a batch.
const MAX_BATCH: usize = 64;

impl Portal {
    pub(crate) async fn session_post(
        self: &Arc<Self>,
        Asker { caller, offer, visitor }: Asker,
        headers: &HeaderMap,
        message: Message,
        accepts: Accepts,
    ) -> Response<Outflow> {
        if let Message::Request(request) = &message
            && request.method == "initialize"
        {
            return self.initialize(&caller, offer, request).await;
        }
        let id = match &message {
            Message::Request(request) => Some(&request.id),
            Message::Notification(_) | Message::Response(_) => None,
        };
        let session = match self.session(&caller, headers, id) {
            Ok(session) => session,
            Err(response) => return response,
        };
        let whose = Whose {
            caller: &caller,
            client: &session.client,
            agent: headers.get(USER_AGENT),
            execution: None,
            program: visitor.program.as_deref(),
        };
        match message {
            Message::Notification(notification) => self.session_notification(&session, whose, notification).await,
            Message::Response(response) => session.answered(whose, response).await,
            Message::Request(request) => {
                let asked = (headers.get(USER_AGENT).cloned(), request);
                return self.session_request(Asker { caller, offer, visitor: visitor.clone() }, session, asked, accepts).await;
            }
        }
        plain(StatusCode::ACCEPTED, "")
    }

    /// The session that a request names.
    #[allow(clippy::result_large_err, reason = "the error is the answer, and is moved once")]
    fn session(&self, caller: &Caller, headers: &HeaderMap, id: Option<&Id>) -> Result<Arc<Session>, Response<Outflow>> {
        let invalid = |status, text: &str| refused(status, id, RpcError::new(INVALID_REQUEST, text));
        if let Some(version) = headers.get(VERSION)
            && !version.to_str().is_ok_and(era::is_legacy)
        {
            let text = format!("this MCP-Protocol-Version is not supported; supported are {}", era::LEGACY.join(", "));
            return Err(invalid(StatusCode::BAD_REQUEST, &text));
        }
        let Some(name) = headers.get(SESSION) else {
            return Err(invalid(StatusCode::BAD_REQUEST, "the header Mcp-Session-Id is missing; begin with `initialize`"));
        };
        let session = name.to_str().ok().and_then(|name| self.sessions.find(name, caller));
        session.ok_or_else(|| invalid(StatusCode::NOT_FOUND, "the session does not exist or has ended; begin with `initialize`"))
    }

    async fn initialize(self: &Arc<Self>, caller: &Caller, offer: Offer, request: &Request) -> Response<Outflow> {
        let params = match request.members() {
            Ok(params) => params,
            Err(error) => return refused(StatusCode::OK, Some(&request.id), error),
        };
        let version = era::negotiated(params.text("protocolVersion").as_deref());
        let object = |name: &str| Bytes::copy_from_slice(params.get(name).filter(|json| json.starts_with('{')).unwrap_or("{}").as_bytes());
        let capabilities = object("capabilities");
        let capabilities = extensions::carried(&capabilities, Era::Legacy).unwrap_or(capabilities);
        let client = Client::new(object("clientInfo"), capabilities, version.clone());
        self.lists.settled().await;
        let mut result =
            json!({"protocolVersion": version, "capabilities": self.lists.capabilities(caller, Era::Legacy), "serverInfo": self.info()});
        if let Some(instructions) = self.lists.instructions(caller, offer) {
            result["instructions"] = instructions.into();
        }
        let text = rpc::response(Some(&request.id), &Outcome::of(&result));
        // A session begins only if there is room to send its id.
        let Some(room) = self.recipient(caller).room_for(text.len()).await else { return no_room_to_send() };
        let session = match self.sessions.begin(caller, client) {
            Ok(session) => session,
            Err(error) => {
                tracing::error!("no random numbers: {error}");
                return plain(StatusCode::INTERNAL_SERVER_ERROR, "no session can be begun");
            }
        };
        if let Some(acts) = &self.options.acts
            && let Err(error) = acts.session_begins(caller, &session.audited()).await
        {
            self.sessions.forget(&session);
            self.road.refuses(Ground::Audit);
            return unrecorded(error);
        }
        let mut response = pieces(StatusCode::OK, vec![room.holds(text)]);
        if let Ok(id) = HeaderValue::from_str(&session.id) {
            response.headers_mut().insert(SESSION, id);
        }
        response
    }

    async fn session_request(
        self: &Arc<Self>,
        Asker { caller, offer, visitor }: Asker,
        session: Arc<Session>,
        (agent, request): (Option<HeaderValue>, Request),
        accepts: Accepts,
    ) -> Response<Outflow> {
        let id = request.id.clone();
        let for_stream = session.clone();
        let way = Way::Session(Box::new(move |recipient| for_stream.stream(recipient)));
        let (portal, program) = (self.clone(), visitor.program.clone());
        let encode_id = id.clone();
        respond(
            (self.clone(), caller.clone()),
            accepts,
            way,
            move |emit| async move {
                let (from, taken_back) = (Origin::Session(session.clone()), Arc::default());
                let call = Call { caller, from, agent, offer, script: None, program, taken_back, emit };
                portal.session_outcome(&call, &session, &request).await
            },
            move |outcome| answered(StatusCode::OK, &id, &outcome),
            move |outcome| rpc::response(Some(&encode_id), outcome),
        )
        .await
    }

    /// The outcome of a request; none where the client cancelled it.
    async fn session_outcome(self: &Arc<Self>, call: &Call, session: &Arc<Session>, request: &Request) -> Option<Outcome> {
        if let Some(kind) = Kind::listed_by(&request.method) {
            return Some(self.listed(call, kind).await);
        }
        match request.method.as_str() {
            "ping" => Some(Outcome::Result(Bytes::from_static(b"{}"))),
            SET_LEVEL => Some(self.set_log_level(call, session, request).await),
            _ => {
                self.lists.settled().await;
                session.begin(&request.id, call.taken_back.clone());
                session.asks(&call.caller);
                let outcome = tokio::select! {
                    outcome = async { self.recipient(&call.caller).roomy(self.perform(call, request).await).await } => Some(outcome),
                    () = call.taken_back.noticed() => None,
                };
                session.end(&request.id);
                outcome
            }
        }
    }

    async fn set_log_level(&self, call: &Call, session: &Arc<Session>, request: &Request) -> Outcome {
        let act = self.road.begin(gnomon_audit::RecordKind::Request, call, &request.method);
        let Some(level) = request.members().ok().and_then(|params| LogLevel::of(&params.text("level")?)) else {
            let error = RpcError::new(INVALID_PARAMS, format!("`level` must be one of {}", LEVELS.join(", ")));
            let ending = Ending::because(Status::Refused, error.code.to_smolstr()).on(Ground::Arguments);
            return act.end(ending, error.into()).await;
        };
        if let Err(error) = act.leaves().await {
            let text = format!("{error} of its beginning, so no server was asked; contact the operator of this portal");
            return act.end(Ending::because(Status::Refused, "audit"), RpcError::new(INTERNAL_ERROR, text).into()).await;
        }
        session.ask_for_logs(call.whose(), level).await;
        act.end(Ending::of(Status::Ok), Outcome::Result(Bytes::from_static(b"{}"))).await
    }

    /// True if the rules let this pass to each server of a session.
    fn passes(&self, session: &Session, whose: Whose<'_>, notification: &Notification) -> bool {
        let text = rpc::notification(&notification.method, notification.params.as_deref());
        session.servers().iter().all(|(server, _)| session.may_say(whose, server, &text).is_ok())
    }

    async fn session_notification(&self, session: &Session, whose: Whose<'_>, notification: Notification) {
        match notification.method.as_str() {
            "notifications/cancelled" => {
                let Ok(params) = Members::of(notification.params.as_ref()) else { return };
                let Some(id) = params.get("requestId").and_then(|id| Id::of_json(id.as_bytes())) else { return };
                // The server gets the client's own reason, unless a rule refuses that.
                let reason = params.text("reason").filter(|_| self.passes(session, whose, &notification));
                session.cancel(&id, reason.as_deref());
            }
            "notifications/progress" => session.progressed(whose, &notification).await,
            "notifications/tasks/status" => {
                let asker = session.lent().and_then(|lent| lent.asker(&notification));
                session.say(whose, asker, &notification).await;
            }
            // Servers' sessions begin when they are needed, and were told then.
            "notifications/initialized" => {}
            _ => session.say(whose, session.servers(), &notification).await,
        }
    }

    /// The stream of what is said by itself, or one that broke off.
    pub(crate) async fn listen(self: &Arc<Self>, caller: &Arc<Caller>, headers: &HeaderMap, visitor: &Arc<Visitor>) -> Response<Outflow> {
        if !matches!(Accepts::of(headers), Accepts::Both | Accepts::Events) {
            return plain(StatusCode::NOT_ACCEPTABLE, "Accept must allow text/event-stream");
        }
        let session = match self.session(caller, headers, None) {
            Ok(session) => session,
            Err(response) => return response,
        };
        if let Some(last) = headers.get(LAST_EVENT) {
            return match last.to_str().ok().and_then(|last| session.resume(last)) {
                Some(outflow) => streamed(outflow),
                None => plain(StatusCode::NOT_FOUND, "the stream of that event does not exist or has ended"),
            };
        }
        let (standing, outflow) = session.stand(self.recipient(caller));
        let mut changes = self.lists.changes();
        let caller = caller.clone();
        session.asks(&caller);
        let mut sight = Sight::of(&self.lists, &caller);
        let (portal, proof) = (self.clone(), Proof::of(headers, visitor, &caller));
        self.spawn(async move {
            let StandingStream { sender, over, .. } = &standing;
            let _stands = Stands { session, standing: &standing };
            let mut turned_out = pin!(portal.log_in.turned_out(&proof));
            loop {
                let change = tokio::select! {
                    biased;
                    // The client comes back with another proof, or not at all.
                    () = &mut turned_out => return,
                    change = changes.recv() => change,
                    () = over.notified() => return,
                    () = sender.closed() => return,
                };
                let changed = match change {
                    Ok((server, Change::List(kind))) if sight.concerns(&server, kind) => vec![kind],
                    // It is not known what was missed: better too many notices than too few, of what the caller may know of.
                    Err(RecvError::Lagged(_)) => sight.concerned(),
                    Err(RecvError::Closed) => return,
                    Ok(_) => continue,
                };
                for kind in changed {
                    if sender.send(event(None, None, &rpc::notification(list_changed(kind), None))).await.is_err() {
                        return;
                    }
                }
            }
        });
        streamed(outflow)
    }

    pub(crate) async fn end(self: &Arc<Self>, caller: &Caller, headers: &HeaderMap) -> Response<Outflow> {
        match self.session(caller, headers, None) {
            Ok(session) => {
                self.sessions.end(&session).await;
                plain(StatusCode::OK, "")
            }
            Err(response) => response,
        }
    }

    /// Several messages at once, as only 2025-03-26 has them.
    pub(crate) async fn batch(
        self: &Arc<Self>,
        Asker { caller, offer, visitor }: Asker,
        headers: &HeaderMap,
        elements: Vec<Bytes>,
    ) -> Response<Outflow> {
        let invalid = |text: &str| refused(StatusCode::BAD_REQUEST, None, RpcError::new(INVALID_REQUEST, text));
        let session = match self.session(&caller, headers, None) {
            Ok(session) if session.client.version == "2025-03-26" => session,
            Ok(_) => return invalid("batches belong to protocol version 2025-03-26 only"),
            Err(refusal) => return refusal,
        };
        if elements.is_empty() || elements.len() > MAX_BATCH {
            return invalid(&format!("a batch has between 1 and {MAX_BATCH} messages"));
        }
        // Messages before the answer have no place in one document.
        let (emit, _) = mpsc::channel(1);
        let agent = headers.get(USER_AGENT).cloned();
        let (from, taken_back, program) = (Origin::Session(session.clone()), Arc::default(), visitor.program.clone());
        let all = Call { caller, from, agent, offer, script: None, program, taken_back, emit };
        let (recipient, mut answers) = (self.recipient(&all.caller), Vec::new());
        for element in elements {
            let answer = match Message::read(&element) {
                Ok(Message::Request(request)) => {
                    let call = Call { taken_back: Arc::default(), ..all.clone() };
                    let outcome = self.session_outcome(&call, &session, &request).await;
                    outcome.map(|outcome| (Some(request.id), outcome))
                }
                Ok(Message::Notification(notification)) => {
                    self.session_notification(&session, all.whose(), notification).await;
                    None
                }
                Ok(Message::Response(response)) => {
                    session.answered(all.whose(), response).await;
                    None
                }
                Err(error) => Some((None, error.into())),
            };
            let Some((id, outcome)) = answer else { continue };
            answers.push(Bytes::from_static(if answers.is_empty() { b"[" } else { b"," }));
            answers.extend(recipient.in_pieces(id.as_ref(), outcome).await);
        }
        if answers.is_empty() {
            return plain(StatusCode::ACCEPTED, "");
        }
        answers.push(Bytes::from_static(b"]"));
        pieces(StatusCode::OK, answers)
    }
}

/// The stream of what is said by itself in a session: with this the session lets go of it.
struct Stands<'a> {
    session: Arc<Session>,
    standing: &'a StandingStream,
}

impl Drop for Stands<'_> {
    fn drop(&mut self) {
        self.session.stands_no_more(self.standing);
    }
}

/// The notification that a list changed.
pub(crate) fn list_changed(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool => "notifications/tools/list_changed",
        Kind::Prompt => "notifications/prompts/list_changed",
        Kind::Resource | Kind::Template => "notifications/resources/list_changed",
    }
}
