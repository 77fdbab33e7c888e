//! A pool whose things can be ended: whoever has most of them gives way.
//!
//! Nobody is held to a share while there is room. When there is none, whoever has the largest share gives way, even to somebody
//! who has nothing yet: so one owner can fill a pool, and cannot keep others out of it.

use smol_str::SmolStr;
use std::collections::HashMap;

/// How many things there may be, and how many bytes they may take together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Things.
    pub count: usize,
    /// What they take together.
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

    /// What is taken.
    #[must_use]
    pub fn all(&self) -> Amount {
        self.all
    }

    /// Somebody takes one more.
    pub fn add(&mut self, owner: &SmolStr, bytes: usize) {
        for amount in [&mut self.all, self.owners.entry(owner.clone()).or_default()] {
            amount.count += 1;
            amount.bytes += bytes;
        }
    }

    /// Somebody gives one back.
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

    /// Who must give way, if there is too much: whoever has most of what there is too much of.
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
