//! A bounded number of places (connections, sockets, lookups), shared fairly by principals.
//!
//! A principal is an authenticated name, else a user and its control group, else a source address. Two bounds hold for each: a fixed
//! number, and a multiple of the places that are free (dynamic thresholds, Choudhury
//! and Hahne 1998). The second leaves room for a principal that has nothing yet, however much others take, without setting
//! unused places aside: with a multiple of 3, one principal alone can have three quarters of all places, two can
//! have three sevenths each if they grow together. What is held is not taken back, so each that comes when others have their
//! fill gets a part of what they left: with a multiple of 1, ten find places among 1,024.
//!
//! One rule holds of all pools: **an owner may have what is free up to a part of the pool that is stated, and keeps no other out while it
//! has more than an eighth** ([`Bounds::while_waited`]). There are two ways to keep it. Where what is held can be ended, as sessions
//! can, the one with most gives way ([`Yielding`]). Where it cannot, as with a running script, some places stay free whoever asks
//! (the multiple), and requests that find none wait for the next that is freed, which goes to an owner with less than an eighth
//! ([`Turns`]). Connections have [`Seats`].
//!
//! A caller refused by [`Shares`] decides whether to refuse, to close something, or to wait with [`Shares::freed`].
//!
//! ```
//! use gnomon_shares::{Bounds, Refused, Shares};
//! use std::sync::Arc;
//!
//! let shares = Shares::new(Bounds { all: 8, each: 8, times_free: 3 });
//! let (greedy, other): (Arc<str>, Arc<str>) = ("greedy".into(), "other".into());
//! let held: Vec<_> = std::iter::from_fn(|| shares.take(&greedy).ok()).collect();
//! assert_eq!(held.len(), 6);
//! assert_eq!(shares.take(&greedy).err(), Some(Refused::OverShare));
//! assert!(shares.take(&other).is_ok());
//! ```
#![deny(missing_docs)]

mod lately;
mod seats;
mod turns;
mod yielding;

pub use lately::Lately;
pub use seats::{Seat, Seats};
pub use turns::Turns;
pub use yielding::{Amount, Yielding};

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Notify, futures::Notified};

/// The number of places, in all and for one principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The bound for all principals together.
    pub all: usize,
    /// The bound for each principal, however much is free.
    pub each: usize,
    /// Each principal may hold at most this many times the number of free places, but one at least. 0 turns this off.
    pub times_free: usize,
}

impl Bounds {
    /// No bound.
    pub const NONE: Self = Self { all: usize::MAX, each: usize::MAX, times_free: 0 };

    /// Most that a principal may add to while another waits who has less: an eighth of all, and one at least.
    #[must_use]
    pub const fn while_waited(&self) -> usize {
        let eighth = self.all / 8;
        if eighth == 0 { 1 } else { eighth }
    }

    /// Decides whether a principal that holds `own` of `held` places may have one more.
    ///
    /// # Errors
    /// The bound that it meets.
    pub const fn admit(&self, own: usize, held: usize) -> Result<(), Refused> {
        self.admit_some(1, own, held)
    }

    /// Decides on so many more at once. A principal that has none may have as many as are free.
    ///
    /// # Errors
    /// The bound that it meets.
    pub const fn admit_some(&self, more: usize, own: usize, held: usize) -> Result<(), Refused> {
        let free = self.all.saturating_sub(held);
        let would_have = own.saturating_add(more);
        if would_have > self.each {
            return Err(Refused::OverShare);
        }
        if more > free {
            return Err(if own == 0 { Refused::Full } else { Refused::OverShare });
        }
        // One more is measured by what is free with it, as it always was; many by what they leave.
        let left = free - more.saturating_sub(1);
        if self.times_free != 0 && own > 0 && would_have > left.saturating_mul(self.times_free) {
            return Err(Refused::OverShare);
        }
        Ok(())
    }
}

/// The bound that refuses a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The principal has its share.
    #[error("this user or address has used up its share")]
    OverShare,
    /// No place is free at all.
    #[error("there are no more places")]
    Full,
}

