//! Requests about tasks, each to the server whose task it is ([`gnomon_relay::tasks`]).

use super::{
    Road,
    skills::{Waiting, all_of},
};
use crate::results::refused as refused_by;
use bytes::Bytes;
use gnomon_access::{Decision, Permit};
use gnomon_audit::{RecordKind as Recorded, Status};
use gnomon_lists::{
    lists::PortalLists,
    route::{NotRouted, Routed, Within, unknown_method},
};
use gnomon_relay::{
    act::Act,
    acts::Ending,
    call::{Call, Origin},
    error::CallError,
    ground::Ground,
    held::Upstream,
    large,
    names::shortened,
    progress::token,
    shares,
    tasks::{LONGEST_ID, Made, Owned, begun, is_flat, known_by},
};
use gnomon_upstream::{
    LegacySession, Presence, Scope, UpstreamError, as_text,
    carried::Sent,
    catalogue::Kind,
    endpoint::Endpoint,
    era::Era,
    extensions::{TASKS, declared},
    members::Members,
    rpc::{INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_CAPABILITY, Outcome, Request, RpcError, quoted},
};
use serde_json::{Value, json, value::RawValue};
use smol_str::{SmolStr, ToSmolStr};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::{error::Elapsed, timeout};

/// Longest token of a call that is kept, bytes.
const LONGEST_TOKEN: usize = 128;
/// Most pages that are read of each server's list where several have tasks.
const PAGES: usize = 20;

/// The timeout for a server to list its tasks where several have some.
const PATIENCE: Duration = Duration::from_secs(1);

/// The caller's own tasks of one server.
struct Tasks {
    own: Vec<String>,
    /// The cursor of the next page.
    next: Option<String>,
    ending: Ending,
}

/// A server that was asked for them, and what came of it in time.
type Asked<'a> = (&'a SmolStr, Result<Result<Tasks, (Outcome, Ending)>, Elapsed>);

fn list(own: &[String], missing: &[Value], next: Option<&str>) -> Outcome {
    let (tasks, next) = (format!("[{}]", own.join(",")), next.map(quoted));
    let told = (!missing.is_empty()).then(|| json!({"dev.gnomon/missing": missing}).to_string());
    Outcome::Result(Members::default().with(&[("tasks", Some(&tasks)), ("nextCursor", next.as_deref()), ("_meta", told.as_deref())]))
}

/// The error for a task that does not exist, or is not the caller's.
fn unknown(id: &str) -> RpcError {
    RpcError::new(INVALID_PARAMS, format!("Unknown task: {}", shortened(id)))
}

/// The error for a client that asks for tasks and has not declared support for them.
pub(crate) fn needs_tasks() -> RpcError {
    let text = format!("the client has not declared the extension {TASKS}, which this needs");
    RpcError::new(MISSING_CAPABILITY, text).with(json!({"requiredCapabilities": {"extensions": {TASKS: {}}}}))
}

/// The id by which a client asks for a task.
fn known_of(request: &Request) -> Option<SmolStr> {
    request.members().ok()?.text("taskId").map(SmolStr::new)
}

/// Whether client and server speak to each other in two eras, which have tasks of two kinds: neither can be told as the other's.
fn is_bridged(call: &Call, server: &Upstream) -> bool {
    match &call.from {
        Origin::Session(_) => !server.may_have_sessions(),
        // One that is away may be back for its tasks.
        Origin::Stateless(_) => matches!(server.presence(), Presence::Up { era: Era::Legacy, .. }),
    }
}

/// Why a client could not follow a task that a server began, if so.
fn unfollowed(call: &Call, server: &Upstream, is_flat: bool) -> Option<&'static str> {
    match &call.from {
        _ if is_bridged(call, server) => Some("as the other version of the protocol has them"),
        Origin::Session(_) => None,
        Origin::Stateless(client) if declared(&client.capabilities, TASKS).is_none() => {
            Some("and the client has not declared that it knows these")
        }
        Origin::Stateless(_) if !is_flat => Some("in a way that this version of the protocol does not have"),
        Origin::Stateless(_) => (!PortalLists::offers(server, TASKS)).then_some("and does not say that it has any"),
    }
}

