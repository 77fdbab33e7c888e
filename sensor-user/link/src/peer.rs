//! The process at the other end, by the kernel's word (unix(7)).

use std::num::NonZeroU32;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};

use crate::LinkError;
use crate::error::os;

/// The process that connected, as it was then: it may have handed the socket on since, or have ended.
#[derive(Debug)]
pub struct PeerCredentials {
    /// Its number in our process namespace.
    pub pid: NonZeroU32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// The process itself, safe against reuse of its number (`SO_PEERPIDFD`, Linux 6.5). `None` on older kernels,
    /// where a caller that acts on the number must compare start times.
    pub pidfd: Option<OwnedFd>,
}

pub(crate) fn of(socket: BorrowedFd<'_>) -> Result<PeerCredentials, LinkError> {
    let credentials = getsockopt(&socket, sockopt::PeerCredentials).map_err(os("ask who the peer is"))?;
    // The kernel reports 0 for a peer outside of our process namespace.
    let pid = u32::try_from(credentials.pid()).ok().and_then(NonZeroU32::new).ok_or(LinkError::UnseenPeer)?;
    let pidfd = match getsockopt(&socket, sockopt::PeerPidfd) {
        Ok(pidfd) => Some(pidfd),
        Err(Errno::ENOPROTOOPT) => None,
        // The peer was waited for: older kernels report the first error, newer ones the second.
        Err(Errno::EINVAL | Errno::ESRCH) => return Err(LinkError::PeerGone),
        Err(error) => return Err(os("ask for the peer's process")(error)),
    };
    Ok(PeerCredentials { pid, uid: credentials.uid(), gid: credentials.gid(), pidfd })
}
