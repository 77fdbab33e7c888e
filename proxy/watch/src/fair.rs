//! A bounded map that is shared fairly: whoever has too much loses its own oldest entry, not others' ones.
//!
//! Keys are cookies of sockets, which are never given out twice. One process has at most an eighth of the
//! places and one user at most half; a fork bomb therefore costs others at most half the room. The price is
//! three queues with an entry for each key; entries of keys that are gone are swept out when they are the
//! majority.

use std::collections::{HashMap, VecDeque};

/// Whose an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub process: u32,
    pub user: u32,
}

#[derive(Debug)]
pub(crate) struct Fair<V> {
    entries: HashMap<u64, Entry<V>>,
    all: Line,
    by_process: HashMap<u32, Line>,
    by_user: HashMap<u32, Line>,
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
        let (by_process, by_user) = (HashMap::new(), HashMap::new());
        Self { entries: HashMap::new(), all: Line::default(), by_process, by_user, capacity: capacity.max(1), serial: 0 }
    }

    /// Puts an entry in, as the youngest of its holder's, and hands out the one that made way.
    pub fn insert(&mut self, key: u64, holder: Holder, value: V) -> Option<V> {
        self.remove(key);
        let out = self.victim(holder).and_then(|victim| self.remove(victim));
        self.serial += 1;
        let serial = self.serial;
        self.entries.insert(key, Entry { value, holder, serial });
        self.all.push(key, serial);
        self.by_process.entry(holder.process).or_default().push(key, serial);
        self.by_user.entry(holder.user).or_default().push(key, serial);
        out
    }

    /// Who makes way for one more of this holder's.
    fn victim(&mut self, holder: Holder) -> Option<u64> {
        let (process_share, user_share) = ((self.capacity / 8).max(1), (self.capacity / 2).max(1));
        if let Some(line) = self.by_process.get_mut(&holder.process).filter(|line| line.live >= process_share) {
            return line.oldest(&self.entries);
        }
        if let Some(line) = self.by_user.get_mut(&holder.user).filter(|line| line.live >= user_share) {
            return line.oldest(&self.entries);
        }
        if self.entries.len() < self.capacity { None } else { self.all.oldest(&self.entries) }
    }

    pub fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        self.entries.get_mut(&key).map(|entry| &mut entry.value)
    }

    pub fn remove(&mut self, key: u64) -> Option<V> {
        let Entry { value, holder, .. } = self.entries.remove(&key)?;
        self.all.one_less(&self.entries);
        for (lines, id) in [(&mut self.by_process, holder.process), (&mut self.by_user, holder.user)] {
            if let Some(line) = lines.get_mut(&id) {
                line.one_less(&self.entries);
                if line.live == 0 {
                    lines.remove(&id);
                }
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
    fn one_process_pushes_out_only_its_own() {
        let mut fair = Fair::new(64);
        for key in 0..8 {
            assert!(fair.insert(key, of(1, 1000), key).is_none());
        }
        assert_eq!(fair.insert(99, of(2, 1000), 99), None);
        assert_eq!(fair.insert(8, of(1, 1000), 8), Some(0), "its own oldest");
        assert!(fair.get_mut(99).is_some());
    }

    #[test]
    fn one_user_with_many_processes_gets_half_and_no_more() {
        let mut fair = Fair::new(64);
        fair.insert(1_000, of(1, 0), 0);
        for key in 0..500_u32 {
            fair.insert(u64::from(key), of(10 + key, 1000), 0);
        }
        assert_eq!(fair.len(), 33);
        assert!(fair.get_mut(1_000).is_some());
    }

    #[test]
    fn a_full_map_loses_its_oldest() {
        let mut fair = Fair::new(16);
        for key in 0..16_u32 {
            fair.insert(u64::from(key), of(key, key), key);
        }
        assert_eq!(fair.insert(16, of(16, 16), 16), Some(0));
        assert_eq!(fair.len(), 16);
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
        assert!(fair.all.order.len() <= 64 && fair.by_process.len() == 1 && fair.by_user.len() == 1);
        assert!(fair.by_process.values().all(|line| line.order.len() <= 64));
    }
}
