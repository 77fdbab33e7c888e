//! A request's body as it arrives.
//!
//! While what came is decoded, which may take seconds, its client may leave. Where the body is not whole the library tells so by the body
//! alone, behind all that arrived before; so more is taken from it meanwhile, up to a bound. That makes no byte count before its turn, and
//! what is the last chunk is said when that chunk is.
//!
//! A client that ends its side after a whole request may read on, and is served on ([`crate::departure`]). One that resets the connection,
//! or the stream, has its request dropped by the library.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

/// Bytes that are taken before their turn, up to a chunk more …
const AHEAD: usize = 64 << 10;
/// … and chunks, which may have no bytes.
const CHUNKS: usize = 64;

/// A request's body, some of which may have been taken before its turn.
pub(crate) struct Arriving {
    body: Incoming,
    ahead: VecDeque<Frame<Bytes>>,
    /// Bytes of those, and all that have arrived.
    waiting: usize,
    arrived: usize,
    is_over: bool,
    /// True if nothing of it was asked for yet.
    is_unasked: bool,
}

impl Arriving {
    pub fn new(body: Incoming) -> Self {
        Self { body, ahead: VecDeque::new(), waiting: 0, arrived: 0, is_over: false, is_unasked: true }
    }

    /// Whether it was never read: to read is to ask a client for it that waits to be asked.
    pub const fn is_unasked(&self) -> bool {
        self.is_unasked
    }

    /// The bytes that have arrived so far.
    pub const fn arrived(&self) -> usize {
        self.arrived
    }

    /// Looks whether the body breaks off, and takes what arrives meanwhile. `admit` is told of all that has arrived and says whether more
    /// may be taken.
    pub fn poll_broken(&mut self, cx: &mut Context<'_>, mut admit: impl FnMut(usize) -> bool) -> Poll<hyper::Error> {
        while self.waiting < AHEAD && self.ahead.len() < CHUNKS && !self.is_end() && admit(self.arrived) {
            match self.poll_more(cx) {
                Poll::Pending | Poll::Ready(None) => break,
                Poll::Ready(Some(Err(error))) => {
                    (self.ahead, self.waiting) = (VecDeque::new(), 0);
                    return Poll::Ready(error);
                }
                Poll::Ready(Some(Ok(frame))) => {
                    self.waiting += length(&frame);
                    self.ahead.push_back(frame);
                }
            }
        }
        Poll::Pending
    }

    /// A chunk that was taken last, and not read.
    pub fn gets_back(&mut self, frame: Frame<Bytes>) {
        self.waiting += length(&frame);
        self.ahead.push_front(frame);
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.is_unasked = false;
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => self.arrived += length(frame),
            Poll::Ready(None | Some(Err(_))) => self.is_over = true,
            Poll::Pending => {}
        }
        frame
    }

    /// Whether nothing more arrives.
    fn is_end(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }
}

fn length(frame: &Frame<Bytes>) -> usize {
    frame.data_ref().map_or(0, Bytes::len)
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        match this.ahead.pop_front() {
            Some(frame) => {
                this.waiting -= length(&frame);
                Poll::Ready(Some(Ok(frame)))
            }
            None if this.is_over => Poll::Ready(None),
            None => this.poll_more(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, waiting) = (self.body.size_hint(), self.waiting as u64);
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(waiting));
        }
        hint.set_lower(rest.lower().saturating_add(waiting));
        hint
    }
}
