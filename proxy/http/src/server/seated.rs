//! The seat of a connection, which it gives up to others while it is silent: while no request of its is in progress.

use super::drive::{Ended, until_stopped};
use gnomon_shares::Seat;
use http_body::{Body, Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::timeout,
};

/// A connection that has a seat. It is silent until the head of its first request is whole, whatever it says until then: bytes of one,
/// a TLS handshake.
#[derive(Debug)]
pub struct Seated {
    seat: Seat,
    grace: Duration,
    under_way: Mutex<usize>,
    is_counted: AtomicBool,
}

impl Seated {
    /// Wraps a seat. `grace`: the time that a connection which has sent a request gets to end once others need the seat. None is needed
    /// over HTTP/1; an HTTP/2 client gets a GOAWAY first.
    #[must_use]
    pub fn on(seat: Seat, grace: Duration) -> Arc<Self> {
        seat.falls_silent();
        Arc::new(Self { seat, grace, under_way: Mutex::new(0), is_counted: AtomicBool::new(false) })
    }

    fn under_way(&self) -> MutexGuard<'_, usize> {
        self.under_way.lock()
    }

    /// Begins a request, or other work that keeps the seat.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> UnderWay {
        let mut under_way = self.under_way();
        *under_way += 1;
        self.seat.asks();
        drop(under_way);
        UnderWay(self.clone())
    }

    /// Notes a step of the client towards its first request.
    pub fn takes_a_step(&self) {
        let under_way = self.under_way();
        if *under_way == 0 {
            self.seat.takes_a_step();
        }
        drop(under_way);
    }

    /// True if no request is in progress.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        *self.under_way() == 0
    }

    /// Its client has ended its side, and nothing comes for it: it counts as silent, though something is under way.
    pub fn is_left(&self) {
        self.seat.falls_silent();
    }

    /// The seat itself.
    #[must_use]
    pub fn seat(&self) -> &Seat {
        &self.seat
    }

    /// True, once, if the connection was asked to give its seat up: for its caller's counters.
    #[must_use]
    pub fn gave_up(&self) -> bool {
        self.seat.is_to_go() && !self.is_counted.swap(true, Ordering::Relaxed)
    }

    /// Completes when others need the seat.
    pub async fn is_needed(&self) {
        self.seat.is_needed().await;
    }

    /// Drives a connection that was asked to finish, as others need its seat. A request that arrives at that moment is answered. None: no
    /// request was in progress, and the rest of the connection is to be dropped.
    pub async fn gives_up<C: Future>(&self, mut connection: Pin<&mut C>) -> Option<C::Output> {
        // This poll reads the part of a request that has arrived.
        if let Poll::Ready(over) = poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx))).await {
            return Some(over);
        }
        if self.is_silent() {
            let grace = if self.seat.has_asked() { self.grace } else { Duration::ZERO };
            if !grace.is_zero()
                && let Ok(over) = timeout(grace, connection.as_mut()).await
            {
                return Some(over);
            }
            if self.is_silent() {
                return None;
            }
        }
        Some(connection.await)
    }

    /// Drives a connection until it ends, until `stop` is true, or until others need its seat: then it finishes, and requests already
    /// received are answered.
    pub async fn driven<C: Future>(&self, connection: C, stop: &mut watch::Receiver<bool>, finish: impl FnOnce(Pin<&mut C>)) {
        let mut connection = pin!(connection);
        let needed = tokio::select! {
            biased;
            ended = until_stopped(connection.as_mut(), stop) => match ended {
                Ended::Connection => return,
                Ended::Stopping => false,
            },
            () = self.is_needed() => true,
        };
        finish(connection.as_mut());
        if needed {
            let _ = self.gives_up(connection).await;
        } else {
            let _ = connection.await;
        }
    }
}

/// A request until its answer has been sent.
#[derive(Debug)]
pub struct UnderWay(Arc<Seated>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = self.0.under_way();
        *under_way -= 1;
        if *under_way == 0 {
            self.0.seat.falls_silent();
        }
    }
}

/// A client's connection whose first bytes are a step towards its first request.
#[derive(Debug)]
pub struct Heard<T> {
    inner: T,
    /// The seat of which something is awaited.
    awaited: Option<Arc<Seated>>,
}

impl<T> Heard<T> {
    /// The connection of this seat.
    pub fn on(seated: Arc<Seated>, inner: T) -> Self {
        Self { inner, awaited: Some(seated) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Heard<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before
            && let Some(seated) = self.awaited.take()
        {
            seated.takes_a_step();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Heard<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// An answer's body, with which its request ends.
#[derive(Debug)]
pub struct Answered<B> {
    body: B,
    _request: Option<UnderWay>,
}

impl<B> Answered<B> {
    /// The last of this request. None: it holds no seat.
    pub fn new(body: B, request: Option<UnderWay>) -> Self {
        Self { body, _request: request }
    }
}

impl<B: Body + Unpin> Body for Answered<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
