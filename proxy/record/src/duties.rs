//! The work in progress that still owes an event to the record: one list for every road.
//!
//! The task of an exchange or a call may be dropped at any moment: its client leaves, it is aborted at a stop. So its duties are kept here,
//! not with the task. The task reports its end ([`Undertaken::finish`]); if it is dropped before, the attendant ([`Duties::attend`])
//! records what is known, in a step that a stop waits for. A destructor only hands over, and counts what was not recorded
//! (`gnomon_unfinished_total`); whoever takes on work where the attendant is thousands behind records some of it first.
//!
//! Work that ends in good time costs two short locks of a list that few threads share, and no timer: the attendant looks at all
//! that is open a few times a second, while anything is.

use parking_lot::Mutex;
use prometheus::IntCounter;
use std::{
    cell::Cell,
    collections::VecDeque,
    mem,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval},
};

/// The interval at which the attendant looks at open work, while there is any.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Lists that share what is open, so that threads seldom meet.
const SHARDS: usize = 16;
/// The most duties that wait for the attendant after a hand-over, besides those that were open then. Beyond it, work that begins settles
/// [`SETTLED_FIRST`] of them before.
const MOST_HANDED_OVER: usize = 8192;
/// More than one, so that what waits grows shorter.
const SETTLED_FIRST: usize = 16;
/// Places of a list that are kept when it is empty.
const PLACES_KEPT: usize = 256;

/// Work in progress that owes records.
pub trait Duty: Send + Sync + 'static {
    /// Called a few times a second: records what is overdue.
    fn look(&self, now: Instant);

    /// Records what is known of it, as its worker is gone without finishing it.
    fn settle(&self, left: Left);

    /// True if nothing of it is left to be recorded. Asked when it is dropped: else it is counted as unfinished.
    fn is_recorded(&self) -> bool;
}

/// A duty that is counted if it is dropped unrecorded.
struct Counted<D: Duty> {
    duty: D,
    unfinished: IntCounter,
}

impl<D: Duty> Drop for Counted<D> {
    fn drop(&mut self) {
        if !self.duty.is_recorded() {
            self.unfinished.inc();
        }
    }
}

/// A duty of any kind, as the lists have it.
trait Listed: Send + Sync {
    fn look(&self, now: Instant);

    fn settle(&self, left: Left);
}

impl<D: Duty> Listed for Counted<D> {
    fn look(&self, now: Instant) {
        if catch_unwind(AssertUnwindSafe(|| self.duty.look(now))).is_err() {
            tracing::error!("a call that takes long could not be looked at, which is a defect: it is recorded once it is over");
        }
    }

    /// A defect in one costs no other its record.
    fn settle(&self, left: Left) {
        if catch_unwind(AssertUnwindSafe(|| self.duty.settle(left))).is_err() {
            tracing::error!("a call that was left could not be recorded, which is a defect");
        }
    }
}

/// The reason that a duty's worker is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The client went away, or took the request back.
    ByClient,
    /// gnomon stops.
    AtStop,
}

/// All duties of one gnomon.
pub struct Duties {
    shards: [Mutex<Shard>; SHARDS],
    handed_over: Mutex<VecDeque<Arc<dyn Listed>>>,
    /// The length of `handed_over`.
    behind: AtomicUsize,
    open: AtomicUsize,
    /// True if work was taken on since the attendant looked last.
    busy: AtomicBool,
    stopping: AtomicBool,
    /// Something was taken on while the attendant rested.
    begun: Notify,
    /// Something was handed over.
    left: Notify,
    /// Held by the running attendant.
    attending: tokio::sync::Mutex<()>,
    unfinished: IntCounter,
}

#[derive(Default)]
struct Shard {
    places: Vec<Option<Arc<dyn Listed>>>,
    free: Vec<usize>,
}

/// The position of an open duty in the list.
#[derive(Clone, Copy)]
struct Ticket {
    shard: usize,
    place: usize,
}

