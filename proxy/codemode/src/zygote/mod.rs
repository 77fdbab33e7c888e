//! The process that workers are forked from: single-threaded, confined, with an engine ready.
//!
//! A zygote is a program of its own, so that it has no memory of the proxy's to leak: [`run`] belongs at the very start of a
//! command that the [`SandboxConfig`](crate::SandboxConfig) names. It reads requests from its standard input, a socket; each
//! carries a worker's socket and one for reports. It decides nothing but that who computes for long gives way ([`fair`]). If it dies, its workers die with it; if
//! its parent dies, it ends.

mod confine;
mod fair;
mod filter;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, pidfd_open, pidfd_send_signal, set_parent_process_death_signal, waitid,
    waitpid,
};
use seccompiler::BpfProgram;
use serde::{Deserialize, Serialize};

use crate::layers::{LayerState, Layers};
use crate::pair;
use crate::sys::{self, Alone, Forked};
pub use crate::worker::Rehearsal;
use crate::worker::{self, Engine};
use confine::Footprint;
use fair::Share;

/// Most workers of a zygote at the same time.
pub(crate) const MAX_WORKERS: usize = 288;

/// Longest message on the control socket, in bytes.
pub(crate) const MAX_CONTROL: usize = 1024;

/// A worker ends with this if it could not be confined; it has run nothing.
pub(crate) const UNCONFINED: i32 = 71;

/// The first message of a zygote on its control socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Greeting {
    /// The zygote takes requests.
    Ready(Layers),
    /// The zygote could not start, and has ended.
    Failed(String),
}

/// A request for a worker; with it come the worker's socket and the one for reports.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Bytes of heap.
    pub heap: u64,
    /// Seconds of processor time after which the kernel ends it.
    pub cpu_seconds: u64,
}

/// A zygote's report on one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Running; a pidfd comes with this.
    Forked,
    /// Not forked, and why.
    Failed(i32),
    /// Killed by a signal.
    Killed(i32),
    /// Ended with a status.
    Exited(i32),
}

/// Runs a zygote until its parent closes the control socket, which is standard input.
///
/// Must be called before the process starts any thread.
pub fn run() -> ExitCode {
    rehearse(|_, _| false)
}

/// As [`run`], for tests of a compromised worker.
#[doc(hidden)]
pub fn rehearse(rehearsal: Rehearsal) -> ExitCode {
    let Ok((alone, control)) = take_control() else { return ExitCode::FAILURE };
    // A panic's message is not read, and a worker may not print it.
    std::panic::set_hook(Box::new(|_| {}));
    match prepare(alone) {
        Ok(Prepared::Zygote(ready)) => match greet(&control, &Greeting::Ready(ready.layers)) {
            Ok(()) => serve(&control, *ready, rehearsal),
            Err(_) => ExitCode::FAILURE,
        },
        Ok(Prepared::Holder(zygote)) => {
            drop(control);
            hold(zygote)
        }
        Err(error) => {
            // If the parent is gone, it does not wait for this.
            let _ = greet(&control, &Greeting::Failed(error.to_string()));
            ExitCode::FAILURE
        }
    }
}

/// Standard input becomes the control socket, under a number that nothing else expects; all else that was inherited is closed.
fn take_control() -> io::Result<(Alone, OwnedFd)> {
    let alone = Alone::prove()?;
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 4)?;
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    let control = alone.keep_only(control)?;
    Ok((alone, control))
}

enum Prepared {
    Zygote(Box<Ready>),
    /// The first process, outside of the process namespace: it only waits for the zygote.
    Holder(Pid),
}

struct Ready {
    alone: Alone,
    layers: Layers,
    footprint: Footprint,
    filter: BpfProgram,
    engine: Engine,
}

fn prepare(alone: Alone) -> io::Result<Prepared> {
    let filter = filter::filter().map_err(io::Error::other)?;
    let engine = Engine::new().map_err(io::Error::other)?;
    // With the engine in it, and while /proc can be read.
    let footprint = Footprint::measure()?;
    let mut layers = confine::confine(alone)?;
    // A process namespace holds the children of its creator, not the creator itself.
    if layers.process == LayerState::Enforced
        && let Forked::Parent(zygote) = alone.fork()?
    {
        return Ok(Prepared::Holder(zygote));
    }
    set_parent_process_death_signal((layers.process == LayerState::Enforced).then_some(Signal::KILL))?;
    prove(alone, &filter)?;
    layers.seccomp = LayerState::Enforced;
    layers.limits = try_limits(alone, footprint)?;
    Ok(Prepared::Zygote(Box::new(Ready { alone, layers, footprint, filter, engine })))
}

/// Lets a child break the filter. There is no sandbox if it survives.
fn prove(alone: Alone, filter: &BpfProgram) -> io::Result<()> {
    match alone.fork()? {
        Forked::Child => {
            if seccompiler::apply_filter(filter).is_ok() {
                // Harmless, and not on the list.
                let _ = rustix::process::getppid();
            }
            sys::exit(0)
        }
        Forked::Parent(child) => {
            let ended = waitpid(Some(child), WaitOptions::empty())?;
            match ended.and_then(|(_, status)| status.terminating_signal()) {
                Some(libc::SIGSYS) => Ok(()),
                _ => Err(io::Error::other("seccomp filters cannot be applied on this host")),
            }
        }
    }
}

/// Lets a child bound itself.
fn try_limits(alone: Alone, footprint: Footprint) -> io::Result<LayerState> {
    const ANY: u64 = 64 << 20;
    match alone.fork()? {
        Forked::Child => sys::exit(i32::from(confine::limit(footprint, ANY, 1).is_err())),
        Forked::Parent(child) => {
            let ended = waitpid(Some(child), WaitOptions::empty())?;
            let bounded = ended.is_some_and(|(_, status)| status.exit_status() == Some(0));
            Ok(if bounded { LayerState::Enforced } else { LayerState::Absent })
        }
    }
}

