//! Room for bodies that are not whole: what is held back or captured of them until they can be judged, in bytes, and what their decoders
//! take.
//!
//! Each exchange has bounds of its own; this is the bound of their sum, of requests and answers. Of an answer that counts which is kept at
//! the moment: a stream may go on for days. Of a request a body that came whole with its head costs nothing here, and
//! neither do the first [`LIGHT`] small ones under way. All others are charged by what they cost, which is more than their bytes: the
//! head, the exchange, and a captured copy beside what is held. Beyond the bounds (in all, and a quarter for each principal) a body is
//! not read on for some time, and then its holder decides: to refuse it, or to leave it unread.
//!
//! The trade-off: the charge is an estimate on the safe side, so less is held than the bound says.

use crate::steps::{Steps, Turn};
use gnomon_inspect::{Exchange, Gate, Passage};
use gnomon_record::Recorder;
use gnomon_shares::{Bounds, Lately, Share, Shares};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Most bytes in all …
pub(crate) const MOST: usize = 192 << 20;
/// … or one in so many of those that this process may have …
const PART_OF_LIMIT: u64 = 8;
/// … and one in so many of them for each principal.
const EACH: usize = 4;
/// The memory of an exchange in progress beside its bytes, its task and buffers included.
const EXCHANGE: usize = 16 << 10;
/// How often each byte is charged: it is held, and captured in a buffer that has grown by doubling.
const TIMES: usize = 3;
/// The memory of a piece beside its bytes.
const PIECE: usize = 128;
/// Most of a body that is charged: beyond the window nothing is held, and no more is captured.
const CHARGED: usize = 64 << 10;
/// Bytes are taken in steps, so that few pieces ask.
const STEP: usize = 8 << 10;
/// The number of exchanges with less than a step of head and body that are not charged.
const LIGHT: usize = 512;
/// The timeout of a body's wait for room, and the interval at which it asks.
const PATIENCE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(50);
/// The bounds on waiting bodies, in all and of one principal: each has a piece in hand that is not charged.
const WAITING: Bounds = Bounds { all: 1024, each: 256, times_free: 0 };

/// The room of one proxy.
pub(crate) struct Room {
    bytes: Arc<Shares>,
    waiting: Arc<Shares>,
    light: AtomicUsize,
    steps: Steps,
    recorder: Arc<Recorder>,
    /// What passed unread and was told of lately.
    told: Lately,
}

/// What a client is told whose body, or whose answer's, there is no room for.
pub(crate) const NO_ROOM: &str = "too many bytes of incomplete messages are waiting to be judged; try again, with fewer requests at a time";

/// The room is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoRoom;

/// The bytes that bodies may have in this process: [`MOST`], or an eighth of the memory that its control group may have if that is less.
#[must_use]
pub fn held_bytes_here() -> usize {
    gnomon_memory::part(MOST, PART_OF_LIMIT)
}

impl Room {
    pub fn new(bytes: usize, recorder: Arc<Recorder>) -> Arc<Self> {
        // Once what is free: a principal with nothing yet finds some, however many have their quarter.
        let bounds = Bounds { all: bytes, each: bytes / EACH, times_free: 1 };
        Arc::new(Self {
            bytes: Shares::new(bounds),
            waiting: Shares::new(WAITING),
            light: AtomicUsize::new(0),
            steps: Steps::default(),
            recorder,
            told: Lately::default(),
        })
    }

    /// Counts and tells of what passes unread by this passage, though a server or a client could read it: each of a principal's first ones,
    /// then in sums.
    pub fn passes_unread(&self, principal: &Arc<str>, exchange: &mut Exchange, passage: Passage) {
        self.recorder.metrics().passed(passage);
        if let Some(requests) = self.told.counts(principal) {
            exchange.tell_unread(passage, requests);
        }
    }

    /// The account of one body, which has nothing yet.
    pub fn account(self: &Arc<Self>, principal: &Arc<str>) -> Account {
        Account { room: self.clone(), principal: principal.clone(), bytes: 0, kept: 0, came: 0, charged: Charged::Nothing }
    }
}

/// The room charged to one body, freed when dropped.
pub(crate) struct Account {
    room: Arc<Room>,
    principal: Arc<str>,
    /// The bytes that are charged, with what pieces cost beside theirs.
    bytes: usize,
    /// Memory that is charged as it is: of decoders, and what is kept of an answer.
    kept: usize,
    /// The bytes that came by the last count.
    came: usize,
    charged: Charged,
}

enum Charged {
    Nothing,
    Light,
    Share(Share),
}

impl Account {
    /// Charges a piece of so many bytes.
    ///
    /// # Errors
    /// If there is no room; nothing of it is charged then.
    pub fn adds(&mut self, piece: usize) -> Result<(), NoRoom> {
        self.charge(self.bytes.saturating_add(piece + PIECE).min(CHARGED), self.kept)
    }

