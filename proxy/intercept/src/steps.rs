//! Turns for decoding what a few bytes make.
//!
//! Each body is read in steps, and its task yields between them. With a hundred such bodies that is a hundred steps before anybody else's
//! turn: so of one principal one step is under way at a time, however many connections it has, on whichever way its bodies go. What a body
//! decodes to first, up to a step, takes no turn: nearly all bodies have no more. Where rules ask what arguments mean, which costs more than
//! decoding, a request takes one earlier: [`gnomon_inspect::Exchange::request_weighs`].
//!
//! A body is polled by whoever sends it on, and that may stop while its turn comes: its receiver takes nothing more. A turn that nobody
//! begins is replaced after a moment, so that it keeps no other body waiting.

use gnomon_wire::coding::Decoder;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::yield_now,
    time::{Instant, sleep},
};

/// Principals that are remembered without a look whether they still decode.
const REMEMBERED: usize = 256;
/// The time after which a turn that nobody began is replaced.
const LOST: Duration = Duration::from_millis(250);

/// The turns of one proxy, by principal.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    principals: Mutex<HashMap<Arc<str>, Weak<Line>>>,
}

/// The turns of one principal, first come first served.
#[derive(Debug)]
struct Line {
    turns: Arc<Semaphore>,
    /// Steps that are under way: one at most.
    under_way: AtomicUsize,
    /// The time of the last step's end, or of the last turn that was replaced.
    moved: Mutex<Instant>,
}

/// A principal's turn, to be dropped once the step is read.
#[derive(Debug)]
pub(crate) struct Turn {
    line: Arc<Line>,
    /// Given back last.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Steps {
    /// The principal's turn, first come first served, after others' tasks.
    pub fn turn(&self, principal: &Arc<str>) -> impl Future<Output = Turn> + Send + use<> {
        let line = self.of(principal);
        async move {
            loop {
                let permit = line.permit().await;
                yield_now().await;
                if let Some(turn) = line.begins(permit) {
                    return turn;
                }
            }
        }
    }

    fn of(&self, principal: &Arc<str>) -> Arc<Line> {
        let mut principals = self.principals.lock();
        if let Some(line) = principals.get(principal).and_then(Weak::upgrade) {
            return line;
        }
        if principals.len() >= REMEMBERED {
            principals.retain(|_, line| line.strong_count() > 0);
        }
        let line = Arc::new(Line::new());
        principals.insert(principal.clone(), Arc::downgrade(&line));
        line
    }
}

