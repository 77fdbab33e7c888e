//! One end of a connection, for threads that may wait.

use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, socketpair};

use crate::error::os;
use crate::message::Message;
use crate::packet::{Attempt, Inbox, Outgoing, Received};
use crate::peer::{self, PeerCredentials};
use crate::{LinkError, MAX_DESCRIPTORS};

/// Longest single wait; a longer timeout waits again.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// An end of a link: sends `Tx`, receives `Rx`. Several threads may use it at once; each message goes to one of them.
#[derive(Debug)]
pub struct Channel<Tx, Rx> {
    socket: OwnedFd,
    inbox: Inbox,
    direction: PhantomData<fn(Tx) -> Rx>,
}

impl<Tx: Message, Rx: Message> Channel<Tx, Rx> {
    /// Two ends, connected to each other; closed on exec. [`peer`](Channel::peer) of both tells who called this.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn pair() -> Result<(Self, Channel<Rx, Tx>), LinkError> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(os("make a pair of sockets"))?;
        Ok((Self::over(ours), Channel::over(theirs)))
    }

    /// Connects to the [`Listener`](crate::Listener) at a path.
    ///
    /// # Errors
    /// If there is no listener, the path may not be opened, or the listener's queue stayed full.
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, LinkError> {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(os("make a Unix socket"))?;
        // A full queue makes connect wait as long as a send may. Zero would mean for ever.
        let wait = timeout.clamp(Duration::from_millis(1), MAX_WAIT);
        sockopt::set_socket_timeout(&socket, Timeout::Send, Some(wait)).map_err(os("set a timeout"))?;
        let address = SocketAddrUnix::new(path).map_err(os("use this path for a socket"))?;
        match connect(&socket, &address) {
            Ok(()) => Ok(Self::over(socket)),
            Err(Errno::AGAIN) => Err(LinkError::TimedOut),
            Err(error) => Err(os("connect to a running gnomon")(error)),
        }
    }

    /// An end that was inherited.
    ///
    /// # Errors
    /// If the socket is not a Unix `SOCK_SEQPACKET` socket.
    pub fn from_socket(socket: OwnedFd) -> Result<Self, LinkError> {
        let fits = sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX)
            && sockopt::socket_type(&socket) == Ok(SocketType::SEQPACKET)
            && sockopt::socket_acceptconn(&socket) == Ok(false);
        if fits { Ok(Self::over(socket)) } else { Err(LinkError::NotOurSocket) }
    }

    /// A socket known to be one.
    pub(crate) fn over(socket: OwnedFd) -> Self {
        Self { socket, inbox: Inbox::new(), direction: PhantomData }
    }

    /// The socket, to be inherited or watched.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// The credentials of the process that connected, or that made the pair.
    ///
    /// # Errors
    /// [`LinkError::UnseenPeer`] or [`LinkError::PeerGone`].
    pub fn peer(&self) -> Result<PeerCredentials, LinkError> {
        peer::of(self.socket.as_fd())
    }

    /// Sends a message with its descriptors, of which this end keeps its own. Whole or not at all.
    ///
    /// # Errors
    /// [`LinkError::TimedOut`] when the peer did not read earlier messages in time; [`LinkError::Closed`]; descriptors that do
    /// not belong to the message; a message above its bound.
    pub fn send(&self, message: &Tx, descriptors: &[BorrowedFd<'_>], timeout: Duration) -> Result<(), LinkError> {
        debug_assert!(message.descriptors().len() <= MAX_DESCRIPTORS);
        let outgoing = Outgoing::new(message, descriptors)?;
        self.wait(PollFlags::OUT, timeout, |socket| outgoing.attempt(socket))
    }

    /// Receives the next message.
    ///
    /// # Errors
    /// [`LinkError::TimedOut`]; [`LinkError::Closed`]; anything that is wrong with what arrived, which is then dropped.
    pub fn recv(&self, timeout: Duration) -> Result<Received<Rx>, LinkError> {
        self.wait(PollFlags::IN, timeout, |socket| self.inbox.receive(socket))
    }

    fn wait<T>(
        &self,
        readiness: PollFlags,
        timeout: Duration,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> Result<Attempt<T>, LinkError>,
    ) -> Result<T, LinkError> {
        let deadline = Deadline::after(timeout);
        loop {
            if let Attempt::Done(done) = attempt(self.socket.as_fd())? {
                return Ok(done);
            }
            deadline.wait(self.socket.as_fd(), readiness)?;
        }
    }
}

impl<Tx, Rx> AsFd for Channel<Tx, Rx> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The time until which a call may wait.
pub(crate) struct Deadline {
    start: Instant,
    timeout: Duration,
}

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Self {
        Self { start: Instant::now(), timeout }
    }

    /// Waits until the socket may be ready. It may also not be: the caller tries again.
    pub(crate) fn wait(&self, socket: BorrowedFd<'_>, readiness: PollFlags) -> Result<(), LinkError> {
        let left = self.timeout.saturating_sub(self.start.elapsed());
        if left.is_zero() {
            return Err(LinkError::TimedOut);
        }
        let wait = Timespec::try_from(left.min(MAX_WAIT)).ok();
        match poll(&mut [PollFd::new(&socket, readiness)], wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(os("wait for a socket")(error)),
        }
    }
}
