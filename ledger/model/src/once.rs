//! Calls that are several events, each counted once: one for each class of detection stands beside the others, and what rules find in a late
//! answer follows later. One type for all who count calls, those who write as those who read, so that they agree.

use hashbrown::HashSet;
use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, RandomState},
};

/// Calls that are remembered, 16 bytes each; a late answer to one further back counts again.
const REMEMBERED: usize = 65_536;

/// Remembers calls by a keyed hash of `gnomon.observation.id`.
#[derive(Debug, Default)]
pub struct Once {
    hashes: RandomState,
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Once {
    /// True if this call was not met before. An event without a call is one of its own.
    pub(crate) fn is_first(&mut self, call: Option<&str>) -> bool {
        let Some(call) = call else { return true };
        let hash = self.hashes.hash_one(call);
        if !self.known.insert(hash) {
            return false;
        }
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(hash);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_met_once_and_memory_of_calls_is_bounded() {
        let mut once = Once::default();
        assert!(once.is_first(None) && once.is_first(None) && once.is_first(Some("a")) && !once.is_first(Some("a")));
        (0..REMEMBERED).for_each(|n| assert!(once.is_first(Some(&n.to_string()))));
        assert_eq!((once.known.len(), once.order.len()), (REMEMBERED, REMEMBERED));
        assert!(once.is_first(Some("a")), "it was forgotten");
    }
}
