//! The memory for requests until they are answered: bounded in all, shared fairly by callers.
//!
//! An attacker controls how large a request is, what it is made of (a JSON of four million bytes can take a hundred times as many once it
//! is read), how slowly it comes, and how long it lasts, as its server may be theirs. So a request is
//! charged for what it costs before it is read, and until the last piece of it is gone. Nobody is held to a share while there is
//! room; a caller that has none finds some however much others took, as one caller never has more than is left. Small requests have
//! room of their own: those who cannot be told apart, behind one address without a log-in, do not keep each other from it with
//! large ones.

use crate::shares::owner;
use bytes::Bytes;
use gnomon_access::Caller;
use gnomon_shares::{Bounds, Refused, Share, Shares};
use parking_lot::{Mutex, MutexGuard};
use std::{
    pin::pin,
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::time::timeout;

/// The unit of counting, bytes.
const UNIT: usize = 4 << 10;
/// The room for all requests of a process, bytes …
const ALL: usize = 256 << 20;
/// … or one in so many of those that it may have.
const PART_OF_LIMIT: u64 = 8;
/// One in so many of them is for small requests: those of at most so much.
const FOR_SMALL: usize = 8;
const SMALL: usize = 64 << 10;
/// How often the bytes of a request are there: as they came, under the name that its server knows, and as they leave.
const COPIES: usize = 3;
/// The most that the values of one request may take besides, bytes.
pub const MOST_OF_VALUES: usize = ALL / 8;
/// The timeout of a request's wait for room.
const PATIENCE: Duration = Duration::from_secs(2);
/// The timeout of a list's: its client can still be told by the status of the answer ([`crate::front::SILENCE`]).
const PATIENCE_OF_LIST: Duration = Duration::from_millis(300);

static ROOM: LazyLock<Room> = LazyLock::new(Room::here);
/// The room for messages that wait to be sent to clients: as much again.
static UNSENT: LazyLock<Room> = LazyLock::new(Room::here);

/// The room of all portals of this process.
pub fn room() -> &'static Room {
    &ROOM
}

/// The room of what all portals of this process have to send.
pub fn unsent() -> &'static Room {
    &UNSENT
}

/// Room for requests, or for what is to be sent.
pub struct Room {
    small: Arc<Shares>,
    large: Arc<Shares>,
    /// Shares of messages that are there already, and wait for room.
    waiting: Arc<Shares>,
    /// Shares of what one waits for and another is charged with, as there is one copy for both.
    beside: Arc<Shares>,
}

/// Room that one request has.
#[derive(Debug)]
pub struct Taken(Share);

impl Room {
    fn here() -> Self {
        let all = gnomon_memory::part(ALL, PART_OF_LIMIT);
        Self::of(all / FOR_SMALL, all - all / FOR_SMALL)
    }

    fn of(small: usize, large: usize) -> Self {
        let shares = |bytes: usize| Shares::new(Bounds { all: bytes / UNIT, each: bytes / UNIT, times_free: 1 });
        Self { small: shares(small), large: shares(large), waiting: shares((small + large) / 4), beside: Shares::new(Bounds::NONE) }
    }

    fn shares_for(&self, count: usize) -> &Arc<Shares> {
        if count <= SMALL / UNIT { &self.small } else { &self.large }
    }

    /// Room for a body of so many bytes, as soon as there is some.
    ///
    /// # Errors
    /// If there was none within two seconds.
    pub async fn take(&self, caller: &Caller, body: usize) -> Result<Taken, Refused> {
        let principal = owner(caller).as_str().into();
        let count = units(body.saturating_mul(COPIES));
        let shares = self.shares_for(count);
        in_time(shares, PATIENCE, || shares.take_some(&principal, count)).await.map(Taken)
    }

    /// Waits for room for a message of so many bytes that is there already. Of the waiting messages no caller has more
    /// than is left, either.
    ///
    /// # Errors
    /// If there was none within two seconds, or too many wait.
    pub async fn take_for(&self, owner: &Arc<str>, bytes: usize) -> Result<Taken, Refused> {
        let count = units(bytes);
        self.in_turn(owner, count, PATIENCE, || self.charge(owner, count)).await
    }

    /// Takes room, if there is some at once.
    ///
    /// # Errors
    /// If there is none.
    pub fn take_now(&self, owner: &Arc<str>, bytes: usize) -> Result<Taken, Refused> {
        self.charge(owner, units(bytes))
    }

