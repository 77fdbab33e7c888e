//! The end of a client's side, passed on to the server that answers it (HTTP/1.1).
//!
//! A client that ends its side while it waits has gone, or has asked all it wanted and reads on. What that means is the server's to
//! judge, as it would without us: so it sees the same end on its connection, which carries nothing else from then on.

use parking_lot::{Mutex, MutexGuard};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use crate::UpstreamStream;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The position of a request on a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// The first request of a client's connection: without us it would have a connection of its own.
    First,
    /// A later request, which without us would go over a connection that was used before; or that is not known.
    Again,
}

/// Whether a client has ended its side. As an extension of a request (`Arc<ClientEnd>`) it is passed on to the server while that has
/// not answered in full, and the first request has a connection of its own where the server is not known to keep connections. One request of it at a time is under way.
#[derive(Debug, Default)]
pub struct ClientEnd {
    ended: AtomicBool,
    /// True once the client has sent a request.
    asked: AtomicBool,
    /// The waker of the connection that answers.
    waker: AtomicWaker,
}

impl ClientEnd {
    /// The client has ended its side.
    pub fn ends(&self) {
        self.ended.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// True once the client has ended its side.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// A request of it is sent. Whether there was one before.
    pub(crate) fn asks(&self) -> Asks {
        if self.asked.swap(true, Ordering::Relaxed) { Asks::Again } else { Asks::First }
    }

    fn poll_ended(&self, cx: &Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.has_ended() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The client that a connection serves at the moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Serves(Arc<Mutex<Served>>);

#[derive(Debug, Default)]
enum Served {
    /// No client, or one whose end is not passed on.
    #[default]
    Nobody,
    /// `sent`: the library has all of its request.
    Client { end: Arc<ClientEnd>, sent: bool },
    /// A client whose end was passed on.
    Ended,
}

/// Held by the body of a request: dropped once the library has all of it.
pub(crate) struct Sending(Serves);

impl Drop for Sending {
    fn drop(&mut self) {
        if let Served::Client { sent, .. } = &mut *self.0.state() {
            *sent = true;
        }
    }
}

impl Serves {
    fn state(&self) -> MutexGuard<'_, Served> {
        self.0.lock()
    }

    /// A request is about to be sent; its body is to hold this.
    pub(crate) fn begins(&self, client: Option<Arc<ClientEnd>>) -> Option<Sending> {
        let sending = client.as_ref().map(|_| Sending(self.clone()));
        *self.state() = client.map_or(Served::Nobody, |end| Served::Client { end, sent: false });
        sending
    }

    /// Ends the service of a client; true if the connection can carry another request.
    pub(crate) fn is_over(&self) -> bool {
        let mut state = self.state();
        if matches!(*state, Served::Ended) {
            return false;
        }
        *state = Served::Nobody;
        true
    }
}

/// A connection to a server that is closed for writing when its client's side ends.
#[derive(Debug)]
pub(crate) struct Ending<S> {
    inner: S,
    serves: Serves,
    /// True if written bytes may not be flushed yet.
    unflushed: bool,
}

impl<S: AsyncWrite + Unpin> Ending<S> {
    pub(crate) fn new(inner: S) -> (Self, Serves) {
        let serves = Serves::default();
        (Self { inner, serves: serves.clone(), unflushed: false }, serves)
    }

    /// Passes an end on, once there is one and all of the request is on its way. An error is the reader's to find.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        {
            let state = self.serves.state();
            let Served::Client { end, sent } = &*state else { return Poll::Ready(()) };
            ready!(end.poll_ended(cx));
            if !sent || self.unflushed {
                // The library flushes what is left, which leads here again.
                return Poll::Pending;
            }
        }
        let _ = ready!(Pin::new(&mut self.inner).poll_shutdown(cx));
        *self.serves.state() = Served::Ended;
        Poll::Ready(())
    }
}

/// The connection to a server that has switched protocols, and what it has sent behind its answer so far. None where it is not one of the
/// pools' over HTTP/1.1.
#[must_use]
pub fn switched(upgraded: Upgraded) -> Option<(UpstreamStream, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<Ending<UpstreamStream>>>().ok()?;
    Some((parts.io.into_inner().inner, parts.read_buf))
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Ending<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let _ = self.poll_end(cx);
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ending<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.unflushed = true;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.unflushed = true;
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.unflushed = false;
        let _ = self.poll_end(cx);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
