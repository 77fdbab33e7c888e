//! A pool whose entries can be ended: the owner with most of them is evicted from first.
//!
//! There is no per-owner bound while there is room. When there is none, the owner with the largest share yields, even to a new owner: so
//! one owner can fill a pool, and cannot keep others out of it.

use smol_str::SmolStr;
use std::collections::HashMap;

/// A number of entries, and their total bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// The number of entries.
    pub count: usize,
    /// The total bytes of the entries.
    pub bytes: usize,
}

/// The shares of a pool.
#[derive(Debug)]
pub struct Yielding {
    most: Amount,
    all: Amount,
    owners: HashMap<SmolStr, Amount>,
}

impl Yielding {
    /// Shares of so much.
    #[must_use]
    pub fn of(most: Amount) -> Self {
        Self { most, all: Amount::default(), owners: HashMap::new() }
    }

    /// The amount in use.
    #[must_use]
    pub fn all(&self) -> Amount {
        self.all
    }

    /// Adds an entry of an owner.
    pub fn add(&mut self, owner: &SmolStr, bytes: usize) {
        for amount in [&mut self.all, self.owners.entry(owner.clone()).or_default()] {
            amount.count += 1;
            amount.bytes += bytes;
        }
    }

    /// Removes an entry of an owner.
    pub fn remove(&mut self, owner: &SmolStr, bytes: usize) {
        let Some(own) = self.owners.get_mut(owner) else { return };
        for amount in [&mut self.all, own] {
            amount.count = amount.count.saturating_sub(1);
            amount.bytes = amount.bytes.saturating_sub(bytes);
        }
        if self.owners.get(owner).is_some_and(|own| own.count == 0) {
            self.owners.remove(owner);
        }
    }

    /// The owner that must yield if a bound is exceeded: the one with most of what exceeds it.
    #[must_use]
    pub fn too_much(&self) -> Option<SmolStr> {
        let measure: fn(&Amount) -> usize = if self.all.count > self.most.count {
            |amount| amount.count
        } else if self.all.bytes > self.most.bytes {
            |amount| amount.bytes
        } else {
            return None;
        };
        self.owners.iter().max_by_key(|(_, amount)| measure(amount)).map(|(owner, _)| owner.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_most_gives_way_and_whoever_comes_late_has_room() {
        let mut shares = Yielding::of(Amount { count: 10, bytes: 1000 });
        let (hog, other): (SmolStr, SmolStr) = ("hog".into(), "other".into());
        for _ in 0..10 {
            shares.add(&hog, 1);
        }
        assert_eq!(shares.too_much(), None);
        shares.add(&other, 1);
        assert_eq!(shares.too_much(), Some(hog.clone()));
        shares.remove(&hog, 1);
        assert_eq!(shares.too_much(), None);
        shares.add(&other, 0);
        shares.remove(&other, 0);
        // By bytes it may be another.
        shares.remove(&hog, 1);
        shares.add(&other, 5000);
        assert_eq!(shares.too_much(), Some(other.clone()));
        shares.remove(&other, 5000);
        shares.remove(&other, 1);
        assert!(!shares.owners.contains_key(&other));
    }
}
