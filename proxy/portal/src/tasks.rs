//! Tasks of servers, and whose they are.
//!
//! Upstreams see one credential, so they cannot tell callers apart: a task belongs to the caller whose call began it, and to the
//! tool that was called. Nobody else learns of it, and its owner only as long as policy lets them use that tool. The portal learns
//! of tasks from the answers to calls; of tasks that began before it started it knows nothing.

use crate::{
    acts::{Act, Ending},
    call::Call,
    catalogue::Kind,
    members::Members,
    portal::Portal,
    route::{NotRouted, Routed, shortened},
    rpc::{INVALID_PARAMS, METHOD_NOT_FOUND, Notification, Outcome, Request, RpcError, quoted},
    shares::{Amount, Shares},
    visible::{Gate, task_owner},
};
use bytes::Bytes;
use gnomon_access::{Caller, Hints};
use gnomon_audit::{Kind as Recorded, Status};
use serde_json::value::RawValue;
use smol_str::{SmolStr, ToSmolStr};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Most tasks of one server that are known. Where there are more, the oldest goes of whoever has the most.
const MOST: usize = 8192;
/// How long a task is known that nobody asks for.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest id, bytes.
const LONGEST_ID: usize = 512;
/// Most pages that are read of each server's list where several have tasks.
const PAGES: usize = 20;

/// What a task came of.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// The server's own name of the tool.
    pub tool: SmolStr,
    pub hints: Hints,
    used: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    owner: SmolStr,
    id: SmolStr,
}

/// The tasks of one server.
pub(crate) struct Tasks(Mutex<Table>);

struct Table {
    known: HashMap<Key, Made>,
    shares: Shares,
}

impl Default for Tasks {
    fn default() -> Self {
        Self(Mutex::new(Table { known: HashMap::new(), shares: Shares::of(Amount { count: MOST, bytes: MOST * LONGEST_ID }) }))
    }
}

impl Tasks {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody's call of a tool began a task.
    fn keep(&self, owner: SmolStr, id: SmolStr, tool: SmolStr, hints: Hints) {
        let mut table = self.table();
        let table = &mut *table;
        let (key, bytes) = (Key { owner, id }, |key: &Key| key.id.len());
        if table.known.len() >= MOST {
            let shares = &mut table.shares;
            table.known.retain(|key, made| {
                let stays = made.used.elapsed() < KEPT;
                if !stays {
                    shares.remove(&key.owner, bytes(key));
                }
                stays
            });
        }
        table.shares.add(&key.owner, bytes(&key));
        if let Some(_twice) = table.known.insert(key.clone(), Made { tool, hints, used: Instant::now() }) {
            table.shares.remove(&key.owner, bytes(&key));
        }
        while let Some(owner) = table.shares.too_much() {
            let of_owner = table.known.iter().filter(|(key, _)| key.owner == owner);
            let Some(oldest) = of_owner.min_by_key(|(_, made)| made.used).map(|(key, _)| key.clone()) else { break };
            table.known.remove(&oldest);
            table.shares.remove(&oldest.owner, bytes(&oldest));
        }
    }

    /// What a task came of, for its owner.
    fn of(&self, owner: &SmolStr, id: &str) -> Option<Made> {
        let mut table = self.table();
        let made = table.known.get_mut(&Key { owner: owner.clone(), id: id.into() })?;
        made.used = Instant::now();
        Some(made.clone())
    }

    fn has_any(&self, owner: &SmolStr) -> bool {
        self.table().known.keys().any(|key| key.owner == *owner)
    }
}

/// The task that an answer to a call names, in either era.
fn begun(result: &[u8]) -> Option<SmolStr> {
    // Most results have none, and are not read for it.
    memchr::memmem::find(result, b"\"taskId\"")?;
    let members = Members::read(result).ok()?;
    let flat = members.text("taskId").filter(|_| members.text("resultType").as_deref() == Some("task"));
    let within = || members.object("task").and_then(|task| task.text("taskId").map(SmolStr::new));
    flat.map(SmolStr::new).or_else(within)
}

impl crate::upstream::Upstream {
    /// Whether this caller may be told this: of tasks only their owners are.
    pub(crate) fn tells(&self, gate: &Gate, caller: &Caller, owner: &SmolStr, notification: &Notification) -> bool {
        if !gate.may_hear(caller, &self.id, notification) {
            return false;
        }
        if !matches!(notification.method.as_str(), "notifications/tasks/status" | "notifications/tasks") {
            return true;
        }
        let id = Members::of(notification.params.as_ref()).ok().and_then(|members| members.text("taskId").map(SmolStr::new));
        id.and_then(|id| self.tasks.of(owner, &id))
            .is_some_and(|made| gate.may_list_tool(caller, &self.id, &made.tool, made.hints).is_allow())
    }
}

impl Portal {
    /// Remembers the task that a call began, if it did; its id, for the record.
    ///
    /// # Errors
    /// What is answered instead where its id is longer than what is kept.
    pub(crate) fn began(&self, call: &Call, routed: &Routed, outcome: &Outcome) -> Result<Option<SmolStr>, Outcome> {
        let (Outcome::Result(result), Some(exposed), "tools/call") = (outcome, &routed.exposed, &*routed.method) else { return Ok(None) };
        let Some(id) = begun(result) else { return Ok(None) };
        if id.len() > LONGEST_ID {
            let text = format!("the server began a task whose id is longer than {LONGEST_ID} bytes: it cannot be asked for");
            return Err(crate::results::failed_tool(&text));
        }
        self.servers[routed.server].tasks.keep(task_owner(call), id.clone(), exposed.entry.name.clone(), exposed.entry.hints);
        Ok(Some(id))
    }

