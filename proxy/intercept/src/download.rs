//! The answer's body on its way down: watched, or judged where a rule asks for it.

use crate::{
    continuing::AnswerBegins,
    paired::Pairing,
    room::{Account, NO_ROOM},
    steps::{Awaited, Pace},
    upload::BodyError,
    watched::{Leg, Watched},
};
use bytes::Bytes;
use gnomon_http::{AbortBody, UpstreamBody};
use gnomon_inspect::{EventFlow, Exchange, Gate};
use http_body::{Body, Frame, SizeHint};
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// An answer's body as the client gets it.
pub(crate) struct Download {
    inner: Inner,
    /// Until the library is done with the head, whether it asks for the body or drops it.
    head: Option<AnswerBegins>,
}

enum Inner {
    Own(Option<Bytes>),
    Passing(Box<Passing>),
}

/// A body that comes from upstream.
struct Passing {
    /// Chunks that may go.
    ready: VecDeque<Bytes>,
    rest: Option<UpstreamBody>,
    /// A chunk of which not all is judged.
    judging: Option<Judging>,
    pace: Pace,
    turn: Awaited,
    watched: Arc<Watched>,
    mode: Mode,
    /// True if the body breaks off after the ready bytes.
    broken: bool,
    pairing: Option<Pairing>,
    /// What is kept of it, by the last chunk, and what that has of the room; none once it is left unread.
    kept: usize,
    account: Option<Account>,
}

/// A chunk that is judged in steps.
struct Judging {
    data: Bytes,
    /// What of it was not handed on to be judged: all of it or nothing.
    fresh: Bytes,
}

/// Chunks that are ready are charged where they are more than this together: less is on its way as it is.
const ON_ITS_WAY: usize = 64 << 10;
/// What is made of a chunk leaves in pieces of so many bytes, as the client takes them.
const LEAVES: usize = 16 << 10;

/// The treatment of the body as it passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Chunks pass; the exchange sees them.
    Watch,
    /// Passes only the events that the exchange lets through.
    FilterEvents,
}

impl Download {
    pub fn full(bytes: Bytes) -> Self {
        Self::of(Inner::Own((!bytes.is_empty()).then_some(bytes)))
    }

    pub fn empty() -> Self {
        Self::of(Inner::Own(None))
    }

    const fn of(inner: Inner) -> Self {
        Self { inner, head: None }
    }

    /// The same, whose head somebody waits for.
    pub fn behind(self, head: AnswerBegins) -> Self {
        Self { head: Some(head), ..self }
    }

    /// `ready` was judged already, at this pace, and `rest` follows. A stream of events has `pairing`, through which refused messages
    /// of the legacy transport are answered.
    pub fn passing(
        ((ready, pace), rest): ((VecDeque<Bytes>, Pace), UpstreamBody),
        watched: Arc<Watched>,
        mode: Mode,
        pairing: Option<Pairing>,
        account: Account,
    ) -> Self {
        if ready.is_empty() && rest.is_end_stream() {
            watched.with(|e| e.response_end(&mut Vec::new()));
            watched.over(Leg::Answer);
            return Self::empty();
        }
        let kept = watched.with(|e| e.answer_keeps());
        let (rest, account, turn) = (Some(rest), Some(account), Awaited::default());
        let mut passing = Passing { ready, rest, judging: None, pace, turn, watched, mode, broken: false, pairing, kept, account };
        passing.charge();
        Self::of(Inner::Passing(Box::new(passing)))
    }
}

