//! The connections that requests to one destination go over, and the requests that wait for one.

mod connection;

pub use connection::{HTTP1_BUFFER, MAX_FIELDS};

use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use hyper::client::conn::http2;
use tokio::sync::oneshot;

use super::Inner;
use super::body::{Outgoing, RequestBody};
use super::keeping::Keeping;
use crate::budget::Idle;
use crate::destination::LaneKey;
use crate::ending::Asks;
use crate::tcp::HeldUp;
use crate::{Alpn, SendError};
use connection::Carrier;

/// Requests that are counted upon to fit an HTTP/2 connection, until its server says otherwise.
const EXPECTED_STREAMS: usize = 32;

/// The connections of one destination.
pub(crate) struct Lane<B: RequestBody> {
    pub(crate) to: LaneKey,
    /// True once delayed answers of the server were seen.
    pub(crate) held_up: HeldUp,
    state: Mutex<LaneState<B>>,
}

struct LaneState<B: RequestBody> {
    /// Over HTTP/1.1, the connections without a request; the one that was used last is used first.
    resting: Vec<Resting<B>>,
    /// Over HTTP/2, all connections.
    shared: Vec<Multiplexed<B>>,
    waiting: VecDeque<Waiting<B>>,
    /// Over HTTP/1.1, the server's treatment of connections that rest.
    keeping: Keeping,
    dialling: usize,
    /// Connections whose request has ended and that are about to rest.
    returning: usize,
    /// True once the client's connection that this lane was for has ended: no connection rests any more.
    closed: bool,
    /// Requests that fit a connection, as far as that is known.
    expected: usize,
    /// Names HTTP/2 connections.
    next: u64,
}

struct Waiting<B: RequestBody> {
    tell: oneshot::Sender<Result<Carrier<B>, SendError>>,
    asks: Asks,
}

impl<B: RequestBody> Waiting<B> {
    fn is_closed(&self) -> bool {
        self.tell.is_closed()
    }
}

struct Resting<B: RequestBody> {
    alone: connection::Alone<B>,
    since: Instant,
}

/// An HTTP/2 connection.
struct Multiplexed<B: RequestBody> {
    number: u64,
    send: http2::SendRequest<Outgoing<B>>,
    /// Requests in progress.
    streams: usize,
    /// The most that its windows and its server allow; 1 until the server has said so, or had time to.
    most: usize,
    /// Since when there have been no streams.
    since: Option<Instant>,
    /// True if its server has said how many requests it takes, or had time to.
    settled: bool,
    used: bool,
}

impl<B: RequestBody> Multiplexed<B> {
    fn room(&self) -> usize {
        if self.send.is_closed() { 0 } else { self.most.saturating_sub(self.streams) }
    }
}

/// Changes of the number of idle connections.
#[derive(Clone, Copy, Default)]
struct Rest {
    began: usize,
    ended: usize,
}

impl<B: RequestBody> Lane<B> {
    pub(crate) fn new(to: LaneKey) -> Self {
        let expected = if to.key.alpn == Alpn::H2 { EXPECTED_STREAMS } else { 1 };
        let state = LaneState {
            resting: Vec::new(),
            shared: Vec::new(),
            waiting: VecDeque::new(),
            keeping: Keeping::default(),
            dialling: 0,
            returning: 0,
            closed: false,
            expected,
            next: 0,
        };
        Self { to, held_up: HeldUp::default(), state: Mutex::new(state) }
    }

    pub(crate) fn principal(&self) -> &Arc<str> {
        &self.to.key.principal
    }

    fn state(&self) -> MutexGuard<'_, LaneState<B>> {
        self.state.lock()
    }

    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state();
        state.resting.is_empty() && state.shared.is_empty() && state.dialling == 0 && state.waiting.is_empty()
    }

    pub(crate) fn is_to_be_remembered(&self) -> bool {
        self.state().keeping.is_to_be_remembered()
    }

    /// True if its connections are one client connection's alone.
    pub(crate) fn is_bound(&self) -> bool {
        self.to.key.bound.is_some()
    }

    /// Closes its connections, those in use once their requests have ended. How many were idle.
    pub(crate) fn close(&self) -> usize {
        let mut state = self.state();
        state.closed = true;
        let idle = state.resting.len() + state.shared.iter().filter(|one| one.since.is_some()).count();
        state.resting.clear();
        state.shared.clear();
        idle
    }

    pub(crate) fn idle_since(&self, found: &mut Vec<Idle>) {
        let state = self.state();
        let since = state.resting.iter().map(|one| one.since).chain(state.shared.iter().filter_map(|one| one.since));
        found.extend(since.map(|since| (since, self.principal().clone())));
    }

    /// Closes connections that are idle since then or longer. How many they were.
    pub(crate) fn close_idle(&self, since: Instant) -> usize {
        let mut state = self.state();
        let before = state.resting.len() + state.shared.len();
        // Without the last sender a connection's task closes it.
        state.resting.retain(|one| one.since > since && !one.alone.send.is_closed());
        state.shared.retain(|one| one.since.is_none_or(|idle| idle > since));
        before - state.resting.len() - state.shared.len()
    }
}