    /// A request about tasks.
    pub(crate) async fn of_tasks(&self, call: &Call, request: &Request) -> Outcome {
        let act = Act::begin(self, Recorded::Request, call, &request.method);
        let refused = |NotRouted { error, line }: NotRouted| (error, line);
        if request.method == "tasks/list" {
            let (outcome, ending) = self.list_tasks(call, request, &act).await;
            return act.end(ending, outcome).await;
        }
        match self.route_task(call, request) {
            Ok(routed) => {
                act.is_of_task(&routed.name);
                act.decided_by(routed.line.as_ref());
                let server = &self.servers[routed.server];
                let bytes = request.params().map_or(0, Bytes::len);
                act.goes_to(&server.id, server.reach.endpoint().map(crate::upstream::http::Endpoint::shown), bytes);
                let (outcome, ending) = self.serve(call, &routed, &act).await;
                act.end(ending, outcome).await
            }
            Err(not_routed) => {
                let (error, line) = refused(not_routed);
                if let Some(id) = request.members().ok().and_then(|params| params.text("taskId").map(|id| shortened(&id))) {
                    act.is_of_task(&id.into());
                }
                act.decided_by(line.as_deref());
                act.end(Ending::because(Status::Refused, error.code.to_smolstr()), error.into()).await
            }
        }
    }

    /// The server of a task, for its owner, as long as they may use its tool.
    fn route_task(&self, call: &Call, request: &Request) -> Result<Routed, NotRouted> {
        let params = request.members()?;
        let id = params.text("taskId").ok_or_else(|| RpcError::new(INVALID_PARAMS, "`taskId` is missing"))?;
        // Whoever is not the owner learns nothing of whether it is there.
        let unknown = || RpcError::new(INVALID_PARAMS, format!("Unknown task: {}", shortened(&id)));
        let owner = task_owner(call);
        let found = self.servers.iter().enumerate().find_map(|(place, server)| Some((place, server.tasks.of(&owner, &id)?)));
        let (place, made) = found.ok_or_else(unknown)?;
        let decision = self.gate.may_list_tool(&call.caller, &self.servers[place].id, &made.tool, made.hints);
        let line = decision.line().cloned();
        if !decision.is_allow() {
            return Err(NotRouted { error: unknown(), line: line.map(Box::new) });
        }
        Ok(Self::to_task(place, request, request.params().cloned(), SmolStr::new(&*id), line))
    }

    fn to_task(server: usize, request: &Request, params: Option<Bytes>, name: SmolStr, line: Option<gnomon_access::LineRef>) -> Routed {
        let method = SmolStr::new(&request.method);
        Routed { server, id: request.id.clone(), method, params, line, exposed: None, name, arguments: None }
    }

    /// The caller's own tasks, of all servers where they have any.
    async fn list_tasks(&self, call: &Call, request: &Request, act: &Act) -> (Outcome, Ending) {
        // Tasks come of tools: whoever may use none has none, and is told of no such method.
        if !self.view().all(Kind::Tool).iter().any(|tool| self.shows(&call.caller, Kind::Tool, tool)) {
            let ending = Ending::because(Status::Refused, METHOD_NOT_FOUND.to_smolstr());
            return (crate::legacy::unknown_method(&request.method).into(), ending);
        }
        let owner = task_owner(call);
        let places: Vec<usize> = (0..self.servers.len()).filter(|place| self.servers[*place].tasks.has_any(&owner)).collect();
        let (mut own, mut next, mut ending) = (Vec::new(), None, Ending::of(Status::Ok));
        for place in &places {
            let mut params = if places.len() == 1 { request.params().cloned() } else { None };
            for _ in 0..PAGES {
                let routed = Self::to_task(*place, request, params, SmolStr::default(), None);
                let (outcome, ended) = self.serve(call, &routed, act).await;
                let Outcome::Result(page) = &outcome else { return (outcome, ended) };
                own.extend(self.own_tasks(call, &owner, *place, page));
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
    fn own_tasks(&self, call: &Call, owner: &SmolStr, place: usize, page: &[u8]) -> Vec<String> {
        let members = Members::read(page).unwrap_or_default();
        let tasks: Vec<&RawValue> = members.get("tasks").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        let server = &self.servers[place];
        let is_own = |task: &&RawValue| {
            let id = Members::read(task.get().as_bytes()).ok().and_then(|task| task.text("taskId").map(SmolStr::new));
            id.and_then(|id| server.tasks.of(owner, &id))
                .is_some_and(|made| self.gate.may_list_tool(&call.caller, &server.id, &made.tool, made.hints).is_allow())
        };
        tasks.into_iter().filter(is_own).map(|task| task.get().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_its_owners_and_one_owner_leaves_room_for_others() {
        let tasks = Tasks::default();
        let keep = |owner: &str, id: String| tasks.keep(owner.into(), id.into(), "echo".into(), Hints::default());
        keep("anna", "a".into());
        assert!(tasks.of(&"anna".into(), "a").is_some() && tasks.of(&"bert".into(), "a").is_none());
        for n in 0..MOST + 10 {
            keep("hog", format!("h{n}"));
        }
        assert!(tasks.of(&"anna".into(), "a").is_some() && tasks.table().known.len() == MOST);
        assert!(tasks.has_any(&"hog".into()) && !tasks.has_any(&"bert".into()));
    }

    #[test]
    fn tasks_are_found_in_answers_of_both_eras() {
        assert_eq!(begun(br#"{"task":{"taskId":"t1","status":"working"}}"#).as_deref(), Some("t1"));
        assert_eq!(begun(br#"{"resultType":"task","taskId":"t2"}"#).as_deref(), Some("t2"));
        assert_eq!(begun(br#"{"content":[{"type":"text","text":"\"taskId\""}],"taskId":"t3"}"#), None);
    }
}