    /// Charges so much memory from now on, in the place of what was charged by this before.
    ///
    /// # Errors
    /// There is no room, and what was charged stays.
    pub fn keeps(&mut self, kept: usize) -> Result<(), NoRoom> {
        if kept == self.kept {
            return Ok(());
        }
        if kept == 0 && self.bytes == 0 {
            self.kept = 0;
            self.gives_back();
            return Ok(());
        }
        self.charge(self.bytes, kept)
    }

    /// The same, and nothing else any more.
    ///
    /// # Errors
    /// As [`Account::keeps`].
    pub fn keeps_only(&mut self, kept: usize) -> Result<(), NoRoom> {
        if self.bytes > 0 {
            self.charge(0, kept.max(1))?;
        }
        self.keeps(kept)
    }

    fn charge(&mut self, bytes: usize, kept: usize) -> Result<(), NoRoom> {
        if bytes.saturating_add(kept) <= STEP && self.is_light() {
            (self.bytes, self.kept) = (bytes, kept);
            return Ok(());
        }
        let cost = EXCHANGE + TIMES * bytes.next_multiple_of(STEP) + kept.div_ceil(STEP).saturating_mul(STEP);
        match &mut self.charged {
            Charged::Share(share) => match cost.checked_sub(share.count()) {
                Some(0) => {}
                Some(more) => share.grow(more).map_err(|_| NoRoom)?,
                None => share.shrink(share.count() - cost),
            },
            Charged::Nothing | Charged::Light => {
                let share = self.room.bytes.take_some(&self.principal, cost).map_err(|_| NoRoom)?;
                self.gives_back();
                self.charged = Charged::Share(share);
            }
        }
        (self.bytes, self.kept) = (bytes, kept);
        Ok(())
    }

    /// Charges what came beyond what is charged, as soon as there is room. `size` is all that came.
    ///
    /// # Errors
    /// See [`Account::adds_in_time`].
    pub async fn catches_up(&mut self, size: usize) -> Result<(), NoRoom> {
        self.adds_in_time(size.saturating_sub(self.came)).await?;
        self.has_come(size);
        Ok(())
    }

    /// The same, where there is room at once.
    ///
    /// # Errors
    /// As [`Account::adds`].
    pub fn catches_up_now(&mut self, size: usize) -> Result<(), NoRoom> {
        if size > self.came {
            self.adds(size - self.came)?;
            self.has_come(size);
        }
        Ok(())
    }

    /// So much of the body has come, and is charged or is not to be.
    pub fn has_come(&mut self, size: usize) {
        self.came = self.came.max(size);
    }

    /// Charges what came before it was known that more is to come: so many bytes of a body behind a head of so many.
    ///
    /// # Errors
    /// See [`Account::adds_in_time`].
    pub async fn begins(&mut self, head: usize, size: usize) -> Result<(), NoRoom> {
        self.came = size;
        self.adds_in_time(head.saturating_add(size)).await
    }

    /// The same, once there is room.
    ///
    /// # Errors
    /// If there is none within two seconds, or as many wait as may.
    pub async fn adds_in_time(&mut self, piece: usize) -> Result<(), NoRoom> {
        if self.adds(piece).is_ok() {
            return Ok(());
        }
        let _waits = self.room.waiting.take(&self.principal).map_err(|_| NoRoom)?;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            sleep(AGAIN).await;
            if self.adds(piece).is_ok() {
                return Ok(());
            }
        }
        Err(NoRoom)
    }

    /// The principal's turn to decode a step, after others' tasks. To be dropped once that step is read.
    pub fn turn(&self) -> impl Future<Output = Turn> + Send + use<> {
        self.room.steps.turn(&self.principal)
    }

    /// Leaves what is still to come of a request unread. Where it passes it is counted and told of, as a call might hide in it that a rule
    /// only logs: each of a principal's first ones, then in sums.
    pub fn leaves_unread(&self, exchange: &mut Exchange) -> Gate {
        let gate = exchange.has_no_room();
        self.tells(exchange, &gate);
        gate
    }

    /// The same of an answer.
    pub fn leaves_answer_unread(&self, exchange: &mut Exchange) -> Gate {
        let gate = exchange.answer_has_no_room();
        self.tells(exchange, &gate);
        gate
    }

    fn tells(&self, exchange: &mut Exchange, gate: &Gate) {
        if !matches!(gate, Gate::Refuse(_)) {
            self.room.passes_unread(&self.principal, exchange, Passage::NoRoom);
        }
    }

    /// Whether it is one of the small ones that are not charged.
    fn is_light(&mut self) -> bool {
        if let Charged::Nothing = self.charged {
            if self.room.light.fetch_add(1, Ordering::Relaxed) < LIGHT {
                self.charged = Charged::Light;
            } else {
                self.room.light.fetch_sub(1, Ordering::Relaxed);
            }
        }
        matches!(self.charged, Charged::Light)
    }

    fn gives_back(&mut self) {
        if let Charged::Light = std::mem::replace(&mut self.charged, Charged::Nothing) {
            self.room.light.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.gives_back();
    }
}