    /// Charges one more answer that is a copy which others may wait for as well: it is charged once, to one of those who wait for it. For
    /// the others as little room is left as if it were charged to them.
    ///
    /// # Errors
    /// If there was no room soon, or too many wait.
    pub async fn take_part(&self, owner: &Arc<str>, common: &Arc<Common>) -> Result<Bytes, Refused> {
        let count = units(common.text.len());
        self.in_turn(owner, count, PATIENCE_OF_LIST, || common.join(self, owner, count)).await?;
        Ok(Bytes::from_owner(Part { common: common.clone(), owner: owner.clone() }))
    }

    async fn in_turn<T>(
        &self,
        owner: &Arc<str>,
        count: usize,
        patience: Duration,
        mut attempt: impl FnMut() -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        if let Ok(taken) = attempt() {
            return Ok(taken);
        }
        let _waits = self.waiting.take_some(owner, count)?;
        in_time(self.shares_for(count), patience, attempt).await
    }

    /// Charges so much to an owner, who may wait for what others are charged with.
    fn charge(&self, owner: &Arc<str>, count: usize) -> Result<Taken, Refused> {
        let shares = self.shares_for(count);
        let beside = self.beside.held_by(owner);
        if beside > 0 {
            shares.bounds().admit_some(count, beside + shares.held_by(owner), shares.all_held())?;
        }
        shares.take_some(owner, count).map(Taken)
    }

    /// Counts, for this owner, what another is charged with already.
    fn count_beside(&self, owner: &Arc<str>, count: usize) -> Result<Share, Refused> {
        let shares = self.shares_for(count);
        let own = shares.held_by(owner) + self.beside.held_by(owner);
        shares.bounds().admit_some(count, own, shares.all_held().saturating_sub(count))?;
        self.beside.take_some(owner, count)
    }

    /// Takes more room for a request that turns out to cost more.
    ///
    /// # Errors
    /// If there was no room within two seconds.
    pub async fn extend(&self, taken: &mut Taken, body: usize, values: usize) -> Result<(), Refused> {
        let wanted = units(body.saturating_mul(COPIES).saturating_add(values));
        let count = taken.0.count();
        if wanted <= count {
            return Ok(());
        }
        let (shares, before) = (self.shares_for(wanted), self.shares_for(count));
        if Arc::ptr_eq(shares, before) {
            return in_time(shares, PATIENCE, || taken.0.grow(wanted - count)).await;
        }
        let principal = taken.0.principal().clone();
        taken.0 = in_time(shares, PATIENCE, || shares.take_some(&principal, wanted)).await?;
        Ok(())
    }
}

async fn in_time<T>(shares: &Shares, patience: Duration, mut attempt: impl FnMut() -> Result<T, Refused>) -> Result<T, Refused> {
    let refused = match attempt() {
        Ok(taken) => return Ok(taken),
        Err(refused) => refused,
    };
    let comes = async {
        loop {
            let mut freed = pin!(shares.freed());
            freed.as_mut().enable();
            if let Ok(taken) = attempt() {
                return taken;
            }
            freed.await;
        }
    };
    timeout(patience, comes).await.map_err(|_| refused)
}

impl Taken {
    /// The body that this room is for: it is given back with the last piece of it.
    pub fn holds(self, body: Bytes) -> Bytes {
        Bytes::from_owner(Held { body, _room: self })
    }
}

/// A text that may be sent to many, and is charged once for as long as any of them waits for it.
#[derive(Debug)]
pub struct Common {
    text: Bytes,
    /// The ones who wait for it. The first is charged with it.
    waiting: Mutex<Vec<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    owner: Arc<str>,
    answers: usize,
    share: Share,
}

impl Common {
    /// A text that no recipient waits for yet.
    pub fn new(text: Bytes) -> Self {
        Self { text, waiting: Mutex::default() }
    }

    /// The text.
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock()
    }

    fn join(&self, room: &Room, owner: &Arc<str>, count: usize) -> Result<(), Refused> {
        let mut waiting = self.waiting();
        if let Some(own) = waiting.iter_mut().find(|one| one.owner == *owner) {
            own.answers += 1;
            return Ok(());
        }
        let share = if waiting.is_empty() { room.charge(owner, count)?.0 } else { room.count_beside(owner, count)? };
        waiting.push(Waiting { owner: owner.clone(), answers: 1, share });
        Ok(())
    }

    /// An answer that it was is gone.
    fn leave(&self, owner: &Arc<str>) {
        let mut waiting = self.waiting();
        let Some(place) = waiting.iter().position(|one| one.owner == *owner) else { return };
        waiting[place].answers -= 1;
        if waiting[place].answers > 0 {
            return;
        }
        let mut gone = waiting.remove(place);
        if place == 0
            && let Some(next) = waiting.first_mut()
        {
            // A recipient that has read it is not charged for what others have not.
            gone.share.fall_to(&next.owner);
            std::mem::swap(&mut gone.share, &mut next.share);
        }
    }
}

