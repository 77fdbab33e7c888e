//! Bounds on the number of scopes: for one user, and in all.

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

/// The most scopes at a time: each takes an entry of a table of 4096 in the kernel half.
const MOST: usize = 1024;
/// The most connections of one user that are not scopes yet; each holds a thread for some seconds at most.
const JOINING: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Joining,
    Joined,
}

#[derive(Debug)]
struct Taken {
    number: u64,
    uid: u32,
    stage: Stage,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    taken: Vec<Taken>,
}

/// The places there are.
#[derive(Clone, Debug)]
pub(super) struct ScopeSlots {
    for_one: usize,
    table: Arc<Mutex<Table>>,
}

/// A slot of one user; released when dropped.
#[derive(Debug)]
pub(super) struct ScopeSlot {
    places: ScopeSlots,
    number: u64,
}

impl ScopeSlots {
    pub(super) fn new(for_one: usize) -> Self {
        Self { for_one, table: Arc::default() }
    }

    /// Takes a slot for this user; `None` if none is free.
    pub(super) fn take(&self, uid: u32) -> Option<ScopeSlot> {
        let mut table = self.table();
        let theirs = || table.taken.iter().filter(|taken| taken.uid == uid);
        let joining = theirs().filter(|taken| taken.stage == Stage::Joining).count();
        if table.taken.len() >= MOST || theirs().count() >= self.for_one || joining >= JOINING {
            return None;
        }
        Some(self.add(&mut table, uid, Stage::Joining))
    }

    /// A slot for an existing scope, regardless of the bounds: it was within them when it was made.
    pub(super) fn keep(&self, uid: u32) -> ScopeSlot {
        self.add(&mut self.table(), uid, Stage::Joined)
    }

    fn add(&self, table: &mut Table, uid: u32, stage: Stage) -> ScopeSlot {
        let number = table.next;
        table.next += 1;
        table.taken.push(Taken { number, uid, stage });
        ScopeSlot { places: self.clone(), number }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }
}

impl ScopeSlot {
    /// The scope exists now.
    pub(super) fn joined(&self) {
        for taken in self.places.table().taken.iter_mut().filter(|taken| taken.number == self.number) {
            taken.stage = Stage::Joined;
        }
    }
}

impl Drop for ScopeSlot {
    fn drop(&mut self) {
        self.places.table().taken.retain(|taken| taken.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_can_take_neither_all_scopes_nor_all_threads() {
        let places = ScopeSlots::new(10);
        let mut held: Vec<ScopeSlot> = (0..JOINING).map(|_| places.take(1).unwrap()).collect();
        assert!(places.take(1).is_none(), "too many that have not joined");
        held.iter().for_each(ScopeSlot::joined);
        held.extend([places.take(1).unwrap(), places.take(1).unwrap()]);
        assert!(places.take(1).is_none(), "too many scopes");
        assert!(places.take(2).is_some(), "another user is not concerned");
        drop(held.pop());
        let given_back = places.take(1);
        assert!(given_back.is_some(), "a place that was given back");
        drop(given_back);
        held.push(places.keep(1));
        held.push(places.keep(1));
        held.pop();
        assert!(places.take(1).is_none(), "those that were taken over count");
    }
}
