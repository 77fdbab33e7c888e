//! Marked listeners: a pair in each network namespace, on the same port everywhere, handed to the proxy; and sockets in those namespaces
//! for the proxy to connect with.
//!
//! They are kept here as well, for a proxy that asks when they were handed over unasked already. A listener keeps its
//! namespace alive, so those that were opened for programs of `gnomon exec` are closed when the last scope that was
//! joined from there has ended, and those that were opened because a redirected program connected from there once no process
//! is left in it and it is mounted nowhere; at most [`MOST`] namespaces are served at a time. The first connection from a namespace that
//! was not joined from goes its own way, which is counted as `no_listener`, and has listeners opened there.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gnomon_link::{Families, Family, SensorEnd, ToProxy, UNASKED};
use gnomon_sensor::listen::{self, Listeners, User};
use rustix::fs::fstat;
use rustix::net::{AddressFamily, Shutdown, shutdown};

use crate::PATIENCE;
use crate::kernel::{Kernel, KernelError};
use crate::namespace_files::{Id, everywhere};

/// The most namespaces with listeners.
pub(crate) const MOST: usize = 256;
/// The most namespaces with listeners from which no scope was joined: any user can make namespaces.
const MOST_VISITED: usize = 192;

/// An error of opening listeners.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("the process or the network namespace is gone")]
    Gone,
    #[error("the process is in another network namespace than the one named")]
    Other,
    #[error("there are listeners in {MOST} network namespaces already")]
    Full,
    #[error("there are listeners in {MOST_VISITED} network namespaces already that no `gnomon exec` was started from")]
    FullOfVisited,
    #[error("as many network namespaces as may be searched for at a time are searched for")]
    Busy,
    #[error("no process serves any more")]
    Ended,
    #[error(transparent)]
    Sensor(#[from] gnomon_sensor::SensorError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error("cannot {action}: {source}")]
    Os { action: &'static str, source: io::Error },
}

/// Listeners, and where they are.
#[derive(Debug)]
pub(crate) struct Opened {
    listeners: Listeners,
    pub cookie: u64,
    pub port: u16,
}

impl Opened {
    pub(crate) fn families(&self) -> Families {
        if self.listeners.v6.is_some() { Families::Both } else { Families::V4 }
    }

    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let v6 = self.listeners.v6.as_ref().map(|listener| listener.as_fd());
        std::iter::once(self.listeners.v4.as_fd()).chain(v6).collect()
    }
}

impl Opened {
    /// Closes them: new connections are refused.
    fn end(&self) {
        for listener in self.descriptors() {
            // If it no longer listens, that is as good.
            let _ = shutdown(listener, Shutdown::Both);
        }
    }
}

/// Keeps the listeners of a namespace open for one scope.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    namespaces: &'a Namespaces,
    id: Id,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.namespaces.release(self.id);
    }
}

/// An error of leasing listeners.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("the proxy does not take listeners: {0}")]
    Link(#[from] gnomon_link::LinkError),
}

/// A network namespace, held open.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
    id: Id,
}

impl Namespace {
    /// The namespace of a process. The caller must check afterwards that the id is still that process's.
    pub(crate) fn of(pid: u32) -> Result<Self, ListenError> {
        Self::at(format!("/proc/{pid}/ns/net").as_ref())
    }

    /// The namespace that this file names.
    pub(crate) fn at(path: &Path) -> Result<Self, ListenError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ListenError::Gone),
            Err(source) => return Err(ListenError::Os { action: "open a network namespace", source }),
        };
        let found = fstat(&file).map_err(|error| ListenError::Os { action: "look at a network namespace", source: error.into() })?;
        Ok(Self { file, id: (found.st_dev, found.st_ino) })
    }

    pub(crate) fn id(&self) -> Id {
        self.id
    }

    /// Its cookie, read from a socket in it. `None` on kernels that do not have it.
    pub(crate) fn cookie(&self) -> Result<Option<u64>, ListenError> {
        let socket = listen::socket_in(Some(self.file.as_fd()), AddressFamily::INET, None)?;
        Ok(cookie(socket.as_fd()))
    }

    /// True if both are the same namespace.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// How long listeners stay open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    /// The proxy asked for them: for good.
    ForGood,
    /// For this many scopes, and as long as visiting programs are there.
    While { scopes: usize, visited: Visited },
}

