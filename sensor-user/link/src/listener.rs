//! The socket in the file system that `gnomon exec` connects to.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with};

use crate::LinkError;
use crate::channel::{Channel, Deadline};
use crate::error::os;
use crate::message::Message;
use crate::packet::Attempt;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// The users who may connect, beyond the owner. The rights of a connection are decided by [`Channel::peer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// The socket's group (mode 0660).
    Group,
    /// Everybody (mode 0666).
    Everybody,
}

/// A socket at a path. The path must be in a folder that only the owner can write to. Removed when dropped.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Device and inode of the socket: a newer one at its path is not ours to remove.
    bound: (u64, u64),
    /// Held as long as we listen, so that two that start at once do not replace each other's socket.
    lock: File,
}

impl Listener {
    /// Listens at a path. A stale socket is replaced; the file `PATH.lock` stays beside it.
    ///
    /// # Errors
    /// [`LinkError::InUse`], [`LinkError::NotASocket`], or what the operating system says.
    pub fn bind(path: &Path, access: Access) -> Result<Self, LinkError> {
        let lock = lock(path)?;
        remove_stale(path)?;
        let socket = unix_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        let address = SocketAddrUnix::new(path).map_err(os("use this path for a socket"))?;
        bind(&socket, &address).map_err(os("make a socket at this path"))?;
        let mode = match access {
            Access::Group => 0o660,
            Access::Everybody => 0o666,
        };
        // No client can connect before the call of listen, so there is no moment with another mode.
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(os("set the mode of the socket"))?;
        let found = fs::symlink_metadata(path).map_err(os("look at the socket"))?;
        listen(&socket, BACKLOG).map_err(os("listen"))?;
        Ok(Self { socket, path: path.to_owned(), bound: (found.dev(), found.ino()), lock })
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Accepts the next connection.
    ///
    /// # Errors
    /// [`LinkError::TimedOut`], or what the operating system says.
    pub fn accept<Tx: Message, Rx: Message>(&self, timeout: Duration) -> Result<Channel<Tx, Rx>, LinkError> {
        let deadline = Deadline::after(timeout);
        loop {
            if let Attempt::Done(channel) = self.attempt()? {
                return Ok(channel);
            }
            deadline.wait(self.socket.as_fd(), PollFlags::IN)?;
        }
    }

    pub(crate) fn attempt<Tx: Message, Rx: Message>(&self) -> Result<Attempt<Channel<Tx, Rx>>, LinkError> {
        match retry_on_intr(|| accept_with(&self.socket, SocketFlags::CLOEXEC)) {
            Ok(socket) => Ok(Attempt::Done(Channel::over(socket))),
            Err(Errno::AGAIN) => Ok(Attempt::Blocked),
            Err(error) => Err(os("accept a connection")(error)),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.bound) {
            // A socket file that is left is recognised as stale at the next start.
            let _ = fs::remove_file(&self.path);
        }
        // Closing alone would leave the lock to a process that was forked a moment ago and has not executed its program yet.
        let _ = self.lock.unlock();
    }
}

fn unix_socket(flags: SocketFlags) -> Result<OwnedFd, LinkError> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(os("make a Unix socket"))
}

fn lock(path: &Path) -> Result<File, LinkError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(name)
        .map_err(os("make a lock beside the socket"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LinkError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(os("lock the file beside the socket")(error)),
    }
}

fn remove_stale(path: &Path) -> Result<(), LinkError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(os("look at the path of the socket")(error)),
    };
    if !found.file_type().is_socket() {
        return Err(LinkError::NotASocket { path: path.to_owned() });
    }
    let address = SocketAddrUnix::new(path).map_err(os("use this path for a socket"))?;
    match connect(unix_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?, &address) {
        Err(Errno::CONNREFUSED) => match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(os("remove a socket that nobody listens on")(error)),
            _ => Ok(()),
        },
        Err(Errno::NOENT) => Ok(()),
        // A listener answered, has a full queue, or is of another socket type.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(LinkError::InUse { path: path.to_owned() }),
        Err(error) => Err(os("find out who uses the path of the socket")(error)),
    }
}
