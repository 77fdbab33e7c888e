//! Starts of programs: which of them are local MCP servers, and which agent started them.
//!
//! The kernel half reports each exec with the name of its file. Those whose name is of interest are looked at: what are the arguments, and,
//! where they name a server, what is above the process and who is it. Of the others a few a second are looked at as well, as a file can have
//! any name. Each report is counted by what became of it.
//!
//! A server is told once: the runner that fetches it (`npx`), the shells between, and the process that it becomes are parts of one. What a
//! server itself starts is another.
//!
//! An attacker controls names and arguments, and how many programs start. So looks are bounded, for each user apart; what is beyond is
//! counted and not looked at.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gnomon_link::{Lineage, Parent, StartAnswer, ToSensor};
use gnomon_local::{Known, LocalServer, Part, Started};
use gnomon_sensor::{Owner, Road, Start};
use parking_lot::{Mutex, MutexGuard};
use quick_cache::unsync::Cache;
use tokio::sync::mpsc;

use crate::identities::{Identities, LookUp, Unknown, Who};
use crate::metrics::{StartOutcome, WatchMetrics};

/// Most questions in progress, and of one user's programs.
const ASKED: usize = 128;
const ASKED_OF_ONE: usize = ASKED / 4;
/// Most servers that wait until it is known who they are.
const WAITING: usize = 256;
/// The time within which the sensor must answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// Programs of one user that are looked at in a second, and at once.
const OF_A_USER: Rate = Rate { a_second: 50.0, at_once: 200.0 };
/// Programs whose name is of no interest that are looked at in a second, and at once.
const OF_OTHERS: Rate = Rate { a_second: 10.0, at_once: 20.0 };
/// Most users whose shares are kept apart.
const USERS: usize = 256;
/// Most processes that are remembered as parts of servers.
const PARTS: usize = 4096;

/// A local server that was started, to be judged.
#[derive(Clone, Debug)]
pub(crate) struct DueStart {
    pub start: Start,
    pub server: LocalServer,
    /// The program's file, as it was looked at.
    pub executable: Option<String>,
    /// The arguments, without what looks like a secret.
    pub arguments: Vec<String>,
    /// The nearest known agent above it.
    pub agent: Option<String>,
    /// The process above it.
    pub parent: Option<u32>,
    /// When the process was made, in ns since boot; none where it was gone before that was read.
    pub started_boot_ns: Option<u64>,
}

impl DueStart {
    /// As whose the process is looked up: as if it had connected when it called exec.
    pub fn owner(&self) -> Owner {
        owner(&self.start)
    }
}

/// Looks at starts of programs, as far as they may be servers.
pub(crate) struct Starts {
    known: Option<Arc<Known>>,
    ask: mpsc::Sender<ToSensor>,
    metrics: WatchMetrics,
    state: Mutex<State>,
}

struct State {
    asked: HashMap<u64, Asked>,
    waiting: Vec<Waiting>,
    parts: Cache<u32, Member>,
    shares: HashMap<u32, Share>,
    others: Share,
}

/// A process that is a part of a server that was told.
#[derive(Clone, Debug)]
struct Member {
    /// The process's own start: its number may be another's by now.
    started_boot_ns: u64,
    part: Part,
    /// The server's name.
    server: String,
}

/// A question in progress.
struct Asked {
    start: Start,
    at: Instant,
    /// What was found so far; none while the arguments are asked for.
    found: Option<Box<DueStart>>,
}

struct Waiting {
    due: DueStart,
    until: Instant,
}

