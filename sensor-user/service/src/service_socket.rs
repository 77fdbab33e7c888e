//! The socket of a sensor that is a service of its own: serving processes connect to it, one after the other, and each process can be
//! restarted without the other.
//!
//! The socket alone does not decide who is served: the kernel says as which user and in which cgroup the other process runs,
//! and one outside of gnomon's own cgroup would be sent its own connections. What comes of a link is the caller's: while
//! there is none, nothing is to be attached, as records would not be read, but for scopes that fail closed.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use gnomon_host::cgroup::{Cgroup, CgroupError, Hierarchy};
use gnomon_link::{Access, Listener, SensorEnd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{Alive, Readable, ServiceError, os, privilege, wait};

/// Which process may be served, checked with the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user. Root may always be served.
    pub uid: u32,
}

/// The socket.
#[derive(Debug)]
pub struct ServiceSocket {
    listener: Listener,
    hierarchy: Hierarchy,
    own: Cgroup,
    peer: Peer,
}

/// Why a process is not served.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("it runs as user {0}")]
    User(u32),
    #[error("it is in the cgroup {0}, outside of {1}: its connections would come back to it")]
    Outside(String, String),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Link(#[from] gnomon_link::LinkError),
}

impl ServiceSocket {
    /// Listens on the socket. Its folder must belong to root alone; the socket's group may connect. `own_cgroup` is the folder of the
    /// cgroup of all of gnomon's processes.
    ///
    /// # Errors
    /// This process may attach nothing, another sensor listens there, the socket cannot be made, or there is no such cgroup.
    pub fn listen(socket: &Path, own_cgroup: &Path, peer: Peer) -> Result<Self, ServiceError> {
        // Else it would be each sensor that it starts which says so, to nobody who could help.
        privilege::lacking()?;
        let hierarchy = Hierarchy::find()?;
        let own = std::fs::canonicalize(own_cgroup).map_err(os("look for gnomon's own cgroup"))?;
        let own = own.strip_prefix(hierarchy.mount()).unwrap_or(&own);
        let own = hierarchy.at(&format!("/{}", own.display()))?;
        Ok(Self { listener: Listener::bind(socket, Access::Group)?, hierarchy, own, peer })
    }

    /// Waits for a link to the next process that may be served. `None` when `stop` can be read.
    ///
    /// # Errors
    /// If waiting for connections fails.
    pub fn next(&self, stop: BorrowedFd<'_>, alive: Option<Alive>) -> Result<Option<SensorEnd>, ServiceError> {
        loop {
            if let Readable::Stop = wait(self.listener.as_fd(), stop, alive)? {
                return Ok(None);
            }
            let link: SensorEnd = match self.listener.accept(Duration::ZERO) {
                Ok(link) => link,
                Err(gnomon_link::LinkError::TimedOut) => continue,
                Err(error) => return Err(error.into()),
            };
            match self.check(&link) {
                Ok(()) => return Ok(Some(link)),
                Err(unfit) => tracing::warn!("a process is not served: {unfit}"),
            }
        }
    }

    /// True if a process waits to be served.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        let mut waiting = [PollFd::new(&self.listener, PollFlags::IN)];
        poll(&mut waiting, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    fn check(&self, link: &SensorEnd) -> Result<(), Unfit> {
        let peer = link.peer()?;
        if peer.uid != self.peer.uid && peer.uid != 0 {
            return Err(Unfit::User(peer.uid));
        }
        let (found, own) = (self.hierarchy.of(peer.pid.get())?, self.own.path());
        let below = found.path().strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if below { Ok(()) } else { Err(Unfit::Outside(found.path().to_owned(), own.to_owned())) }
    }
}