impl Line {
    fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(1)), under_way: AtomicUsize::new(0), moved: Mutex::new(Instant::now()) }
    }

    /// Never none, as nothing closes the semaphore.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let mut acquired = pin!(self.turns.clone().acquire_owned());
        loop {
            tokio::select! {
                biased;
                permit = acquired.as_mut() => return permit.ok(),
                () = sleep(LOST) => self.replaces_what_is_lost(),
            }
        }
    }

    /// Begins the step, unless its turn had been replaced and another is under way: then that one's permit is the line's.
    fn begins(self: &Arc<Self>, permit: Option<OwnedSemaphorePermit>) -> Option<Turn> {
        if self.under_way.fetch_add(1, Ordering::AcqRel) > 0 {
            self.under_way.fetch_sub(1, Ordering::AcqRel);
            if let Some(permit) = permit {
                permit.forget();
            }
            return None;
        }
        Some(Turn { line: self.clone(), _permit: permit })
    }

    fn replaces_what_is_lost(&self) {
        let mut moved = self.moved.lock();
        if self.under_way.load(Ordering::Acquire) == 0 && self.turns.available_permits() == 0 && moved.elapsed() >= LOST {
            *moved = Instant::now();
            self.turns.add_permits(1);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.line.moved.lock() = Instant::now();
        self.line.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A turn that a body waits for from poll to poll.
#[derive(Default)]
pub(crate) struct Awaited(Option<Pin<Box<dyn Future<Output = Turn> + Send>>>);

impl Awaited {
    /// Waits for the turn that `ask` asks for, once.
    pub fn poll<F: Future<Output = Turn> + Send + 'static>(&mut self, cx: &mut Context<'_>, ask: impl FnOnce() -> F) -> Poll<Turn> {
        let turn = ready!(self.0.get_or_insert_with(|| Box::pin(ask())).as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(turn)
    }
}

/// How much a body has been decoded, and whether it takes a turn before more of it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    decoded: u64,
    /// What is read of it in other ways, as bytes decoded that would cost as much.
    weighed: u64,
    /// What both were when it last had its turn.
    at_turn: u64,
    is_behind: bool,
}

impl Pace {
    /// Whether its next step takes a turn.
    pub const fn is_due(self) -> bool {
        self.is_behind || self.done().saturating_sub(self.at_turn) >= Decoder::STEP as u64
    }

    const fn done(self) -> u64 {
        self.decoded.saturating_add(self.weighed)
    }

    /// More comes, whose reading costs as much as decoding to so many bytes.
    pub const fn comes(&mut self, weight: u64) {
        self.weighed = self.weighed.saturating_add(weight);
    }

    /// It has its turn.
    pub const fn has_turn(&mut self) {
        self.at_turn = self.done();
    }

    /// Notes a step: what was decoded in all, and whether there is more to decode of what came.
    pub const fn steps(&mut self, decoded: u64, is_behind: bool) {
        (self.decoded, self.is_behind) = (decoded, is_behind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    #[tokio::test]
    async fn of_one_principal_one_step_is_under_way_and_anothers_does_not_wait_for_it() {
        let (steps, one, other): (_, Arc<str>, Arc<str>) = (Steps::default(), "one".into(), "other".into());
        let held = steps.turn(&one).await;
        let mut waiting = pin!(steps.turn(&one));
        assert!(is_pending(waiting.as_mut()).await, "its other bodies wait");
        drop(steps.turn(&other).await);
        drop(held);
        drop(waiting.await);
        for name in 0..2 * REMEMBERED {
            let _ = steps.turn(&name.to_string().into()).await;
        }
        assert!(steps.principals.lock().len() <= REMEMBERED);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_its_body_does_not_begin_keeps_no_other_waiting_for_long() {
        let (steps, one): (_, Arc<str>) = (Steps::default(), "one".into());
        let held = steps.turn(&one).await;
        let mut unpolled = pin!(steps.turn(&one));
        assert!(is_pending(unpolled.as_mut()).await);
        // It gets the turn, and nobody polls it.
        drop(held);
        let began = Instant::now();
        let other = steps.turn(&one).await;
        assert!(began.elapsed() < 3 * LOST, "{:?}", began.elapsed());
        // When it is polled at last, the other's step is the one that is under way.
        assert!(is_pending(unpolled.as_mut()).await && is_pending(unpolled.as_mut()).await);
        drop(other);
        let turn = unpolled.await;
        let mut third = pin!(steps.turn(&one));
        assert!(is_pending(third.as_mut()).await && is_pending(third.as_mut()).await, "one at a time again");
        drop(turn);
        drop(third.await);
    }

    #[test]
    fn a_body_takes_a_turn_for_each_step_it_decodes_to_but_the_first_however_it_is_cut() {
        let step = Decoder::STEP as u64;
        let mut pace = Pace::default();
        pace.steps(step - 1, false);
        assert!(!pace.is_due());
        pace.steps(step, false);
        assert!(pace.is_due(), "in pieces");
        pace.has_turn();
        pace.steps(step + 10, false);
        assert!(!pace.is_due());
        pace.steps(step + 10, true);
        assert!(pace.is_due(), "at once");
    }

    #[test]
    fn a_body_that_costs_more_to_read_than_to_decode_takes_its_turn_before_it_is_read() {
        let step = Decoder::STEP as u64;
        let mut pace = Pace::default();
        pace.comes(step / 2);
        assert!(!pace.is_due());
        pace.steps(step / 2, false);
        assert!(pace.is_due(), "both count");
        pace.has_turn();
        pace.comes(step - 1);
        assert!(!pace.is_due());
        pace.comes(1);
        assert!(pace.is_due());
    }

    async fn is_pending<F: Future>(mut future: Pin<&mut F>) -> bool {
        std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }
}
