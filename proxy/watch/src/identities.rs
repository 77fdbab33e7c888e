//! The identities of processes: asked of the sensor once, remembered as long as they are certain.
//!
//! A process is known by its number, by when it last called exec, and by user, group and cgroup, all as the kernel
//! recorded them at the connection: if one of these changes, the sensor is asked anew. Numbers are reused,
//! so an answer stands for a later connection only if the process that has the number *now* was
//! started when the one in the answer was. Answers age as well: a process may get another parent.
//!
//! Questions are bounded, and shared fairly between users: a flood of short processes makes only its own user's unknown.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gnomon_link::{Identity, IdentityAnswer, ToSensor, UNASKED};
use gnomon_sensor::{Owner, Start};
use quick_cache::unsync::Cache;
use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};
use smol_str::SmolStr;
use tokio::sync::{mpsc, oneshot, watch};

/// The lifetime of an answer.
const FRESH: Duration = Duration::from_secs(5);
/// The time within which the sensor must answer: it digests a file within two seconds.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// Most questions at a time, and of one user's processes.
const QUESTIONS: usize = 1024;
const QUESTIONS_OF_ONE: usize = QUESTIONS / 4;

/// Most names of files that programs were started from; about 60 bytes each.
const NAMES: usize = 8192;

/// The reason that a process's identity is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unknown {
    /// The answer did not come in time.
    Late,
    /// The process had ended.
    Gone,
    /// The process had become another program.
    Stale,
    /// The sensor could not read it.
    Unreadable,
    /// Too many questions.
    Busy,
}

impl Unknown {
    pub const ALL: [Self; 5] = [Self::Late, Self::Gone, Self::Stale, Self::Unreadable, Self::Busy];

    /// The word in events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Gone => "gone",
            Self::Stale => "stale",
            Self::Unreadable => "unreadable",
            Self::Busy => "busy",
        }
    }
}

/// The identity of a process, or the reason it is unknown.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    Known(Arc<Identity>),
    Unknown(Unknown),
}

/// The immediate result of a look-up.
#[derive(Debug)]
pub(crate) enum LookUp {
    Ready(Who),
    /// The sensor has been asked. Changes, or ends, when it has answered.
    Pending(watch::Receiver<()>),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    pid: u32,
    generation: u64,
    uid: u32,
    gid: u32,
    cgroup: u64,
}

impl Key {
    fn of(owner: &Owner) -> Self {
        let Owner { pid, uid, gid, cgroup, .. } = *owner;
        Self { pid, generation: owner.generation.map_or(0, std::num::NonZero::get), uid, gid, cgroup }
    }
}

/// A moment since boot, in nanoseconds.
type BootNs = u64;

#[derive(Clone)]
struct Answer {
    who: Who,
    /// The time of the question: the process existed then.
    asked: BootNs,
    /// The time of the connection that it was asked for.
    connected: BootNs,
    at: Instant,
}

struct Question {
    key: Key,
    asked: BootNs,
    connected: BootNs,
    at: Instant,
    answered: watch::Sender<()>,
}

struct IdentityTable {
    answers: Cache<Key, Answer>,
    open: HashMap<Key, u64>,
    questions: HashMap<u64, Question>,
    by_user: HashMap<u32, usize>,
    /// Questions whose answers wait for no digest.
    soon: HashMap<u64, oneshot::Sender<Who>>,
    /// By process and time of exec.
    names: Cache<(u32, BootNs), SmolStr>,
    last_token: u64,
    closed: bool,
}

/// The start time of the process that has a number now; none where there is none, or it cannot be seen.
pub(crate) type Started = fn(u32) -> Option<BootNs>;

/// Asks for identities and remembers them. Shared between the proxy's tasks and the thread that reads records.
pub(crate) struct Identities {
    state: Mutex<IdentityTable>,
    ask: mpsc::Sender<ToSensor>,
    started: Started,
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identities").finish_non_exhaustive()
    }
}

impl Identities {
    pub fn new(capacity: usize, ask: mpsc::Sender<ToSensor>, started: Started) -> Self {
        let state = IdentityTable {
            answers: Cache::new(capacity),
            open: HashMap::new(),
            questions: HashMap::new(),
            by_user: HashMap::new(),
            soon: HashMap::new(),
            names: Cache::new(NAMES),
            last_token: UNASKED,
            closed: false,
        };
        Self { state: Mutex::new(state), ask, started }
    }

