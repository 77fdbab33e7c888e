//! The guard of one exchange of a request and its answer, on whatever road it came: all its duties towards the record.
//!
//! - What becomes due while it is judged is recorded at once.
//! - A call whose answer is long in coming is recorded without it, at most [`OVERDUE`] and a look of the attendant later.
//! - Every event carries the time at which its call was seen, not that of the answer.
//! - When it is over, or nobody works on it any more, what is left is recorded, and what became of calls that were told before.

use crate::{
    Recorder,
    aftermath::Told,
    duties::{Duty, Left, Undertaken},
    recorder::Book,
};
use gnomon_inspect::{Exchange, Sighting};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    time::{Duration, Instant},
};

/// How long a call's event waits for the answer. With a look of the attendant it is less than two seconds, which is what is promised.
const OVERDUE: Duration = Duration::from_millis(1500);

/// An exchange under way. Whoever works on it says when it is over ([`JudgedExchange::finish`]); if it is dropped before, its client
/// has gone or gnomon stops, and it is recorded as that by the attendant of [`crate::Duties`].
pub struct JudgedExchange(Undertaken<Open>);

struct Open {
    state: Mutex<State>,
    book: Arc<Book>,
    began: Instant,
}

struct State {
    exchange: Exchange,
    told: Told,
    /// When the first call was seen that is not recorded yet.
    seen: Option<Instant>,
    /// Whether all that it owes is recorded.
    over: bool,
}

impl JudgedExchange {
    /// An exchange whose request began at `began`.
    #[must_use]
    pub fn new(exchange: Exchange, recorder: &Recorder, began: Instant) -> Self {
        let state = Mutex::new(State { exchange, told: Told::default(), seen: None, over: false });
        Self(recorder.duties().take_on(Open { state, book: recorder.book.clone(), began }))
    }

    /// Works on the exchange and records what became due.
    pub fn with<R>(&self, work: impl FnOnce(&mut Exchange) -> R) -> R {
        let mut state = self.0.state();
        let result = work(&mut state.exchange);
        state.record_due(&self.0.book, self.0.began);
        result
    }

    /// It is over: records what is left of it.
    pub fn finish(&self) {
        if self.0.finish() {
            self.0.close(&mut self.0.state());
        }
    }
}

impl Open {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, state: &mut State) {
        if std::mem::replace(&mut state.over, true) {
            return;
        }
        state.exchange.flush();
        state.record_due(&self.book, self.began);
        self.book.outcomes(state.told.owed(&state.exchange), self.began);
    }
}

impl State {
    fn record_due(&mut self, book: &Book, began: Instant) {
        let due: Vec<Sighting> = self.exchange.reports().collect();
        let waits = self.exchange.has_open_calls();
        if due.is_empty() && !waits {
            return;
        }
        let seen = *self.seen.get_or_insert_with(Instant::now);
        if !waits {
            self.seen = None;
        }
        if due.is_empty() {
            return;
        }
        let so_far = self.exchange.outcome();
        let calls = book.record(due, &self.told, began, seen);
        self.told.add(calls, &so_far);
    }
}

impl Duty for Open {
    fn look(&self, now: Instant) {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Somebody works on it at this moment; there will be another look.
            Err(TryLockError::WouldBlock) => return,
        };
        if !state.over && state.seen.is_some_and(|seen| now.saturating_duration_since(seen) >= OVERDUE) {
            state.exchange.flush_overdue();
            state.record_due(&self.book, self.began);
        }
    }

    fn settle(&self, left: Left) {
        let mut state = self.state();
        if !state.over && !state.exchange.is_refused() && state.exchange.outcome().is_open() {
            match left {
                Left::ByClient => state.exchange.failed("client_aborted", "the client left before the answer came"),
                Left::AtStop => state.exchange.failed("stopped", "gnomon stopped before the answer came"),
            }
        }
        self.close(&mut state);
    }
}