/// Whether a redirected program outside of the scopes of `gnomon exec` has connected from the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visited {
    Yes,
    No,
}

/// The result of [`Namespaces::visit`].
enum Found {
    There,
    New(Arc<Opened>),
}

/// The hand-over of a namespace's listeners to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandOver {
    /// The listeners were handed over.
    Handed,
    /// The proxy said that it accepts from them, or asked for them itself.
    Accepting,
}

#[derive(Debug)]
struct Served {
    id: Id,
    /// To enter the namespace again.
    file: File,
    opened: Arc<Opened>,
    hand_over: HandOver,
    stay: Stay,
}

#[derive(Debug, Default)]
struct Table {
    /// 0 until the first listeners are open.
    port: u16,
    served: Vec<Served>,
    /// The serving process is gone.
    ended: bool,
}

/// The namespaces that have listeners of ours.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    table: Mutex<Table>,
    changed: Condvar,
    /// How often a namespace could not be given listeners.
    unserved: AtomicU64,
}

impl Namespaces {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Opens listeners in the namespace of a process, as the proxy asks. `cookie` is the expected namespace; 0 accepts any.
    pub(crate) fn listen_in(&self, kernel: &Kernel, pid: u32, cookie: u64) -> Result<Arc<Opened>, ListenError> {
        let namespace = Namespace::of(pid)?;
        let mut table = self.table();
        let there = table.served.iter().find(|served| served.id == namespace.id).map(|served| served.opened.clone());
        let opened = match there {
            Some(opened) => opened,
            None => table.open(kernel, &namespace)?,
        };
        // Kernels that do not report the cookie leave us with a number of our own, which no other process can name.
        if cookie != 0 && opened.cookie != namespace.id.1 && opened.cookie != cookie {
            return Err(ListenError::Other);
        }
        table.serve(kernel, &namespace, &opened, (HandOver::Accepting, Stay::ForGood))?;
        self.changed.notify_all();
        Ok(opened)
    }

