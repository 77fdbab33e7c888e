//! Marked listeners: one pair in each network namespace, on one port everywhere, handed to the proxy.
//!
//! They are kept here as well, for a proxy that asks when they were handed over unasked already. A listener keeps its
//! namespace alive, so at most [`MOST`] namespaces are served while this process runs.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gnomon_link::Families;
use gnomon_sensor::listen::{self, Listeners};
use rustix::fs::fstat;

use crate::kernel::{Kernel, KernelError};

/// Most namespaces that are served.
pub(crate) const MOST: usize = 256;

/// Why there are no listeners.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("the process is gone")]
    Gone,
    #[error("the process is in another network namespace than the one named")]
    Other,
    #[error("there are listeners in {MOST} network namespaces already")]
    Full,
    #[error(transparent)]
    Sensor(#[from] gnomon_sensor::Error),
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

/// A network namespace, held open.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
    /// Device and inode: which namespace it is for as long as anything holds it.
    id: (u64, u64),
}

impl Namespace {
    /// That of a process. Whoever asks makes sure that the number is still the process's own afterwards.
    pub(crate) fn of(pid: u32) -> Result<Self, ListenError> {
        let file = match File::open(format!("/proc/{pid}/ns/net")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ListenError::Gone),
            Err(source) => return Err(ListenError::Os { action: "open the process's network namespace", source }),
        };
        let found = fstat(&file).map_err(|error| ListenError::Os { action: "look at a network namespace", source: error.into() })?;
        Ok(Self { file, id: (found.st_dev, found.st_ino) })
    }
}

/// Whether the proxy accepts from a namespace's listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// They were handed over.
    Handed,
    /// It said so, or had asked for them.
    Accepting,
}

#[derive(Debug)]
struct Served {
    id: (u64, u64),
    opened: Arc<Opened>,
    standing: Standing,
}

#[derive(Debug, Default)]
struct Table {
    /// 0 until the first listeners are there.
    port: u16,
    served: Vec<Served>,
}

/// The namespaces that have listeners of ours.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    table: Mutex<Table>,
    changed: Condvar,
}

impl Namespaces {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Opens listeners where a process is, as the proxy asks. `cookie` is the namespace it means, 0 whichever it is.
    pub(crate) fn listen_in(&self, kernel: &Kernel, pid: u32, cookie: u64) -> Result<Arc<Opened>, ListenError> {
        let namespace = Namespace::of(pid)?;
        let mut table = self.table();
        let there = table.served.iter().find(|served| served.id == namespace.id).map(|served| served.opened.clone());
        let opened = match there {
            Some(opened) => opened,
            None => table.open(kernel, &namespace)?,
        };
        // Kernels that do not tell the cookie leave us with a number of our own, which nobody else can name.
        if cookie != 0 && opened.cookie != namespace.id.1 && opened.cookie != cookie {
            return Err(ListenError::Other);
        }
        table.serve(kernel, &namespace, &opened, Standing::Accepting)?;
        self.changed.notify_all();
        Ok(opened)
    }

    /// Listeners for a namespace in which there are none yet; `None` if there are. They still have to be handed over.
    pub(crate) fn missing_in(&self, kernel: &Kernel, namespace: &Namespace) -> Result<Option<Arc<Opened>>, ListenError> {
        let mut table = self.table();
        if table.served.iter().any(|served| served.id == namespace.id) {
            return Ok(None);
        }
        let opened = table.open(kernel, namespace)?;
        table.serve(kernel, namespace, &opened, Standing::Handed)?;
        Ok(Some(opened))
    }

    /// The listeners could not be handed over, and are closed.
    pub(crate) fn forget(&self, namespace: &Namespace) {
        self.table().served.retain(|served| served.id != namespace.id);
    }

    /// The proxy accepts from the listeners of this namespace.
    pub(crate) fn accepting(&self, cookie: u64) {
        for served in self.table().served.iter_mut().filter(|served| served.opened.cookie == cookie) {
            served.standing = Standing::Accepting;
        }
        self.changed.notify_all();
    }

    /// Waits until the proxy accepts from a namespace's listeners. Whether it does.
    pub(crate) fn wait_for(&self, namespace: &Namespace, timeout: Duration) -> Result<(), Silent> {
        let waits = |table: &mut Table| !table.served.iter().any(|s| s.id == namespace.id && s.standing == Standing::Accepting);
        let waited = self.changed.wait_timeout_while(self.table(), timeout, waits).unwrap_or_else(PoisonError::into_inner).1;
        if waited.timed_out() { Err(Silent) } else { Ok(()) }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The proxy did not say in time that it accepts.
#[derive(Debug)]
pub(crate) struct Silent;

impl Table {
    fn open(&self, kernel: &Kernel, namespace: &Namespace) -> Result<Arc<Opened>, ListenError> {
        if self.served.len() >= MOST {
            return Err(ListenError::Full);
        }
        let listeners = listen::in_namespace(Some(namespace.file.as_fd()), kernel.mark(), self.port)?;
        let port = listeners.port().map_err(|source| ListenError::Os { action: "ask for the port of a listener", source })?;
        let cookie = cookie(listeners.v4.as_fd()).unwrap_or(namespace.id.1);
        Ok(Arc::new(Opened { listeners, cookie, port }))
    }

    fn serve(&mut self, kernel: &Kernel, namespace: &Namespace, opened: &Arc<Opened>, standing: Standing) -> Result<(), ListenError> {
        if self.port == 0 {
            kernel.set_port(opened.port)?;
            self.port = opened.port;
        }
        self.served.retain(|served| served.id != namespace.id);
        self.served.push(Served { id: namespace.id, opened: opened.clone(), standing });
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