thread_local! {
    static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The list of this thread.
fn own_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    SHARD.get().unwrap_or_else(|| {
        let shard = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
        SHARD.set(Some(shard));
        shard
    })
}

impl Duties {
    /// An empty list. `unfinished` counts duties that are dropped without having been recorded.
    #[must_use]
    pub fn new(unfinished: IntCounter) -> Arc<Self> {
        Arc::new(Self {
            shards: Default::default(),
            handed_over: Mutex::default(),
            behind: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            begun: Notify::new(),
            left: Notify::new(),
            attending: tokio::sync::Mutex::new(()),
            unfinished,
        })
    }

    /// Lists a duty until it is finished or settled.
    pub fn take_on<D: Duty>(self: &Arc<Self>, duty: D) -> Undertaken<D> {
        if self.behind.load(Ordering::Relaxed) >= MOST_HANDED_OVER {
            self.settle_some(SETTLED_FIRST);
        }
        let duty = Arc::new(Counted { duty, unfinished: self.unfinished.clone() });
        let ticket = self.list(duty.clone());
        self.open.fetch_add(1, Ordering::SeqCst);
        if !self.busy.load(Ordering::SeqCst) && !self.busy.swap(true, Ordering::SeqCst) {
            self.begun.notify_one();
        }
        Undertaken { duty, duties: self.clone(), ticket, finished: AtomicBool::new(false) }
    }

    /// The number of open duties.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    fn list(&self, duty: Arc<dyn Listed>) -> Ticket {
        let shard = own_shard();
        let mut list = self.shards[shard].lock();
        let place = list.free.pop().unwrap_or(list.places.len());
        match list.places.get_mut(place) {
            Some(empty) => *empty = Some(duty),
            None => list.places.push(Some(duty)),
        }
        Ticket { shard, place }
    }

    /// Takes it off the list. None if a stop has settled it already.
    fn strike(&self, Ticket { shard, place }: Ticket) -> Option<Arc<dyn Listed>> {
        let mut list = self.shards[shard].lock();
        let duty = list.places.get_mut(place)?.take()?;
        list.free.push(place);
        if list.places.len() > PLACES_KEPT && list.free.len() == list.places.len() {
            // Memory that a burst needed is freed after it.
            *list = Shard::default();
        }
        drop(list);
        self.open.fetch_sub(1, Ordering::SeqCst);
        Some(duty)
    }

    fn hand_over(&self, duty: Arc<dyn Listed>) {
        let mut handed_over = self.handed_over.lock();
        handed_over.push_back(duty);
        self.behind.store(handed_over.len(), Ordering::Relaxed);
        drop(handed_over);
        self.left.notify_one();
    }

    fn settle_some(&self, most: usize) {
        let why = self.why();
        let mut handed_over = self.handed_over.lock();
        let some: Vec<_> = match handed_over.len() <= most {
            true => mem::take(&mut *handed_over).into(),
            false => handed_over.drain(..most).collect(),
        };
        self.behind.store(handed_over.len(), Ordering::Relaxed);
        drop(handed_over);
        some.iter().for_each(|duty| duty.settle(why));
    }

    fn why(&self) -> Left {
        if self.stopping.load(Ordering::Relaxed) { Left::AtStop } else { Left::ByClient }
    }

    /// Looks after all that is open, until this future is dropped. Every road may ask for it: one attends at a time, and another
    /// takes over when that one ends.
    pub async fn attend(&self) {
        let _turn = self.attending.lock().await;
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.left.notified() => self.settle_left(),
                _ = ticks.tick() => {
                    self.settle_left();
                    self.look();
                    // Nothing is open and nothing began for a while: no more ticks until something does.
                    if !self.busy.swap(false, Ordering::SeqCst) && self.open() == 0 {
                        tokio::select! {
                            () = self.begun.notified() => {}
                            () = self.left.notified() => {}
                        }
                        self.settle_left();
                        ticks.reset();
                    }
                }
            }
        }
    }

    fn look(&self) {
        let now = Instant::now();
        for shard in &self.shards {
            let open: Vec<_> = shard.lock().places.iter().flatten().cloned().collect();
            open.iter().for_each(|duty| duty.look(now));
        }
    }

    /// Settles what was handed over so far.
    pub fn settle_left(&self) {
        self.settle_some(usize::MAX);
    }

    /// gnomon stops: what is left from now on is left for that.
    pub fn stopping(&self) {
        self.settle_left();
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The last step of a stop, after all workers were stopped: settles what was handed over and whatever is still open.
    pub fn settle_all(&self) {
        self.stopping();
        self.settle_left();
        for shard in &self.shards {
            let open: Vec<_> = shard.lock().places.iter_mut().filter_map(Option::take).collect();
            self.open.fetch_sub(open.len(), Ordering::SeqCst);
            open.iter().for_each(|duty| duty.settle(Left::AtStop));
        }
        let unfinished = self.unfinished.get();
        if unfinished > 0 {
            tracing::error!(unfinished, "calls ended without being recorded, which is a defect: please report it");
        }
    }
}

