//! Requests about tasks, each to the server whose task it is ([`gnomon_relay::tasks`]).

use super::Road;
use bytes::Bytes;
use gnomon_access::{Decision, Permit};
use gnomon_audit::{RecordKind as Recorded, Status};
use gnomon_lists::route::{NotRouted, Routed, Within, unknown_method};
use gnomon_relay::{
    act::Act,
    acts::Ending,
    call::Call,
    error::CallError,
    held::Upstream,
    names::shortened,
    progress::token,
    tasks::{LONGEST_ID, Made, Owned, begun},
};
use gnomon_upstream::{
    LegacySession, Scope, UpstreamError,
    catalogue::Kind,
    endpoint::Endpoint,
    members::Members,
    rpc::{INVALID_PARAMS, METHOD_NOT_FOUND, Outcome, Request, RpcError, quoted},
};
use serde_json::value::RawValue;
use smol_str::{SmolStr, ToSmolStr};
use std::{sync::Arc, time::Instant};

/// Longest token of a call that is kept, bytes.
const LONGEST_TOKEN: usize = 128;
/// Most pages that are read of each server's list where several have tasks.
const PAGES: usize = 20;

/// The error for a task that does not exist, or is not the caller's.
fn unknown(id: &str) -> RpcError {
    RpcError::new(INVALID_PARAMS, format!("Unknown task: {}", shortened(id)))
}

impl Road {
    /// Remembers the task that a call began, if it did; its id, for the record.
    ///
    /// # Errors
    /// What is answered instead where its id is longer than what is kept.
    pub(super) fn began(&self, call: &Call, routed: &Routed, outcome: &Outcome) -> Result<Option<SmolStr>, Outcome> {
        let (Outcome::Result(result), Some(exposed), "tools/call") = (outcome, &routed.exposed, &*routed.method) else { return Ok(None) };
        let Some((id, created)) = begun(result) else { return Ok(None) };
        if id.len() > LONGEST_ID {
            let text = format!("the server began a task whose id is longer than {LONGEST_ID} bytes: it cannot be asked for");
            return Err(Outcome::failed_tool(&text));
        }
        let (tool, hints, scope) = (exposed.entry.name.clone(), exposed.entry.hints, routed.within.get());
        let token = token(routed.params.as_ref()).filter(|token| token.json().len() <= LONGEST_TOKEN);
        let made = Made { tool, hints, owner: call.task_owner(), scope, created, token, used: Instant::now() };
        self.servers()[routed.server].held.tasks.keep(id.clone(), made);
        Ok(Some(id))
    }

    /// A request about tasks.
    pub(super) async fn of_tasks(&self, call: &Call, request: &Request) -> Outcome {
        let act = self.begin(Recorded::Request, call, &request.method);
        let refused = |NotRouted { error, line }: NotRouted| (error, line);
        if request.method == "tasks/list" {
            let (outcome, ending) = self.list_tasks(call, request, &act).await;
            return act.end(ending, outcome).await;
        }
        match self.route_task(call, request) {
            Ok(routed) => {
                act.is_of_task(&routed.name);
                act.decided_by(routed.permit.line());
                let server = &self.servers()[routed.server];
                let bytes = request.params().map_or(0, Bytes::len);
                act.goes_to(&server.id, server.reach.endpoint().map(Endpoint::shown), bytes);
                let (outcome, ending) = self.serve(call, &routed, &act).await;
                act.end(ending, outcome).await
            }
            Err(not_routed) => {
                let (error, line) = refused(not_routed);
                if let Some(id) = request.members().ok().and_then(|params| params.text("taskId").map(|id| shortened(&id))) {
                    act.is_of_task(&id.into());
                }
                act.decided_by(line.as_deref());
                self.turned_down(call, None, request, (error.code, "they have no such task"));
                act.end(Ending::because(Status::Refused, error.code.to_smolstr()), error.into()).await
            }
        }
    }

    /// The server of a task, for its owner, as long as they may use its tool.
    fn route_task(&self, call: &Call, request: &Request) -> Result<Routed, NotRouted> {
        let params = request.members()?;
        let id = params.text("taskId").ok_or_else(|| RpcError::new(INVALID_PARAMS, "`taskId` is missing"))?;
        // Whoever is not the owner learns nothing of whether it is there.
        let unknown = || unknown(&id);
        let owner = call.task_owner();
        let found = self.servers().iter().enumerate().find_map(|(place, server)| Some((place, server.held.tasks.of(&owner, &id)?)));
        let (place, made) = found.ok_or_else(unknown)?;
        match self.lists.gate().may_list_tool(&call.caller, &self.servers()[place].id, &made.tool, made.hints) {
            Decision::Allow(permit) => Ok(Self::to_task(place, request, request.params().cloned(), SmolStr::new(&*id), permit)),
            Decision::Deny { line } => Err(NotRouted { error: unknown(), line: line.map(Box::new) }),
        }
    }

