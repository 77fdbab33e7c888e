//! Network namespaces other than our own, from which connections are made as well: what a program in a container asked
//! for is to be reached from where it stands, where loopback, routes and filters are the container's.
//!
//! Entering one takes a privilege that the proxy does not have, so somebody else opens the sockets; that they are used
//! from here makes no difference to the kernel.

use std::io;
use std::pin::Pin;

use tokio::net::TcpSocket;

/// A network namespace, by the cookie that the kernel gives it (`SO_NETNS_COOKIE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetNs(pub u64);

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Opens sockets in other network namespaces.
pub trait Sockets: Send + Sync + 'static {
    /// A TCP socket of this family in that namespace, neither bound nor connected.
    ///
    /// # Errors
    /// Why there is none, in words that are fit for a client's eyes.
    fn open(&self, netns: NetNs, family: IpFamily) -> Pin<Box<dyn Future<Output = io::Result<TcpSocket>> + Send + '_>>;
}