/// The places. One entry for each principal that holds any.
#[derive(Debug)]
pub struct Shares {
    bounds: Bounds,
    held: Mutex<Held>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by: HashMap<Arc<str>, usize>,
    /// How often each waits for a place.
    waiting: HashMap<Arc<str>, usize>,
}

/// One place, or several taken together, given back when dropped.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    principal: Arc<str>,
    count: usize,
}

impl Shares {
    /// A pool of free places.
    #[must_use]
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, held: Mutex::default(), freed: Notify::new() })
    }

    /// A place for this principal.
    ///
    /// # Errors
    /// The bound that is met.
    pub fn take(self: &Arc<Self>, principal: &Arc<str>) -> Result<Share, Refused> {
        self.take_some(principal, 1)
    }

    /// Takes so many places at once, or none.
    ///
    /// # Errors
    /// The bound that is met.
    pub fn take_some(self: &Arc<Self>, principal: &Arc<str>, count: usize) -> Result<Share, Refused> {
        self.held().add(&self.bounds, principal, count)?;
        Ok(Share { shares: self.clone(), principal: principal.clone(), count })
    }

    /// The number of places that this principal holds.
    #[must_use]
    pub fn held_by(&self, principal: &str) -> usize {
        self.held().by.get(principal).copied().unwrap_or(0)
    }

    /// The number of places held.
    #[must_use]
    pub fn all_held(&self) -> usize {
        self.held().all
    }

    /// The bounds.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Completes when a place is given back after this call.
    pub fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock()
    }
}

impl Held {
    /// True if another with less than an eighth waits, and this one has as much.
    fn makes_way(&self, bounds: &Bounds, principal: &Arc<str>) -> bool {
        let share = bounds.while_waited();
        let has = |principal: &Arc<str>| self.by.get(principal).copied().unwrap_or(0);
        !self.waiting.is_empty() && has(principal) >= share && self.waiting.keys().any(|other| other != principal && has(other) < share)
    }

    fn add(&mut self, bounds: &Bounds, principal: &Arc<str>, count: usize) -> Result<(), Refused> {
        if self.makes_way(bounds, principal) {
            return Err(Refused::OverShare);
        }
        match self.by.get_mut(principal) {
            Some(own) => {
                bounds.admit_some(count, *own, self.all)?;
                *own += count;
            }
            None => {
                bounds.admit_some(count, 0, self.all)?;
                self.by.insert(principal.clone(), count);
            }
        }
        self.all += count;
        Ok(())
    }

    fn remove(&mut self, principal: &Arc<str>, count: usize) {
        self.all = self.all.saturating_sub(count);
        if let Some(own) = self.by.get_mut(principal) {
            *own = own.saturating_sub(count);
            if *own == 0 {
                self.by.remove(principal);
            }
        }
    }
}

impl Share {
    /// The principal that holds it.
    #[must_use]
    pub fn principal(&self) -> &Arc<str> {
        &self.principal
    }

    /// The number of places that it is.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes so many more places.
    ///
    /// # Errors
    /// The bound that is met. It stays as it was.
    pub fn grow(&mut self, more: usize) -> Result<(), Refused> {
        self.shares.held().add(&self.shares.bounds, &self.principal, more)?;
        self.count += more;
        Ok(())
    }

    /// Gives back so many of its places, and none that it does not have.
    pub fn shrink(&mut self, less: usize) {
        let less = less.min(self.count);
        if less > 0 {
            self.shares.held().remove(&self.principal, less);
            self.count -= less;
            self.shares.freed.notify_waiters();
        }
    }

    /// Moves it to another principal, as when a connection's user has become known.
    ///
    /// # Errors
    /// The principal has its share already. The place stays with its holder.
    pub fn hand_to(&mut self, principal: &Arc<str>) -> Result<(), Refused> {
        if self.principal == *principal {
            return Ok(());
        }
        let mut held = self.shares.held();
        held.remove(&self.principal, self.count);
        if let Err(refused) = held.add(&self.shares.bounds, principal, self.count) {
            held.all += self.count;
            *held.by.entry(self.principal.clone()).or_default() += self.count;
            return Err(refused);
        }
        drop(held);
        self.principal = principal.clone();
        Ok(())
    }
}