impl Road {
    /// Remembers the task that a call began, if it did; the answer as its client is to get it, and the server's id, for the record.
    ///
    /// # Errors
    /// The answer in its place, and a reason: if its id is longer than is kept, or the client does not support tasks.
    pub(super) async fn began(
        &self,
        call: &Call,
        routed: &Routed,
        outcome: Outcome,
    ) -> Result<(Outcome, Option<SmolStr>), (Outcome, &'static str)> {
        let (Outcome::Result(result), Some(exposed), "tools/call") = (&outcome, &routed.exposed, &*routed.method) else {
            return Ok((outcome, None));
        };
        let (owner, server) = (shares::owner(&call.caller), &routed.server);
        let unread = |error: CallError| (error.outcome(&server.id, None), error.kind());
        let looked_into = result.clone();
        let look = move || begun(&looked_into).map(|task| (task, is_flat(&looked_into)));
        let Some(((id, created), flat)) = large::read(&owner, result.len(), look).await.map_err(unread)? else {
            return Ok((outcome, None));
        };
        let refused = |text: &str, why| (Outcome::failed_tool(text), why);
        if let Some(why) = unfollowed(call, server, flat) {
            return Err(refused(&format!("the server began a task, {why}: nobody can ask what became of it"), "task_era"));
        }
        let owner = call.task_owner();
        let known = server.held.known_task(&owner, &id).filter(|_| id.len() <= LONGEST_ID);
        let Some(known) = known else {
            let text = format!("the server began a task whose id is longer than {LONGEST_ID} bytes: it cannot be asked for");
            return Err(refused(&text, "task_id"));
        };
        let answer = self.known_by(call, (&id, &known), result).await.map_err(unread)?;
        let (tool, hints, scope) = (exposed.entry.name.clone(), exposed.entry.hints, routed.within.get());
        let token = token(routed.params.as_ref()).filter(|token| token.json().len() <= LONGEST_TOKEN);
        server.held.tasks.keep(id.clone(), Made { tool, hints, owner, scope, created, token, used: Instant::now() });
        Ok((answer, Some(id)))
    }

    /// A server's answer about a task, by the id by which its owner knows that.
    async fn known_by(&self, call: &Call, (own, known): (&SmolStr, &SmolStr), answer: &Bytes) -> Result<Outcome, CallError> {
        let (bytes, own, known, answer) = (answer.len(), own.clone(), known.clone(), answer.clone());
        large::read(&shares::owner(&call.caller), bytes, move || known_by((&own, &known), &answer)).await.map(Outcome::Result)
    }

    /// A request about tasks.
    pub(super) async fn of_tasks(&self, call: &Call, request: &Request) -> Outcome {
        let act = self.begin(Recorded::Request, call, &request.method);
        let refused = |NotRouted { error, line, ground }: NotRouted| (error, line, ground);
        if request.method == "tasks/list" {
            let (outcome, ending) = self.list_tasks(call, request, &act).await;
            return act.end(ending, outcome).await;
        }
        match self.route_task(call, request) {
            Ok(routed) => {
                let routed = self.inward(call, routed);
                act.is_of_task(&routed.name);
                act.decided_by(routed.permit.line());
                let server = &routed.server;
                let bytes = request.params().map_or(0, Bytes::len);
                act.goes_to(&server.id, server.reach.endpoint().map(Endpoint::shown), bytes);
                let (outcome, ending) = self.serve(call, &routed, &act).await;
                let told = async {
                    match (self.outward(&shares::owner(&call.caller), &routed, outcome).await?, known_of(request)) {
                        (Outcome::Result(result), Some(known)) => self.known_by(call, (&routed.name, &known), &result).await,
                        (outcome, _) => Ok(outcome),
                    }
                };
                let (outcome, ending) = match told.await {
                    Ok(outcome) => (outcome, ending),
                    Err(error) => refused_by(&routed, &error, Sent::Yes),
                };
                act.end(ending, outcome).await
            }
            Err(not_routed) => {
                let (error, line, ground) = refused(not_routed);
                if let Some(id) = request.members().ok().and_then(|params| params.text("taskId").map(|id| shortened(&id))) {
                    act.is_of_task(&id.into());
                }
                act.decided_by(line.as_deref());
                self.turned_down(call, None, request, (error.code, "they have no such task"));
                act.end(Ending::because(Status::Refused, error.code.to_smolstr()).on(ground), error.into()).await
            }
        }
    }

