//! The process that asks to join, and that it is still that process.

use std::os::fd::{AsFd as _, OwnedFd};

use gnomon_host::identity::{Answer, BootTime, Generation, Resolver};
use gnomon_link::PeerCredentials;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A process that connected, held so that its number cannot mean another without our noticing.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) pid: u32,
    pub(super) uid: u32,
    pidfd: OwnedFd,
}

impl Client {
    /// `None` if it cannot be told for sure. `accepted` is when the connection was taken.
    pub(super) fn new(peer: PeerCredentials, accepted: BootTime) -> Option<Self> {
        let pid = peer.pid.get();
        let pidfd = match peer.pidfd {
            Some(pidfd) => pidfd,
            None => open(pid, peer.uid, accepted)?,
        };
        let client = Self { pid, uid: peer.uid, pidfd };
        client.is_alive().then_some(client)
    }

    /// True if it lives: then its number has been its own all the time.
    pub(super) fn is_alive(&self) -> bool {
        let fd = self.pidfd.as_fd();
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
    }
}

/// Before Linux 6.5 the socket names only a number. It is opened first and looked at afterwards: what was started after the
/// connection was taken, or belongs to another user, has been given the number since.
fn open(pid: u32, uid: u32, accepted: BootTime) -> Option<OwnedFd> {
    let number = Pid::from_raw(pid.cast_signed())?;
    let pidfd = pidfd_open(number, PidfdFlags::empty()).ok()?;
    match Resolver::default().identify(pid, accepted, Generation::UNKNOWN) {
        Answer::Known(known) if known.credentials.as_ref().is_some_and(|credentials| credentials.effective_uid == uid) => Some(pidfd),
        _ => None,
    }
}
