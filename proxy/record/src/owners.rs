//! The owners of connections, as the kernel half tells them.
//!
//! The proxy asks once for each connection, right after `accept` and before a byte is read. It knows
//! no process and no eBPF: implementers of [`Owners`] do.

use gnomon_inspect::Enforcement;
use gnomon_observe::{Field, Observation};
use std::{net::SocketAddr, os::fd::BorrowedFd, pin::Pin, time::Duration};
use tokio::net::TcpStream;

/// Names the owners of connections.
pub trait Owners: Send + Sync + 'static {
    /// The owner of an accepted connection: asked once, right after accept, before a byte is read.
    /// `None`: not known. The connection waits for the answer, so it must come within milliseconds.
    fn owner<'a>(&'a self, stream: &'a TcpStream) -> Pin<Box<dyn Future<Output = Option<Owned>> + Send + 'a>>;

    /// The same, with the digest of its program's file, also where no rule asks for it and it takes seconds to make.
    fn owner_with_digest<'a>(&'a self, stream: &'a TcpStream) -> Pin<Box<dyn Future<Output = Option<Owned>> + Send + 'a>> {
        self.owner(stream)
    }

    /// The user whose the accepted connection is, as the kernel says at once: for who is to decide whether it can be served at all.
    fn uid(&self, _stream: BorrowedFd<'_>) -> Option<u32> {
        None
    }

    /// The meaning of an unknown owner: asked after [`owner`](Self::owner) has returned none.
    fn missing(&self, _stream: &TcpStream) -> Missing {
        Missing::Outside
    }

    /// The proxy serves this connection: it did not go around it.
    fn served(&self, cookie: u64);

    /// The destination of this redirected connection is unreachable: have the user's next ones to it refused
    /// for so long (30 s at most) instead of redirected, as they would be without us, so that programs try their next address.
    /// The connection is reset when that holds, or cannot be had, so the answer must come within milliseconds.
    fn unreachable<'a>(&'a self, owned: &'a Owned, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// The reason that a connection's owner is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Made on another machine, or by a program that is not watched.
    Outside,
    /// Made by a program of this host whose owner record was lost: any program's.
    Lost,
    /// A program of this host made it, and the kernel half can tell of none whose it is, as a part of it is not attached.
    Untold,
}

/// The fields that only a look at the process can fill.
pub const LOOKED_UP: [Field; 12] = [
    Field::Executable,
    Field::ExecutableHash,
    Field::Image,
    Field::CommandLine,
    Field::ParentExecutable,
    Field::Ancestors,
    Field::UserName,
    Field::UserGroups,
    Field::ContainerId,
    Field::ContainerRuntime,
    Field::PodUid,
    Field::Cgroup,
];

/// Marks the process of a connection whose owner was [lost](Missing::Lost) or is [not told](Missing::Untold) as unreadable: a rule that
/// asks for the program must not conclude that there is none.
pub fn lost(seen: &mut Observation) {
    seen.set(Field::ProcessIdentity, "late");
    // The first two the kernel half tells.
    for field in [Field::Pid, Field::UserId].into_iter().chain(LOOKED_UP) {
        seen.set_unreadable(field);
    }
}

/// A connection whose owner is known.
#[derive(Clone, Debug)]
pub struct Owned {
    /// The cookie of the program's socket; unique until the machine is restarted.
    pub cookie: u64,
    /// The program's original destination.
    pub original: SocketAddr,
    /// True if the kernel redirected it here instead of to `original`; otherwise the program itself chose the proxy.
    pub redirected: bool,
    /// The user that connected, in the first user namespace.
    pub uid: u32,
    /// The group id of the process.
    pub gid: u32,
    /// The cookie of the network namespace that the program was in.
    pub netns: u64,
    /// The cgroup that the program was in, by the kernel's number.
    pub cgroup: u64,
    /// The enforcement of the connection.
    pub enforcement: Enforcement,
    /// The known facts of process, user and container (`process.*`, `user.*`, `container.id`, `gnomon.flow.id` …): added to all that is
    /// reported of the connection.
    pub seen: Observation,
}