    /// The server of a task, for its owner, as long as they may use its tool.
    pub(super) fn route_task(&self, call: &Call, request: &Request) -> Result<Routed, NotRouted> {
        // Checked first: a client without support for tasks must not learn whether there is such a task.
        match &call.from {
            Origin::Stateless(client) if declared(&client.capabilities, TASKS).is_none() => return Err(needs_tasks().into()),
            Origin::Session(_) if request.method == "tasks/update" => return Err(unknown_method(&request.method).into()),
            Origin::Stateless(_) | Origin::Session(_) => {}
        }
        let params = request.members()?;
        let id = params.text("taskId").ok_or_else(|| RpcError::new(INVALID_PARAMS, "`taskId` is missing"))?;
        // A caller other than the owner must not learn whether it exists.
        let unknown = || unknown(&id);
        let owner = call.task_owner();
        let of = |server: &Arc<Upstream>| {
            let own = server.held.own_task(&owner, &id).filter(|_| !is_bridged(call, server))?;
            let made = server.held.tasks.of(&owner, &own)?;
            Some((server.clone(), own, made))
        };
        let (server, own, made) = self.servers().iter().find_map(of).ok_or_else(unknown)?;
        let params = params.with(&[("taskId", Some(&quoted(&own)))]);
        match self.lists.gate().decide_about_tool(&call.caller, &server.id, (&made.tool, made.hints)) {
            Decision::Allow(permit) => Ok(Self::to_task(server, request, Some(params), own, permit)),
            Decision::Deny { line } => Err(NotRouted { error: unknown(), line: line.map(Box::new), ground: Ground::Policy }),
        }
    }

    fn to_task(server: Arc<Upstream>, request: &Request, params: Option<Bytes>, name: SmolStr, permit: Permit) -> Routed {
        let method = SmolStr::new(&request.method);
        let (within, asked) = (Within::default(), request.clone());
        Routed { server, request: asked, id: request.id.clone(), method, params, permit, exposed: None, name, arguments: None, within }
    }

    /// Whether a request for a task may go to its server within this session: what has the id there is the caller's. What is asked
    /// about no task may.
    ///
    /// # Errors
    /// The answer in its place.
    pub(super) async fn still_owns(&self, call: &Call, routed: &Routed, session: Option<&Arc<LegacySession>>) -> Result<(), CallError> {
        let scope = session.map_or(Scope::Server, |session| session.scope());
        routed.within.set(scope);
        if !routed.method.starts_with("tasks/") || routed.name.is_empty() {
            return Ok(());
        }
        let (server, owner) = (&routed.server, call.task_owner());
        let made = match server.held.tasks.within(&owner, &routed.name, scope) {
            Some(Owned::Surely(made)) => Some(made),
            Some(Owned::IfOfThatTime(_)) => match session {
                Some(session) => self.seen_now(server, session, (&owner, &routed.name)).await,
                None => None,
            },
            None => None,
        };
        let is_owned = made.is_some_and(|made| self.lists.gate().shows_tool(&call.caller, &server.id, (&made.tool, made.hints)));
        if is_owned { Ok(()) } else { Err(UpstreamError::Rpc(RpcError::new(INVALID_PARAMS, "Unknown task").into()).into()) }
    }

    /// The call that began a task, where the task is still the owner's, asked of its server.
    async fn seen_now(&self, server: &Upstream, session: &Arc<LegacySession>, (owner, id): (&SmolStr, &str)) -> Option<Made> {
        let asked = Members::default().with(&[("taskId", Some(&quoted(id)))]);
        let answer = session.request(&session.id(), "tasks/get", Some(&asked)).await.ok()?;
        let Outcome::Result(task) = answer.outcome().await.ok()? else { return None };
        server.held.tasks.told((owner, session.scope()), &Members::read(&task).ok()?)
    }

