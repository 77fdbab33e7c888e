//! The seat of a connection, which it gives up to others while it is silent: while no request of its is in progress.

use super::drive::{Ended, until_stopped};
use bytes::Bytes;
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
    time::{sleep, timeout},
};

/// The largest piece of an answer that is handed on at once, bytes: what is not asked for after it was not read.
const PIECE: usize = 64 << 10;

/// A connection that has a seat. It is silent until the head of its first request is whole, whatever it says until then: bytes of one,
/// a TLS handshake.
#[derive(Debug)]
pub struct Seated {
    seat: Seat,
    grace: Duration,
    under_way: Mutex<Requests>,
    is_counted: AtomicBool,
}

/// The requests of a connection that are in progress.
#[derive(Debug, Default)]
struct Requests {
    count: usize,
    /// Those whose clients must take some of the answer before they get more.
    unread: usize,
    /// How often a client took some, or an answer began.
    moves: u64,
}

impl Seated {
    /// Wraps a seat. `grace`: the time that a connection which has sent a request gets to end once others need the seat. None is needed
    /// over HTTP/1; an HTTP/2 client gets a GOAWAY first.
    #[must_use]
    pub fn on(seat: Seat, grace: Duration) -> Arc<Self> {
        seat.falls_silent();
        Arc::new(Self { seat, grace, under_way: Mutex::default(), is_counted: AtomicBool::new(false) })
    }

    fn under_way(&self) -> MutexGuard<'_, Requests> {
        self.under_way.lock()
    }

    /// Begins a request, or other work that keeps the seat.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> UnderWay {
        let mut under_way = self.under_way();
        under_way.count += 1;
        self.seat.asks();
        drop(under_way);
        UnderWay { seated: self.clone(), is_unread: false }
    }

    /// Notes a step of the client towards its first request.
    pub fn takes_a_step(&self) {
        let under_way = self.under_way();
        if under_way.count == 0 {
            self.seat.takes_a_step();
        }
        drop(under_way);
    }

    /// True if no request is in progress.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.under_way().count == 0
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

    /// Completes once all that is in progress has waited for so long, or up to twice as long, for its client to read. Over HTTP/2 a client
    /// that is there and reads the connection can leave its streams unread, which no look at the socket tells.
    async fn is_unread(&self, patience: Duration) {
        let mut before = None;
        loop {
            sleep(patience).await;
            let now = {
                let under_way = self.under_way();
                (under_way.count > 0 && under_way.count == under_way.unread).then_some(under_way.moves)
            };
            if now.is_some() && now == before {
                return;
            }
            before = now;
        }
    }

    /// Drives a connection until it ends, until `stop` is true, or until others need its seat: then it finishes, and requests already
    /// received are answered. It is dropped where its client reads nothing of what it asked for: less than a piece, 64 KiB, in `unread`.
    pub async fn driven<C: Future>(
        &self,
        connection: C,
        unread: Duration,
        stop: &mut watch::Receiver<bool>,
        finish: impl FnOnce(Pin<&mut C>),
    ) {
        tokio::select! {
            biased;
            () = self.finished(connection, stop, finish) => {}
            () = self.is_unread(unread) => {}
        }
    }

    async fn finished<C: Future>(&self, connection: C, stop: &mut watch::Receiver<bool>, finish: impl FnOnce(Pin<&mut C>)) {
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
pub struct UnderWay {
    seated: Arc<Seated>,
    /// Its client must take what it was given of the answer before it gets more.
    is_unread: bool,
}

impl UnderWay {
    /// Something of its answer was given, or asked for in vain.
    fn is_read(&mut self, waits: Waits) {
        let mut under_way = self.seated.under_way();
        under_way.moves += 1;
        match (self.is_unread, waits) {
            (false, Waits::ForClient) => under_way.unread += 1,
            (true, Waits::ForServer) => under_way.unread -= 1,
            (true, Waits::ForClient) | (false, Waits::ForServer) => {}
        }
        self.is_unread = waits == Waits::ForClient;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = self.seated.under_way();
        under_way.count -= 1;
        if self.is_unread {
            under_way.unread -= 1;
        }
        if under_way.count == 0 {
            self.seated.seat.falls_silent();
        }
    }
}

/// The cause of an answer's wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// The client is to take what it was given.
    ForClient,
    /// There is no more to give yet.
    ForServer,
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
    /// The end of a piece that was too large.
    rest: Bytes,
    request: Option<UnderWay>,
}

impl<B> Answered<B> {
    /// The last of this request. None: it holds no seat.
    pub fn new(body: B, mut request: Option<UnderWay>) -> Self {
        // Over HTTP/2 a client may never ask for the first piece.
        request.iter_mut().for_each(|request| request.is_read(Waits::ForClient));
        Self { body, rest: Bytes::new(), request }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Answered<B> {
    /// The next piece.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return other,
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answered<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let polled = this.poll_piece(cx);
        if let Some(request) = &mut this.request {
            request.is_read(if polled.is_pending() { Waits::ForServer } else { Waits::ForClient });
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (of_body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower().saturating_add(rest));
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}
