//! Reads identities of processes on a few threads: an answer may take a while, and requests must not wait for each other.

use parking_lot::Mutex;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, Scope};

use gnomon_host::cgroup::Hierarchy;
use gnomon_host::identity::{BootTime, Generation, Lineage, Resolver, listens};
use gnomon_link::{SensorEnd, ToProxy};
use gnomon_sensor::Execs;

use crate::{PATIENCE, ServiceError, os, translate};

/// Threads that read. They wait for disks more than they compute.
const THREADS: usize = 4;
/// Questions that may wait; more are refused.
const WAITING: usize = 256;

/// A question of the proxy.
#[derive(Debug)]
pub(crate) struct Question {
    pub token: u64,
    pub pid: u32,
    pub about: About,
}

/// What is asked of a process.
#[derive(Debug)]
pub(crate) enum About {
    /// Who it is, as it connected.
    Identity { connected: BootTime, generation: Generation },
    /// The same, without a digest that its file would have to be read for.
    IdentitySoon { connected: BootTime, generation: Generation },
    /// What it runs since it called exec.
    Start { began: BootTime, lineage: Lineage },
    /// Where it and what it started listen.
    Listens { started: BootTime },
}

/// Where questions go.
pub(crate) struct Readers {
    all: SyncSender<Question>,
    /// Those that are not to wait until files are read.
    soon: SyncSender<Question>,
}

impl Readers {
    /// Hands a question to whoever reads for it.
    ///
    /// # Errors
    /// As many wait as may, or nobody reads any more.
    pub(crate) fn ask(&self, question: Question) -> Result<(), TrySendError<Question>> {
        let to = if let About::IdentitySoon { .. } = question.about { &self.soon } else { &self.all };
        to.try_send(question)
    }
}

/// Starts the threads, which end when the readers are dropped. Without `execs` no identity can be confirmed.
pub(crate) fn start<'scope, 'env>(
    threads: &'scope Scope<'scope, 'env>,
    link: &'env SensorEnd,
    execs: Option<Execs>,
) -> Result<Readers, ServiceError> {
    let (all, waiting) = sync_channel(WAITING);
    let (soon, waiting_soon) = sync_channel(WAITING);
    let resolver = Resolver::default().with_cgroups(Hierarchy::find().ok().map(|hierarchy| hierarchy.mount().to_owned()));
    let resolver = match execs {
        Some(execs) => resolver.with_execs(move |pid| execs.last(pid).map_or(Generation::UNKNOWN, Generation)),
        None => resolver,
    };
    let shared = std::sync::Arc::new((Mutex::new(waiting), Mutex::new(waiting_soon), resolver));
    for number in 0..=THREADS {
        let shared = shared.clone();
        let body = move || answer(if number < THREADS { &shared.0 } else { &shared.1 }, &shared.2, link);
        Builder::new().name(format!("identities-{number}")).spawn_scoped(threads, body).map_err(os::<io::Error>("start a thread"))?;
    }
    Ok(Readers { all, soon })
}

fn answer(waiting: &Mutex<Receiver<Question>>, resolver: &Resolver, link: &SensorEnd) {
    loop {
        // Taken by one, answered without the lock.
        let next = waiting.lock().recv();
        let Ok(question) = next else { return };
        let Question { token, pid, about } = question;
        let answer = match about {
            About::Identity { connected, generation } => {
                ToProxy::Process { token, found: translate::found(resolver.identify(pid, connected, generation)) }
            }
            About::IdentitySoon { connected, generation } => {
                ToProxy::Process { token, found: translate::found(resolver.identify_soon(pid, connected, generation)) }
            }
            About::Start { began, lineage } => ToProxy::Start { token, found: translate::started(resolver.started(pid, began, lineage)) },
            About::Listens { started } => ToProxy::ListensAt { token, found: translate::listens(listens(pid, started)) },
        };
        if let Err(error) = link.send(&answer, &[], PATIENCE) {
            tracing::debug!("an answer was not taken: {error}");
        }
    }
}
