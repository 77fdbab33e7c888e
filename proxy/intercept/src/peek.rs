//! A stream whose first bytes were read to classify it, and are read again by its server.

use bytes::{Buf, Bytes};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, ReadBuf};

/// `inner`, preceded by `seen`.
#[derive(Debug)]
pub(crate) struct Peeked<T> {
    seen: Bytes,
    inner: T,
}

impl<T> Peeked<T> {
    pub fn new(seen: Bytes, inner: T) -> Self {
        Self { seen, inner }
    }

    pub fn get_ref(&self) -> &T {
        &self.inner
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Peeked<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.seen.is_empty() {
            let n = self.seen.len().min(buf.remaining());
            buf.put_slice(&self.seen[..n]);
            self.seen.advance(n);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

writes_through!(Peeked, inner);
