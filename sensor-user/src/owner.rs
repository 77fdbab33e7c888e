//! Owners of connections.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use gnomon_sensor_abi as abi;

/// How a connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// To the program's own destination.
    Direct,
    /// To our listener.
    Redirected,
}

/// A thread's name. For display only: a process chooses it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Comm([u8; 16]);

impl Comm {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

impl From<[u8; 16]> for Comm {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Comm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        self.0[..end].escape_ascii().fmt(out)
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

/// The owner and destination of a connection, as they were when `connect()` was called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The socket's cookie; unique until the machine is restarted.
    pub cookie: u64,
    /// The cookie of the network namespace (`SO_NETNS_COOKIE`).
    pub netns: u64,
    /// The id of the cgroup; see [`crate::CgroupId`].
    pub cgroup: u64,
    /// Time since boot (`CLOCK_BOOTTIME`) of the call.
    pub connected: Duration,
    /// Time since boot, in nanoseconds, at which the process last called `execve`, if that was seen.
    pub generation: Option<NonZeroU64>,
    /// The process, in the first PID namespace.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The user, in the first user namespace.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The original destination; an IPv4 address asked for on an IPv6 socket stays mapped.
    pub original: SocketAddr,
    /// The [`crate::Scope::id`] that decided.
    pub scope: u32,
    /// How the connection was made.
    pub road: Road,
    /// The thread's name.
    pub comm: Comm,
}

impl Owner {
    /// Parses an owner; `None` if its address has an unknown family.
    pub(crate) fn new(raw: &abi::Owner) -> Option<Self> {
        Some(Self {
            cookie: raw.cookie,
            netns: raw.netns,
            cgroup: raw.cgroup,
            connected: Duration::from_nanos(raw.connected_ns),
            generation: NonZeroU64::new(raw.generation_ns),
            pid: raw.tgid,
            tid: raw.tid,
            uid: raw.uid,
            gid: raw.gid,
            original: address(&raw.original)?,
            scope: raw.scope,
            road: if raw.flags & abi::flag::REDIRECTED == 0 { Road::Direct } else { Road::Redirected },
            comm: Comm(raw.comm),
        })
    }
}

/// Parses an address; `None` if its family is unknown.
pub(crate) fn address(raw: &abi::Address) -> Option<SocketAddr> {
    let ip = match raw.family {
        abi::AF_INET => IpAddr::V4(Ipv4Addr::from(raw.words[0].to_ne_bytes())),
        abi::AF_INET6 => {
            let mut octets = [0; 16];
            for (into, word) in octets.chunks_exact_mut(4).zip(raw.words) {
                into.copy_from_slice(&word.to_ne_bytes());
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, raw.port))
}

/// Asks who is at the other end of an accepted connection. Ask at once: the kernel half keeps a bounded number of owners
/// ([`crate::Options::owners`]), and drops the oldest. `None` if it does not know: the peer is on another machine, in a scope that is off,
/// or connected before the sensor was attached.
///
/// Needs no privilege, but the socket must be in the cgroup that [`crate::Options::proxy_cgroup`] named.
///
/// # Errors
/// The error of `getsockopt(2)`, apart from "no such option", which is `None`.
pub fn owner_of(socket: BorrowedFd<'_>) -> io::Result<Option<Owner>> {
    const SIZE: usize = size_of::<abi::Owner>();
    let mut bytes = [0_u8; SIZE];
    let mut length = SIZE as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the buffer's size.
    let status =
        unsafe { libc::getsockopt(socket.as_raw_fd(), abi::OWNER_LEVEL, abi::OWNER_OPTION, bytes.as_mut_ptr().cast(), &raw mut length) };
    if status != 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENOPROTOOPT | libc::ENOENT) => Ok(None),
            _ => Err(error),
        };
    }
    if length as usize != SIZE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel half answered with another size"));
    }
    Ok(crate::bytes::read::<abi::Owner>(&bytes).as_ref().and_then(Owner::new))
}
