//! The process that asks to join, and the check that it is still the same process.

use std::os::fd::{AsFd as _, OwnedFd};

use gnomon_host::identity::{Answer, BootTime, Generation, Resolver};
use gnomon_link::PeerCredentials;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A process that connected, held by a pidfd so that a reuse of its id is noticed.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) pid: u32,
    pub(super) uid: u32,
    pidfd: OwnedFd,
}

impl Client {
    /// `None` if it cannot be identified for sure. `accepted` is when the connection was accepted.
    pub(super) fn new(peer: PeerCredentials, accepted: BootTime) -> Option<Self> {
        let pid = peer.pid.get();
        let pidfd = match peer.pidfd {
            Some(pidfd) => pidfd,
            None => open(pid, peer.uid, accepted)?,
        };
        let client = Self { pid, uid: peer.uid, pidfd };
        client.is_alive().then_some(client)
    }

    /// True if it is still running: then its id was not reused meanwhile.
    pub(super) fn is_alive(&self) -> bool {
        let fd = self.pidfd.as_fd();
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
    }
}

/// Before Linux 6.5 the socket gives only a process id. The process is opened first and checked afterwards: one that started after the
/// connection was accepted, or belongs to another user, has reused the id.
fn open(pid: u32, uid: u32, accepted: BootTime) -> Option<OwnedFd> {
    let number = Pid::from_raw(pid.cast_signed())?;
    let pidfd = pidfd_open(number, PidfdFlags::empty()).ok()?;
    match Resolver::default().identify(pid, accepted, Generation::UNKNOWN) {
        Answer::Known(known) if known.credentials.as_ref().is_some_and(|credentials| credentials.effective_uid == uid) => Some(pidfd),
        _ => None,
    }
}
