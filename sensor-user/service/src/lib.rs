//! The sensor process: it keeps the kernel half attached, answers what the proxy asks, and lets programs of
//! `gnomon exec` into scopes of their own.
//!
//! The sensor is the one part of gnomon that has capabilities, and so it is small: plain threads, no runtime, and nothing that
//! arrived over the network is read by it. What programs send goes from the kernel half to the proxy through shared
//! memory, past this process.
//!
//! | module | what it does |
//! |---|---|
//! | `attached` | what was loaded, on its way into the small process that serves |
//! | `closed`, `taking_over` | which scopes fail closed, from one sensor to the next |
//! | `kernel` | loads, attaches, changes scopes, counts |
//! | `privilege` | gives up the capabilities that are not needed once everything is attached |
//! | `scopes`, `disarming` | which scopes are wanted, and the kill switch that lets none of them interfere |
//! | `requests` | one request of the proxy, one answer |
//! | `cost` | what the sensor takes of the processor, and a bound on it |
//! | `identities` | who is this process: a few threads, as reading may take a while |
//! | `namespaces`, `namespace_files` | marked listeners, one pair in each network namespace |
//! | `search` | the network namespaces of programs that have ended |
//! | `pulse` | whether the proxy shows life |
//! | `status` | the sensor's public state, in a file |
//! | `exec` | the socket of `gnomon exec` |
//! | `standing` | the socket of a sensor that is a service of its own |
//!
//! It deliberately does not restart the proxy or pin anything. The trade-off: when this process ends, however it
//! ends, the kernel detaches everything and traffic goes its own way at once; what happens until a new one has attached is not
//! seen. What it remembers across restarts is what runs under `gnomon exec`, by notes on the cgroups themselves.

#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod attached;
mod closed;
mod cost;
mod disarming;
mod exec;
mod homes;
mod identities;
mod kernel;
mod namespace_files;
mod namespaces;
mod privilege;
mod pulse;
mod requests;
mod scopes;
mod search;
mod service_socket;
pub mod status;
mod taking_over;
mod translate;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use gnomon_host::cgroup::{CgroupError, Hierarchy};
use gnomon_host::switch::Switch;
use gnomon_link::{Homes, SensorEnd};
use gnomon_sensor::Heartbeat;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

pub use attached::Attached;
pub use closed::Closed;
pub use homes::HomeReader;
pub use privilege::{CAPABILITIES, NEEDED_FOR_EXEC};
pub use service_socket::{Peer, ServiceSocket};

use kernel::Kernel;
use requests::Requests;

/// Longest that one message may take to be sent: a proxy that reads nothing for that long loses the answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// The longest that a network namespace may be kept alive by listeners of ours alone.
const SWEEP: Duration = Duration::from_secs(10);

/// Options of the sensor process.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cgroup below which connections are seen; `None` is the top of the hierarchy, so all.
    pub cgroup: Option<PathBuf>,
    /// The cgroup of gnomon's own processes, this one among them. What they do is neither seen nor redirected.
    pub own_cgroup: PathBuf,
    /// The ring's size in bytes, a power of two.
    pub ring_bytes: u32,
    /// Options of `gnomon exec`; without them no program is let into a scope.
    pub exec: Option<ExecOptions>,
    /// What reads home directories; without it none is read.
    pub homes: Option<HomeReader>,
    /// The kill switch, which is looked for all the time.
    pub switch: Switch,
    /// The bound on processor time.
    pub cost: CostBound,
    /// Called now and then to report progress; no reports with `None`.
    pub alive: Option<Alive>,
    /// The record of scopes that fail closed, for the next sensor; `None` where there is none to come.
    pub closed: Option<Arc<Closed>>,
}

/// The bound on the sensor's processor time, in the kernel and by its own process, beyond which the program that looks at packets is
/// detached for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostBound {
    /// Percent of one core.
    pub percent: f64,
    /// The pause between two measurements.
    pub every: Duration,
    /// The length of a measurement.
    pub over: Duration,
    /// The time for which the program stays detached.
    pub rest: Duration,
}

