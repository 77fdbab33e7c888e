//! Tasks of servers, and whose they are.
//!
//! Upstreams see one credential, so they cannot tell callers apart: a task belongs to the caller whose call began it, and to the
//! tool that was called. Nobody else learns of it, and its owner only as long as policy lets them use that tool. The portal learns
//! of tasks from the answers to calls; of tasks that began before it started it knows nothing.
//!
//! A server may give an id out again, as when it was restarted. Within one session with it, or where it has none within all of it, the
//! task is whose call was given its id last. Of two sessions both may have a task of the same id; where those are two callers', and
//! were it not told apart the later one's, the earlier task is believed to be there only by the time of its creation.

use bytes::Bytes;
use gnomon_access::Hints;
use gnomon_shares::{Amount, Yielding};
use gnomon_upstream::{
    Scope, as_text,
    era::meta,
    members::Members,
    rpc::{Id, quoted},
};
use parking_lot::{Mutex, MutexGuard};
use smol_str::SmolStr;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Most tasks of one server that are known. Beyond it, the oldest of the owner with most is evicted.
const MOST: usize = 8192;
/// How long a task without requests is known.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest id, bytes.
pub const LONGEST_ID: usize = 512;
/// Longest time of a task's creation that is kept, bytes.
const LONGEST_TIME: usize = 64;

/// The call that began a task.
#[derive(Clone, Debug)]
pub struct Made {
    /// The server's own name of the tool.
    pub tool: SmolStr,
    /// The tool's hints, as its server gives them.
    pub hints: Hints,
    /// The owner.
    pub owner: SmolStr,
    /// The range within which its server tells tasks apart.
    pub scope: Scope,
    /// The time of its creation, as its server reports it.
    pub created: Option<SmolStr>,
    /// The token of the call that began it, by which its server goes on to tell of its progress.
    pub token: Option<Id>,
    /// The time of the last request for it.
    pub used: Instant,
}

/// Whether a task is a caller's.
#[derive(Debug)]
pub enum Owned {
    /// The owner's for sure.
    Surely(Made),
    /// The owner's, if its server tells sessions apart: another was given the same id later, in another session. Then it was created when
    /// it was, and the other's at another time.
    IfOfThatTime(Made),
}

/// The tasks of one server.
pub struct Tasks(Mutex<Table>);

struct Table {
    /// The tasks by their ids; those with the same in the order in which they began.
    known: HashMap<SmolStr, Vec<Made>>,
    shares: Yielding,
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
        Self(Mutex::new(Table { known: HashMap::new(), shares: Yielding::of(Amount { count: MOST, bytes: MOST * LONGEST_ID }) }))
    }
}

