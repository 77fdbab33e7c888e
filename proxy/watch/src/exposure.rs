//! At which addresses local servers listen: one that serves others than the program that started it is reached over a network.
//!
//! A server opens its port when it has loaded, or much later, so it is looked at again and again while it runs: the sensor says at which
//! addresses its process listens, or one below it. Each address is told once.
//!
//! An attacker controls how many servers run, and at how many addresses they listen: so many are watched, and so many of one user; those
//! that started later are not.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gnomon_link::{ListensAnswer, ToSensor};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::identities::{Identities, Who};
use crate::metrics::{Shed, WatchMetrics};
use crate::starts::DueStart;

/// When it is looked, from the start on; later ones every [`LATER`].
const LOOKS: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(60)];
const LATER: Duration = Duration::from_secs(600);
/// Most servers that are watched, and of one user.
const WATCHED: usize = 256;
const WATCHED_OF_ONE: usize = WATCHED / 4;
/// Most addresses of one server that are told.
const TOLD: usize = 64;
/// The time within which the sensor must answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// Asks where the servers listen that run.
pub(crate) struct Exposure {
    ask: mpsc::Sender<ToSensor>,
    metrics: WatchMetrics,
    servers: Mutex<Servers>,
}

#[derive(Default)]
struct Servers {
    waiting: Vec<Watched>,
    asked: HashMap<u64, (Watched, Instant)>,
}

/// A server that runs.
struct Watched {
    due: DueStart,
    who: Who,
    started_boot_ns: u64,
    looks: usize,
    /// When it is looked at next.
    next: Instant,
    told: BTreeSet<SocketAddr>,
}

/// Addresses of a server that were not told before.
pub(crate) struct DueListens {
    pub due: DueStart,
    pub who: Who,
    pub at: Vec<SocketAddr>,
}

impl Exposure {
    pub fn new(ask: mpsc::Sender<ToSensor>, metrics: WatchMetrics) -> Self {
        Self { ask, metrics, servers: Mutex::default() }
    }

    /// Watches a server that was told.
    pub fn watch(&self, due: DueStart, who: Who, now: Instant) {
        // One that was gone before it was read listens nowhere.
        let Some(started_boot_ns) = due.started_boot_ns else { return };
        let mut servers = self.servers.lock();
        let all = || servers.waiting.iter().chain(servers.asked.values().map(|(watched, _)| watched));
        if all().count() >= WATCHED || all().filter(|watched| watched.due.start.uid == due.start.uid).count() >= WATCHED_OF_ONE {
            return self.metrics.shed(Shed::Listener, 1);
        }
        servers.waiting.push(Watched { due, who, started_boot_ns, looks: 0, next: now + LOOKS[0], told: BTreeSet::new() });
    }

    /// Asks about those whose time has come.
    pub fn look(&self, identities: &Identities, now: Instant) {
        let mut servers = self.servers.lock();
        let waiting = std::mem::take(&mut servers.waiting);
        for mut watched in waiting {
            if watched.next <= now {
                let token = identities.token();
                let (pid, started_boot_ns) = (watched.due.start.pid, watched.started_boot_ns);
                if self.ask.try_send(ToSensor::ReadListens { token, pid, started_boot_ns }).is_ok() {
                    servers.asked.insert(token, (watched, now));
                    continue;
                }
                // The link is busy.
                watched.next = now + LOOKS[0];
            }
            servers.waiting.push(watched);
        }
    }

    /// Takes the sensor's answer.
    pub fn answer(&self, token: u64, answer: ListensAnswer, now: Instant) -> Option<DueListens> {
        let mut servers = self.servers.lock();
        let (mut watched, _) = servers.asked.remove(&token)?;
        let at = match answer {
            ListensAnswer::At(addresses) => addresses,
            // It is over.
            ListensAnswer::Gone => return None,
            ListensAnswer::Unreadable(why) => {
                // It may be for a moment, as where files cannot be opened.
                tracing::debug!(%why, pid = watched.due.start.pid, "it is not known where a local server listens");
                watched.wait(now);
                servers.waiting.push(watched);
                return None;
            }
        };
        let room = TOLD.saturating_sub(watched.told.len());
        let at: Vec<SocketAddr> = at.iter().filter(|address| !watched.told.contains(address)).take(room).copied().collect();
        watched.told.extend(&at);
        let due = (!at.is_empty()).then(|| DueListens { due: watched.due.clone(), who: watched.who.clone(), at });
        watched.wait(now);
        servers.waiting.push(watched);
        due
    }

    /// The sensor will not answer. True if this was asked here.
    pub fn refused(&self, token: u64, now: Instant) -> bool {
        let mut servers = self.servers.lock();
        let Some((mut watched, _)) = servers.asked.remove(&token) else { return false };
        watched.wait(now);
        servers.waiting.push(watched);
        true
    }

    /// Gives up on questions that the sensor has not answered in time: they are asked again.
    pub fn give_up_late(&self, now: Instant) {
        let mut servers = self.servers.lock();
        let Servers { waiting, asked } = &mut *servers;
        let late = asked.extract_if(|_, (_, at)| now.saturating_duration_since(*at) > ANSWERED_WITHIN);
        waiting.extend(late.map(|(_, (mut watched, _))| {
            watched.wait(now);
            watched
        }));
    }
}

impl Watched {
    /// Until the next look.
    fn wait(&mut self, now: Instant) {
        let looks = (LOOKS.get(self.looks), LOOKS.get(self.looks + 1));
        self.looks += 1;
        self.next = now
            + match looks {
                (Some(before), Some(next)) => next.saturating_sub(*before),
                _ => LATER,
            };
    }
}
