//! The guard of one exchange of a request and its answer, on whatever road it came: all its duties towards the record. They are
//! duties towards its dialogue, so it does not matter how that is fed: by HTTP, or message by message.
//!
//! - What becomes due while it is judged is recorded at once.
//! - A call whose answer is long in coming is recorded without it, at most [`OVERDUE`] and a look of the attendant later.
//! - Every event carries the time at which its call was seen, not that of the answer.
//! - At its end, or when its task is dropped, the rest is recorded, and the outcomes of calls that were recorded before.

use crate::{
    Recorder,
    aftermath::Told,
    duties::{Duty, Left, Undertaken},
    recorder::Book,
};
use gnomon_inspect::{HoldsDialogue, Sighting};
use parking_lot::{Mutex, MutexGuard};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The time for which a call's event waits for the answer. With the attendant's interval it is less than two seconds, which is what is
/// promised.
const OVERDUE: Duration = Duration::from_millis(1500);

/// An exchange in progress. Its task reports its end ([`JudgedExchange::finish`]); if it is dropped before, its client has left or gnomon
/// stops, and the attendant of [`crate::Duties`] records it as that.
pub struct JudgedExchange<E: HoldsDialogue + Send + 'static>(Undertaken<Open<E>>);

struct Open<E> {
    state: Mutex<ExchangeState<E>>,
    book: Arc<Book>,
    began: Instant,
}

struct ExchangeState<E> {
    exchange: E,
    told: Told,
    /// The time at which the first unrecorded call was seen.
    seen: Option<Instant>,
    /// True if all that it owes is recorded.
    over: bool,
}

impl<E: HoldsDialogue + Send + 'static> JudgedExchange<E> {
    /// An exchange whose request began at `began`.
    #[must_use]
    pub fn new(exchange: E, recorder: &Recorder, began: Instant) -> Self {
        let state = Mutex::new(ExchangeState { exchange, told: Told::default(), seen: None, over: false });
        Self(recorder.duties().take_on(Open { state, book: recorder.book.clone(), began }))
    }

    /// Runs `work` on the exchange and records what became due.
    pub fn with<R>(&self, work: impl FnOnce(&mut E) -> R) -> R {
        self.with_told(work, |_| {})
    }

    /// The same; `tell` has what became due before it is recorded, and may take from it what is told otherwise.
    pub fn with_told<R>(&self, work: impl FnOnce(&mut E) -> R, tell: impl FnOnce(&mut Vec<Sighting>)) -> R {
        let mut state = self.0.state();
        let result = work(&mut state.exchange);
        state.record_due(&self.0.book, self.0.began, tell);
        result
    }

    /// Ends the exchange: records the rest of it.
    pub fn finish(&self) {
        if self.0.finish() {
            self.0.close(&mut self.0.state());
        }
    }
}

impl<E: HoldsDialogue> Open<E> {
    fn state(&self) -> MutexGuard<'_, ExchangeState<E>> {
        self.state.lock()
    }

    fn close(&self, state: &mut ExchangeState<E>) {
        if state.over {
            return;
        }
        state.exchange.dialogue().flush();
        state.record_due(&self.book, self.began, |_| {});
        self.book.outcomes(state.told.owed(state.exchange.dialogue()), self.began);
        state.over = true;
    }
}

impl<E: HoldsDialogue> ExchangeState<E> {
    fn record_due(&mut self, book: &Book, began: Instant, tell: impl FnOnce(&mut Vec<Sighting>)) {
        let dialogue = self.exchange.dialogue();
        let mut due: Vec<Sighting> = dialogue.reports().collect();
        let waits = dialogue.has_open_calls();
        if due.is_empty() && !waits {
            return;
        }
        let seen = *self.seen.get_or_insert_with(Instant::now);
        if !waits {
            self.seen = None;
        }
        tell(&mut due);
        if due.is_empty() {
            return;
        }
        let so_far = self.exchange.dialogue().outcome();
        let calls = book.record(due, &self.told, began, seen);
        self.told.add(calls, &so_far);
    }
}

impl<E: HoldsDialogue + Send + 'static> Duty for Open<E> {
    fn look(&self, now: Instant) {
        // The state is in use; the next look will see it.
        let Some(mut state) = self.state.try_lock() else { return };
        if !state.over && state.seen.is_some_and(|seen| now.saturating_duration_since(seen) >= OVERDUE) {
            state.exchange.dialogue().flush_overdue();
            state.record_due(&self.book, self.began, |_| {});
        }
    }

    fn settle(&self, left: Left) {
        let mut state = self.state();
        let over = state.over;
        let dialogue = state.exchange.dialogue();
        if !over && !dialogue.is_refused() && dialogue.outcome().is_open() {
            match left {
                Left::ByClient => dialogue.failed("client_aborted", "the client left before the answer came"),
                Left::AtStop => dialogue.failed("stopped", "gnomon stopped before the answer came"),
            }
        }
        self.close(&mut state);
    }

    fn is_recorded(&self) -> bool {
        self.state().over
    }
}
