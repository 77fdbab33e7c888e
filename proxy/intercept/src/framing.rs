//! Requests that say twice where they end.
//!
//! A request with both Content-Length and Transfer-Encoding is an attempt at smuggling, or a broken client (RFC 9112 section 6.3). The
//! HTTP library takes the chunks and forgets the length, so that later code could not tell: heads are therefore looked at on their
//! way in. A body that looks like such a head counts too, but only for a request that has chunks itself.

use bytes::Buf as _;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, ReadBuf};

/// Longest name that is looked for.
const NAME: usize = b"transfer-encoding:".len();

/// Whether a head of this connection said both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Twice(Arc<AtomicBool>);

impl Twice {
    pub fn seen(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A client's connection whose heads are looked at.
#[derive(Debug)]
pub(crate) struct Framed<T> {
    inner: T,
    twice: Twice,
    /// The beginning of the line in progress, and how long it is in all.
    line: [u8; NAME],
    length: usize,
    has_length: bool,
    has_coding: bool,
}

impl<T> Framed<T> {
    pub fn new(inner: T) -> (Self, Twice) {
        let twice = Twice::default();
        (Self { inner, twice: twice.clone(), line: [0; NAME], length: 0, has_length: false, has_coding: false }, twice)
    }

    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    pub fn into_inner(self) -> T {
        self.inner
    }

    fn look(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let end = memchr::memchr(b'\n', bytes);
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if let Some(room) = self.line.get_mut(self.length..) {
                let taken = part.len().min(room.len());
                room[..taken].copy_from_slice(&part[..taken]);
            }
            self.length = self.length.saturating_add(part.len());
            bytes.advance(end.map_or(bytes.len(), |end| end + 1));
            if end.is_some() {
                self.line_over();
            }
        }
    }

    fn line_over(&mut self) {
        let line = &self.line[..self.length.min(NAME)];
        let begins = |name: &[u8]| line.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name));
        if line.is_empty() || line == b"\r" {
            (self.has_length, self.has_coding) = (false, false);
        } else if begins(b"content-length:") {
            self.has_length = true;
        } else if begins(b"transfer-encoding:") {
            self.has_coding = true;
        }
        self.length = 0;
        if self.has_length && self.has_coding {
            self.twice.0.store(true, Ordering::Relaxed);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Framed<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = read {
            self.look(&buf.filled()[before..]);
        }
        read
    }
}

writes_through!(Framed, inner);

#[cfg(test)]
mod tests {
    use super::*;

    fn twice(pieces: &[&[u8]]) -> bool {
        let (mut framed, twice) = Framed::new(());
        pieces.iter().for_each(|piece| framed.look(piece));
        twice.seen()
    }

    #[test]
    fn a_head_with_both_is_found_however_it_is_split() {
        let head = b"POST / HTTP/1.1\r\nContent-LENGTH: 4\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n";
        for at in 0..head.len() {
            assert!(twice(&[&head[..at], &head[at..]]), "{at}");
        }
        assert!(twice(&head.chunks(1).collect::<Vec<_>>()));
    }

    #[test]
    fn heads_with_one_each_are_none() {
        assert!(!twice(&[b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\nPOST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"]));
        assert!(!twice(&[b"POST / HTTP/1.1\r\ncontent-length: 0\r\nx-transfer-encoding: chunked\r\n\r\n"]));
    }
}
