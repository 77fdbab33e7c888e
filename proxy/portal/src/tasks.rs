//! Tasks of servers, and whose they are.
//!
//! Upstreams see one credential, so they cannot tell callers apart: a task belongs to the caller whose call began it, and to the
//! tool that was called. Nobody else learns of it, and its owner only as long as policy lets them use that tool. The portal learns
//! of tasks from the answers to calls; of tasks that began before it started it knows nothing.
//!
//! A server may give an id out again, as when it was restarted. Within one session with it, or where it has none within all of it, the
//! task is whose call was given its id last. Of two sessions both may have a task of the same id; where those are two callers', and
//! were it not told apart the later one's, the earlier task is believed to be there only by the time of its creation.

use crate::{
    acts::{Act, Ending},
    call::Call,
    catalogue::Kind,
    held::Upstream,
    members::Members,
    portal::Portal,
    progress::token,
    route::{NotRouted, Routed, Within, shortened},
    rpc::{INVALID_PARAMS, Id, METHOD_NOT_FOUND, Outcome, Request, RpcError, quoted},
    shares::{Amount, Shares},
    upstream::{LegacySession, Scope, UpstreamError},
    visible::task_owner,
};
use bytes::Bytes;
use gnomon_access::Hints;
use gnomon_audit::{Kind as Recorded, Status};
use serde_json::value::RawValue;
use smol_str::{SmolStr, ToSmolStr};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Most tasks of one server that are known. Where there are more, the oldest goes of whoever has the most.
const MOST: usize = 8192;
/// How long a task is known that nobody asks for.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest id, bytes.
const LONGEST_ID: usize = 512;
/// Longest time of a task's creation that is kept, bytes.
const LONGEST_TIME: usize = 64;
/// Longest token of a call that is kept, bytes.
const LONGEST_TOKEN: usize = 128;
/// Most pages that are read of each server's list where several have tasks.
const PAGES: usize = 20;

/// What a task came of.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// The server's own name of the tool.
    pub tool: SmolStr,
    pub hints: Hints,
    owner: SmolStr,
    scope: Scope,
    /// When, as its server has it.
    created: Option<SmolStr>,
    /// The token of the call that began it, by which its server goes on to tell of its progress.
    token: Option<Id>,
    used: Instant,
}

/// Whether a task is a caller's.
#[derive(Debug)]
enum Owned {
    /// It is.
    Surely(Made),
    /// It is, if its server tells sessions apart: another was given the same id later, in another session. Then it was created when
    /// it was, and the other's at another time.
    IfOfThatTime(Made),
}

/// The tasks of one server.
pub(crate) struct Tasks(Mutex<Table>);

struct Table {
    /// By their ids; those with the same in the order in which they began.
    known: HashMap<SmolStr, Vec<Made>>,
    shares: Shares,
}

impl Table {
    /// Takes those of an id out that are meant.
    fn take_out(&mut self, id: &SmolStr, is: impl Fn(&Made) -> bool) {
        let Some(made) = self.known.get_mut(id) else { return };
        made.retain(|made| {
            let gone = is(made);
            if gone {
                self.shares.remove(&made.owner, id.len());
            }
            !gone
        });
        if made.is_empty() {
            self.known.remove(id);
        }
    }

    fn take_out_all(&mut self, is: impl Fn(&Made) -> bool) {
        let ids: Vec<SmolStr> = self.known.iter().filter(|(_, made)| made.iter().any(&is)).map(|(id, _)| id.clone()).collect();
        ids.iter().for_each(|id| self.take_out(id, &is));
    }

    fn all(&self) -> impl Iterator<Item = (&SmolStr, &Made)> {
        self.known.iter().flat_map(|(id, made)| made.iter().map(move |made| (id, made)))
    }
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

    /// Somebody's call of a tool began a task. Whoever had one of that id in the same session has it no longer.
    fn keep(&self, id: SmolStr, made: Made) {
        let mut table = self.table();
        let table = &mut *table;
        if table.shares.all().count >= MOST {
            table.take_out_all(|made| made.used.elapsed() >= KEPT);
        }
        table.take_out(&id, |before| before.scope == made.scope);
        table.shares.add(&made.owner, id.len());
        table.known.entry(id).or_default().push(made);
        while let Some(owner) = table.shares.too_much() {
            let oldest = table.all().filter(|(_, made)| made.owner == owner).min_by_key(|(_, made)| made.used);
            let Some((id, scope)) = oldest.map(|(id, made)| (id.clone(), made.scope)) else { break };
            table.take_out(&id, |made| made.scope == scope && made.owner == owner);
        }
    }

