//! The near end of a connection to a server: its network namespace and its user.
//!
//! The upstream of a program in a container must be dialled from its own namespace, where loopback, routes and filters are
//! the container's; and what the host's filters refuse to a user must not be reached by way of us. Entering a namespace
//! and acting as a user takes privileges that the proxy does not have, so the sensor opens the sockets; that they are
//! used from here makes no difference to the kernel.

use std::io;
use std::pin::Pin;

use tokio::net::TcpSocket;

/// A network namespace, by the cookie that the kernel gives it (`SO_NETNS_COOKIE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetNs(pub u64);

/// A user of this host and a group, by the numbers of the first user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostUser {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// The network namespace that a connection is made from, and the user. By default our own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct NearEnd {
    /// The network namespace; none: our own.
    pub netns: Option<NetNs>,
    /// The user; none: ourselves.
    pub user: Option<HostUser>,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Opens sockets in other network namespaces and as other users.
pub trait Sockets: Send + Sync + 'static {
    /// A TCP socket of this family in that network namespace, neither bound nor connected. It is that user's where whoever opens it can act
    /// as users, and else the opener's own; it is never one of another namespace. The connection waits for it, so the answer must come within
    /// seconds.
    ///
    /// # Errors
    /// Why there is none, in words that are fit for a client's eyes.
    fn open(&self, near: NearEnd, family: IpFamily) -> Pin<Box<dyn Future<Output = io::Result<TcpSocket>> + Send + '_>>;
}
