//! Clients of the stateless era (2026-07-28): everything about a request is in the request.

use crate::{
    answering::{Accepts, Way, respond},
    clients::Stated,
    front::Asker,
    legacy::list_changed,
    log_in::Proof,
    portal::Portal,
    responses::{answered, plain, refused},
    road::needs_tasks,
};
use gnomon_lists::{lists::LIST_TTL_MS, route::unknown_method, sight::Sight};
use gnomon_relay::{
    call::{Call, Origin},
    emission::Emission,
    large,
    outflow::Outflow,
    shares,
};
use gnomon_upstream::{
    Change, as_text,
    catalogue::Kind,
    endpoint::{METHOD, NAME, VERSION},
    era::{self, Era, meta},
    extensions::{self, TASKS},
    members::Members,
    mirror::{self, Mismatch},
    rpc::{
        self, HEADER_MISMATCH, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, Message, Outcome, Request, RpcError,
        UNSUPPORTED_VERSION,
    },
};
use http::{HeaderMap, Response, StatusCode, header::USER_AGENT};
use serde_json::{Value, json};
use std::{pin::pin, sync::Arc};
use tokio::sync::broadcast::error::RecvError;

/// Most resources that one subscription watches.
const MAX_WATCHED: usize = 256;

impl Portal {
    pub(crate) async fn stateless_post(
        self: &Arc<Self>,
        Asker { caller, offer, visitor }: Asker,
        headers: &HeaderMap,
        message: Message,
        accepts: Accepts,
    ) -> Response<Outflow> {
        let request = match message {
            Message::Request(request) => request,
            // Notifications are for stdio; over HTTP a request is taken back by closing it.
            Message::Notification(_) => return plain(StatusCode::ACCEPTED, ""),
            Message::Response(_) => {
                let text = "answers are not posted in this protocol version: repeat the request with `inputResponses`";
                return refused(StatusCode::BAD_REQUEST, None, RpcError::new(INVALID_REQUEST, text));
            }
        };
        self.lists.settled().await;
        let stated = match self.stated(headers, &request) {
            Ok(stated) => stated,
            Err(error) => {
                let status = if error.code == METHOD_NOT_FOUND { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST };
                return refused(status, Some(&request.id), error);
            }
        };
        let request = stated.carried.as_ref().map_or_else(|| request.clone(), |capabilities| declaring(&request, capabilities));
        let client = stated.client.clone();
        let (id, encode_id) = (request.id.clone(), request.id.clone());
        let (portal, agent, program) = (self.clone(), headers.get(USER_AGENT).cloned(), visitor.program.clone());
        let proof = (request.method == "subscriptions/listen").then(|| Proof::of(headers, &visitor, &caller));
        respond(
            (self.clone(), caller.clone()),
            // A subscription is a stream from its first word on.
            if proof.is_some() { Accepts::Events } else { accepts },
            Way::Connection,
            move |emit| async move {
                let taken_back = Arc::default();
                let call = Call { caller, from: Origin::Stateless(client), agent, offer, script: None, program, taken_back, emit };
                Some(match &proof {
                    Some(proof) => portal.subscribe(&call, &request, proof).await,
                    None => portal.stateless_outcome(&call, &request).await,
                })
            },
            move |outcome| answered(status(&outcome), &id, &outcome),
            move |outcome| rpc::response(Some(&encode_id), outcome),
        )
        .await
    }