impl Tasks {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock()
    }

    /// Keeps a task that a call of a tool began. An earlier owner of that id in the same session loses it.
    pub fn keep(&self, id: SmolStr, made: Made) {
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
    pub fn forget(&self, gone: Scope) {
        if gone != Scope::Server {
            self.table().take_out_all(|made| made.scope == gone);
        }
    }

    /// The call that began a task, for its owner, who asks for it within this session: the task that began there, else the one that has the
    /// id since last of all.
    pub fn within(&self, owner: &SmolStr, id: &str, scope: Scope) -> Option<Owned> {
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

    /// The call that began a task, where it is not known yet in which session the owner asks.
    pub fn of(&self, owner: &SmolStr, id: &str) -> Option<Made> {
        self.table().known.get(id)?.iter().rfind(|made| made.owner == *owner).cloned()
    }

    /// The call that began a task of which a server tells, for its owner.
    pub fn told(&self, (owner, scope): (&SmolStr, Scope), task: &Members<'_>) -> Option<Made> {
        match self.within(owner, &task.text("taskId")?, scope)? {
            Owned::Surely(made) => Some(made),
            Owned::IfOfThatTime(made) => (made.created.is_some() && created(task) == made.created).then_some(made),
        }
    }

    /// Whether an owner has this task within this.
    pub fn has(&self, (owner, scope): (&SmolStr, Scope), id: &str) -> bool {
        self.within(owner, id, scope).is_some()
    }

    /// The tokens of an owner's calls that began tasks within this.
    pub fn reported(&self, (owner, scope): (&SmolStr, Scope)) -> Vec<Id> {
        let table = self.table();
        let own = table.all().filter(|(_, made)| made.owner == *owner && made.scope == scope);
        own.filter_map(|(_, made)| made.token.clone()).collect()
    }

    /// True if this owner has a task here.
    pub fn has_any(&self, owner: &SmolStr) -> bool {
        self.table().all().any(|(_, made)| made.owner == *owner)
    }
}

/// The time at which a task was created, as its server has it.
fn created(task: &Members<'_>) -> Option<SmolStr> {
    task.text("createdAt").filter(|at| at.len() <= LONGEST_TIME).map(SmolStr::new)
}

/// Whether an answer to a call is a task as the stateless era has it: no longer the answer of the tool.
#[must_use]
pub fn is_flat(result: &[u8]) -> bool {
    let says = |members: Members<'_>| members.text("resultType").as_deref() == Some("task") && members.get("taskId").is_some();
    Members::read(result).is_ok_and(says)
}

/// An answer about a task, by its server's own id, under that by which its owner knows it.
#[must_use]
pub fn known_by((own, known): (&str, &str), answer: &Bytes) -> Bytes {
    let read = || {
        let members = Members::read(answer).ok()?;
        let id = quoted(known);
        let is_its = |one: &Members<'_>| one.text("taskId").as_deref() == Some(own);
        let named = |one: &Members<'_>| is_its(one).then(|| one.with(&[("taskId", Some(&id))]));
        let task = members.object("task").as_ref().and_then(named);
        let meta = members.object("_meta").and_then(|all| {
            let related = all.object(meta::TASK).as_ref().and_then(named)?;
            Some(all.with(&[(meta::TASK, Some(as_text(&related)))]))
        });
        let flat = is_its(&members).then_some(id.as_str());
        let changes =
            [("taskId", flat), ("task", task.as_ref().map(|task| as_text(task))), ("_meta", meta.as_ref().map(|meta| as_text(meta)))];
        let changes: Vec<_> = changes.into_iter().filter(|(_, new)| new.is_some()).collect();
        Some(members.with(&changes))
    };
    // Most results have none, and are not read for it.
    if memchr::memmem::find(answer, b"\"taskId\"").is_none() {
        return answer.clone();
    }
    read().unwrap_or_else(|| answer.clone())
}

/// The task that an answer to a call names, in either era, and when it was created.
pub fn begun(result: &[u8]) -> Option<(SmolStr, Option<SmolStr>)> {
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
        for other in 0..7 {
            keep(&tasks, &format!("other {other}"), &format!("o{other}"), Scope::Server, None);
        }
        assert!((0..7).all(|other| tasks.of(&format!("other {other}").into(), &format!("o{other}")).is_some()));
        assert!(tasks.of(&"anna".into(), "a").is_some() && tasks.table().all().count() == MOST);
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
    fn an_answer_names_its_task_as_its_owner_does_and_stays_as_it_was_otherwise() {
        let known = |text: &str| as_text(&known_by(("t1", "K"), &Bytes::copy_from_slice(text.as_bytes()))).to_owned();
        for (own, new) in [
            (r#"{"resultType":"task","taskId":"t1","v":1.0}"#, r#"{"resultType":"task","taskId":"K","v":1.0}"#),
            (r#"{"task":{"taskId":"t1","status":"s"}}"#, r#"{"task":{"taskId":"K","status":"s"}}"#),
            (
                r#"{"content":[],"taskId":"x","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t1"},"k":1}}"#,
                r#"{"content":[],"taskId":"x","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"K"},"k":1}}"#,
            ),
        ] {
            assert_eq!(known(own), new);
        }
    }

    #[test]
    fn tasks_are_found_in_answers_of_both_eras() {
        assert_eq!(begun(br#"{"task":{"taskId":"t1","status":"working"}}"#), Some(("t1".into(), None)));
        assert_eq!(begun(br#"{"resultType":"task","taskId":"t2","createdAt":"now"}"#), Some(("t2".into(), Some("now".into()))));
        assert_eq!(begun(br#"{"content":[{"type":"text","text":"\"taskId\""}],"taskId":"t3"}"#), None);
    }
}