    /// The caller's own tasks, of all servers where they have any.
    async fn list_tasks(&self, call: &Call, request: &Request, act: &Act) -> (Outcome, Ending) {
        // Tasks are of tools: a caller that may use none gets the error of an unknown method.
        if !self.lists.view().all(Kind::Tool).iter().any(|tool| self.lists.shows(&call.caller, Kind::Tool, tool)) {
            let ending = Ending::because(Status::Refused, METHOD_NOT_FOUND.to_smolstr());
            return (unknown_method(&request.method).into(), ending);
        }
        let owner = call.task_owner();
        let servers: Vec<_> = self.servers().iter().filter(|server| server.held.tasks.has_any(&owner)).cloned().collect();
        // Tasks of a server that the caller may no longer use are left out.
        let known = servers.iter().filter_map(|server| Some((server, self.lists.gate().reach(&call.caller, &server.id)?)));
        let known: Vec<(&Arc<Upstream>, Permit)> = known.collect();
        if let [(server, permit)] = known.as_slice() {
            let asked = (request, request.params().cloned());
            return match self.tasks_of(call, asked, (server, permit), 1, act).await {
                Ok(Tasks { own, next, ending }) => (list(&own, &[], next.as_deref()), ending),
                Err(answered) => answered,
            };
        }
        let asked = known.iter().map(|(server, permit)| {
            let listed = self.tasks_of(call, (request, None), (server, permit), PAGES, act);
            Box::pin(async move { (&server.id, timeout(PATIENCE, listed).await) }) as Waiting<'_, Asked<'_>>
        });
        let (mut own, mut missing, mut ending) = (Vec::new(), Vec::new(), Ending::of(Status::Ok));
        for (server, listed) in all_of(asked.collect()).await {
            let why = match listed {
                Ok(Ok(tasks)) => {
                    own.extend(tasks.own);
                    continue;
                }
                Ok(Err((_, ended))) => {
                    let why = format!("it answers with an error ({})", ended.error.as_deref().unwrap_or_default());
                    ending = ended;
                    why
                }
                Err(_) => format!("it has not answered within {PATIENCE:?}"),
            };
            missing.push(json!({"server": server, "why": why}));
        }
        // What the others have is worth having.
        if missing.len() < known.len() {
            ending = Ending::of(Status::Ok);
        }
        (list(&own, &missing, None), ending)
    }

    /// The caller's own tasks of one server, of so many pages of its list.
    ///
    /// # Errors
    /// The answer in their place.
    async fn tasks_of(
        &self,
        call: &Call,
        (request, mut params): (&Request, Option<Bytes>),
        (server, permit): (&Arc<Upstream>, &Permit),
        pages: usize,
        act: &Act,
    ) -> Result<Tasks, (Outcome, Ending)> {
        let owner = call.task_owner();
        let mut tasks = Tasks { own: Vec::new(), next: None, ending: Ending::of(Status::Ok) };
        for _ in 0..pages {
            let routed = Self::to_task(server.clone(), request, params, SmolStr::default(), permit.clone());
            let (outcome, ending) = self.serve(call, &routed, act).await;
            let Outcome::Result(page) = &outcome else { return Err((outcome, ending)) };
            tasks.own.extend(self.own_tasks(call, (&owner, routed.within.get()), server, page));
            tasks.next = Members::read(page).ok().and_then(|members| members.text("nextCursor").map(|cursor| cursor.into_owned()));
            tasks.ending = ending;
            let Some(cursor) = &tasks.next else { break };
            params = Some(Members::default().with(&[("cursor", Some(&quoted(cursor)))]));
        }
        Ok(tasks)
    }

    /// The tasks of a page that are the caller's, and whose tools they may use.
    fn own_tasks(&self, call: &Call, whose: (&SmolStr, Scope), server: &Upstream, page: &[u8]) -> Vec<String> {
        let members = Members::read(page).unwrap_or_default();
        let tasks: Vec<&RawValue> = members.get("tasks").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        let own = |raw: &RawValue| {
            let task = Members::read(raw.get().as_bytes()).ok()?;
            let made = server.held.tasks.told(whose, &task)?;
            if !self.lists.gate().shows_tool(&call.caller, &server.id, (&made.tool, made.hints)) {
                return None;
            }
            let known = server.held.known_task(whose.0, &task.text("taskId")?)?;
            Some(as_text(&task.with(&[("taskId", Some(&quoted(&known)))])).to_owned())
        };
        tasks.into_iter().filter_map(own).collect()
    }
}