    /// The server has forgotten a session: its tasks are gone, and their ids may come again.
    pub(crate) fn forget(&self, gone: Scope) {
        if gone != Scope::Server {
            self.table().take_out_all(|made| made.scope == gone);
        }
    }

    /// What a task came of, for its owner, who asks for it within this session: the task that began there, else the one that has the
    /// id since last of all.
    fn within(&self, owner: &SmolStr, id: &str, scope: Scope) -> Option<Owned> {
        let mut table = self.table();
        let all = table.known.get_mut(id)?;
        let place = all.iter().position(|made| made.scope == scope).unwrap_or(all.len() - 1);
        let (before, later) = all.split_at_mut(place + 1);
        let made = before.last_mut().filter(|made| made.owner == *owner)?;
        let others: Vec<_> = later.iter().filter(|other| other.owner != *owner).collect();
        if others.is_empty() {
            made.used = Instant::now();
            return Some(Owned::Surely(made.clone()));
        }
        // A server without sessions has one task of that name.
        let apart = scope != Scope::Server
            && made.created.is_some()
            && others.iter().all(|other| other.created.is_some() && other.created != made.created);
        apart.then(|| {
            made.used = Instant::now();
            Owned::IfOfThatTime(made.clone())
        })
    }

    /// The same where it is not known yet in which session they ask.
    fn of(&self, owner: &SmolStr, id: &str) -> Option<Made> {
        self.table().known.get(id)?.iter().rfind(|made| made.owner == *owner).cloned()
    }

    /// What a task came of that a server tells of, for its owner.
    pub fn told(&self, (owner, scope): (&SmolStr, Scope), task: &Members<'_>) -> Option<Made> {
        match self.within(owner, &task.text("taskId")?, scope)? {
            Owned::Surely(made) => Some(made),
            Owned::IfOfThatTime(made) => (made.created.is_some() && created(task) == made.created).then_some(made),
        }
    }

    /// Whether an owner has this task within this.
    pub(crate) fn has(&self, (owner, scope): (&SmolStr, Scope), id: &str) -> bool {
        self.within(owner, id, scope).is_some()
    }

    /// The tokens of an owner's calls that began tasks within this.
    pub(crate) fn reported(&self, (owner, scope): (&SmolStr, Scope)) -> Vec<Id> {
        let table = self.table();
        let own = table.all().filter(|(_, made)| made.owner == *owner && made.scope == scope);
        own.filter_map(|(_, made)| made.token.clone()).collect()
    }

    fn has_any(&self, owner: &SmolStr) -> bool {
        self.table().all().any(|(_, made)| made.owner == *owner)
    }
}

/// When a task was created, as its server has it.
fn created(task: &Members<'_>) -> Option<SmolStr> {
    task.text("createdAt").filter(|at| at.len() <= LONGEST_TIME).map(SmolStr::new)
}

/// The task that an answer to a call names, in either era, and when it was created.
pub(crate) fn begun(result: &[u8]) -> Option<(SmolStr, Option<SmolStr>)> {
    // Most results have none, and are not read for it.
    memchr::memmem::find(result, b"\"taskId\"")?;
    let members = Members::read(result).ok()?;
    let flat = members.text("taskId").filter(|_| members.text("resultType").as_deref() == Some("task"));
    if let Some(id) = flat {
        return Some((SmolStr::new(id), created(&members)));
    }
    let task = members.object("task")?;
    Some((SmolStr::new(task.text("taskId")?), created(&task)))
}

/// What is said of a task that is not there, or not the caller's.
fn unknown(id: &str) -> RpcError {
    RpcError::new(INVALID_PARAMS, format!("Unknown task: {}", shortened(id)))
}