    /// Holds the headers against the body, and the body against the specification; who asks.
    fn stated(&self, headers: &HeaderMap, request: &Request) -> Result<Arc<Stated>, RpcError> {
        let mismatch = |Mismatch(text): Mismatch| RpcError::new(HEADER_MISMATCH, text);
        let params = request.members()?;
        let stated = self.clients.stated(params.get("_meta").unwrap_or("{}"));
        let header = mirror::only(headers, &VERSION).map_err(mismatch)?;
        let version = stated.version.as_deref();
        if let (Some(header), Some(version)) = (header, version)
            && header != version
        {
            return Err(RpcError::new(HEADER_MISMATCH, "the header MCP-Protocol-Version contradicts the body"));
        }
        for said in header.into_iter().chain(version) {
            if !era::MODERN.contains(&said) {
                let spoken: Vec<&str> = era::spoken().collect();
                let text = format!("protocol version {} is not supported", gnomon_relay::names::shortened(said));
                return Err(RpcError::new(UNSUPPORTED_VERSION, text).with(json!({"supported": spoken, "requested": said})));
            }
        }
        if !stated.missing.is_empty() {
            let text = format!("`params._meta` lacks {}", stated.missing.join(", "));
            return Err(RpcError::new(INVALID_PARAMS, text));
        }
        if header.is_none() {
            return Err(RpcError::new(HEADER_MISMATCH, "the header MCP-Protocol-Version is missing"));
        }
        mirror::agrees(headers, &METHOD, &request.method).map_err(mismatch)?;
        if let Some(name) = mirror::named_by(&request.method).and_then(|key| params.text(key)) {
            mirror::agrees(headers, &NAME, &name).map_err(mismatch)?;
            if request.method == "tools/call"
                && let Some(exposed) = self.lists.view().named(Kind::Tool, &name)
                && !exposed.entry.mirrored().is_empty()
            {
                let arguments: Value = params.get("arguments").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
                exposed.entry.mirrored().iter().try_for_each(|mirrored| mirrored.check(headers, &arguments)).map_err(mismatch)?;
            }
        }
        Ok(stated)
    }

    async fn stateless_outcome(self: &Arc<Self>, call: &Call, request: &Request) -> Outcome {
        if let Some(kind) = Kind::listed_by(&request.method) {
            return self.listed(call, kind).await;
        }
        let outcome = match request.method.as_str() {
            "server/discover" => self.discover(call),
            "tools/call"
            | "prompts/get"
            | "completion/complete"
            | "resources/directory/read"
            | "skills/list"
            | "tasks/get"
            | "tasks/update"
            | "tasks/cancel" => self.perform(call, request).await,
            "resources/read" | "skills/get" => self.private(call, self.perform(call, request).await).await,
            method => unknown_method(method).into(),
        };
        self.recipient(&call.caller).roomy(outcome).await
    }

    /// Marks an outcome as private: what was read with one caller's rights may not be kept for others.
    async fn private(&self, call: &Call, outcome: Outcome) -> Outcome {
        let Outcome::Result(result) = outcome else { return outcome };
        let bytes = result.len();
        let marked = move || match Members::read(&result) {
            Ok(members) if members.text("resultType").as_deref() != Some("input_required") => {
                let ttl = members.get("ttlMs").unwrap_or("0");
                members.with(&[("ttlMs", Some(ttl)), ("cacheScope", Some("\"private\""))])
            }
            _ => result,
        };
        match large::read(&shares::owner(&call.caller), bytes, marked).await {
            Ok(result) => Outcome::Result(result),
            Err(error) => RpcError::new(INTERNAL_ERROR, error.to_string()).into(),
        }
    }

    fn discover(&self, call: &Call) -> Outcome {
        let versions: Vec<&str> = era::spoken().collect();
        let mut result = json!({
            "resultType": "complete",
            "supportedVersions": versions,
            "capabilities": self.lists.capabilities(&call.caller, Era::Modern),
            "ttlMs": LIST_TTL_MS,
            "cacheScope": "private",
            "_meta": {meta::SERVER: self.info()},
        });
        if let Some(instructions) = self.lists.instructions(&call.caller, call.offer) {
            result["instructions"] = instructions.into();
        }
        Outcome::of(&result)
    }

