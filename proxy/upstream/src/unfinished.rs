//! The memory of what servers have begun to say and not ended: one bound for all, and one for each server, so that a server which never ends
//! its messages, on however many streams, takes neither the process's memory nor the others' room. What is an answer to somebody's call is
//! of their share, whichever servers they call: nobody has more than is left to all others together.

use crate::heard;
use gnomon_shares::{Bounds, Share, Shares};
use parking_lot::Mutex;
use smol_str::SmolStr;
use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The bytes of each message that are not counted: connections are, and most messages are smaller.
const FREE: usize = 64 << 10;
/// What is counted at a time.
const STEP: usize = 64 << 10;
/// The bound for all servers together.
const ALL: usize = 192 << 20;
/// … or one in so many of those that this process may have.
const PART_OF_LIMIT: u64 = 8;
/// The bound for one server.
const OF_ONE: usize = 64 << 20;

/// All of it, in steps: of it a caller has at most as much as is free, and so has what a server says to nobody's call.
static ROOM: LazyLock<Arc<Shares>> = LazyLock::new(|| {
    let all = gnomon_memory::part(ALL, PART_OF_LIMIT) / STEP;
    Shares::new(Bounds { all, each: all, times_free: 1 })
});
static ACCOUNTS: LazyLock<Mutex<HashMap<SmolStr, Weak<Taken>>>> = LazyLock::new(Mutex::default);

/// What one server has taken, on all connections to it and in all its processes.
#[derive(Clone, Debug)]
pub(crate) struct Account(Arc<Taken>);

#[derive(Debug)]
struct Taken {
    bytes: AtomicUsize,
    /// The owner of what is no answer to a call.
    own: Arc<str>,
}

impl Account {
    /// The account of the server with this id.
    pub(crate) fn of(server: &str) -> Self {
        let mut accounts = ACCOUNTS.lock();
        if let Some(open) = accounts.get(server).and_then(Weak::upgrade) {
            return Self(open);
        }
        accounts.retain(|_, account| account.strong_count() > 0);
        let own = Arc::new(Taken { bytes: AtomicUsize::new(0), own: format!("server {server}").into() });
        accounts.insert(server.into(), Arc::downgrade(&own));
        Self(own)
    }

    /// A message that begins.
    pub(crate) fn message(&self) -> Unfinished {
        let owner = heard::owner().unwrap_or_else(|| self.0.own.clone());
        Unfinished { account: self.clone(), owner, share: None, taken: 0 }
    }
}

/// There is no room for more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// One message that is not ended. What it takes is given back when it is ended or dropped.
#[derive(Debug)]
pub(crate) struct Unfinished {
    account: Account,
    owner: Arc<str>,
    /// What it has of all, as much as it has taken.
    share: Option<Share>,
    taken: usize,
}

impl Unfinished {
    /// Counts that so many bytes of it are held.
    ///
    /// # Errors
    /// [`NoRoom`]; what was taken before stays taken.
    pub(crate) fn holds(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let counted = bytes.saturating_sub(FREE);
        if counted <= self.taken {
            return Ok(());
        }
        let more = (counted - self.taken).next_multiple_of(STEP);
        take(&self.account.0.bytes, more, gnomon_memory::part(OF_ONE, 2 * PART_OF_LIMIT))?;
        let shared = match &mut self.share {
            Some(share) => share.grow(more / STEP),
            None => ROOM.take_some(&self.owner, more / STEP).map(|share| self.share = Some(share)),
        };
        if shared.is_err() {
            self.account.0.bytes.fetch_sub(more, Ordering::Relaxed);
            return Err(NoRoom);
        }
        self.taken += more;
        Ok(())
    }

    /// It is ended: what was taken is given back, and the next one begins.
    pub(crate) fn ended(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        if taken > 0 {
            self.account.0.bytes.fetch_sub(taken, Ordering::Relaxed);
            self.share = None;
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.ended();
    }
}

fn take(from: &AtomicUsize, more: usize, most: usize) -> Result<(), NoRoom> {
    let within = |taken: usize| taken.checked_add(more).filter(|all| *all <= most);
    from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).map(drop).map_err(|_| NoRoom)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The room is the process's.
    static ALONE: Mutex<()> = Mutex::new(());

    #[test]
    fn one_server_s_unfinished_messages_are_bounded_and_what_is_ended_makes_room() {
        let _alone = ALONE.lock();
        let account = Account::of("one server's");
        let mut held: Vec<Unfinished> = Vec::new();
        let mut full = account.message();
        while held.len() < 1000 {
            let mut message = account.message();
            match message.holds(16 << 20) {
                Ok(()) => held.push(message),
                Err(NoRoom) => break,
            }
        }
        assert_eq!(held.len(), 4, "of 16 MiB each");
        assert_eq!(full.holds(FREE), Ok(()), "small ones find room all the same");
        assert_eq!(full.holds(8 << 20), Err(NoRoom));
        assert_eq!(Account::of("another's").message().holds(16 << 20), Ok(()), "and so do others");
        held[0].ended();
        assert_eq!(full.holds(8 << 20), Ok(()));
        drop((held, full));
        assert_eq!(account.0.bytes.load(Ordering::Relaxed), 0);
        assert!(Arc::ptr_eq(&Account::of("one server's").0, &account.0), "it is one account however often it is asked for");
    }

    #[test]
    fn one_caller_of_many_lying_servers_leaves_room_for_everybody_else_s_answers() {
        let _alone = ALONE.lock();
        let of = |server: &str, caller: &str| {
            let mut message = Account::of(server).message();
            message.owner = caller.into();
            message
        };
        let mut held = Vec::new();
        for server in ["lies 1", "lies 2", "lies 3", "lies 4"] {
            loop {
                let mut message = of(server, "greedy");
                if message.holds(FREE + STEP).is_err() {
                    break;
                }
                held.push(message);
            }
        }
        assert!((ALL / STEP / 2 - 1..=ALL / STEP / 2).contains(&held.len()), "{}", held.len());
        let mut other = of("honest", "other");
        assert_eq!(other.holds(16 << 20), Ok(()));
        assert_eq!(of("lies 4", "third").holds(16 << 20), Ok(()), "of a server that is called by both as well");
    }
}
