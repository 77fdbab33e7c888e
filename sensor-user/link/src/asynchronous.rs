//! Channels for tokio. Calls can be cancelled: a message is sent or received whole or not at all. There are no
//! timeouts here, as `tokio::time::timeout` is one.
//!
//! Sockets are watched as `UnixDatagram`, of which only `async_io` is used: tokio has no type for `SOCK_SEQPACKET`,
//! and `AsyncFd` takes `unsafe`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net;

use tokio::io::Interest;
use tokio::net::UnixDatagram;

use crate::LinkError;
use crate::channel::Channel;
use crate::error::os;
use crate::greeting::{HELLO, Sensor};
use crate::listener::Listener;
use crate::message::{Message, ToProxy, ToSensor};
use crate::packet::{Attempt, Inbox, Outgoing, Received};
use crate::peer::{self, PeerCredentials};

/// A [`Channel`] for tokio. Several tasks may use it at once.
#[derive(Debug)]
pub struct AsyncChannel<Tx, Rx> {
    socket: UnixDatagram,
    inbox: Inbox,
    direction: std::marker::PhantomData<fn(Tx) -> Rx>,
}

impl<Tx: Message, Rx: Message> AsyncChannel<Tx, Rx> {
    /// # Errors
    /// The socket cannot be watched.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(channel: Channel<Tx, Rx>) -> Result<Self, LinkError> {
        Ok(Self { socket: watch(channel.into_socket())?, inbox: Inbox::new(), direction: std::marker::PhantomData })
    }

    /// The process at the other end, as [`Channel::peer`].
    ///
    /// # Errors
    /// As [`Channel::peer`].
    pub fn peer(&self) -> Result<PeerCredentials, LinkError> {
        peer::of(self.socket.as_fd())
    }

    /// Sends a message, as [`Channel::send`].
    ///
    /// # Errors
    /// As [`Channel::send`], but for the timeout.
    pub async fn send(&self, message: &Tx, descriptors: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        let outgoing = Outgoing::new(message, descriptors)?;
        wait(&self.socket, Interest::WRITABLE, || outgoing.attempt(self.socket.as_fd())).await
    }

    /// Receives a message, as [`Channel::recv`].
    ///
    /// # Errors
    /// As [`Channel::recv`], but for the timeout.
    pub async fn recv(&self) -> Result<Received<Rx>, LinkError> {
        wait(&self.socket, Interest::READABLE, || self.inbox.receive(self.socket.as_fd())).await
    }
}

impl AsyncChannel<ToSensor, ToProxy> {
    /// Greets the sensor, as [`ProxyEnd::greet`](crate::ProxyEnd::greet).
    ///
    /// # Errors
    /// As [`ProxyEnd::greet`](crate::ProxyEnd::greet), but for the timeout.
    pub async fn greet(&self) -> Result<Sensor, LinkError> {
        self.send(&HELLO, &[]).await?;
        let welcome = self.recv().await?;
        Sensor::from_greeting(welcome, self.recv().await?)
    }
}

/// A [`Listener`] for tokio.
#[derive(Debug)]
pub struct AsyncListener {
    listener: Listener,
    watched: UnixDatagram,
}

impl AsyncListener {
    /// # Errors
    /// The socket cannot be watched.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(listener: Listener) -> Result<Self, LinkError> {
        let watched = listener.as_fd().try_clone_to_owned().map_err(os("watch a socket"))?;
        Ok(Self { watched: watch(watched)?, listener })
    }

    /// Accepts a connection, as [`Listener::accept`].
    ///
    /// # Errors
    /// As [`Listener::accept`], but for the timeout.
    pub async fn accept<Tx: Message, Rx: Message>(&self) -> Result<AsyncChannel<Tx, Rx>, LinkError> {
        AsyncChannel::new(wait(&self.watched, Interest::READABLE, || self.listener.attempt()).await?)
    }
}

fn watch(socket: OwnedFd) -> Result<UnixDatagram, LinkError> {
    let socket = net::UnixDatagram::from(socket);
    socket.set_nonblocking(true).map_err(os("watch a socket"))?;
    UnixDatagram::from_std(socket).map_err(os("watch a socket"))
}

async fn wait<T>(
    socket: &UnixDatagram,
    interest: Interest,
    mut attempt: impl FnMut() -> Result<Attempt<T>, LinkError>,
) -> Result<T, LinkError> {
    let done = socket.async_io(interest, || match attempt() {
        Ok(Attempt::Done(done)) => Ok(Ok(done)),
        Ok(Attempt::Blocked) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Ok(Err(error)),
    });
    done.await.map_err(os("wait for a socket"))?
}
