//! The request body on its way up: judged chunk by chunk before each chunk leaves.

use crate::{
    arriving::Arriving,
    continuing::BodyTurn,
    room::Account,
    steps::{Awaited, Pace},
    watched::{Leg, Watched},
};
use bytes::Bytes;
use gnomon_http::AbortBody;
use gnomon_inspect::{Exchange, Gate, Refusal};
use http_body::{Body, Frame, SizeHint};
use std::{
    collections::VecDeque,
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// The error of a body that passes through the proxy: the proxy's or the peer's.
pub(crate) type BodyError = Box<dyn Error + Send + Sync>;

/// The request body as the upstream gets it.
pub(crate) struct Upload {
    /// Until its server asks for it, where the client waits for that.
    unasked: Option<BodyTurn>,
    /// Chunks that were judged already.
    ready: VecDeque<Bytes>,
    rest: Option<Arriving>,
    /// A chunk of which not all is judged.
    judging: Option<Judging>,
    pace: Pace,
    turn: Awaited,
    watched: Option<Arc<Watched>>,
    /// Its account of the room, as long as more of it is kept.
    account: Option<Account>,
}

/// A chunk that is judged in steps.
struct Judging {
    frame: Frame<Bytes>,
    last: Last,
    fed: Fed,
}

/// Whether a chunk's bytes have been handed on to be judged: then what is left of it is theirs who judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fed {
    No,
    Yes,
}

impl Upload {
    /// An empty body.
    pub fn empty() -> Self {
        let (ready, pace, turn) = (VecDeque::new(), Pace::default(), Awaited::default());
        Self { unasked: None, ready, rest: None, judging: None, pace, turn, watched: None, account: None }
    }

    /// `ready` was judged, at this pace; `rest` is judged as it comes.
    pub fn new((ready, pace): (VecDeque<Bytes>, Pace), rest: Option<Arriving>, watched: Arc<Watched>, account: Account) -> Self {
        let (watched, account) = (Some(watched), Some(account));
        Self { unasked: None, ready, rest, judging: None, pace, turn: Awaited::default(), watched, account }
    }

    /// The same, none of which leaves before its turn.
    pub fn at(mut self, unasked: Option<BodyTurn>) -> Self {
        self.unasked = unasked;
        self
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
        if let (Some(mut rest), Some(watched)) = (self.rest.take(), &self.watched) {
            if let Some(judging) = self.judging.take().filter(|judging| judging.fed == Fed::No) {
                rest.gets_back(judging.frame);
            }
            watched.keep_unsent(rest);
        }
    }
}

/// Charges what has arrived, or leaves what comes unread where there is no room: nothing is waited for here, as nothing is held.
fn charge(account: &mut Option<Account>, exchange: &mut Exchange, arrived: usize, last: Last) {
    let Some(open) = account else { return };
    if last == Last::Yes {
        return;
    }
    if !exchange.keeps_more() {
        *account = None;
    } else if open.catches_up_now(arrived).is_err() {
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
    pub fn of(body: &Arriving) -> Self {
        if body.is_end_stream() { Last::Yes } else { Last::No }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(unasked) = &mut this.unasked {
            ready!(unasked.as_mut().poll(cx));
            this.unasked = None;
        }
        if let Some(chunk) = this.ready.pop_front() {
            this.over_if_sent();
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        loop {
            let Some(rest) = &mut this.rest else { return Poll::Ready(None) };
            let Some(watched) = &this.watched else { return Poll::Ready(None) };
            let Some(mut judging) = this.judging.take() else {
                let frame = ready!(Pin::new(&mut *rest).poll_frame(cx));
                match frame {
                    Some(Ok(frame)) if frame.is_data() => {
                        let data = frame.data_ref().map_or(&[][..], |data| &data[..]);
                        this.pace.comes(watched.with(|e| e.request_weighs(data)));
                        this.judging = Some(Judging { frame, last: Last::of(rest), fed: Fed::No });
                        continue;
                    }
                    Some(other) => {
                        this.over_if_sent();
                        return Poll::Ready(Some(other.map_err(Into::into)));
                    }
                    None => {
                        if let Gate::Refuse(refusal) = watched.with(Exchange::request_end) {
                            return Poll::Ready(Some(Err(this.stop(refusal))));
                        }
                        this.rest = None;
                        this.over_if_sent();
                        return Poll::Ready(None);
                    }
                }
            };
            let _turn = match &mut this.account {
                Some(account) if this.pace.is_due() => {
                    if let Poll::Ready(error) = rest.poll_broken(cx, |arrived| account.catches_up_now(arrived).is_ok()) {
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    let Poll::Ready(turn) = this.turn.poll(cx, || account.turn()) else {
                        this.judging = Some(judging);
                        return Poll::Pending;
                    };
                    this.pace.has_turn();
                    Some(turn)
                }
                Some(_) | None => None,
            };
            let (account, pace, last) = (&mut this.account, &mut this.pace, judging.last);
            let gate = watched.with(|e| {
                let fresh = judging.frame.data_ref().filter(|_| judging.fed == Fed::No);
                if fresh.is_some() {
                    charge(account, e, rest.arrived(), last);
                }
                let gate = judge_chunk(e, fresh.map_or(&[][..], |data| &data[..]), last);
                pace.steps(e.request_decoded(), gate.is_none());
                charge_decoders(account, e, (gate, last))
            });
            match gate {
                None => {
                    judging.fed = Fed::Yes;
                    this.judging = Some(judging);
                }
                Some(Gate::Refuse(refusal)) => return Poll::Ready(Some(Err(this.stop(refusal)))),
                Some(Gate::Hold | Gate::Stream) => {
                    this.over_if_sent();
                    return Poll::Ready(Some(Ok(judging.frame)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.judging.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let judging = self.judging.as_ref().and_then(|judging| judging.frame.data_ref());
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
