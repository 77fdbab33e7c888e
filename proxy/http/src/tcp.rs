//! A TCP connection to an upstream, with the place that it takes among all of them.
//!
//! A server that writes an answer in parts, with Nagle's algorithm, says the next part once the one before is acknowledged, and
//! the kernel holds acknowledgements back on a connection that has carried some exchanges. So where an answer is seen to be held up,
//! what comes is acknowledged at once from then on (tcp(7), `TCP_QUICKACK`), with one system call whenever more is waited for;
//! elsewhere it costs none. The trade-off: it is the delay that tells, so it happens once.

use std::io::{self, IoSlice};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gnomon_shares::Share;
use rustix::net::sockopt::set_tcp_quickack;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that come so long after those before them may have waited for their acknowledgement: the kernel holds one back for 40 ms or
/// more (`TCP_DELACK_MIN`), some of which has passed before we look.
const HELD_UP: Duration = Duration::from_millis(30);

/// Whether delayed answers of a server were seen. Connections to one server share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeldUp(Arc<AtomicBool>);

/// The bytes that came since a request was sent.
#[derive(Clone, Copy, Debug)]
enum Heard {
    Nothing,
    Bytes,
    /// No more bytes since then.
    Waiting(Instant),
}

/// A connection to an upstream. It gives its place in the [`UpstreamBudget`](crate::UpstreamBudget) back when it is
/// closed, wherever it was handed on to.
#[derive(Debug)]
pub struct UpstreamTcp {
    // First, so that the descriptor is free before its place is.
    tcp: TcpStream,
    heard: Heard,
    held_up: HeldUp,
    /// Bytes that were read already and are read again.
    again: Option<Box<Bytes>>,
    _place: Share,
}

impl UpstreamTcp {
    pub(crate) fn new(tcp: TcpStream, place: Share) -> Self {
        Self { tcp, heard: Heard::Nothing, held_up: HeldUp::default(), again: None, _place: place }
    }

    /// Sets where observations of the server are remembered.
    pub(crate) fn remember_in(&mut self, held_up: HeldUp) {
        self.held_up = held_up;
    }

    /// Puts back what was read of it, to be read again before all else.
    pub fn reads_again(&mut self, bytes: Bytes) {
        let before = self.again.take().map_or_else(Bytes::new, |again| *again);
        let again = if before.is_empty() { bytes } else { Bytes::from([&bytes[..], &before[..]].concat()) };
        self.again = (!again.is_empty()).then(|| Box::new(again));
    }

    /// Bytes came.
    fn hears(&mut self) {
        if let Heard::Waiting(since) = self.heard
            && since.elapsed() >= HELD_UP
        {
            self.held_up.0.store(true, Ordering::Relaxed);
        }
        self.heard = Heard::Bytes;
    }

    /// Notes that nothing is there to be read.
    fn waits(&mut self) {
        if !matches!(self.heard, Heard::Bytes) {
            return;
        }
        if self.held_up.0.load(Ordering::Relaxed) {
            // A connection that is broken says so when it is read.
            let _ = set_tcp_quickack(&self.tcp, true);
        }
        self.heard = Heard::Waiting(Instant::now());
    }
}

impl Deref for UpstreamTcp {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.tcp
    }
}

impl AsyncRead for UpstreamTcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(again) = &mut self.again {
            let length = again.len().min(buf.remaining());
            buf.put_slice(&again.split_to(length));
            if again.is_empty() {
                self.again = None;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(cx, buf);
        match read {
            Poll::Ready(Ok(())) if buf.filled().len() > before => self.hears(),
            Poll::Ready(_) => {}
            Poll::Pending => self.waits(),
        }
        read
    }
}

impl AsyncWrite for UpstreamTcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.heard = Heard::Nothing;
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.heard = Heard::Nothing;
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