    /// Tells of changes until the client closes the stream.
    async fn subscribe(self: &Arc<Self>, call: &Call, request: &Request, proof: &Proof) -> Outcome {
        let params: Value = request.params().and_then(|params| serde_json::from_slice(params).ok()).unwrap_or_default();
        let Some(wanted) = params.get("notifications").and_then(Value::as_object) else {
            return RpcError::new(INVALID_PARAMS, "`notifications` is missing: what to be told of").into();
        };
        let mut changes = self.lists.changes();
        let wants = |key: &str| wanted.get(key) == Some(&Value::Bool(true));
        let mut granted = serde_json::Map::new();
        for key in ["toolsListChanged", "promptsListChanged", "resourcesListChanged"] {
            if wants(key) {
                granted.insert(key.to_owned(), true.into());
            }
        }
        let uris = wanted.get("resourceSubscriptions").and_then(Value::as_array).into_iter().flatten();
        let uris: Vec<&str> = uris.filter_map(Value::as_str).take(MAX_WATCHED).collect();
        // Servers need not tell of tasks, and are asked for them: none of these is agreed to.
        if wanted.contains_key("taskIds") {
            if let Origin::Stateless(client) = &call.from
                && extensions::declared(&client.capabilities, TASKS).is_none()
            {
                return needs_tasks().into();
            }
            granted.insert("taskIds".to_owned(), json!([]));
        }
        // An unreadable resource counts as missing, and a missing one is not acknowledged.
        let watching = self.lists.watch(&call.caller, &uris).await;
        if !uris.is_empty() {
            granted.insert("resourceSubscriptions".to_owned(), json!(watching.granted()));
        }
        let mut sight = Sight::of(&self.lists, &call.caller);
        let subscription: Value = serde_json::from_str(request.id.json()).unwrap_or_default();
        let told = |method: &str, mut params: Value| {
            params["_meta"] = json!({meta::SUBSCRIPTION: subscription});
            Emission::Message(rpc::notification(method, Some(params.to_string().as_bytes())))
        };
        let acknowledged = told("notifications/subscriptions/acknowledged", json!({"notifications": granted}));
        if call.emit.send(acknowledged).await.is_err() {
            return Outcome::of(&json!({}));
        }
        let mut turned_out = pin!(self.log_in.turned_out(proof));
        let over = || Outcome::of(&json!({"resultType": "complete", "_meta": {meta::SUBSCRIPTION: subscription}}));
        loop {
            let change = tokio::select! {
                biased;
                // The client comes back with another proof, or not at all.
                () = &mut turned_out => return over(),
                change = changes.recv() => change,
            };
            let (kinds, resources) = match change {
                Ok((server, Change::List(kind))) if wants(list_key(kind)) && sight.concerns(&server, kind) => (vec![kind], Vec::new()),
                // Policy may have changed since they are watched.
                Ok((server, Change::Resources(changed))) => {
                    (Vec::new(), self.lists.news(&call.caller, &watching, Some((server.as_str(), &changed[..]))))
                }
                Ok((_, Change::List(_) | Change::Presence)) => continue,
                // It is not known what was missed: better too many notices than too few, of what the caller may know of.
                Err(RecvError::Lagged(_)) => (sight.concerned(), self.lists.news(&call.caller, &watching, None)),
                Err(RecvError::Closed) => return over(),
            };
            let lists = kinds.into_iter().filter(|kind| wants(list_key(*kind))).map(|kind| told(list_changed(kind), json!({})));
            let resources = resources.into_iter().map(|known| told("notifications/resources/updated", json!({"uri": known})));
            let notices: Vec<Emission> = lists.chain(resources).collect();
            for notice in notices {
                if call.emit.send(notice).await.is_err() {
                    return Outcome::of(&json!({}));
                }
            }
        }
    }
}

/// What a subscription calls the changes of a list.
fn list_key(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool => "toolsListChanged",
        Kind::Prompt => "promptsListChanged",
        Kind::Resource | Kind::Template => "resourcesListChanged",
    }
}

/// The request of a client that can do this.
fn declaring(request: &Request, capabilities: &[u8]) -> Request {
    let Ok(params) = request.members() else { return request.clone() };
    let meta = params.object("_meta").unwrap_or_default().with(&[(meta::CAPABILITIES, Some(as_text(capabilities)))]);
    request.with(params.with(&[("_meta", Some(as_text(&meta)))]))
}

/// The HTTP status of an answer (2026-07-28, Streamable HTTP).
fn status(outcome: &Outcome) -> StatusCode {
    match outcome.code() {
        Some(code) if [HEADER_MISMATCH, rpc::MISSING_CAPABILITY, UNSUPPORTED_VERSION].map(i64::from).contains(&code) => {
            StatusCode::BAD_REQUEST
        }
        Some(code) if code == i64::from(METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    }
}
