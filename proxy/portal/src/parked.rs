//! Calls that wait for a client of the stateless era to come back with what the server asked for.
//!
//! A server of the older era asks in the middle of a call and waits. A client of the stateless era gets
//! the question as the call's result and calls again with the answer. In between the call is kept here,
//! under a name that only its caller can use.

use crate::{
    call::Under,
    rpc::Id,
    upstream::{Conversation, LegacySession},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use smol_str::{SmolStr, format_smolstr};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Most calls.
const MOST: usize = 1024;
/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// A call that waits.
pub struct ParkedCall {
    /// Whose it is.
    pub caller: SmolStr,
    /// The name that was called.
    pub name: SmolStr,
    /// Where the server's answer will come.
    pub conversation: Conversation,
    /// The server, and what tells it when the call is given up.
    pub session: Arc<LegacySession>,
    /// Told when it is dropped.
    pub under: Under,
    /// The server's question.
    pub question: Id,
    since: Instant,
}

impl ParkedCall {
    /// Begins to wait.
    #[must_use]
    pub fn new(
        caller: SmolStr,
        name: SmolStr,
        conversation: Conversation,
        session: Arc<LegacySession>,
        under: Under,
        question: Id,
    ) -> Self {
        Self { caller, name, conversation, session, under, question, since: Instant::now() }
    }
}

/// A name that nobody finds by trying. None where the system has no random numbers.
pub(crate) fn unguessable() -> Option<SmolStr> {
    let mut random = [0u8; 24];
    getrandom::fill(&mut random).ok()?;
    Some(format_smolstr!("gnomon.{}", URL_SAFE_NO_PAD.encode(random)))
}

/// All that wait.
pub struct Parked(Mutex<HashMap<SmolStr, ParkedCall>>);

impl Parked {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::default())
    }

    fn table(&self) -> MutexGuard<'_, HashMap<SmolStr, ParkedCall>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a call; gives the name to take it up by (`requestState`). None where there is no room.
    pub fn keep(&self, call: ParkedCall) -> Option<SmolStr> {
        let name = unguessable()?;
        let mut table = self.table();
        table.retain(|_, call| call.since.elapsed() < PATIENCE);
        if table.len() >= MOST {
            return None;
        }
        table.insert(name.clone(), call);
        Some(name)
    }

    /// Takes a call up again: the same caller, calling the same name.
    pub fn take(&self, state: &str, caller: &str, name: &str) -> Option<ParkedCall> {
        let mut table = self.table();
        table.get(state).filter(|call| call.caller == caller && call.name == name && call.since.elapsed() < PATIENCE)?;
        table.remove(state)
    }
}

impl Default for Parked {
    fn default() -> Self {
        Self::new()
    }
}
