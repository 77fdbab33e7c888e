//! Clients that do not read what they asked for.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// How often a connection whose client takes nothing is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A connection that is closed once its client has read nothing for so long, or for a second while memory is short.
#[derive(Debug)]
pub struct Stalled<T> {
    inner: T,
    patience: Duration,
    /// While the client takes nothing: until it is looked at again, and since when.
    waits: Option<(Pin<Box<Sleep>>, Instant)>,
}

impl<T> Stalled<T> {
    /// A stream with this patience.
    pub fn after(patience: Duration, inner: T) -> Self {
        Self { inner, patience, waits: None }
    }

    /// The connection itself.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The connection, with no such bound.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T: Unpin> Stalled<T> {
    fn within<R>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if let Poll::Ready(written) = write(Pin::new(&mut self.inner), cx) {
            self.waits = None;
            return Poll::Ready(written);
        }
        let patience = self.patience;
        let (waits, since) = self.waits.get_or_insert_with(|| (Box::pin(sleep(LOOK.min(patience))), Instant::now()));
        while waits.as_mut().poll(cx).is_ready() {
            let left = patience.saturating_sub(since.elapsed());
            if left.is_zero() || gnomon_memory::is_short() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            waits.as_mut().reset(Instant::now() + LOOK.min(left));
        }
        Poll::Pending
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stalled<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stalled<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.within(cx, |inner, cx| inner.poll_write(cx, buf))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.within(cx, |inner, cx| inner.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.within(cx, |inner, cx| inner.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.within(cx, |inner, cx| inner.poll_shutdown(cx))
    }
}
