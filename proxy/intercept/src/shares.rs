//! How many connections each user has whom the kernel half knows: the programs of one must not take the places of all.
//!
//! Redirected ones, and those of programs that ask the proxy themselves, count alike. A connection above the share is refused and does not wait, as it would wait in a place that others need.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The shares of all users. As many entries as there are users with connections.
#[derive(Debug)]
pub(crate) struct Shares {
    most: usize,
    held: Mutex<HashMap<u32, usize>>,
}

/// One place of a user's, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    shares: Arc<Shares>,
    uid: u32,
}

impl Shares {
    /// So many for each user.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, held: Mutex::default() })
    }

    /// A place for a connection of this user. None if the user has as many as there are for one.
    pub fn take(self: &Arc<Self>, uid: u32) -> Option<Place> {
        let mut held = self.held();
        let of_user = held.entry(uid).or_default();
        if *of_user >= self.most {
            return None;
        }
        *of_user += 1;
        Some(Place { shares: self.clone(), uid })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.shares.held();
        if let Some(of_user) = held.get_mut(&self.uid) {
            *of_user = of_user.saturating_sub(1);
            if *of_user == 0 {
                held.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_s_places_are_no_other_s_and_come_back() {
        let shares = Shares::new(2);
        let (first, second) = (shares.take(1), shares.take(1));
        assert!(first.is_some() && second.is_some() && shares.take(1).is_none());
        assert!(shares.take(2).is_some(), "another user");
        drop(first);
        assert!(shares.take(1).is_some());
        drop(second);
        assert!(shares.held().is_empty(), "who has none leaves nothing behind");
    }
}
