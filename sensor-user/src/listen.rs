//! Sockets in network namespaces: listeners, which the kernel half recognises by their mark, and sockets to connect with.
//!
//! A connection is redirected within its own network namespace, so each namespace needs a listener of its own. It is opened by a thread
//! that enters the namespace and ends; the descriptor can be used anywhere.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::SensorError;

/// The most connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// The number of ports that are tried when one that was free for IPv4 is taken for IPv6.
const TRIES: u32 = 16;

/// Listeners on the loopback addresses of one namespace, on one port.
#[derive(Debug)]
pub struct Listeners {
    /// On 127.0.0.1.
    pub v4: TcpListener,
    /// On ::1, unless the namespace has no IPv6.
    pub v6: Option<TcpListener>,
}

impl Listeners {
    /// The port of both.
    ///
    /// # Errors
    /// The error of `getsockname(2)`.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.v4.local_addr()?.port())
    }
}

/// Opens listeners in a network namespace (`None`: ours), marked so that the kernel half knows them. Port 0 is any
/// port that is free for both families. They block; a runtime has to change that.
///
/// Marking needs `CAP_NET_ADMIN` over the namespace, entering another one `CAP_SYS_ADMIN`.
///
/// # Errors
/// When the namespace cannot be entered, the mark not be set, or the port is taken.
pub fn in_namespace(netns: Option<BorrowedFd<'_>>, mark: NonZeroU32, port: u16) -> Result<Listeners, SensorError> {
    match netns {
        Some(netns) => within(Some(netns), || pair(mark, port)),
        None => pair(mark, port),
    }
}

/// The user on whose behalf a socket is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Opens a TCP socket in a network namespace (`None`: ours), to connect with from wherever the descriptor goes. It does not
/// block. Opened as a user (`None`: as ours), it is that user's to routing rules and filters (`ip rule uidrange`,
/// `-m owner`, `meta skuid`), whichever process uses it.
///
/// Another user needs `CAP_SETUID` and `CAP_SETGID`.
///
/// # Errors
/// When the namespace cannot be entered, or has no such family, or the process may not act as that user.
pub fn socket_in(netns: Option<BorrowedFd<'_>>, family: AddressFamily, user: Option<User>) -> Result<OwnedFd, SensorError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let open = || socket_with(family, SocketType::STREAM, flags, None).map_err(|e| failed("opening a socket", e));
    let open = || match user {
        Some(user) => act_as(user).and_then(|()| open()),
        None => open(),
    };
    match (netns, user) {
        (None, None) => open(),
        _ => within(netns, open),
    }
}

/// Makes this thread act as a user; cannot be undone. Only the effective user changes, so that this user cannot signal (kill(2)) or trace
/// the thread.
fn act_as(user: User) -> Result<(), SensorError> {
    const KEPT: libc::uid_t = libc::uid_t::MAX;
    // Not the functions of libc with these names, which change every thread of the process.
    // SAFETY: system calls without pointers.
    let status = unsafe { libc::syscall(libc::SYS_setresgid, KEPT, user.gid, KEPT) };
    if status != 0 {
        return Err(failed("acting as a group", io::Error::last_os_error()));
    }
    // SAFETY: as above.
    let status = unsafe { libc::syscall(libc::SYS_setresuid, KEPT, user.uid, KEPT) };
    if status == 0 { Ok(()) } else { Err(failed("acting as a user", io::Error::last_os_error())) }
}

/// Runs `work` in a network namespace, on a thread of its own that ends with it: going back to the previous namespace and user could fail.
fn within<T: Send>(netns: Option<BorrowedFd<'_>>, work: impl FnOnce() -> Result<T, SensorError> + Send) -> Result<T, SensorError> {
    let entered = || {
        if let Some(netns) = netns {
            move_into_link_name_space(netns, Some(LinkNameSpaceType::Network)).map_err(|e| failed("entering the namespace", e))?;
        }
        work()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, entered).map_err(|e| failed("starting a thread", e))?;
        thread.join().unwrap_or_else(|_| Err(failed("entering the namespace", io::Error::other("the thread panicked"))))
    })
}

fn pair(mark: NonZeroU32, port: u16) -> Result<Listeners, SensorError> {
    let mut tries = 0;
    loop {
        let v4 = open(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), mark).map_err(|e| failed("listening on 127.0.0.1", e))?;
        let chosen = v4.local_addr().map_err(|e| failed("listening on 127.0.0.1", e))?.port();
        match open(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), chosen), mark) {
            Ok(v6) => return Ok(Listeners { v4, v6: Some(v6) }),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
                return Ok(Listeners { v4, v6: None });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && port == 0 && tries < TRIES => tries += 1,
            Err(error) => return Err(failed("listening on ::1", error)),
        }
    }
}

fn open(at: SocketAddr, mark: NonZeroU32) -> io::Result<TcpListener> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Old connections of a previous listener must not block the port; another listener still does.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    set_mark(&socket, mark)?;
    bind(&socket, &at)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

fn set_mark(socket: &OwnedFd, mark: NonZeroU32) -> io::Result<()> {
    let value = mark.get();
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the kernel reads `size` bytes of a value that lives until the call returns.
    let status = unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, libc::SO_MARK, (&raw const value).cast(), size) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn failed(what: &'static str, source: impl Into<io::Error>) -> SensorError {
    SensorError::System { what, source: source.into() }
}