fn greet(control: &OwnedFd, greeting: &Greeting) -> io::Result<()> {
    let bytes = postcard::to_extend(greeting, Vec::new()).map_err(io::Error::other)?;
    Ok(pair::send(control, &bytes, &[])?)
}

/// Waits for the zygote, and ends as it did.
fn hold(zygote: Pid) -> ExitCode {
    loop {
        match waitpid(Some(zygote), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(Some((_, status))) if status.exit_status() == Some(0) => return ExitCode::SUCCESS,
            _ => return ExitCode::FAILURE,
        }
    }
}

/// A worker that runs.
struct Child {
    pidfd: OwnedFd,
    reports: OwnedFd,
    share: Share,
}

fn serve(control: &OwnedFd, ready: Ready, rehearsal: Rehearsal) -> ExitCode {
    let mut children: Vec<Child> = Vec::new();
    loop {
        let mut watched = vec![PollFd::new(control, PollFlags::IN)];
        for child in &children {
            watched.push(PollFd::new(&child.pidfd, PollFlags::IN));
            // Only its hang-up: the parent has dropped the execution.
            watched.push(PollFd::new(&child.reports, PollFlags::empty()));
        }
        let now = Instant::now();
        let next = children.iter().filter_map(|child| child.share.due(now)).min();
        // Not to wake a moment too early, time and again.
        let next = next.and_then(|wait| Timespec::try_from(wait + Duration::from_micros(100)).ok());
        match poll(&mut watched, next.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return ExitCode::FAILURE,
        }
        let asked = !watched[0].revents().is_empty();
        let looked: Vec<[bool; 2]> = watched[1..].chunks_exact(2).map(|pair| [0, 1].map(|at| !pair[at].revents().is_empty())).collect();
        drop(watched);
        let mut looked = looked.into_iter();
        let now = Instant::now();
        children.iter_mut().for_each(|child| child.share.look(now));
        children.retain(|child| {
            let [ended, dropped] = looked.next().unwrap_or_default();
            if dropped && !ended {
                // The parent does it too; where the kernel does not let it, being another user, this is what does.
                let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
            }
            !(ended && reap(child))
        });
        if asked {
            let mut bytes = [0; MAX_CONTROL];
            let (length, descriptors) = match pair::receive(control, &mut bytes) {
                // The parent is gone; what still runs dies with this process.
                Ok((0, _)) => return ExitCode::SUCCESS,
                Ok(received) => received,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return ExitCode::FAILURE,
            };
            let (Ok(order), Ok([socket, reports])) =
                (postcard::from_bytes::<Order>(&bytes[..length]), <[OwnedFd; 2]>::try_from(descriptors))
            else {
                return ExitCode::FAILURE;
            };
            if children.len() >= MAX_WORKERS {
                report(&reports, Report::Failed(libc::EAGAIN), None);
                continue;
            }
            match ready.alone.fork() {
                Ok(Forked::Child) => work(ready, socket, order, rehearsal),
                Ok(Forked::Parent(pid)) => {
                    drop(socket);
                    children.extend(adopt(pid, reports));
                }
                Err(error) => report(&reports, Report::Failed(error.raw_os_error().unwrap_or_default()), None),
            }
        }
    }
}

/// Tells the parent of a new worker, by a descriptor that cannot come to mean another process.
fn adopt(pid: Pid, reports: OwnedFd) -> Option<Child> {
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => {
            report(&reports, Report::Forked, Some(&pidfd));
            Some(Child { pidfd, reports, share: Share::of(pid) })
        }
        Err(error) => {
            // Not yet reaped, so the number still means it.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
            report(&reports, Report::Failed(error.raw_os_error()), None);
            None
        }
    }
}

/// Whether the worker has ended, and been reported.
fn reap(child: &Child) -> bool {
    let status = match waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(Some(status)) => status,
        Ok(None) | Err(rustix::io::Errno::INTR) => return false,
        Err(_) => return true,
    };
    let how = match status.terminating_signal() {
        Some(signal) => Report::Killed(signal),
        None => Report::Exited(status.exit_status().unwrap_or_default()),
    };
    report(&child.reports, how, None);
    true
}

/// The parent may have lost interest, which is no fault.
fn report(reports: &OwnedFd, what: Report, descriptor: Option<&OwnedFd>) {
    if let Ok(bytes) = postcard::to_extend(&what, Vec::new()) {
        let descriptors: Vec<_> = descriptor.iter().map(|descriptor| descriptor.as_fd()).collect();
        let _ = pair::send(reports, &bytes, &descriptors);
    }
}

/// The rest of a worker's life.
fn work(ready: Ready, socket: OwnedFd, order: Order, rehearsal: Rehearsal) -> ! {
    let Ready { alone, layers, footprint, filter, engine } = ready;
    confine::give_way();
    let confined = set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(io::Error::from)
        .and_then(|()| alone.keep_only(socket))
        .and_then(|socket| match confine::limit(footprint, order.heap, order.cpu_seconds) {
            Err(error) if layers.limits == LayerState::Enforced => Err(error),
            _ => Ok(socket),
        })
        .and_then(|socket| {
            sys::die_of_segv();
            seccompiler::apply_filter(&filter).map(|()| socket).map_err(io::Error::other)
        });
    match confined {
        Ok(socket) => worker::work(UnixStream::from(socket), engine, rehearsal),
        Err(_) => sys::exit(UNCONFINED),
    }
}
