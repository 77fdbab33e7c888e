//! Results that were too long to be read at once: kept for some minutes, for their caller.
//!
//! To run a script again for the rest of its result would run its writes again. What is kept is a copy of what its caller was
//! allowed to see when it ran; a policy that is changed meanwhile does not take it back.

use gnomon_relay::parked::unguessable;
use gnomon_shares::{Amount, Yielding};
use parking_lot::Mutex;
use smol_str::SmolStr;
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// The time in minutes.
pub(super) const MINUTES: u64 = 10;
/// The bound for all callers.
const MOST: Amount = Amount { count: 1024, bytes: 64 << 20 };
/// The bound for one caller.
const MOST_OF_ONE: Amount = Amount { count: 16, bytes: 8 << 20 };

struct KeptResult {
    id: SmolStr,
    owner: SmolStr,
    json: Arc<str>,
    since: Instant,
}

/// The kept results.
pub(super) struct Kept(Mutex<Table>);

struct Table {
    /// The oldest first.
    results: VecDeque<KeptResult>,
    shares: Yielding,
}

impl Default for Kept {
    fn default() -> Self {
        Self(Mutex::new(Table { results: VecDeque::new(), shares: Yielding::of(MOST) }))
    }
}

impl Kept {
    /// Keeps a result of this owner; the name to ask for it by. None if it is too long for that.
    pub fn keep(&self, owner: &SmolStr, json: &str) -> Option<SmolStr> {
        if json.len() > MOST_OF_ONE.bytes {
            return None;
        }
        let id = unguessable()?;
        let mut table = self.0.lock();
        table.forget_old();
        while table.is_too_much(owner, json.len()) {
            table.forget_oldest_of(owner);
        }
        table.results.push_back(KeptResult { id: id.clone(), owner: owner.clone(), json: json.into(), since: Instant::now() });
        table.shares.add(owner, json.len());
        // The owner with most is evicted from.
        while let Some(owner) = table.shares.too_much() {
            table.forget_oldest_of(&owner);
        }
        Some(id)
    }

    /// The result of this name for this owner.
    pub fn get(&self, owner: &SmolStr, id: &str) -> Option<Arc<str>> {
        let mut table = self.0.lock();
        table.forget_old();
        table.results.iter().find(|result| result.id == id && result.owner == *owner).map(|result| result.json.clone())
    }
}

impl Table {
    fn is_too_much(&self, owner: &SmolStr, more: usize) -> bool {
        let own = self.results.iter().filter(|result| result.owner == *owner);
        let (count, bytes) = own.fold((0, 0), |(count, bytes), result| (count + 1, bytes + result.json.len()));
        count > 0 && (count >= MOST_OF_ONE.count || bytes + more > MOST_OF_ONE.bytes)
    }

    fn forget_old(&mut self) {
        while self.results.front().is_some_and(|result| result.since.elapsed() > Duration::from_secs(MINUTES * 60)) {
            self.forget(0);
        }
    }

    fn forget_oldest_of(&mut self, owner: &SmolStr) {
        if let Some(place) = self.results.iter().position(|result| result.owner == *owner) {
            self.forget(place);
        }
    }

    fn forget(&mut self, place: usize) {
        if let Some(gone) = self.results.remove(place) {
            self.shares.remove(&gone.owner, gone.json.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_its_owners_and_the_oldest_give_way() {
        let kept = Kept::default();
        let (ann, bob): (SmolStr, SmolStr) = ("ann".into(), "bob".into());
        let first = kept.keep(&ann, "[1]").unwrap();
        assert_eq!(kept.get(&ann, &first).as_deref(), Some("[1]"));
        assert_eq!(kept.get(&bob, &first), None);
        assert_eq!(kept.get(&ann, "gnomon.other"), None);
        let other = kept.keep(&bob, "[2]").unwrap();
        for _ in 0..MOST_OF_ONE.count {
            kept.keep(&ann, "[3]").unwrap();
        }
        assert_eq!(kept.get(&ann, &first), None);
        assert_eq!(kept.get(&bob, &other).as_deref(), Some("[2]"), "others keep theirs");
    }

    #[test]
    fn bytes_are_bounded_for_one_and_for_all() {
        let kept = Kept::default();
        let long = "x".repeat(MOST_OF_ONE.bytes);
        assert_eq!(kept.keep(&"ann".into(), &format!("{long}x")), None);
        for caller in 0..20 {
            kept.keep(&SmolStr::new(format!("caller {caller}")), &long).unwrap();
            kept.keep(&SmolStr::new(format!("caller {caller}")), &long).unwrap();
        }
        let table = kept.0.lock();
        let bytes: usize = table.results.iter().map(|result| result.json.len()).sum();
        assert!(bytes <= MOST.bytes && table.results.len() == 8 && table.shares.all().bytes == bytes, "{bytes}");
    }
}