/// An answer that is such a text.
struct Part {
    common: Arc<Common>,
    owner: Arc<str>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.common.text
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.common.leave(&self.owner);
    }
}

struct Held {
    body: Bytes,
    _room: Taken,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT).max(1)
}

/// An upper bound on the memory of a JSON's values once parsed, bytes, besides that of their texts: measured with
/// `serde_json`, whose objects take the most. What is no JSON is not read.
pub fn values(json: &[u8]) -> usize {
    const OBJECT: usize = 544;
    const ARRAY: usize = 384;
    const VALUE: usize = 160;
    let (mut cost, mut rest) = (0usize, json);
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'"' => rest = after_text(after),
            b'{' => cost += OBJECT,
            b'[' => cost += ARRAY,
            b',' => cost += VALUE,
            _ => {}
        }
    }
    cost
}

/// The rest after a text whose opening quote was read.
fn after_text(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        let is_end = rest[at] == b'"';
        rest = rest.get(at + if is_end { 1 } else { 2 }..).unwrap_or_default();
        if is_end {
            return rest;
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::Value;

    fn caller(number: u8) -> Caller {
        Caller::anonymous([192, 0, 2, number].into())
    }

    #[tokio::test]
    async fn whoever_comes_late_finds_room_however_much_others_took() {
        let room = Room::of(128 * UNIT, 0);
        let mut held = Vec::new();
        for number in 0..5 {
            let before = held.len();
            while let Ok(Ok(taken)) = timeout(Duration::from_millis(5), room.take(&caller(number), UNIT)).await {
                held.push(taken.holds(Bytes::from_static(b"{}")));
            }
            assert!(held.len() > before, "{number}");
        }
        drop(held);
        assert_eq!(room.small.all_held(), 0);
    }

    #[tokio::test]
    async fn large_requests_take_nothing_of_what_small_ones_have_and_who_grows_is_large() {
        let room = Room::of(64 * UNIT, 64 * UNIT);
        let mut grows = room.take(&caller(1), 1).await.unwrap();
        room.extend(&mut grows, 10 * UNIT, 0).await.unwrap();
        assert_eq!((room.small.all_held(), room.large.all_held()), (0, 30));
        room.extend(&mut grows, 0, 32 * UNIT).await.unwrap();
        let _small = room.take(&caller(1), UNIT).await.unwrap();
        assert_eq!((room.small.all_held(), room.large.all_held()), (3, 32));
    }

    #[tokio::test]
    async fn room_is_given_back_with_the_last_piece_of_the_body_and_not_before() {
        let room = Room::of(64 * UNIT, 0);
        let mut taken = room.take(&caller(1), 2 * UNIT).await.unwrap();
        room.extend(&mut taken, 2 * UNIT, UNIT).await.unwrap();
        room.extend(&mut taken, UNIT, 0).await.unwrap();
        assert_eq!(room.small.all_held(), 7);
        let body = taken.holds(Bytes::from(vec![b'a'; 2 * UNIT]));
        let piece = body.slice(10..20);
        drop(body);
        assert_eq!((room.small.all_held(), &*piece), (7, &b"aaaaaaaaaa"[..]));
        drop(piece);
        assert_eq!(room.small.all_held(), 0);
    }

    #[tokio::test]
    async fn what_one_caller_does_not_read_leaves_room_for_what_others_do_and_only_so_much_waits_for_room() {
        let room = Room::of(16 * UNIT, 64 * UNIT);
        let (greedy, other): (Arc<str>, Arc<str>) = ("greedy".into(), "other".into());
        let large = 17 * UNIT;
        let held = room.take_for(&greedy, large).await.unwrap().holds(Bytes::from(vec![0; large]));
        let mut waits = pin!(room.take_for(&greedy, large));
        assert!(timeout(Duration::from_millis(20), waits.as_mut()).await.is_err());
        assert_eq!(room.take_for(&greedy, large).await.unwrap_err(), Refused::OverShare, "what waits is in memory as well");
        assert!(room.take_for(&other, large).await.is_ok());
        assert!(room.take_for(&other, 100).await.is_ok());
        drop(held);
        assert!(waits.await.is_ok());
    }

    #[tokio::test]
    async fn a_copy_that_many_wait_for_is_charged_once_and_until_the_last_of_them_has_it() {
        let room = Room::of(0, 128 * UNIT);
        let copy = |units: usize| Arc::new(Common::new(Bytes::from(vec![b'a'; units * UNIT])));
        let (one, others) = (copy(20), (0..40).map(|n| format!("user {n}").into()).collect::<Vec<Arc<str>>>());
        let mut parts = Vec::new();
        for owner in &others {
            for _ in 0..10 {
                parts.push((owner, room.take_part(owner, &one).await.unwrap()));
            }
        }
        assert_eq!((room.large.all_held(), room.large.held_by("user 0"), parts[7].1.len()), (20, 20, 20 * UNIT));
        // Whoever has read it is charged no longer.
        parts.retain(|(owner, _)| ***owner != *"user 0");
        assert_eq!((room.large.all_held(), room.large.held_by("user 0"), room.large.held_by("user 1")), (20, 0, 20));
        parts.truncate(1);
        assert_eq!((room.large.all_held(), room.beside.all_held()), (20, 0));
        drop(parts);
        assert_eq!(room.large.all_held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn each_copy_that_nobody_reads_is_charged_and_no_more_than_fit_are_there() {
        let room = Room::of(0, 128 * UNIT);
        let copy = || Arc::new(Common::new(Bytes::from(vec![b'a'; 20 * UNIT])));
        let (greedy, quick, late): (Arc<str>, Arc<str>, Arc<str>) = ("greedy".into(), "quick".into(), "late".into());
        let mut unread = Vec::new();
        for _ in 0..80 {
            // Somebody else asks for each first, and reads it.
            let one = copy();
            let Ok(first) = room.take_part(&quick, &one).await else { panic!("refused for what another does not read") };
            unread.extend(room.take_part(&greedy, &one).await.ok());
            drop(first);
        }
        assert_eq!((unread.len(), room.large.held_by("greedy"), room.large.held_by("quick")), (3, 60, 0));
        assert!(room.take_for(&greedy, 20 * UNIT).await.is_err(), "what others are charged with counts for all that they wait for");
        assert!(room.take_part(&late, &copy()).await.is_ok());
        // Those who each have a copy of their own are bounded together.
        let mut own = Vec::new();
        for number in 0..80 {
            own.extend(room.take_part(&format!("user {number}").into(), &copy()).await.ok());
        }
        assert!(room.large.all_held() <= 128, "{}", room.large.all_held());
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_waits_for_it_and_not_for_long() {
        let room = Room::of(16 * UNIT, 0);
        let held = room.take(&caller(1), 4 * UNIT).await.unwrap();
        assert_eq!(room.take(&caller(2), 2 * UNIT).await.unwrap_err(), Refused::Full);
        let other = caller(2);
        let mut waits = pin!(room.take(&other, 2 * UNIT));
        assert!(timeout(Duration::from_secs(1), waits.as_mut()).await.is_err());
        drop(held);
        assert!(waits.await.is_ok());
    }

    /// The memory of a value, as the standard library and `indexmap` lay it out: capacities are at most twice the length.
    fn takes(value: &Value) -> usize {
        size_of::<Value>()
            + match value {
                Value::Null | Value::Bool(_) | Value::Number(_) => 0,
                Value::String(text) => text.len(),
                Value::Array(of) => of.iter().map(takes).sum::<usize>() + of.capacity().saturating_sub(of.len()) * size_of::<Value>(),
                // Hash, key and value of each, and a table of numbers.
                Value::Object(of) => {
                    let room = (2 * of.len()).max(4);
                    let entries: usize = of.iter().map(|(key, value)| key.len() + takes(value) - size_of::<Value>()).sum();
                    entries + room * (8 + size_of::<String>() + size_of::<Value>() + 9)
                }
            }
    }

    #[test]
    fn what_values_take_is_never_more_than_they_are_charged_for() {
        for piece in [r#"{"a":1}"#, "[]", "{}", "1", r#""""#, r#"[[1]]"#, r#"{"a":{"b":[]}}"#, r#"{"a":1,"b":2,"c":3,"d":4,"e":5}"#] {
            let json = format!("[{}]", vec![piece; 1000].join(","));
            let value: Value = serde_json::from_str(&json).unwrap();
            let charged = values(json.as_bytes()) + json.len();
            assert!(takes(&value) <= charged, "{piece}: {} for {charged}", takes(&value));
        }
    }

    #[test]
    fn what_stands_in_texts_is_text() {
        let text = serde_json::to_string(&serde_json::json!({"code": "{[,\\\"{[,\\\\".repeat(100)})).unwrap();
        assert_eq!(values(text.as_bytes()), values(br#"{"code":""}"#));
        assert_eq!(values(br#"{"open":"{{{{"#), values(b"{"));
        assert_eq!(values(br#""\\"#), 0);
    }
}
