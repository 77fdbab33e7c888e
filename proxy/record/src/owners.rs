//! Whose a connection is, as the kernel half tells it.
//!
//! The proxy asks once for each connection, right after `accept` and before a byte is read. It knows
//! no process and no eBPF: whoever implements [`Owners`] does.

use gnomon_inspect::Enforcement;
use gnomon_observe::Observation;
use std::{net::SocketAddr, pin::Pin, time::Duration};
use tokio::net::TcpStream;

/// Tells whose a connection is.
pub trait Owners: Send + Sync + 'static {
    /// Whose the accepted connection is: asked once, right after accept, before a byte is read.
    /// `None`: not known. The connection waits for the answer, so it must come within milliseconds.
    fn owner<'a>(&'a self, stream: &'a TcpStream) -> Pin<Box<dyn Future<Output = Option<Owned>> + Send + 'a>>;

    /// The proxy serves this connection: it did not go around it.
    fn served(&self, cookie: u64);

    /// Nobody can be reached where this redirected connection was to go: the user's next ones to there are to be refused
    /// for so long (30 s at most) instead of redirected, as they would be without us, so that programs try their next address.
    /// The connection is reset when that holds, or cannot be had, so the answer must come within milliseconds.
    fn unreachable<'a>(&'a self, owned: &'a Owned, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// A connection whose owner is known.
#[derive(Clone, Debug)]
pub struct Owned {
    /// The cookie of the program's socket; unique until the machine is restarted.
    pub cookie: u64,
    /// Where the program wanted to go.
    pub original: SocketAddr,
    /// It was sent here by the kernel instead of to `original`; otherwise the program itself chose
    /// the proxy.
    pub redirected: bool,
    /// The user that connected, in the first user namespace.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The cookie of the network namespace that the program was in.
    pub netns: u64,
    /// The cgroup that the program was in, by the kernel's number.
    pub cgroup: u64,
    /// Whether verdicts on it are carried out.
    pub enforcement: Enforcement,
    /// What is known of process, user and container (`process.*`, `user.*`, `container.id`,
    /// `gnomon.flow.id` …): added to all that is reported of the connection.
    pub seen: Observation,
}
