//! Listeners that the kernel sends connections to. They come while the proxy runs, as further network
//! namespaces appear, and go when a namespace is no longer watched: an open listener keeps its
//! namespace alive.

use crate::{
    client_seats::ClientSeat,
    redirected::{self, Namespace},
    refused,
    shared::Shared,
    turns::Queued,
};
use gnomon_http::server::{Admission, UnderWay, accept_until};
use gnomon_record::FlowOutcome;
use gnomon_shares::Refused;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    os::fd::AsFd as _,
    sync::{Arc, OnceLock, Weak},
    thread,
};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Handle},
    task::AbortHandle,
};

/// Most listeners at a time: two for each of a few hundred network namespaces.
const LISTENERS: usize = 1024;

/// A listener that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerKey(u64);

/// An error of adding a listener.
#[derive(Debug, Error)]
pub enum AddListenerError {
    /// The proxy is stopping, or gone.
    #[error("the proxy has stopped")]
    Stopped,
    /// The proxy has as many listeners as it takes.
    #[error("the proxy has {LISTENERS} listeners for redirected connections already")]
    Full,
    /// The runtime cannot use it.
    #[error("this socket cannot be listened on: {0}")]
    Socket(#[from] io::Error),
}

/// Gives the running proxy listeners for redirected connections. Clones give to the same proxy.
#[derive(Clone, Debug)]
pub struct RedirectedListeners {
    shared: Weak<Shared>,
    runtime: Handle,
    /// The thread that accepts, once there is something to accept from.
    acceptor: Arc<OnceLock<Handle>>,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    accepting: HashMap<ListenerKey, AbortHandle>,
}

impl RedirectedListeners {
    /// Must be called within the runtime that the proxy runs in.
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::downgrade(shared), runtime: Handle::current(), acceptor: Arc::default(), open: Arc::default() }
    }

    /// Makes the proxy accept redirected connections from this listener too, at once. Only
    /// connections whose owner is known, and which the kernel redirected, are served: others are
    /// closed, so that the listener is no open relay. May be called from any thread.
    ///
    /// # Errors
    /// See [`AddListenerError`]. The listener is closed then.
    pub fn add(&self, listener: std::net::TcpListener, namespace: Namespace) -> Result<ListenerKey, AddListenerError> {
        let shared = self.shared.upgrade().filter(|shared| !*shared.stopping().borrow()).ok_or(AddListenerError::Stopped)?;
        listener.set_nonblocking(true)?;
        let accepting = self.acceptor.get_or_init(|| {
            acceptor(&shared).unwrap_or_else(|error| {
                tracing::warn!(%error, "connections are accepted among all other work");
                self.runtime.clone()
            })
        });
        let listener = {
            let _within = accepting.enter();
            TcpListener::from_std(listener)?
        };
        let mut open = self.open.lock();
        open.accepting.retain(|_, accepting| !accepting.is_finished());
        if open.accepting.len() >= LISTENERS {
            return Err(AddListenerError::Full);
        }
        let key = ListenerKey(open.next);
        open.next += 1;
        let accepting = accepting.spawn(accept(Arc::downgrade(&shared), listener, namespace));
        open.accepting.insert(key, accepting.abort_handle());
        Ok(key)
    }

    /// True while a listener is accepted from: until its opener has shut it down (shutdown(2)).
    pub fn is_open(&self, key: ListenerKey) -> bool {
        let open = self.open.lock();
        open.accepting.get(&key).is_some_and(|accepting| !accepting.is_finished())
    }

    /// Closes a listener. Connections that came through it go on. Without effect if it is closed.
    pub fn remove(&self, key: ListenerKey) {
        if let Some(accepting) = self.open.lock().accepting.remove(&key) {
            accepting.abort();
        }
    }
}

/// A thread that only accepts: there may be thousands of serving tasks, and an accept that waits behind them leaves connections in the
/// kernel's queue until that is full, for all users.
fn acceptor(shared: &Shared) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let handle = runtime.handle().clone();
    let mut stop = shared.stopping();
    // A dropped sender stops too.
    let accept = move || _ = runtime.block_on(async move { stop.wait_for(|stopping| *stopping).await.is_ok() });
    thread::Builder::new().name("gnomon-accept".to_owned()).spawn(accept)?;
    Ok(handle)
}

async fn accept(shared: Weak<Shared>, listener: TcpListener, namespace: Namespace) {
    let Some(mut stop) = shared.upgrade().map(|shared| shared.stopping()) else { return };
    // A dropped sender stops too.
    let shutdown = async { _ = stop.wait_for(|stopping| *stopping).await };
    let door = Door(shared);
    accept_until(listener, &door, shutdown, |stream, client, seat| {
        if let Some(shared) = door.0.upgrade() {
            take_on(&shared, stream, client, seat, namespace);
        }
    })
    .await;
}

/// The admission of redirected connections. It does not keep a proxy alive that is gone otherwise.
struct Door(Weak<Shared>);

impl Admission for Door {
    type Seat = (Result<Queued, Refused>, Arc<ClientSeat>, UnderWay);

    /// Admits a connection by the user that the kernel names.
    async fn admit(&self, stream: &TcpStream, client: SocketAddr) -> Result<Self::Seat, Refused> {
        let shared = self.0.upgrade().ok_or(Refused::Full)?;
        let uid = shared.owners().and_then(|owners| owners.uid(stream.as_fd()));
        // A connection without an owner is refused later, and takes no user's share before.
        let user: Arc<str> = uid.map_or_else(|| "nobody's".into(), |uid| uid.to_string().into());
        let queued = shared.turns.queue(&user);
        if let Err(refused) = queued
            && !shared.seats.is_to_be_told(user, FlowOutcome::OverShare)
        {
            return Err(refused);
        }
        let seat = shared.seats.admit(client).await?;
        // Its server is dialled before it says anything, and may be who speaks first.
        let dials = seat.begin();
        Ok((queued, seat, dials))
    }

    fn turn_away(&self, stream: TcpStream, client: SocketAddr, why: Refused) {
        if let Some(shared) = self.0.upgrade() {
            shared.turn_away(stream, client, why);
        }
    }

    fn make_room(&self, error: &io::Error) {
        if let Some(shared) = self.0.upgrade() {
            shared.make_room(error);
        }
    }
}

/// Queues an accepted connection for its user's turn, or reports that the user has its share.
fn take_on(
    shared: &Arc<Shared>,
    stream: TcpStream,
    client: SocketAddr,
    (queued, seat, dials): (Result<Queued, Refused>, Arc<ClientSeat>, UnderWay),
    namespace: Namespace,
) {
    // Registered anew, so that it wakes the serving threads. If the kernel watches no more sockets for us, it ends, and is counted.
    let short = |shared: &Shared| shared.recorder.flow(FlowOutcome::OverShare, Vec::new());
    let Ok(stream) = stream.into_std() else { return short(shared) };
    let task = shared.clone();
    shared.spawn(async move {
        let Ok(stream) = TcpStream::from_std(stream) else { return short(&task) };
        match queued {
            Ok(queued) => queued.serve(redirected::serve(task, stream, client, namespace, (seat, dials))).await,
            Err(_) => refused::refuse(&task, stream, client, seat).await,
        }
    });
}
