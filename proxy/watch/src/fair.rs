//! A bounded map that is shared fairly: when it is full, the owner with most entries loses its oldest one.
//!
//! A process that holds an eighth of the places makes way itself; otherwise the user who holds most does.
//! A flood, even one of many processes, costs its own user's entries and not others'. As long as there is
//! room nothing is evicted: a program must not be able to hide one connection behind many.
//!
//! Keys are cookies of sockets, which are never given out twice. The price is two queues with an entry for each
//! key; entries of keys that are gone are swept out when they are the majority.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// The holder of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub process: u32,
    pub user: u32,
}

#[derive(Debug)]
pub(crate) struct Fair<V> {
    entries: HashMap<u64, Entry<V>>,
    by_process: HashMap<u32, Line>,
    by_user: HashMap<u32, Line>,
    /// The numbers of entries that users hold, ascending.
    ranks: BTreeSet<(usize, u32)>,
    capacity: usize,
    serial: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    holder: Holder,
    serial: u64,
}

/// Keys in the order in which they came; those whose entry is gone, or was put anew, count for nothing.
#[derive(Debug, Default)]
struct Line {
    order: VecDeque<(u64, u64)>,
    live: usize,
}

impl Line {
    fn push(&mut self, key: u64, serial: u64) {
        self.order.push_back((key, serial));
        self.live += 1;
    }

    fn oldest<V>(&mut self, entries: &HashMap<u64, Entry<V>>) -> Option<u64> {
        loop {
            let (key, serial) = *self.order.front()?;
            if is_live(entries, key, serial) {
                return Some(key);
            }
            self.order.pop_front();
        }
    }

    fn one_less<V>(&mut self, entries: &HashMap<u64, Entry<V>>) {
        self.live = self.live.saturating_sub(1);
        if self.order.len() > 2 * self.live + 16 {
            self.order.retain(|(key, serial)| is_live(entries, *key, *serial));
        }
    }
}

fn is_live<V>(entries: &HashMap<u64, Entry<V>>, key: u64, serial: u64) -> bool {
    entries.get(&key).is_some_and(|entry| entry.serial == serial)
}

impl<V> Fair<V> {
    pub fn new(capacity: usize) -> Self {
        let (by_process, by_user, ranks) = (HashMap::new(), HashMap::new(), BTreeSet::new());
        Self { entries: HashMap::new(), by_process, by_user, ranks, capacity: capacity.max(1), serial: 0 }
    }

    /// Puts an entry in, as the youngest of its holder's, and hands out the one that made way.
    pub fn insert(&mut self, key: u64, holder: Holder, value: V) -> Option<V> {
        self.remove(key);
        let out = self.victim(holder).and_then(|victim| self.remove(victim));
        self.serial += 1;
        let serial = self.serial;
        self.entries.insert(key, Entry { value, holder, serial });
        self.by_process.entry(holder.process).or_default().push(key, serial);
        let line = self.by_user.entry(holder.user).or_default();
        line.push(key, serial);
        let live = line.live;
        self.ranks.remove(&(live - 1, holder.user));
        self.ranks.insert((live, holder.user));
        out
    }

    /// The entry that makes way for one more of this holder's.
    fn victim(&mut self, holder: Holder) -> Option<u64> {
        if self.entries.len() < self.capacity {
            return None;
        }
        let share = (self.capacity / 8).max(1);
        if let Some(line) = self.by_process.get_mut(&holder.process).filter(|line| line.live >= share) {
            return line.oldest(&self.entries);
        }
        let (_, user) = self.ranks.last()?;
        self.by_user.get_mut(user)?.oldest(&self.entries)
    }

    pub fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        self.entries.get_mut(&key).map(|entry| &mut entry.value)
    }

    pub fn remove(&mut self, key: u64) -> Option<V> {
        let Entry { value, holder, .. } = self.entries.remove(&key)?;
        if let Some(line) = self.by_process.get_mut(&holder.process) {
            line.one_less(&self.entries);
            if line.live == 0 {
                self.by_process.remove(&holder.process);
            }
        }
        if let Some(line) = self.by_user.get_mut(&holder.user) {
            self.ranks.remove(&(line.live, holder.user));
            line.one_less(&self.entries);
            match line.live {
                0 => drop(self.by_user.remove(&holder.user)),
                live => drop(self.ranks.insert((live, holder.user))),
            }
        }
        Some(value)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The keys whose entries are meant.
    pub fn keys_where(&self, mut meant: impl FnMut(&V) -> bool) -> Vec<u64> {
        self.entries.iter().filter(|(_, entry)| meant(&entry.value)).map(|(key, _)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(process: u32, user: u32) -> Holder {
        Holder { process, user }
    }

    #[test]
    fn nobody_makes_way_while_there_is_room() {
        let mut fair = Fair::new(64);
        assert!((0..64).all(|key| fair.insert(key, of(1, 1000), key).is_none()));
        assert_eq!(fair.len(), 64);
    }

    #[test]
    fn a_process_that_has_much_makes_way_itself() {
        let mut fair = Fair::new(64);
        fair.insert(1_000, of(2, 1000), 1_000);
        for key in 0..63 {
            fair.insert(key, of(1, 1000), key);
        }
        assert_eq!(fair.insert(63, of(1, 1000), 63), Some(0), "its own oldest, though another's is older");
        assert!(fair.get_mut(1_000).is_some());
    }

    #[test]
    fn the_user_who_has_most_makes_way_for_others() {
        let mut fair = Fair::new(64);
        for key in 0..8_u32 {
            fair.insert(u64::from(key), of(key, 0), key);
        }
        for key in 8..500_u32 {
            fair.insert(u64::from(key), of(key, 1000), key);
        }
        assert_eq!(fair.len(), 64);
        assert!((0..8).all(|key| fair.get_mut(key).is_some()), "each flow of a process of its own, and none pushes out root's");
        let out = fair.insert(1_000, of(9_999, 0), 0);
        assert_eq!(out, Some(444), "the oldest of the one who has most");
    }

    #[test]
    fn entries_that_come_and_go_leave_nothing_behind() {
        let mut fair = Fair::new(64);
        for key in 0..10_000 {
            fair.insert(key, of(key as u32, 1000), ());
            assert!(fair.remove(key).is_some());
            assert!(fair.insert(5, of(1, 1), ()).is_none(), "put anew is no second place");
        }
        assert_eq!(fair.len(), 1);
        assert!(fair.by_process.len() == 1 && fair.by_user.len() == 1 && fair.ranks.len() == 1);
        assert!(fair.by_process.values().chain(fair.by_user.values()).all(|line| line.order.len() <= 64));
    }
}