impl Portal {
    /// Remembers the task that a call began, if it did; its id, for the record.
    ///
    /// # Errors
    /// What is answered instead where its id is longer than what is kept.
    pub(crate) fn began(&self, call: &Call, routed: &Routed, outcome: &Outcome) -> Result<Option<SmolStr>, Outcome> {
        let (Outcome::Result(result), Some(exposed), "tools/call") = (outcome, &routed.exposed, &*routed.method) else { return Ok(None) };
        let Some((id, created)) = begun(result) else { return Ok(None) };
        if id.len() > LONGEST_ID {
            let text = format!("the server began a task whose id is longer than {LONGEST_ID} bytes: it cannot be asked for");
            return Err(Outcome::failed_tool(&text));
        }
        let (tool, hints, scope) = (exposed.entry.name.clone(), exposed.entry.hints, routed.within.get());
        let token = token(routed.params.as_ref()).filter(|token| token.json().len() <= LONGEST_TOKEN);
        let made = Made { tool, hints, owner: task_owner(call), scope, created, token, used: Instant::now() };
        self.servers[routed.server].held.tasks.keep(id.clone(), made);
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
        let unknown = || unknown(&id);
        let owner = task_owner(call);
        let found = self.servers.iter().enumerate().find_map(|(place, server)| Some((place, server.held.tasks.of(&owner, &id)?)));
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
        let within = Within::default();
        Routed { server, id: request.id.clone(), method, params, line, exposed: None, name, arguments: None, within }
    }

    /// Whether a request for a task may go to its server within this session: what has the id there is the caller's. What is asked
    /// about no task may.
    ///
    /// # Errors
    /// What is answered instead.
    pub(crate) async fn still_owns(&self, call: &Call, routed: &Routed, session: Option<&Arc<LegacySession>>) -> Result<(), UpstreamError> {
        let scope = session.map_or(Scope::Server, |session| session.scope());
        routed.within.set(scope);
        if !routed.method.starts_with("tasks/") || routed.name.is_empty() {
            return Ok(());
        }
        let (server, owner) = (&self.servers[routed.server], task_owner(call));
        let made = match server.held.tasks.within(&owner, &routed.name, scope) {
            Some(Owned::Surely(made)) => Some(made),
            Some(Owned::IfOfThatTime(_)) => match session {
                Some(session) => self.seen_now(server, session, (&owner, &routed.name)).await,
                None => None,
            },
            None => None,
        };
        let is_owned = made.is_some_and(|made| self.gate.may_list_tool(&call.caller, &server.id, &made.tool, made.hints).is_allow());
        if is_owned { Ok(()) } else { Err(UpstreamError::Rpc(unknown(&routed.name).into())) }
    }

    /// What a task came of that its server is asked for, where that is still the owner's.
    async fn seen_now(&self, server: &Upstream, session: &Arc<LegacySession>, (owner, id): (&SmolStr, &str)) -> Option<Made> {
        let asked = Members::default().with(&[("taskId", Some(&quoted(id)))]);
        let answer = session.request(&session.id(), "tasks/get", Some(&asked)).await.ok()?;
        let Outcome::Result(task) = answer.outcome().await.ok()? else { return None };
        server.held.tasks.told((owner, session.scope()), &Members::read(&task).ok()?)
    }

