//! Calls that wait for a client of the stateless era to come back with what the server asked for.
//!
//! A server of the older era asks in the middle of a call and waits. A client of the stateless era gets
//! the question as the call's result and calls again with the answer. In between the call is kept here,
//! under a name that only its caller can use.
//!
//! The number of parked calls is bounded. Beyond it, the oldest of the caller with most is evicted: its server gets an error, as for one
//! that is not resumed in time.

use crate::{
    act::Act,
    forms::{Elicited, KeptForm},
    held::Upstream,
    not_taken_up::{NotTakenUp, PATIENCE},
    pending::PendingUpstream,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gnomon_shares::{Amount, Share, Yielding};
use gnomon_upstream::{Conversation, LegacySession, rpc::Id, take_place};
use parking_lot::{Mutex, MutexGuard};
use smol_str::{SmolStr, format_smolstr};
use std::{collections::HashMap, sync::Arc, time::Instant};

/// Most calls of a portal.
const MOST: usize = 1024;

/// A call that waits.
pub struct ParkedCall {
    /// The share that it counts against.
    holder: SmolStr,
    /// The caller.
    caller: SmolStr,
    /// The name that was called.
    name: SmolStr,
    /// A digest of what it was called with: who takes the call up again with something else would have what never ran recorded.
    asked_with: SmolStr,
    /// The number of the server.
    server: u64,
    /// The conversation in which the server's answer will come.
    pub conversation: Conversation,
    /// The server, and what tells it when the call is given up.
    pub session: Arc<LegacySession>,
    /// Cancelled when it is dropped.
    pub under: PendingUpstream,
    /// The server's question.
    pub question: Id,
    /// The form that the answer to it must fit.
    form: Option<KeptForm>,
    /// Its place among the calls in progress with its server.
    pub place: Option<Share>,
    /// What is recorded of it if it is not taken up.
    pub act: Act,
}

impl ParkedCall {
    /// Begins to wait, for a caller that called a name with these arguments. The call that this is part of is the one that waits.
    #[must_use]
    pub fn new(
        holder: SmolStr,
        (caller, name, asked_with): (SmolStr, SmolStr, SmolStr),
        conversation: Conversation,
        (server, session): (u64, Arc<LegacySession>),
        under: PendingUpstream,
        (question, form): (Id, Option<KeptForm>),
        act: Act,
    ) -> Self {
        Self { holder, caller, name, asked_with, server, conversation, session, under, question, form, place: take_place(), act }
    }
}

/// A name that cannot be guessed. None if the system has no random numbers.
pub fn unguessable() -> Option<SmolStr> {
    let mut random = [0u8; 24];
    getrandom::fill(&mut random).ok()?;
    Some(format_smolstr!("gnomon.{}", URL_SAFE_NO_PAD.encode(random)))
}

/// The waiting calls, by the name to resume them by.
struct Table<C> {
    waiting: HashMap<SmolStr, Waits<C>>,
    shares: Yielding,
    next: u64,
}

struct Waits<C> {
    call: C,
    holder: SmolStr,
    since: Instant,
    /// Later ones have larger numbers.
    number: u64,
}

impl<C> Table<C> {
    fn of(most: usize) -> Self {
        Self { waiting: HashMap::new(), shares: Yielding::of(Amount { count: most, bytes: usize::MAX }), next: 0 }
    }

    fn insert(&mut self, name: SmolStr, holder: &SmolStr, call: C) {
        self.shares.add(holder, 0);
        let waits = Waits { call, holder: holder.clone(), since: Instant::now(), number: self.next };
        self.next += 1;
        self.waiting.insert(name, waits);
    }

    fn get(&self, name: &str) -> Option<&C> {
        self.waiting.get(name).filter(|waits| waits.since.elapsed() < PATIENCE).map(|waits| &waits.call)
    }

    fn remove(&mut self, name: &str) -> Option<C> {
        let Waits { call, holder, .. } = self.waiting.remove(name)?;
        self.shares.remove(&holder, 0);
        Some(call)
    }

    /// Takes out what has waited for too long.
    fn late(&mut self) -> Vec<C> {
        let late = self.waiting.iter().filter(|(_, waits)| waits.since.elapsed() >= PATIENCE);
        let late: Vec<SmolStr> = late.map(|(name, _)| name.clone()).collect();
        late.iter().filter_map(|name| self.remove(name)).collect()
    }

    /// Takes out what is meant.
    fn those(&mut self, is: impl Fn(&C) -> bool) -> Vec<C> {
        let meant = self.waiting.iter().filter(|(_, waits)| is(&waits.call));
        let meant: Vec<SmolStr> = meant.map(|(name, _)| name.clone()).collect();
        meant.iter().filter_map(|name| self.remove(name)).collect()
    }

    /// Removes calls beyond the bound: the oldest of the caller with most.
    fn surplus(&mut self) -> Vec<C> {
        let mut gone = Vec::new();
        while let Some(holder) = self.shares.too_much() {
            let theirs = self.waiting.iter().filter(|(_, waits)| waits.holder == holder);
            let Some(oldest) = theirs.min_by_key(|(_, waits)| waits.number).map(|(name, _)| name.clone()) else { break };
            gone.extend(self.remove(&oldest));
        }
        gone
    }
}

impl Table<ParkedCall> {
    fn meant(&self, state: &str, (caller, name, asked_with): (&str, &str, &str)) -> Result<&ParkedCall, NotTakenUp> {
        let found = self.get(state).filter(|call| call.caller == caller && call.name == name);
        let found = found.ok_or(NotTakenUp::Unknown)?;
        if found.asked_with == asked_with { Ok(found) } else { Err(NotTakenUp::OtherArguments) }
    }
}

/// The waiting calls.
pub struct Parked(Mutex<Table<ParkedCall>>);

impl Parked {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(Table::of(MOST)))
    }

    fn table(&self) -> MutexGuard<'_, Table<ParkedCall>> {
        self.0.lock()
    }

    /// Keeps a call; gives the name to take it up by (`requestState`). None where the system has no random numbers.
    pub fn keep(&self, call: ParkedCall) -> Option<SmolStr> {
        let name = unguessable()?;
        let (late, surplus) = {
            let mut table = self.table();
            let late = table.late();
            let holder = call.holder.clone();
            table.insert(name.clone(), &holder, call);
            (late, table.surplus())
        };
        late.into_iter().for_each(|call| call.under.given_up("the client did not answer in time"));
        surplus.into_iter().for_each(|call| call.under.given_up("too many calls of this caller wait for input"));
        Some(name)
    }

    /// Takes a call up again: the same caller, calling the same name with the same arguments.
    ///
    /// # Errors
    /// Why it is not. It goes on waiting.
    pub fn take(&self, state: &str, whose: (&str, &str, &str)) -> Result<ParkedCall, NotTakenUp> {
        let mut table = self.table();
        table.meant(state, whose)?;
        table.remove(state).ok_or(NotTakenUp::Unknown)
    }

    /// What the answer must fit with which a call is to be taken up.
    ///
    /// # Errors
    /// See [`Parked::take`].
    pub fn form(&self, state: &str, whose: (&str, &str, &str)) -> Result<Option<Elicited>, NotTakenUp> {
        Ok(self.table().meant(state, whose)?.form.as_ref().map(|kept| kept.asked().clone()))
    }
}