    fn state(&self) -> MutexGuard<'_, IdentityTable> {
        self.state.lock()
    }

    /// A process called exec: what it asked for is known whatever becomes of it.
    pub fn starts(&self, start: &Start) {
        self.state().names.insert((start.pid, start.began_ns.get()), name(start));
    }

    /// The name of the file of a process's last exec by the time of this connection.
    pub fn started_as(&self, owner: &Owner) -> Option<SmolStr> {
        let Key { pid, generation, .. } = Key::of(owner);
        self.state().names.get(&(pid, generation)).cloned()
    }

    /// A number for a question of another kind.
    pub fn token(&self) -> u64 {
        self.state().next_token()
    }

    /// The identity behind this connection; asks where it is not known for certain.
    pub fn look_up(&self, owner: &Owner) -> LookUp {
        let key = Key::of(owner);
        let connected = nanoseconds(owner.connected);
        let mut state = self.state();
        if let Some(answer) = state.answers.get(&key)
            && answer.stands_for(owner.pid, connected, self.started)
        {
            return LookUp::Ready(answer.who.clone());
        }
        if let Some(question) = state.open.get(&key).and_then(|token| state.questions.get(token)) {
            return LookUp::Pending(question.answered.subscribe());
        }
        if state.closed {
            return LookUp::Ready(Who::Unknown(Unknown::Late));
        }
        state.ask(key, connected, owner, &self.ask)
    }

    /// Asks for the identity behind this connection without the digest of a file that has to be read for it; none where as many questions
    /// are open as may be. What is answered is for this connection alone.
    pub fn ask_soon(&self, owner: &Owner) -> Option<oneshot::Receiver<Who>> {
        let mut state = self.state();
        // Those who went away are not answered.
        state.soon.retain(|_, asks| !asks.is_closed());
        if state.closed || state.soon.len() >= QUESTIONS_OF_ONE {
            return None;
        }
        let token = state.next_token();
        let Key { pid, generation: generation_boot_ns, .. } = Key::of(owner);
        let question = ToSensor::ResolveSoon { token, pid, connected_boot_ns: nanoseconds(owner.connected), generation_boot_ns };
        self.ask.try_send(question).ok()?;
        let (answer, answered) = oneshot::channel();
        state.soon.insert(token, answer);
        Some(answered)
    }

    /// The sensor answered; the identity, once for all who wait for it.
    pub fn found(&self, token: u64, found: IdentityAnswer) -> Option<Who> {
        let who = match found {
            IdentityAnswer::Identity(identity) => Who::Known(Arc::from(identity)),
            IdentityAnswer::Gone => Who::Unknown(Unknown::Gone),
            IdentityAnswer::Stale => Who::Unknown(Unknown::Stale),
            IdentityAnswer::Unreadable(_) => Who::Unknown(Unknown::Unreadable),
        };
        let mut state = self.state();
        if let Some(asks) = state.soon.remove(&token) {
            // Whoever asked may have it from the other question.
            let _ = asks.send(who);
            return None;
        }
        state.answer(token, who)
    }

    /// The sensor will not answer.
    pub fn refused(&self, token: u64) -> Option<Who> {
        let mut state = self.state();
        // Then the other question is waited for.
        if state.soon.remove(&token).is_some() {
            return Some(Who::Unknown(Unknown::Busy));
        }
        state.answer(token, Who::Unknown(Unknown::Unreadable))
    }

    /// Gives up on questions that the sensor has not answered in time.
    pub fn give_up_late(&self) {
        let mut state = self.state();
        let late: Vec<u64> = state.questions.iter().filter(|(_, q)| q.at.elapsed() > ANSWERED_WITHIN).map(|(token, _)| *token).collect();
        for token in late {
            state.answer(token, Who::Unknown(Unknown::Late));
        }
    }

    /// Ends all questions: the sensor is gone.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.soon.clear();
        state.questions.clear();
        state.open.clear();
        state.by_user.clear();
    }
}

impl IdentityTable {
    fn next_token(&mut self) -> u64 {
        self.last_token = self.last_token.wrapping_add(1).max(UNASKED + 1);
        self.last_token
    }

    fn ask(&mut self, key: Key, connected: BootNs, owner: &Owner, to: &mpsc::Sender<ToSensor>) -> LookUp {
        let busy = LookUp::Ready(Who::Unknown(Unknown::Busy));
        if self.questions.len() >= QUESTIONS || self.by_user.get(&key.uid).is_some_and(|open| *open >= QUESTIONS_OF_ONE) {
            return busy;
        }
        let token = self.next_token();
        // Before it is sent: the process is looked at after this moment.
        let asked = now();
        let (cookie, generation_boot_ns) = (owner.cookie, key.generation);
        let question = ToSensor::Resolve { token, pid: key.pid, connected_boot_ns: connected, generation_boot_ns, cookie };
        if to.try_send(question).is_err() {
            return busy;
        }
        let (answered, pending) = watch::channel(());
        self.questions.insert(token, Question { key, asked, connected, at: Instant::now(), answered });
        self.open.insert(key, token);
        *self.by_user.entry(key.uid).or_default() += 1;
        LookUp::Pending(pending)
    }

    fn answer(&mut self, token: u64, who: Who) -> Option<Who> {
        let Question { key, asked, connected, answered, .. } = self.questions.remove(&token)?;
        self.open.remove(&key);
        if let Some(open) = self.by_user.get_mut(&key.uid) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                self.by_user.remove(&key.uid);
            }
        }
        self.answers.insert(key, Answer { who: who.clone(), asked, connected, at: Instant::now() });
        let _ = answered.send(());
        Some(who)
    }
}

impl Answer {
    /// True if it describes the process that had this number when that connection was made.
    fn stands_for(&self, pid: u32, connected: BootNs, started: Started) -> bool {
        match &self.who {
            Who::Known(identity) => {
                self.at.elapsed() < FRESH
                    && identity.started_boot_ns <= connected
                    // It existed when it was asked for; after that, its number may be reused.
                    && (connected <= self.asked || started(pid) == Some(identity.started_boot_ns))
            }
            // Valid for this connection and those before it, until the question may be repeated.
            Who::Unknown(_) => self.at.elapsed() < FRESH && connected <= self.connected,
        }
    }
}

/// Names of files are bytes; whoever started the program chose them.
fn name(start: &Start) -> SmolStr {
    let printable = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    String::from_utf8_lossy(start.name.bytes()).chars().map(printable).collect()
}

pub(crate) fn nanoseconds(since_boot: Duration) -> BootNs {
    u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX)
}

fn now() -> BootNs {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// Field 22 of `/proc/PID/stat` (proc_pid_stat(5)), which everybody may read unless `/proc` is mounted otherwise.
pub(crate) fn started(pid: u32) -> Option<BootNs> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, brackets and spaces included; what follows does not.
    let after_name = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(after_name + 1..)?).ok()?;
    let ticks: u64 = rest.split_ascii_whitespace().nth(19)?.parse().ok()?;
    ticks.checked_mul(1_000_000_000 / clock_ticks_per_second().max(1))
}
