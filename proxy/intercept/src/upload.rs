//! The request body on its way up: judged chunk by chunk before each chunk leaves.

use crate::{
    room::Account,
    watched::{Leg, Watched},
};
use bytes::Bytes;
use gnomon_http::AbortBody;
use gnomon_inspect::{Exchange, Gate, Refusal};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    collections::VecDeque,
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// The error of a body that passes through the proxy: the proxy's or the peer's.
pub(crate) type BodyError = Box<dyn Error + Send + Sync>;

/// The request body as the upstream gets it.
pub(crate) struct Upload {
    /// Chunks that were judged already.
    ready: VecDeque<Bytes>,
    rest: Option<Incoming>,
    /// A chunk of which not all is judged.
    judging: Option<Frame<Bytes>>,
    watched: Option<Arc<Watched>>,
    /// Its account of the room, as long as more of it is kept.
    account: Option<Account>,
}

impl Upload {
    /// An empty body.
    pub fn empty() -> Self {
        Self { ready: VecDeque::new(), rest: None, judging: None, watched: None, account: None }
    }

    /// `ready` was judged; `rest` is judged as it comes.
    pub fn new(ready: VecDeque<Bytes>, rest: Option<Incoming>, watched: Arc<Watched>, account: Account) -> Self {
        Self { ready, rest, judging: None, watched: Some(watched), account: Some(account) }
    }

    /// The sender need not poll again after the last byte of a body of known length.
    fn over_if_sent(&self) {
        if let Some(watched) = self.watched.as_ref().filter(|_| self.is_end_stream()) {
            watched.over(Leg::Request);
        }
    }

    fn stop(&mut self, refusal: Box<Refusal>) -> BodyError {
        let rest = self.rest.take();
        if let Some(watched) = &self.watched {
            watched.refuse(refusal, rest);
        }
        Box::new(AbortBody::new())
    }
}

impl Drop for Upload {
    /// A request that could not be sent is dropped with its body unread, which its event is to tell of.
    fn drop(&mut self) {
        if let (Some(rest), Some(watched)) = (self.rest.take(), &self.watched) {
            watched.keep_unsent(rest);
        }
    }
}

/// Charges a chunk, or leaves what comes unread where there is no room: nothing is waited for here, as nothing is held.
fn charge(account: &mut Option<Account>, exchange: &mut Exchange, chunk: usize, last: Last) {
    let Some(open) = account else { return };
    if last == Last::Yes || chunk == 0 {
        return;
    }
    if !exchange.keeps_more() {
        *account = None;
    } else if open.adds(chunk).is_err() {
        let _ = open.leaves_unread(exchange);
        *account = None;
    }
}

/// Charges what decoders have taken for a chunk, in the same way. `gate` is what came of it.
fn charge_decoders(account: &mut Option<Account>, exchange: &mut Exchange, (gate, last): (Option<Gate>, Last)) -> Option<Gate> {
    let Some(open) = account else { return gate };
    if open.keeps(exchange.request_decoders()).is_ok() {
        return gate;
    }
    let unread = open.leaves_unread(exchange);
    *account = None;
    Some(if last == Last::Yes { exchange.request_end() } else { unread })
}

/// Judges one chunk, and the end if it is the last. None where not all of it is judged: then it goes on with an empty one, once
/// others had their turn.
pub(crate) fn judge_chunk(exchange: &mut Exchange, chunk: &[u8], last: Last) -> Option<Gate> {
    Some(match (exchange.request_some(chunk)?, last) {
        (refuse @ Gate::Refuse(_), _) => refuse,
        (_, Last::Yes) => exchange.request_end(),
        (gate, Last::No) => gate,
    })
}

/// Whether a chunk is known to be the last of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    Yes,
    No,
}

impl Last {
    pub fn of(body: &Incoming) -> Self {
        if body.is_end_stream() { Last::Yes } else { Last::No }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(chunk) = this.ready.pop_front() {
            this.over_if_sent();
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        let Some(rest) = &mut this.rest else { return Poll::Ready(None) };
        let goes_on = this.judging.is_some();
        let frame = match this.judging.take() {
            Some(frame) => Some(Ok(frame)),
            None => match Pin::new(rest).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(frame) => frame,
            },
        };
        let gate = match (&frame, &this.watched) {
            (Some(Ok(frame)), Some(watched)) => match (frame.data_ref(), &this.rest) {
                (Some(data), Some(rest)) => {
                    let data = if goes_on { &[] } else { &data[..] };
                    let account = &mut this.account;
                    watched.with(|e| {
                        charge(account, e, data.len(), Last::of(rest));
                        let gate = judge_chunk(e, data, Last::of(rest));
                        charge_decoders(account, e, (gate, Last::of(rest)))
                    })
                }
                _ => Some(Gate::Stream),
            },
            (None, Some(watched)) => Some(watched.with(Exchange::request_end)),
            _ => Some(Gate::Stream),
        };
        let Some(gate) = gate else {
            this.judging = frame.and_then(Result::ok);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        if let Gate::Refuse(refusal) = gate {
            return Poll::Ready(Some(Err(this.stop(refusal))));
        }
        if frame.is_none() {
            this.rest = None;
        }
        this.over_if_sent();
        Poll::Ready(frame.map(|f| f.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.judging.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let judging = self.judging.as_ref().and_then(Frame::data_ref);
        let held: u64 = self.ready.iter().chain(judging).map(|b| b.len() as u64).sum();
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint.set_lower(rest.lower().saturating_add(held));
        hint
    }
}