impl Parked {
    /// Removes a server's calls, at its end.
    pub fn part_with(&self, gone: &Upstream) {
        let taken = self.table().those(|call| call.server == gone.number);
        taken.into_iter().for_each(|call| call.under.given_up("the server is no longer offered"));
    }
}

impl Default for Parked {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_s_calls_keep_nobody_else_s_from_waiting_and_its_oldest_go_first() {
        let mut table = Table::of(8);
        let (greedy, other): (SmolStr, SmolStr) = ("greedy".into(), "other".into());
        let name = |number: u32| format_smolstr!("{number}");
        for number in 0..8 {
            table.insert(name(number), &greedy, number);
            assert!(table.surplus().is_empty());
        }
        table.insert(name(8), &greedy, 8);
        assert_eq!(table.surplus(), [0], "its own place, not another's");
        for number in 9..13 {
            table.insert(name(number), &other, number);
            assert_eq!(table.surplus(), [number - 8]);
        }
        assert_eq!((table.get("12"), table.get("4"), table.get("5")), (Some(&12), None, Some(&5)));
        (5..13).for_each(|number| assert_eq!(table.remove(&name(number)), Some(number)));
        table.insert(name(13), &greedy, 13);
        assert!(table.surplus().is_empty(), "what was taken up leaves its place");
    }

    #[test]
    fn seven_others_calls_wait_although_one_caller_has_taken_all_places() {
        let mut table = Table::of(MOST);
        let greedy: SmolStr = "greedy".into();
        for number in 0..2 * MOST {
            table.insert(format_smolstr!("greedy {number}"), &greedy, number);
            table.surplus();
        }
        for other in 0..7 {
            for number in 0..MOST / 8 {
                table.insert(format_smolstr!("{other} {number}"), &format_smolstr!("other {other}"), number);
                table.surplus();
            }
        }
        let kept = |other: usize| (0..MOST / 8).all(|number| table.get(&format!("{other} {number}")).is_some());
        assert!((0..7).all(kept) && table.waiting.len() == MOST);
    }
}