    /// Listeners for a scope that is joined from this namespace: handed to the proxy if they are new, and kept open until the lease is
    /// dropped.
    pub(crate) fn lease(&self, kernel: &Kernel, link: &SensorEnd, namespace: &Namespace) -> Result<Lease<'_>, LeaseError> {
        let new = {
            let mut table = self.table();
            match table.served.iter_mut().find(|served| served.id == namespace.id) {
                Some(served) => {
                    if let Stay::While { scopes, .. } = &mut served.stay {
                        *scopes += 1;
                    }
                    None
                }
                None => {
                    let opened = table.open(kernel, namespace)?;
                    table.serve(kernel, namespace, &opened, (HandOver::Handed, Stay::While { scopes: 1, visited: Visited::No }))?;
                    Some(opened)
                }
            }
        };
        let lease = Lease { namespaces: self, id: namespace.id };
        if let Some(opened) = new {
            hand_over(link, &opened)?;
        }
        Ok(lease)
    }

    /// Opens listeners for programs that connected from a namespace without any, as the proxy reports: handed to the proxy, and kept until
    /// [`sweep`](Self::sweep) finds the namespace unused.
    pub(crate) fn visit(&self, kernel: &Kernel, link: &SensorEnd, pid: u32, cookie: u64) -> Result<(), LeaseError> {
        self.visit_at(kernel, link, &Namespace::of(pid)?, cookie)
    }

    /// The same for a namespace that is already open.
    pub(crate) fn visit_at(&self, kernel: &Kernel, link: &SensorEnd, namespace: &Namespace, cookie: u64) -> Result<(), LeaseError> {
        match self.found(kernel, namespace, cookie)? {
            Found::There => Ok(()),
            Found::New(opened) => Ok(hand_over(link, &opened)?),
        }
    }

    /// True if the namespace with this cookie has listeners. They are then kept for the programs that connected from there.
    pub(crate) fn is_visited(&self, cookie: u64) -> bool {
        let mut table = self.table();
        let Some(served) = table.served.iter_mut().find(|served| served.opened.cookie == cookie) else { return false };
        if let Stay::While { visited, .. } = &mut served.stay {
            *visited = Visited::Yes;
        }
        true
    }

    /// The namespaces that have listeners.
    pub(crate) fn served(&self) -> HashSet<Id> {
        self.table().served.iter().map(|served| served.id).collect()
    }

    /// Reports that the programs of a namespace go around the proxy.
    pub(crate) fn unserved(&self, error: &ListenError) {
        let times = self.unserved.fetch_add(1, Ordering::Relaxed) + 1;
        // Any user can make namespaces; the log must not fill up with them.
        if times.is_power_of_two() {
            tracing::warn!("{times} times connections from a network namespace were not redirected; the last: {error}");
        }
    }

    fn found(&self, kernel: &Kernel, namespace: &Namespace, cookie: u64) -> Result<Found, ListenError> {
        let mut table = self.table();
        if let Some(served) = table.served.iter_mut().find(|served| served.id == namespace.id) {
            if let Stay::While { visited, .. } = &mut served.stay {
                *visited = Visited::Yes;
            }
            return Ok(Found::There);
        }
        let is_visited = |served: &&Served| matches!(served.stay, Stay::While { visited: Visited::Yes, .. });
        if table.served.iter().filter(is_visited).count() >= MOST_VISITED {
            return Err(ListenError::FullOfVisited);
        }
        let opened = table.open(kernel, namespace)?;
        if opened.cookie != namespace.id.1 && opened.cookie != cookie {
            return Err(ListenError::Other);
        }
        table.serve(kernel, namespace, &opened, (HandOver::Handed, Stay::While { scopes: 0, visited: Visited::Yes }))?;
        Ok(Found::New(opened))
    }

    /// Closes the listeners of namespaces that have no process, are mounted nowhere, and belong to no scope.
    pub(crate) fn sweep(&self) {
        let is_visited = |served: &Served| matches!(served.stay, Stay::While { visited: Visited::Yes, .. });
        let visited: Vec<Id> = self.table().served.iter().filter(|served| is_visited(served)).map(|served| served.id).collect();
        if visited.is_empty() {
            return;
        }
        let alive = everywhere();
        for id in visited.into_iter().filter(|id| !alive.contains_key(id)) {
            let mut table = self.table();
            if let Some(place) = table.served.iter().position(|served| served.id == id) {
                if let Some(Stay::While { visited, .. }) = table.served.get_mut(place).map(|served| &mut served.stay) {
                    *visited = Visited::No;
                }
                table.leave(place);
            }
        }
    }

    /// Releases a scope's share of a namespace.
    fn release(&self, id: Id) {
        let mut table = self.table();
        let Some(place) = table.served.iter().position(|served| served.id == id) else { return };
        if let Some(Stay::While { scopes, .. }) = table.served.get_mut(place).map(|served| &mut served.stay) {
            *scopes = scopes.saturating_sub(1);
        }
        table.leave(place);
    }

    /// Ends serving: what waits to be accepted is reset, and no more is opened. A queue that is not accepted from would
    /// keep programs waiting for as long as we hold its listener.
    pub(crate) fn end(&self) {
        let mut table = self.table();
        table.ended = true;
        for served in table.served.drain(..) {
            served.opened.end();
        }
    }

    /// The proxy accepts from the listeners of this namespace.
    pub(crate) fn accepting(&self, cookie: u64) {
        for served in self.table().served.iter_mut().filter(|served| served.opened.cookie == cookie) {
            served.hand_over = HandOver::Accepting;
        }
        self.changed.notify_all();
    }

    /// Opens a socket to connect with, in a namespace that has listeners and in no other: connections that were not redirected need none. 0
    /// is our own namespace, for programs that are configured to use the proxy.
    pub(crate) fn socket_in(&self, cookie: u64, family: Family, user: Option<User>) -> Result<OwnedFd, ListenError> {
        let family = match family {
            Family::V4 => AddressFamily::INET,
            Family::V6 => AddressFamily::INET6,
        };
        if cookie == 0 {
            return Ok(listen::socket_in(None, family, user)?);
        }
        let found = self.table().served.iter().find(|served| served.opened.cookie == cookie).map(|served| served.file.try_clone());
        let file = found.ok_or(ListenError::Gone)?.map_err(|source| ListenError::Os { action: "enter a network namespace", source })?;
        Ok(listen::socket_in(Some(file.as_fd()), family, user)?)
    }

    /// Waits until the proxy accepts from a namespace's listeners.
    pub(crate) fn wait_for(&self, namespace: &Namespace, timeout: Duration) -> Result<(), Silent> {
        let waits = |table: &mut Table| !table.served.iter().any(|s| s.id == namespace.id && s.hand_over == HandOver::Accepting);
        let mut table = self.table();
        self.changed.wait_while_for(&mut table, waits, timeout);
        if waits(&mut table) { Err(Silent) } else { Ok(()) }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }
}

