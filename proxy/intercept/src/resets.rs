//! Connections that were cut off end by a reset: an end in order would be taken for the end of what is sent.

use crate::{framing::Framed, peek::Peeked};
use gnomon_http::{UpstreamStream, UpstreamTcp, server::Stalled};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A connection that can be made to end by a reset.
pub(crate) trait Resets {
    /// Lets it end by a reset once it is dropped.
    fn resets(&self);
}

impl Resets for TcpStream {
    fn resets(&self) {
        // A socket that cannot be told has no other side any more.
        let _ = self.set_zero_linger();
    }
}

impl Resets for UpstreamTcp {
    fn resets(&self) {
        let _ = self.set_zero_linger();
    }
}

impl Resets for UpstreamStream {
    fn resets(&self) {
        self.tcp().resets();
    }
}

impl<T: Resets> Resets for TlsStream<T> {
    fn resets(&self) {
        self.get_ref().0.resets();
    }
}

impl<T: Resets> Resets for Peeked<T> {
    fn resets(&self) {
        self.get_ref().resets();
    }
}

impl<T: Resets> Resets for Stalled<T> {
    fn resets(&self) {
        self.get_ref().resets();
    }
}

impl<T: Resets> Resets for Framed<T> {
    fn resets(&self) {
        self.get_ref().resets();
    }
}

/// A side of a connection that ends by a reset unless it was said to be whole.
pub(crate) struct UntilWhole<'a, T: Resets> {
    pub side: &'a mut T,
    whole: bool,
}

impl<'a, T: Resets> UntilWhole<'a, T> {
    pub fn new(side: &'a mut T) -> Self {
        Self { side, whole: false }
    }

    /// All of it was passed on, or what follows sees to its end.
    pub fn is_whole(&mut self) {
        self.whole = true;
    }
}

impl<T: Resets> Drop for UntilWhole<'_, T> {
    fn drop(&mut self) {
        if !self.whole {
            self.side.resets();
        }
    }
}

/// A connection within others' hands, which ends by a reset if it was cut off by the time that it is dropped.
pub(crate) struct Severed<T: Resets> {
    io: Option<T>,
    cut_off: Arc<AtomicBool>,
}

impl<T: Resets> Severed<T> {
    pub fn new(io: T, cut_off: Arc<AtomicBool>) -> Self {
        Self { io: Some(io), cut_off }
    }

    pub fn into_inner(mut self) -> Option<T> {
        self.io.take()
    }
}

impl<T: Resets + Unpin> Severed<T> {
    /// The connection, which is there until it is taken out.
    pub fn io(&mut self) -> io::Result<Pin<&mut T>> {
        self.io.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    pub fn get_ref(&self) -> Option<&T> {
        self.io.as_ref()
    }
}

impl<T: Resets> Drop for Severed<T> {
    fn drop(&mut self) {
        if let Some(io) = self.io.as_ref().filter(|_| self.cut_off.load(Ordering::Acquire)) {
            io.resets();
        }
    }
}