impl CostBound {
    /// A quarter of a core, measured for one second in thirty; ten minutes without.
    pub const DEFAULT: Self =
        Self { percent: 25.0, every: Duration::from_secs(29), over: Duration::from_secs(1), rest: Duration::from_secs(600) };
}

/// A callback that reports progress, to a watchdog for example.
#[derive(Clone, Copy, Debug)]
pub struct Alive {
    /// The longest interval. One message to a proxy that does not read can hold it up for 5 s.
    pub every: Duration,
    /// Called at each interval.
    pub tell: fn(),
}

impl Options {
    /// Options for the whole host: an 8 MiB ring, and no program is let into scopes.
    pub fn new(own_cgroup: impl Into<PathBuf>) -> Self {
        Self {
            cgroup: None,
            own_cgroup: own_cgroup.into(),
            ring_bytes: 8 << 20,
            exec: None,
            homes: None,
            switch: Switch::at(Switch::DEFAULT),
            cost: CostBound::DEFAULT,
            alive: None,
            closed: None,
        }
    }
}

/// Options of `gnomon exec`.
#[derive(Clone, Debug)]
pub struct ExecOptions {
    /// The socket. Its folder is made if it is missing; it holds the merged certificates as well, and belongs to
    /// root alone.
    pub socket: PathBuf,
    /// Our certificate authority, PEM.
    pub authority: PathBuf,
    /// Most scopes at a time for one user.
    pub scopes_per_user: usize,
}

impl ExecOptions {
    /// 32 scopes for each user.
    pub fn new(socket: impl Into<PathBuf>, authority: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), authority: authority.into(), scopes_per_user: 32 }
    }
}

/// The reason for a regular end of the sensor process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The proxy is gone.
    ProxyGone,
    /// Stopped on request.
    Asked,
}