impl Passing {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                if self.ready.is_empty() {
                    self.charge();
                }
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            if std::mem::take(&mut self.broken) {
                self.rest = None;
                self.watched.over(Leg::Answer);
                return Poll::Ready(Some(Err(Box::new(AbortBody::new()))));
            }
            if let Some(event) = self.pairing.as_mut().and_then(|p| p.poll_event(cx)) {
                return Poll::Ready(Some(Ok(Frame::data(event))));
            }
            if let Some(judging) = self.judging.take() {
                let _turn = match &self.account {
                    Some(account) if self.pace.is_due() => {
                        let Poll::Ready(turn) = self.turn.poll(cx, || account.turn()) else {
                            self.judging = Some(judging);
                            return Poll::Pending;
                        };
                        self.pace.has_turn();
                        Some(turn)
                    }
                    Some(_) | None => None,
                };
                self.data(judging);
                continue;
            }
            let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
            match Pin::new(rest).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.judging = Some(Judging { fresh: data.clone(), data }),
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                Poll::Ready(Some(Err(error))) => {
                    self.rest = None;
                    // A client that leaves takes the connection to its server with it.
                    let (kind, why) = match self.watched.client_has_ended() {
                        true => ("client_aborted", "the client left before the answer was over"),
                        false => ("upstream_aborted", "the server broke off its answer"),
                    };
                    self.watched.with(|e| e.failed(kind, why));
                    self.watched.over(Leg::Answer);
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(None) => {
                    self.rest = None;
                    self.end();
                }
            }
        }
    }

    /// Judges a step of a chunk. Where there is more of it, it is kept until its next turn.
    fn data(&mut self, Judging { data, fresh }: Judging) {
        let goes_on = Judging { data: data.clone(), fresh: Bytes::new() };
        match self.mode {
            Mode::Watch => {
                let (gate, kept, decoded) = self.watched.with(|e| (e.response_some(&fresh), e.answer_keeps(), e.answer_decoded()));
                self.kept = kept;
                self.pace.steps(decoded, gate.is_none());
                match gate {
                    None => {
                        self.judging = Some(goes_on);
                        return self.charge();
                    }
                    Some(Gate::Refuse(_)) => self.broken = true,
                    Some(Gate::Hold | Gate::Stream) => {
                        if let Some(pairing) = &mut self.pairing {
                            pairing.passed(&data, &self.watched);
                        }
                        self.ready.push_back(data);
                    }
                }
            }
            Mode::FilterEvents => {
                let mut out = Vec::with_capacity(fresh.len());
                let filter = |e: &mut Exchange| (e.filter_some(&fresh, &mut out), e.answer_keeps(), e.answer_decoded());
                let (flow, kept, decoded) = self.watched.with(filter);
                self.kept = kept;
                self.pace.steps(decoded, flow == EventFlow::Behind);
                if flow == EventFlow::Abort {
                    self.broken = true;
                }
                if !out.is_empty() {
                    let out = Bytes::from(out);
                    if let Some(pairing) = &mut self.pairing {
                        pairing.passed(&out, &self.watched);
                    }
                    let mut rest = out;
                    while !rest.is_empty() {
                        self.ready.push_back(rest.split_to(rest.len().min(LEAVES)));
                    }
                }
                if flow == EventFlow::Behind {
                    self.judging = Some(goes_on);
                    return self.charge();
                }
            }
        }
        self.charge();
        // Known length: the reader may not poll again after the last byte.
        if !self.broken && self.rest.as_ref().is_some_and(Body::is_end_stream) {
            self.rest = None;
            self.end();
        }
    }

    /// Charges what is kept. Where there is no room for it, what is held back until it is judged is broken off, and else the rest passes
    /// unread.
    fn charge(&mut self) {
        let Some(account) = &mut self.account else { return };
        let ready = self.ready.iter().map(Bytes::len).sum::<usize>();
        let waits = if ready > ON_ITS_WAY { ready } else { 0 };
        if account.keeps_only(self.kept + waits).is_ok() {
            return;
        }
        let refused = match self.mode {
            Mode::Watch => matches!(self.watched.with(|e| account.leaves_answer_unread(e)), Gate::Refuse(_)),
            Mode::FilterEvents => {
                self.watched.with(|e| e.failed("no_room", NO_ROOM));
                true
            }
        };
        self.broken |= refused;
        (self.account, self.kept) = (None, 0);
    }

    fn end(&mut self) {
        let mut out = Vec::new();
        if let Gate::Refuse(_) = self.watched.with(|e| e.response_end(&mut out)) {
            self.broken = true;
            return;
        }
        if !out.is_empty() {
            self.ready.push_back(out.into());
        }
        self.kept = 0;
        self.charge();
        self.watched.over(Leg::Answer);
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.head = None;
        match &mut self.inner {
            Inner::Own(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Inner::Passing(passing) => passing.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Own(bytes) => bytes.is_none(),
            Inner::Passing(passing) => passing.ready.is_empty() && passing.rest.is_none() && !passing.broken,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Inner::Passing(passing) if passing.mode == Mode::Watch && passing.pairing.is_none() => {
                let held: u64 = passing.ready.iter().map(|b| b.len() as u64).sum();
                let rest = passing.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
                match rest.exact() {
                    Some(exact) => SizeHint::with_exact(exact.saturating_add(held)),
                    None => SizeHint::new(),
                }
            }
            Inner::Passing(_) => SizeHint::new(),
        }
    }
}