    fn to_task(server: usize, request: &Request, params: Option<Bytes>, name: SmolStr, permit: Permit) -> Routed {
        let method = SmolStr::new(&request.method);
        let within = Within::default();
        Routed { server, id: request.id.clone(), method, params, permit, exposed: None, name, arguments: None, within }
    }

    /// Whether a request for a task may go to its server within this session: what has the id there is the caller's. What is asked
    /// about no task may.
    ///
    /// # Errors
    /// What is answered instead.
    pub(super) async fn still_owns(&self, call: &Call, routed: &Routed, session: Option<&Arc<LegacySession>>) -> Result<(), CallError> {
        let scope = session.map_or(Scope::Server, |session| session.scope());
        routed.within.set(scope);
        if !routed.method.starts_with("tasks/") || routed.name.is_empty() {
            return Ok(());
        }
        let (server, owner) = (&self.servers()[routed.server], call.task_owner());
        let made = match server.held.tasks.within(&owner, &routed.name, scope) {
            Some(Owned::Surely(made)) => Some(made),
            Some(Owned::IfOfThatTime(_)) => match session {
                Some(session) => self.seen_now(server, session, (&owner, &routed.name)).await,
                None => None,
            },
            None => None,
        };
        let is_owned =
            made.is_some_and(|made| self.lists.gate().may_list_tool(&call.caller, &server.id, &made.tool, made.hints).is_allow());
        if is_owned { Ok(()) } else { Err(UpstreamError::Rpc(unknown(&routed.name).into()).into()) }
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
        // Tasks come of tools: whoever may use none has none, and is told of no such method.
        if !self.lists.view().all(Kind::Tool).iter().any(|tool| self.lists.shows(&call.caller, Kind::Tool, tool)) {
            let ending = Ending::because(Status::Refused, METHOD_NOT_FOUND.to_smolstr());
            return (unknown_method(&request.method).into(), ending);
        }
        let owner = call.task_owner();
        let places: Vec<usize> = (0..self.servers().len()).filter(|place| self.servers()[*place].held.tasks.has_any(&owner)).collect();
        let (mut own, mut next, mut ending) = (Vec::new(), None, Ending::of(Status::Ok));
        for place in &places {
            // Of a server that is theirs no more they have no tasks either.
            let Some(permit) = self.lists.gate().reach(&call.caller, &self.servers()[*place].id) else { continue };
            let mut params = if places.len() == 1 { request.params().cloned() } else { None };
            for _ in 0..PAGES {
                let routed = Self::to_task(*place, request, params, SmolStr::default(), permit.clone());
                let (outcome, ended) = self.serve(call, &routed, act).await;
                let Outcome::Result(page) = &outcome else { return (outcome, ended) };
                own.extend(self.own_tasks(call, (&owner, routed.within.get()), *place, page));
                ending = ended;
                next = Members::read(page).ok().and_then(|members| members.text("nextCursor").map(|cursor| cursor.into_owned()));
                match &next {
                    Some(cursor) if places.len() > 1 => params = Some(Members::default().with(&[("cursor", Some(&quoted(cursor)))])),
                    _ => break,
                }
            }
        }
        let next = next.filter(|_| places.len() == 1).map(|cursor| quoted(&cursor));
        let list = format!("[{}]", own.join(","));
        (Outcome::Result(Members::default().with(&[("tasks", Some(&list)), ("nextCursor", next.as_deref())])), ending)
    }

    /// The tasks of a page that are the caller's, and whose tools they may use.
    fn own_tasks(&self, call: &Call, whose: (&SmolStr, Scope), place: usize, page: &[u8]) -> Vec<String> {
        let members = Members::read(page).unwrap_or_default();
        let tasks: Vec<&RawValue> = members.get("tasks").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        let server = &self.servers()[place];
        let is_own = |task: &&RawValue| {
            Members::read(task.get().as_bytes())
                .ok()
                .and_then(|task| server.held.tasks.told(whose, &task))
                .is_some_and(|made| self.lists.gate().may_list_tool(&call.caller, &server.id, &made.tool, made.hints).is_allow())
        };
        tasks.into_iter().filter(is_own).map(|task| task.get().to_owned()).collect()
    }
}