/// An error of starting or running the sensor.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No usable cgroup v2.
    #[error(transparent)]
    Cgroups(#[from] CgroupError),
    /// The kernel half does not load.
    #[error(transparent)]
    Kernel(#[from] gnomon_sensor::SensorError),
    /// No program could be attached: each for a reason, of which this is the first.
    #[error("no program can be attached; {program}: {reason}")]
    NothingAttached {
        /// The program.
        program: &'static str,
        /// The cause.
        reason: String,
    },
    /// Without these capabilities nothing can be loaded or attached.
    #[error("the sensor needs {missing}: run it as root, or give its user these as ambient capabilities (in a unit: AmbientCapabilities=)")]
    Capabilities {
        /// Their names, each with its purpose.
        missing: String,
    },
    /// The proxy and this do not understand each other.
    #[error("the proxy cannot be talked to")]
    Link(#[from] gnomon_link::LinkError),
    /// The operating system refused.
    #[error("cannot {action}")]
    Os {
        /// The action that failed.
        action: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// For `map_err`: names the failed action.
pub(crate) fn os<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> ServiceError {
    move |error| ServiceError::Os { action, source: error.into() }
}

/// Drops the capabilities that only attaching needed, and serves until the proxy is gone or `stop` is readable. Everything is detached
/// then.
///
/// Capabilities are dropped by the calling thread, for itself and all threads started here: call it while the process has no other threads.
///
/// # Errors
/// [`ServiceError`]: nothing is attached then either.
pub fn serve(link: &SensorEnd, Attached(kernel): Attached, options: &Options, stop: BorrowedFd<'_>) -> Result<Ended, ServiceError> {
    // Taken over here as well, as the desired scopes do not survive exec(2).
    taking_over::take_over(&kernel, options);
    let hierarchy = Hierarchy::find()?;
    let cgroup = options.cgroup.clone().unwrap_or_else(|| hierarchy.mount().to_owned());
    let door = options.exec.as_ref().and_then(|exec| match exec::Door::open(exec) {
        Ok(door) => Some(door),
        Err(error) => {
            tracing::warn!("gnomon exec cannot be joined: {error}");
            None
        }
    });
    // Before serving, and before capabilities are given up: the notes on cgroups need some of them.
    let top = hierarchy.top()?;
    let below = cgroup.strip_prefix(hierarchy.mount()).unwrap_or(Path::new(""));
    let below = format!("{}/{}", top.path().trim_end_matches('/'), below.display());
    let left = exec::adopt::take_over(&hierarchy, &below, &kernel, door.as_ref().map(exec::Door::socket));
    privilege::keep_only(if door.is_some() { CAPABILITIES.union(NEEDED_FOR_EXEC) } else { CAPABILITIES })?;
    // Not before: a thread keeps what its starter had.
    gnomon_log::write_apart().map_err(os("start a thread"))?;

    if let Readable::Stop = wait(link.as_fd(), stop, options.alive)? {
        return Ok(Ended::Asked);
    }
    match link.welcome(kernel.features(), kernel.ring()?.as_fd(), options.ring_bytes, kernel.heartbeat()?.as_fd(), PATIENCE) {
        Ok(version) => {
            tracing::debug!("the proxy speaks {version}");
            // Older proxies do not know this message.
            let told = if version.minor >= 3 { left.told } else { Vec::new() };
            // If the proxy does not read it, the log has it.
            let _ = told.iter().try_for_each(|told| link.send(told, &[], PATIENCE));
        }
        // The proxy hung up during the greeting, and scopes must be kept closed all the same.
        Err(gnomon_link::LinkError::Closed) if kernel.fails_closed() => {}
        Err(gnomon_link::LinkError::Closed) => return Ok(Ended::ProxyGone),
        Err(error) => return Err(error.into()),
    }
    let welcomed = Instant::now();
    let execs = kernel.execs().inspect_err(|error| tracing::warn!("identities cannot be confirmed: {error}")).ok();
    let namespaces = namespaces::Namespaces::new();
    let pulse = pulse::Pulse::map(&kernel.heartbeat()?).map_err(os("map the heartbeat"))?;
    // Closed when the loop below ends, which wakes all threads that wait on it.
    let (ending, over) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(os("make a pipe"))?;
    let (tell, listens) = channel();
    std::thread::scope(|threads| {
        let over = over;
        disarming::start(threads, &kernel, options, (&cgroup, welcomed), ending.try_clone().map_err(os("watch for the end"))?)?;
        sweep(threads, &namespaces, ending.try_clone().map_err(os("watch for the end"))?)?;
        cost::start(threads, &kernel, link, &cgroup, options.cost, ending.try_clone().map_err(os("watch for the end"))?)?;
        let searches = search::start(threads, &kernel, link, &namespaces, ending.try_clone().map_err(os("watch for the end"))?)?;
        let homes = match &options.homes {
            Some(by) => Some(homes::start(threads, link, by.clone(), ending.try_clone().map_err(os("watch for the end"))?)?),
            None => None,
        };
        let homes = requests::HomesAt { requests: homes, coverage: options.cgroup.as_ref().map_or(Homes::OfTheHost, |_| Homes::Always) };
        if let Some(door) = door {
            exec::start(
                threads,
                door,
                exec::Around { kernel: &kernel, link, namespaces: &namespaces, hierarchy: &hierarchy, below: &below, pulse: &pulse },
                ending,
                (left.adopted, listens),
            )?;
        }
        let questions = identities::start(threads, link, execs)?;
        let elsewhere = requests::Elsewhere { questions, searches, homes };
        let mut requests = Requests::new(link, &kernel, &namespaces, elsewhere, tell);
        let ended = loop {
            match wait(link.as_fd(), stop, options.alive) {
                Ok(Readable::Stop) => break Ok(Ended::Asked),
                Ok(Readable::Link) => {}
                Err(error) => break Err(error),
            }
            match requests.next() {
                Ok(()) => {
                    if let Some(closed) = &options.closed {
                        kernel.write_down(closed);
                    }
                }
                Err(gnomon_link::LinkError::Closed) => break Ok(Ended::ProxyGone),
                Err(error) => break Err(error.into()),
            }
        };
        if !matches!(ended, Ok(Ended::Asked)) {
            let_go(&kernel, &namespaces);
        }
        if matches!(ended, Ok(Ended::ProxyGone)) {
            match kernel.fails_closed() && kernel.refuses() {
                true => tracing::warn!(
                    "the serving half is gone: connections of scopes that fail closed are refused as long as this process lives, others go direct"
                ),
                false => tracing::warn!("the serving half is gone: until it is back, connections go direct"),
            }
            hold(&kernel, stop, options);
        }
        // Before the threads end: a silent client can hold one for some seconds.
        kernel.detach();
        drop(over);
        ended
    })
}

/// Ends serving: nothing is redirected from now on, and what waits to be accepted is reset. Redirecting ends first, so
/// that no connection is sent to a port without a listener; neither waits for the last beat to expire, nor for threads to end.
fn let_go(kernel: &Kernel, namespaces: &namespaces::Namespaces) {
    let stopped = kernel.heartbeat().map_err(io::Error::other).and_then(Heartbeat::from_fd).map(|heartbeat| heartbeat.stop());
    if let Err(error) = stopped {
        tracing::warn!("redirecting ends with the listeners, as the heartbeat cannot be stopped: {error}");
    }
    namespaces.end();
}

/// The process name of a sensor that stays for scopes that fail closed while no proxy serves.
pub const HOLDS: &CStr = c"gnomon-holds";

/// Stays attached without a proxy, for as long as a scope fails closed: until a sensor that has a proxy stops it, or the kill switch
/// disarms. The kernel half does not redirect to a proxy without a heartbeat.
fn hold(kernel: &Kernel, stop: BorrowedFd<'_>, options: &Options) {
    if !kernel.fails_closed() || options.closed.as_ref().is_some_and(|closed| closed.is_held_beside()) {
        return;
    }
    if let Some(closed) = &options.closed
        && let Err(error) = kernel.stay(closed)
    {
        tracing::warn!("scopes that fail closed stay closed only as long as this process lives: {error}");
    }
    // The name tells it from a sensor that serves, and is set once everything is recorded; if it cannot be set, the process ends at once.
    if rustix::thread::set_name(HOLDS).is_err() {
        return;
    }
    while kernel.fails_closed() {
        if let Some(alive) = options.alive {
            (alive.tell)();
        }
        let wait = Timespec::try_from(Switch::LOOK).ok();
        let mut stopping = [PollFd::new(&stop, PollFlags::IN)];
        if !matches!(poll(&mut stopping, wait.as_ref()), Ok(0) | Err(Errno::INTR)) {
            return;
        }
    }
}

/// Looks for empty network namespaces periodically, until `ending` hangs up.
fn sweep<'scope, 'env>(
    threads: &'scope std::thread::Scope<'scope, 'env>,
    namespaces: &'env namespaces::Namespaces,
    ending: std::os::fd::OwnedFd,
) -> Result<(), ServiceError> {
    let body = move || {
        while !cost::is_over(&ending, SWEEP) {
            namespaces.sweep();
        }
    };
    std::thread::Builder::new().name("namespaces".to_owned()).spawn_scoped(threads, body).map_err(os("start a thread"))?;
    Ok(())
}

pub(crate) enum Readable {
    Link,
    Stop,
}

/// Waits until the link (or what replaces it) is readable, or it is time to stop.
pub(crate) fn wait(link: BorrowedFd<'_>, stop: BorrowedFd<'_>, alive: Option<Alive>) -> Result<Readable, ServiceError> {
    let every = alive.and_then(|alive| Timespec::try_from(alive.every).ok());
    loop {
        if let Some(alive) = alive {
            (alive.tell)();
        }
        let mut fds = [PollFd::new(&link, PollFlags::IN), PollFd::new(&stop, PollFlags::IN)];
        match poll(&mut fds, every.as_ref()) {
            Err(Errno::INTR) => continue,
            Err(error) => return Err(os("wait for the proxy")(error)),
            Ok(_) => {}
        }
        let [link, stop] = fds;
        if !stop.revents().is_empty() {
            return Ok(Readable::Stop);
        }
        if !link.revents().is_empty() {
            return Ok(Readable::Link);
        }
    }
}