impl<B: RequestBody> Lane<B> {
    /// A connection for one request.
    pub(crate) async fn carrier(self: Arc<Self>, inner: &Arc<Inner<B>>, asks: Asks) -> Result<Carrier<B>, SendError> {
        let mut rest = Rest::default();
        let (ready, answer) = {
            let mut state = self.state();
            match self.ready(&mut state, inner, &mut rest, asks) {
                Some(carrier) => (Some(carrier), None),
                None => {
                    let (tell, answer) = oneshot::channel();
                    state.waiting.push_back(Waiting { tell, asks });
                    self.dial_for_those_who_wait(&mut state, inner);
                    (None, Some(answer))
                }
            }
        };
        self.account(inner, rest);
        match (ready, answer) {
            (Some(carrier), _) => Ok(carrier),
            (None, Some(answer)) => answer.await.unwrap_or(Err(SendError::Closed)),
            (None, None) => Err(SendError::Closed),
        }
    }

    /// A connection that is there.
    fn ready(self: &Arc<Self>, state: &mut LaneState<B>, inner: &Arc<Inner<B>>, rest: &mut Rest, asks: Asks) -> Option<Carrier<B>> {
        if let Some(oldest) = state.resting.first().filter(|one| one.alone.send.is_ready()) {
            state.keeping.is_open_after(oldest.since.elapsed());
        }
        while state.keeping.allows(asks)
            && let Some(one) = state.resting.pop()
        {
            rest.ended += 1;
            if one.alone.send.is_ready() {
                return Some(Carrier::exclusive(one.alone, self, inner, connection::Used::Before));
            }
            state.keeping.closed_after(one.since.elapsed());
        }
        state.shared.retain(|one| {
            let keep = !one.send.is_closed();
            rest.ended += usize::from(!keep && one.since.is_some());
            keep
        });
        let one = state.shared.iter_mut().find(|one| one.room() > 0)?;
        rest.ended += usize::from(one.since.take().is_some());
        one.streams += 1;
        let used = if std::mem::replace(&mut one.used, true) { connection::Used::Before } else { connection::Used::Never };
        Some(Carrier::multiplexed(one.send.clone(), one.number, self, inner, used))
    }

    /// Hands free connections to waiting requests.
    fn serve(self: &Arc<Self>, state: &mut LaneState<B>, inner: &Arc<Inner<B>>, rest: &mut Rest) {
        loop {
            while state.waiting.front().is_some_and(Waiting::is_closed) {
                state.waiting.pop_front();
            }
            let Some(asks) = state.waiting.front().map(|waiting| waiting.asks) else { return };
            // Behind a request that may not use this server's connections, others wait for the dials in progress.
            let Some(carrier) = self.ready(state, inner, rest, asks) else { break };
            let Some(waiting) = state.waiting.pop_front() else { break };
            if let Err(Ok(carrier)) = waiting.tell.send(Ok(carrier)) {
                // The waiting request was cancelled meanwhile. Dropping the carrier here must not return it to this lane, which is locked.
                carrier.give_back_to(|returned| self.take_back(state, returned, rest));
            }
        }
        self.dial_for_those_who_wait(state, inner);
    }

    fn dial_for_those_who_wait(self: &Arc<Self>, state: &mut LaneState<B>, inner: &Arc<Inner<B>>) {
        state.waiting.retain(|one| !one.is_closed());
        // A connection whose server has not said how much it takes may still take all.
        let unsettled = state.shared.iter().filter(|one| !one.settled && !one.send.is_closed()).count();
        // The next step of a log-in has to go over the connection of the one before, which may be on its way back.
        let returning = if self.is_bound() { state.returning } else { 0 };
        while state.waiting.len() > (state.dialling + unsettled + returning) * state.expected {
            state.dialling += 1;
            tokio::spawn(connection::run(self.clone(), inner.clone()));
        }
    }

    fn take_back(&self, state: &mut LaneState<B>, returned: connection::Returned<B>, rest: &mut Rest) {
        match returned {
            // Without its last sender the connection's task closes it.
            connection::Returned::Exclusive(_) if state.closed => {}
            connection::Returned::Exclusive(alone) => {
                state.resting.push(Resting { alone, since: Instant::now() });
                rest.began += 1;
            }
            connection::Returned::Stream(number) => {
                if let Some(one) = state.shared.iter_mut().find(|one| one.number == number) {
                    one.streams = one.streams.saturating_sub(1);
                    if one.streams == 0 {
                        one.since = Some(Instant::now());
                        rest.began += 1;
                    }
                }
            }
        }
    }

    /// A connection's request has ended, and it will be returned soon, or not ([`Lane::came_back`]).
    pub(crate) fn comes_back(&self) {
        self.state().returning += 1;
    }

