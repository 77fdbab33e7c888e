//! The worker's end of its socket.

use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::os::unix::net::UnixStream;

use crate::frame::{self, FromWorker, LONGEST_TO_WORKER};

/// Blocks: a worker that waits has nothing else to do, and its parent is the one with the clock.
/// Never closed either: that is a system call which a worker has not.
pub struct Channel {
    socket: ManuallyDrop<UnixStream>,
}

impl Channel {
    pub fn new(socket: UnixStream) -> Self {
        Self { socket: ManuallyDrop::new(socket) }
    }

    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// # Errors
    /// The parent is gone.
    pub fn send(&mut self, message: &FromWorker<'_>) -> io::Result<()> {
        let frame = frame::encode(message).ok_or(io::ErrorKind::InvalidInput)?;
        self.socket.write_all(&frame)
    }

    /// The payload of the next frame.
    ///
    /// # Errors
    /// The parent is gone, or speaks another protocol.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; 4];
        self.socket.read_exact(&mut head)?;
        let length = frame::length(head, LONGEST_TO_WORKER).map_err(io::Error::other)?;
        let mut payload = vec![0; length];
        self.socket.read_exact(&mut payload)?;
        Ok(payload)
    }
}