/// The proxy did not say in time that it accepts.
#[derive(Debug)]
pub(crate) struct Silent;

fn hand_over(link: &SensorEnd, opened: &Opened) -> Result<(), gnomon_link::LinkError> {
    let (cookie, port, families) = (opened.cookie, opened.port, opened.families());
    let message = ToProxy::Listeners { token: UNASKED, netns_cookie: cookie, port, families };
    link.send(&message, &opened.descriptors(), PATIENCE)
}

impl Table {
    /// Closes listeners that nothing needs any more.
    fn leave(&mut self, place: usize) {
        if let Some(served) = self.served.get(place)
            && served.stay == (Stay::While { scopes: 0, visited: Visited::No })
        {
            // The proxy has a copy, so closing is not enough: shutdown ends the listening itself (tcp(7)), which the proxy sees. Before the
            // slot is free, as the next namespace may open the same port.
            served.opened.end();
            self.served.swap_remove(place);
        }
    }

    fn open(&self, kernel: &Kernel, namespace: &Namespace) -> Result<Arc<Opened>, ListenError> {
        if self.ended {
            return Err(ListenError::Ended);
        }
        if self.served.len() >= MOST {
            return Err(ListenError::Full);
        }
        let listeners = listen::in_namespace(Some(namespace.file.as_fd()), kernel.mark(), self.port)?;
        let port = listeners.port().map_err(|source| ListenError::Os { action: "ask for the port of a listener", source })?;
        let cookie = cookie(listeners.v4.as_fd()).unwrap_or(namespace.id.1);
        Ok(Arc::new(Opened { listeners, cookie, port }))
    }

    fn serve(
        &mut self,
        kernel: &Kernel,
        namespace: &Namespace,
        opened: &Arc<Opened>,
        (hand_over, stay): (HandOver, Stay),
    ) -> Result<(), ListenError> {
        if self.port == 0 {
            kernel.set_port(opened.port)?;
            self.port = opened.port;
        }
        self.served.retain(|served| served.id != namespace.id);
        let file = namespace.file.try_clone().map_err(|source| ListenError::Os { action: "keep a network namespace", source })?;
        self.served.push(Served { id: namespace.id, file, opened: opened.clone(), hand_over, stay });
        Ok(())
    }
}

/// The cookie of the network namespace that a socket is in (`SO_NETNS_COOKIE`, Linux 5.14). `None` on older kernels.
fn cookie(socket: BorrowedFd<'_>) -> Option<u64> {
    let mut value = 0_u64;
    let mut size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes, which is the size of `value`, and both live until it returns.
    let status =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, (&raw mut value).cast(), &raw mut size) };
    (status == 0 && value != 0).then_some(value)
}