impl Starts {
    pub fn new(known: Option<Arc<Known>>, ask: mpsc::Sender<ToSensor>, metrics: WatchMetrics) -> Self {
        let state = State {
            asked: HashMap::new(),
            waiting: Vec::new(),
            parts: Cache::new(PARTS),
            shares: HashMap::new(),
            others: Share::full(OF_OTHERS, Instant::now()),
        };
        Self { known, ask, metrics, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Takes a report of the kernel half.
    pub fn take(&self, start: Start, identities: &Identities, now: Instant) {
        let Some(known) = &self.known else { return self.metrics.start(StartOutcome::PassedOver) };
        let mut state = self.state();
        let is_of_interest = known.is_of_interest(start.name.bytes());
        if !is_of_interest && !state.others.take(OF_OTHERS, now) {
            return self.metrics.start(StartOutcome::PassedOver);
        }
        if state.is_busy(start.uid) || is_of_interest && !state.share(start.uid, now).take(OF_A_USER, now) {
            return self.metrics.start(StartOutcome::Busy);
        }
        self.ask(&mut state, start, None, identities, now);
    }

    fn ask(&self, state: &mut State, start: Start, found: Option<Box<DueStart>>, identities: &Identities, now: Instant) {
        let lineage = if found.is_some() { Lineage::Read } else { Lineage::Left };
        let token = identities.token();
        let question = ToSensor::ReadStart { token, pid: start.pid, began_boot_ns: start.began_ns.get(), lineage };
        match self.ask.try_send(question) {
            Ok(()) => drop(state.asked.insert(token, Asked { start, at: now, found })),
            Err(_) => self.metrics.start(StartOutcome::Busy),
        }
    }

    /// Takes the sensor's answer.
    pub fn answer(&self, token: u64, answer: StartAnswer, identities: &Identities, patience: Duration, now: Instant) {
        let Some(known) = &self.known else { return };
        let mut state = self.state();
        let Some(Asked { start, found, .. }) = state.asked.remove(&token) else { return };
        match (found, answer) {
            (None, StartAnswer::Program(program)) => {
                let words: Vec<String> = program.arguments.words().map(str::to_owned).collect();
                let executable = program.executable.as_ref().map(ToString::to_string);
                match known.began(start.name.bytes(), executable.as_deref(), &words) {
                    Started::Other => self.metrics.start(StartOutcome::Other),
                    Started::Agent(_) => self.metrics.start(StartOutcome::Agent),
                    Started::Server(server) => {
                        let (agent, parent, started_boot_ns) = (None, None, None);
                        let due = DueStart { start: start.clone(), server, executable, arguments: words, agent, parent, started_boot_ns };
                        // Asked in advance: a file that was never seen is digested meanwhile.
                        if due.server.part != Part::Passing {
                            let _ = identities.look_up(&due.owner());
                        }
                        self.ask(&mut state, start, Some(Box::new(due)), identities, now);
                    }
                }
            }
            (Some(mut due), StartAnswer::Program(program)) => {
                due.started_boot_ns = Some(program.started_boot_ns);
                due.parent = program.parents.first().map(|parent| parent.pid);
                due.agent = program.parents.iter().find_map(|parent| agent(known, parent)).map(str::to_owned);
                if state.is_part(&due, program.started_boot_ns, &program.parents) {
                    return self.metrics.start(StartOutcome::Part);
                }
                match due.server.part {
                    // If what it names is there, its start is reported by itself.
                    Part::Passing => self.metrics.start(StartOutcome::Other),
                    Part::Runner | Part::Itself => self.wait(&mut state, *due, now + patience),
                }
            }
            (Some(due), StartAnswer::Gone) if due.server.part == Part::Passing => self.metrics.start(StartOutcome::Gone),
            (Some(due), StartAnswer::Unreadable(_)) if due.server.part == Part::Passing => self.metrics.start(StartOutcome::Unreadable),
            // It ran, and what is above it is not known any more.
            (Some(due), StartAnswer::Gone | StartAnswer::Unreadable(_)) => self.wait(&mut state, *due, now + patience),
            (_, StartAnswer::Stale) => self.metrics.start(StartOutcome::Stale),
            (None, StartAnswer::Gone) => self.metrics.start(StartOutcome::Gone),
            (None, StartAnswer::Unreadable(_)) => self.metrics.start(StartOutcome::Unreadable),
        }
    }

    fn wait(&self, state: &mut State, due: DueStart, until: Instant) {
        if state.waiting.len() >= WAITING {
            return self.metrics.start(StartOutcome::Busy);
        }
        state.waiting.push(Waiting { due, until });
    }

    /// The sensor will not answer. True if this was asked here.
    pub fn refused(&self, token: u64) -> bool {
        let was_asked = self.state().asked.remove(&token).is_some();
        if was_asked {
            self.metrics.start(StartOutcome::Busy);
        }
        was_asked
    }

    /// Gives up on questions that the sensor has not answered in time.
    pub fn give_up_late(&self, now: Instant) {
        self.state().asked.retain(|_, asked| {
            let is_late = now.saturating_duration_since(asked.at) > ANSWERED_WITHIN;
            if is_late {
                self.metrics.start(StartOutcome::Late);
            }
            !is_late
        });
    }

    /// The servers that need not wait any longer, and who they are.
    pub fn due(&self, identities: &Identities, now: Instant) -> Vec<(DueStart, Who)> {
        let mut state = self.state();
        let mut due = Vec::new();
        let waiting = std::mem::take(&mut state.waiting);
        for one in waiting {
            match identities.look_up(&one.due.owner()) {
                LookUp::Ready(who) => due.push((one.due, who)),
                LookUp::Pending(_) if one.until <= now => due.push((one.due, Who::Unknown(Unknown::Late))),
                LookUp::Pending(_) => state.waiting.push(one),
            }
        }
        due.iter().for_each(|_| self.metrics.start(StartOutcome::Server));
        due
    }
}

impl State {
    fn is_busy(&self, uid: u32) -> bool {
        self.asked.len() >= ASKED || self.asked.values().filter(|asked| asked.start.uid == uid).count() >= ASKED_OF_ONE
    }

    fn share(&mut self, uid: u32, now: Instant) -> &mut Share {
        if self.shares.len() >= USERS {
            self.shares.retain(|known, share| *known == uid || !share.is_full(OF_A_USER, now));
        }
        // Beyond that number users have one share together.
        let uid = if self.shares.len() >= USERS && !self.shares.contains_key(&uid) { u32::MAX } else { uid };
        self.shares.entry(uid).or_insert_with(|| Share::full(OF_A_USER, now))
    }

    /// True if a process belongs to a server that was told before. It is remembered as a part either way, except if it only starts another
    /// and belongs to none: what it starts is told then.
    fn is_part(&mut self, due: &DueStart, started_boot_ns: u64, parents: &[Parent]) -> bool {
        let name = due.server.name();
        let own = (due.start.pid, started_boot_ns);
        let above = parents.iter().map(|parent| (parent.pid, parent.started_boot_ns));
        let nearest = std::iter::once(own).chain(above).find_map(|(pid, started)| {
            let part = self.parts.get(&pid).filter(|part| part.started_boot_ns == started)?;
            Some((pid == own.0, part.clone()))
        });
        let is_part = match nearest {
            None => false,
            // The same process again, or what its runner has started.
            Some((is_own, known)) if known.server == name => is_own || known.part != Part::Itself,
            // A runner starts a program by whatever name; another package that is fetched is another server.
            Some((_, Member { part: Part::Runner | Part::Passing, .. })) => !due.server.is_fetched(),
            Some((_, Member { part: Part::Itself, .. })) => false,
        };
        if due.server.part == Part::Passing && !is_part {
            return false;
        }
        self.parts.insert(own.0, Member { started_boot_ns, part: due.server.part, server: name });
        is_part
    }
}

fn agent<'k>(known: &'k Known, parent: &Parent) -> Option<&'k str> {
    let words: Vec<&str> = parent.arguments.split('\0').collect();
    known.agent(parent.executable.as_deref(), &words)
}

fn owner(start: &Start) -> Owner {
    Owner {
        cookie: 0,
        netns: 0,
        cgroup: start.cgroup,
        connected: Duration::from_nanos(start.began_ns.get()),
        generation: Some(start.began_ns),
        pid: start.pid,
        tid: start.pid,
        uid: start.uid,
        gid: start.gid,
        original: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        scope: 0,
        road: Road::Direct,
        comm: start.name,
    }
}

/// How many may be looked at.
#[derive(Clone, Copy)]
struct Rate {
    a_second: f64,
    at_once: f64,
}

/// What is left of a rate.
struct Share {
    left: f64,
    at: Instant,
}

impl Share {
    fn full(rate: Rate, now: Instant) -> Self {
        Self { left: rate.at_once, at: now }
    }

    fn refill(&mut self, rate: Rate, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * rate.a_second).min(rate.at_once);
        self.at = now;
    }

    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.refill(rate, now);
        let is_left = self.left >= 1.0;
        if is_left {
            self.left -= 1.0;
        }
        is_left
    }

    fn is_full(&mut self, rate: Rate, now: Instant) -> bool {
        self.refill(rate, now);
        self.left >= rate.at_once
    }
}