    /// The caller's own tasks, of all servers where they have any.
    async fn list_tasks(&self, call: &Call, request: &Request, act: &Act) -> (Outcome, Ending) {
        // Tasks come of tools: whoever may use none has none, and is told of no such method.
        if !self.view().all(Kind::Tool).iter().any(|tool| self.shows(&call.caller, Kind::Tool, tool)) {
            let ending = Ending::because(Status::Refused, METHOD_NOT_FOUND.to_smolstr());
            return (crate::legacy::unknown_method(&request.method).into(), ending);
        }
        let owner = task_owner(call);
        let places: Vec<usize> = (0..self.servers.len()).filter(|place| self.servers[*place].held.tasks.has_any(&owner)).collect();
        let (mut own, mut next, mut ending) = (Vec::new(), None, Ending::of(Status::Ok));
        for place in &places {
            let mut params = if places.len() == 1 { request.params().cloned() } else { None };
            for _ in 0..PAGES {
                let routed = Self::to_task(*place, request, params, SmolStr::default(), None);
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
        let server = &self.servers[place];
        let is_own = |task: &&RawValue| {
            Members::read(task.get().as_bytes())
                .ok()
                .and_then(|task| server.held.tasks.told(whose, &task))
                .is_some_and(|made| self.gate.may_list_tool(&call.caller, &server.id, &made.tool, made.hints).is_allow())
        };
        tasks.into_iter().filter(is_own).map(|task| task.get().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(tasks: &Tasks, owner: &str, id: &str, scope: Scope, created: Option<&str>) {
        let (tool, hints, created) = ("echo".into(), Hints::default(), created.map(SmolStr::new));
        tasks.keep(id.into(), Made { tool, hints, owner: owner.into(), scope, created, token: None, used: Instant::now() });
    }

    #[test]
    fn a_task_is_its_owners_and_one_owner_leaves_room_for_others() {
        let tasks = Tasks::default();
        keep(&tasks, "anna", "a", Scope::Server, None);
        assert!(tasks.of(&"anna".into(), "a").is_some() && tasks.of(&"bert".into(), "a").is_none());
        for n in 0..MOST + 10 {
            keep(&tasks, "hog", &format!("h{n}"), Scope::Server, None);
        }
        assert!(tasks.of(&"anna".into(), "a").is_some() && tasks.table().all().count() == MOST);
        assert!(tasks.has_any(&"hog".into()) && !tasks.has_any(&"bert".into()));
    }

    #[test]
    fn a_task_is_whose_call_was_given_its_id_last_as_far_as_its_server_tells_tasks_apart() {
        let (anna, bert) = (SmolStr::new("anna"), SmolStr::new("bert"));
        let has = |tasks: &Tasks, owner: &SmolStr, scope, created: &str| {
            let task = format!("{{\"taskId\":\"t\",\"createdAt\":\"{created}\"}}");
            tasks.told((owner, scope), &Members::read(task.as_bytes()).unwrap()).is_some()
        };
        let (one, two, three) = (Scope::Session(1), Scope::Session(2), Scope::Session(3));
        // No sessions, or the same one.
        for scope in [Scope::Server, one] {
            let tasks = Tasks::default();
            keep(&tasks, "anna", "t", scope, Some("8:00"));
            assert!(has(&tasks, &anna, scope, "8:00") && has(&tasks, &anna, two, "8:00") && !has(&tasks, &bert, scope, "8:00"));
            keep(&tasks, "bert", "t", scope, Some("9:00"));
            assert!(!has(&tasks, &anna, scope, "8:00") && !has(&tasks, &anna, two, "8:00") && has(&tasks, &bert, scope, "9:00"));
            assert!(!tasks.has_any(&anna) && tasks.table().shares.all().count == 1);
        }
        // Two sessions: both may have one, and anna's is hers where it is seen to be another.
        let tasks = Tasks::default();
        keep(&tasks, "anna", "t", one, Some("8:00"));
        keep(&tasks, "bert", "t", two, Some("9:00"));
        assert!(has(&tasks, &anna, one, "8:00") && !has(&tasks, &anna, one, "9:00") && has(&tasks, &bert, two, "9:00"));
        // In a session of hers where none began it is whose it was last.
        assert!(!has(&tasks, &anna, three, "8:00") && has(&tasks, &bert, three, "9:00"));
        // Where times do not tell them apart nothing does.
        keep(&tasks, "bert", "t", two, Some("8:00"));
        assert!(!has(&tasks, &anna, one, "8:00"));
        // What its server has forgotten is gone.
        tasks.forget(two);
        assert!(has(&tasks, &anna, one, "8:00") && !has(&tasks, &bert, two, "8:00"));
        tasks.forget(one);
        assert!(tasks.table().known.is_empty() && tasks.table().shares.all().count == 0);
    }

    #[test]
    fn tasks_are_found_in_answers_of_both_eras() {
        assert_eq!(begun(br#"{"task":{"taskId":"t1","status":"working"}}"#), Some(("t1".into(), None)));
        assert_eq!(begun(br#"{"resultType":"task","taskId":"t2","createdAt":"now"}"#), Some(("t2".into(), Some("now".into()))));
        assert_eq!(begun(br#"{"content":[{"type":"text","text":"\"taskId\""}],"taskId":"t3"}"#), None);
    }
}
