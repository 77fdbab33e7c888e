//! Sockets whose system calls are made by hand, as descriptors come with the messages.

use std::io;

use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// Does `attempt` when it would not block.
pub async fn when<T>(
    socket: &UnixDatagram,
    interest: Interest,
    mut attempt: impl FnMut() -> Result<T, rustix::io::Errno>,
) -> io::Result<T> {
    socket.async_io(interest, || Ok(attempt()?)).await
}