    /// It has, if it is still open.
    pub(crate) fn came_back(self: &Arc<Self>, inner: &Arc<Inner<B>>, alone: Option<connection::Alone<B>>) {
        self.state().returning -= 1;
        match alone {
            Some(alone) => self.returned(inner, connection::Returned::Exclusive(alone)),
            None => self.dial_for_those_who_wait(&mut self.state(), inner),
        }
    }

    /// Lends an HTTP/2 connection no more.
    pub(crate) fn retires(&self, number: u64) {
        self.state().shared.retain(|one| one.number != number);
    }

    /// Returns a connection whose request has ended.
    pub(crate) fn returned(self: &Arc<Self>, inner: &Arc<Inner<B>>, returned: connection::Returned<B>) {
        let mut rest = Rest::default();
        let mut surplus = None;
        {
            let mut state = self.state();
            self.take_back(&mut state, returned, &mut rest);
            self.serve(&mut state, inner, &mut rest);
            if state.resting.len() > inner.options.idle_per_destination {
                surplus = Some(state.resting.remove(0));
                rest.ended += 1;
            }
        }
        drop(surplus);
        self.account(inner, rest);
    }

    /// A dial came to a connection that carries one request at a time.
    pub(crate) fn exclusive(self: &Arc<Self>, inner: &Arc<Inner<B>>, alone: connection::Alone<B>) {
        let mut rest = Rest::default();
        {
            let mut state = self.state();
            state.dialling = state.dialling.saturating_sub(1);
            let mut left = Some(Carrier::exclusive(alone, self, inner, connection::Used::Never));
            while let Some(carrier) = left.take() {
                let Some(waiting) = state.waiting.pop_front() else {
                    carrier.give_back_to(|returned| self.take_back(&mut state, returned, &mut rest));
                    break;
                };
                left = waiting.tell.send(Ok(carrier)).err().and_then(Result::ok);
            }
        }
        self.account(inner, rest);
    }

    /// A dial came to one that carries several. It is named by the number.
    pub(crate) fn multiplexed(self: &Arc<Self>, inner: &Arc<Inner<B>>, send: http2::SendRequest<Outgoing<B>>) -> u64 {
        let mut rest = Rest { began: 1, ended: 0 };
        let number = {
            let mut state = self.state();
            state.dialling = state.dialling.saturating_sub(1);
            let number = state.next;
            state.next += 1;
            if state.closed {
                // Nobody waits for it any more.
                return number;
            }
            let since = Some(Instant::now());
            state.shared.push(Multiplexed { number, send, streams: 0, most: 1, since, settled: false, used: false });
            self.serve(&mut state, inner, &mut rest);
            number
        };
        self.account(inner, rest);
        number
    }

    /// The server of this connection has said how many requests it takes, or had time to: so many go over it.
    pub(crate) fn settled(self: &Arc<Self>, inner: &Arc<Inner<B>>, number: u64, most: usize) {
        let mut rest = Rest::default();
        {
            let mut state = self.state();
            if let Some(one) = state.shared.iter_mut().find(|one| one.number == number) {
                // A server that allows no streams for now is used all the same, as it does not announce when it will.
                (one.settled, one.most) = (true, most.max(1));
                state.expected = most.max(1);
            }
            self.serve(&mut state, inner, &mut rest);
        }
        self.account(inner, rest);
    }

    /// A dial came to nothing: so many wait no longer as the dials that are left cannot serve.
    pub(crate) fn failed(&self, error: &SendError) {
        let mut state = self.state();
        state.dialling = state.dialling.saturating_sub(1);
        state.waiting.retain(|one| !one.is_closed());
        let served = state.dialling * state.expected;
        while state.waiting.len() > served {
            let Some(waiting) = state.waiting.pop_front() else { break };
            let _ = waiting.tell.send(Err(error.clone()));
        }
    }

    /// Removes a connection that was closed.
    pub(crate) fn ended(self: &Arc<Self>, inner: &Arc<Inner<B>>, number: Option<u64>) {
        let mut rest = Rest::default();
        {
            let mut state = self.state();
            state.shared.retain(|one| {
                let over = Some(one.number) == number;
                rest.ended += usize::from(over && one.since.is_some());
                !over
            });
            let LaneState { resting, keeping, .. } = &mut *state;
            resting.retain(|one| {
                let open = !one.alone.send.is_closed();
                if !open {
                    rest.ended += 1;
                    keeping.closed_after(one.since.elapsed());
                }
                open
            });
            self.serve(&mut state, inner, &mut rest);
        }
        self.account(inner, rest);
    }

    fn account(&self, inner: &Inner<B>, rest: Rest) {
        let count = |connections: usize| i64::try_from(connections).unwrap_or(0);
        if rest.began != rest.ended {
            inner.budget().idle_changed(count(rest.began) - count(rest.ended));
        }
    }
}
