//! Removes scopes when no process is left in them; the kernel reports that by `cgroup.events` (cgroups(7)).

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, Scope as Threads};

use gnomon_host::cgroup::{Removal, Scope};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{Mode, OFlags, openat};

use super::slots::ScopeSlot;
use crate::kernel::Kernel;
use crate::namespaces::Lease;
use crate::{ServiceError, os};

/// A scope in which a program runs.
#[derive(Debug)]
pub(super) struct Live<'a> {
    events: OwnedFd,
    scope: Scope,
    _place: ScopeSlot,
    /// Leases of the listeners where it was joined from, or where its programs were when it was taken over; none where it redirects
    /// nothing by itself.
    _leases: Vec<Lease<'a>>,
}

impl<'a> Live<'a> {
    pub(super) fn new(scope: Scope, place: ScopeSlot, leases: Vec<Lease<'a>>) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let events = openat(scope.cgroup().directory(), "cgroup.events", flags, Mode::empty())?;
        Ok(Self { events, scope, _place: place, _leases: leases })
    }

    /// Reading also acknowledges the changes so far to the kernel.
    fn is_populated(&self) -> bool {
        let mut text = [0; 256];
        let length = rustix::io::pread(&self.events, &mut text, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
        text.lines().any(|line| line == "populated 1")
    }
}

/// Hands scopes to the thread that watches them.
#[derive(Clone, Debug)]
pub(super) struct Reaper<'a> {
    scopes: Sender<Live<'a>>,
    bell: Arc<OwnedFd>,
}

impl<'a> Reaper<'a> {
    pub(super) fn watch(&self, live: Live<'a>) {
        // Without the thread this process is ending; the next sensor removes what is dropped here.
        let _ = self.scopes.send(live);
        let _ = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes());
    }
}

/// Starts the thread, which ends when `ending` hangs up.
pub(super) fn start<'scope, 'env>(
    threads: &'scope Threads<'scope, 'env>,
    kernel: &'env Kernel,
    ending: Arc<OwnedFd>,
) -> Result<Reaper<'env>, ServiceError> {
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(os("make an eventfd"))?);
    let (scopes, new) = channel();
    let rung = bell.clone();
    let body = move || reap(kernel, &new, &rung, &ending);
    Builder::new().name("exec-reaper".to_owned()).spawn_scoped(threads, body).map_err(os::<io::Error>("start a thread"))?;
    Ok(Reaper { scopes, bell })
}

fn reap(kernel: &Kernel, new: &Receiver<Live<'_>>, bell: &OwnedFd, ending: &OwnedFd) {
    let mut live: Vec<Live<'_>> = Vec::new();
    loop {
        let watched = live.iter().map(|live| PollFd::from_borrowed_fd(live.events.as_fd(), PollFlags::PRI));
        let own = [PollFd::new(ending, PollFlags::IN), PollFd::new(bell, PollFlags::IN)];
        let mut fds: Vec<PollFd<'_>> = own.into_iter().chain(watched).collect();
        if poll(&mut fds, None).is_ok() && fds.first().is_some_and(|ending| !ending.revents().is_empty()) {
            return;
        }
        let _ = rustix::io::read(bell, &mut [0_u8; 8]);
        live.extend(new.try_iter());
        live.retain(|live| live.is_populated() || !is_removed(kernel, live));
    }
}

fn is_removed(kernel: &Kernel, live: &Live<'_>) -> bool {
    match live.scope.remove() {
        // A process has come in again: the kernel will notify again.
        Ok(Removal::InUse) => return false,
        Ok(Removal::Removed) => {}
        Err(error) => tracing::warn!("a scope of gnomon exec stays: {error}"),
    }
    // The kernel does not reuse cgroup ids while it runs; what matters is the room in the table.
    if let Err(error) = kernel.let_out(live.scope.id().0) {
        tracing::warn!("a scope of gnomon exec stays in the table: {error}");
    }
    true
}