impl Share {
    /// Moves it to the principal that uses it, and that it might have belonged to from the beginning: no bound applies.
    pub fn fall_to(&mut self, principal: &Arc<str>) {
        let mut held = self.shares.held();
        held.remove(&self.principal, self.count);
        held.all += self.count;
        *held.by.entry(principal.clone()).or_default() += self.count;
        drop(held);
        self.principal = principal.clone();
        // The former owner may have room again.
        self.shares.freed.notify_waiters();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shares.held().remove(&self.principal, self.count);
        self.shares.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_of(shares: &Arc<Shares>, principal: &Arc<str>) -> Vec<Share> {
        std::iter::from_fn(|| shares.take(principal).ok()).collect()
    }

    #[test]
    fn whoever_comes_late_finds_a_place_however_much_others_took() {
        let shares = Shares::new(Bounds { all: 1024, each: 1024, times_free: 1 });
        let mut held = Vec::new();
        for number in 0..10 {
            let principal = format!("user {number}").into();
            let got = all_of(&shares, &principal);
            assert!(!got.is_empty(), "{number}");
            held.push(got);
        }
        let sizes: Vec<usize> = held.iter().map(Vec::len).collect();
        assert_eq!(sizes, [512, 256, 128, 64, 32, 16, 8, 4, 2, 1]);
    }

    #[test]
    fn one_user_s_places_are_no_other_s_and_come_back() {
        let shares = Shares::new(Bounds { all: 8, each: 2, times_free: 0 });
        let (one, two) = ("one".into(), "two".into());
        let held = all_of(&shares, &one);
        assert_eq!((held.len(), shares.take(&one).err()), (2, Some(Refused::OverShare)));
        assert!(shares.take(&two).is_ok());
        drop(held);
        assert!(shares.take(&one).is_ok());
        assert_eq!((shares.all_held(), shares.held().by.len()), (0, 0), "who has none leaves nothing behind");
    }

    #[test]
    fn many_places_come_together_or_not_at_all() {
        let shares = Shares::new(Bounds { all: 100, each: 100, times_free: 1 });
        let (one, two) = ("one".into(), "two".into());
        let mut held = shares.take_some(&one, 30).unwrap();
        assert_eq!(held.grow(40), Err(Refused::OverShare), "it would have 70, and leave 30");
        held.grow(20).unwrap();
        assert_eq!((held.count(), shares.all_held()), (50, 50));
        held.shrink(20);
        assert_eq!((held.count(), shares.all_held(), shares.held_by("one")), (30, 30, 30));
        held.grow(20).unwrap();
        assert_eq!(shares.take_some(&two, 51).err(), Some(Refused::Full));
        assert!(shares.take_some(&two, 50).is_ok());
        drop(held);
        assert_eq!((shares.all_held(), shares.held().by.len()), (0, 0));
    }

    #[test]
    fn a_place_that_changes_hands_counts_for_its_new_owner_alone() {
        let shares = Shares::new(Bounds { all: 8, each: 1, times_free: 0 });
        let (one, two, three) = ("one".into(), "two".into(), "three".into());
        let mut place = shares.take(&one).unwrap();
        place.hand_to(&two).unwrap();
        assert_eq!((shares.held_by("one"), shares.held_by("two"), shares.all_held()), (0, 1, 1));
        let _taken = shares.take(&three).unwrap();
        assert_eq!(place.hand_to(&three), Err(Refused::OverShare));
        assert_eq!((&**place.principal(), shares.held_by("two"), shares.all_held()), ("two", 1, 2));
        place.fall_to(&three);
        assert_eq!((shares.held_by("two"), shares.held_by("three"), shares.all_held()), (0, 2, 2), "it is three's whatever its share");
        drop(place);
        assert_eq!((shares.held_by("three"), shares.all_held()), (1, 1));
    }
}