/// A duty in the hands of its worker. Dropped unfinished, it is handed over to the attendant.
pub struct Undertaken<D: Duty> {
    duty: Arc<Counted<D>>,
    duties: Arc<Duties>,
    ticket: Ticket,
    finished: AtomicBool,
}

impl<D: Duty> Undertaken<D> {
    /// Finishes it: all that it owes is recorded. The first caller gets `true`, and records it right before or after.
    pub fn finish(&self) -> bool {
        !self.finished.swap(true, Ordering::AcqRel) && self.duties.strike(self.ticket).is_some()
    }
}

impl<D: Duty> Deref for Undertaken<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.duty.duty
    }
}

impl<D: Duty> Drop for Undertaken<D> {
    fn drop(&mut self) {
        if !*self.finished.get_mut()
            && let Some(duty) = self.duties.strike(self.ticket)
        {
            self.duties.hand_over(duty);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen {
        looks: AtomicUsize,
        settled: Mutex<Vec<Left>>,
    }

    struct Test {
        seen: Arc<Seen>,
        fails: bool,
        recorded: AtomicBool,
    }

    impl Test {
        fn of(seen: &Arc<Seen>) -> Self {
            Self { seen: seen.clone(), fails: false, recorded: AtomicBool::new(false) }
        }

        fn failing(seen: &Arc<Seen>) -> Self {
            Self { fails: true, ..Self::of(seen) }
        }

        fn record(&self) {
            self.recorded.store(true, Ordering::Relaxed);
        }
    }

    impl Duty for Test {
        fn look(&self, _: Instant) {
            self.seen.looks.fetch_add(1, Ordering::Relaxed);
            assert!(!self.fails, "a defect that this test made");
        }
        fn settle(&self, left: Left) {
            assert!(!self.fails, "a defect that this test made");
            self.seen.settled.lock().push(left);
            self.record();
        }
        fn is_recorded(&self) -> bool {
            self.recorded.load(Ordering::Relaxed)
        }
    }

    fn duties() -> (Arc<Duties>, IntCounter) {
        let forgotten = IntCounter::new("forgotten", "In this test.").unwrap();
        (Duties::new(forgotten.clone()), forgotten)
    }

    async fn until(holds: impl Fn() -> bool) {
        let wait = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it did not come to hold");
    }

    fn attended(duties: &Arc<Duties>) -> tokio::task::JoinHandle<()> {
        let duties = duties.clone();
        tokio::spawn(async move { duties.attend().await })
    }

    #[tokio::test]
    async fn what_is_open_is_looked_at_and_what_is_dropped_is_settled_by_the_attendant() {
        let (duties, forgotten) = duties();
        let attending = attended(&duties);
        let seen = Arc::<Seen>::default();
        for _ in 0..2 {
            let open = duties.take_on(Test::of(&seen));
            until(|| seen.looks.swap(0, Ordering::Relaxed) >= 1).await;
            drop(open);
            until(|| seen.settled.lock().len() == 1).await;
            assert_eq!(seen.settled.lock().pop(), Some(Left::ByClient));
            assert_eq!(duties.open(), 0);
            // Long enough for the attendant to go to rest: it must come back.
            tokio::time::sleep(LOOK_EVERY * 3).await;
        }
        let finished = duties.take_on(Test::of(&seen));
        assert!(finished.finish() && !finished.finish());
        finished.record();
        drop(finished);
        attending.abort();
        assert!(attending.await.unwrap_err().is_cancelled());
        drop(duties);
        assert_eq!((seen.settled.lock().len(), forgotten.get()), (0, 0));
    }

    #[test]
    fn a_stop_settles_what_is_open_once_and_what_nobody_recorded_is_counted() {
        let (duties, forgotten) = duties();
        let seen = Arc::<Seen>::default();
        let (open, left) = (duties.take_on(Test::of(&seen)), duties.take_on(Test::of(&seen)));
        drop(left);
        duties.settle_all();
        assert_eq!(*seen.settled.lock(), [Left::ByClient, Left::AtStop]);
        // Too late for whoever still held it.
        drop(open);
        duties.settle_all();
        assert_eq!(seen.settled.lock().len(), 2);
        assert_eq!(forgotten.get(), 0);

        drop(duties.take_on(Test::of(&seen)));
        drop(duties);
        assert_eq!((seen.settled.lock().len(), forgotten.get()), (2, 1), "nobody attended and nobody stopped it");
    }

    #[tokio::test]
    async fn a_duty_that_is_forgotten_or_fails_is_counted_at_once_and_costs_no_other_its_record() {
        let (duties, forgotten) = duties();
        let attending = attended(&duties);
        let seen = Arc::<Seen>::default();
        // It says that it is over, and records nothing.
        assert!(duties.take_on(Test::of(&seen)).finish());
        assert_eq!(forgotten.get(), 1);
        // The look at it fails, and so does recording it.
        let failing = duties.take_on(Test::failing(&seen));
        until(|| seen.looks.load(Ordering::Relaxed) >= 2).await;
        let before = duties.take_on(Test::of(&seen));
        drop((before, failing, duties.take_on(Test::of(&seen))));
        until(|| seen.settled.lock().len() == 2).await;
        until(|| forgotten.get() == 2).await;
        let (open, failing) = (duties.take_on(Test::of(&seen)), duties.take_on(Test::failing(&seen)));
        duties.settle_all();
        assert_eq!(*seen.settled.lock(), [Left::ByClient, Left::ByClient, Left::AtStop]);
        drop((open, failing));
        assert_eq!(forgotten.get(), 3);
        assert!(!attending.is_finished(), "it attends to the others");
        attending.abort();
    }

    #[test]
    fn what_waits_for_the_attendant_is_bounded_by_what_begins_and_none_of_it_is_lost() {
        const OPEN: usize = MOST_HANDED_OVER + 10;
        let (duties, forgotten) = duties();
        let seen = Arc::<Seen>::default();
        let open: Vec<_> = (0..OPEN).map(|_| duties.take_on(Test::of(&seen))).collect();
        drop(open);
        assert_eq!((duties.handed_over.lock().len(), seen.settled.lock().len()), (OPEN, 0), "a destructor records nothing");
        // Nobody attends, and clients go on coming and leaving.
        for _ in 0..4 * MOST_HANDED_OVER {
            drop(duties.take_on(Test::of(&seen)));
        }
        assert!(duties.handed_over.lock().len() <= MOST_HANDED_OVER, "{}", duties.handed_over.lock().len());
        duties.settle_left();
        assert_eq!((seen.settled.lock().len(), forgotten.get()), (OPEN + 4 * MOST_HANDED_OVER, 0));
        assert!(duties.shards.iter().all(|shard| shard.lock().places.len() <= PLACES_KEPT), "a rush leaves nothing behind");
    }
}
