//! Calls that wait for a client of the stateless era to come back with what the server asked for.
//!
//! A server of the older era asks in the middle of a call and waits. A client of the stateless era gets
//! the question as the call's result and calls again with the answer. In between the call is kept here,
//! under a name that only its caller can use.

use crate::{
    rpc::Id,
    under::Under,
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
    caller: SmolStr,
    /// The name that was called.
    name: SmolStr,
    /// A digest of what it was called with: who takes the call up again with something else would have what never ran recorded.
    asked_with: SmolStr,
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
    /// Begins to wait, for a caller that called a name with these arguments.
    #[must_use]
    pub fn new(
        (caller, name, asked_with): (SmolStr, SmolStr, SmolStr),
        conversation: Conversation,
        session: Arc<LegacySession>,
        under: Under,
        question: Id,
    ) -> Self {
        Self { caller, name, asked_with, conversation, session, under, question, since: Instant::now() }
    }
}

/// Why a call is not taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTakenUp {
    /// It is over, or another's.
    #[error("`requestState` is not known, or no longer")]
    Unknown,
    /// The call that waits is another one.
    #[error("`requestState` belongs to a call with other arguments: repeat that call as it was, with `inputResponses`")]
    OtherArguments,
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

    /// Takes a call up again: the same caller, calling the same name with the same arguments.
    ///
    /// # Errors
    /// Why it is not. It goes on waiting.
    pub fn take(&self, state: &str, (caller, name, asked_with): (&str, &str, &str)) -> Result<ParkedCall, NotTakenUp> {
        let mut table = self.table();
        let found = table.get(state).filter(|call| call.caller == caller && call.name == name && call.since.elapsed() < PATIENCE);
        if found.ok_or(NotTakenUp::Unknown)?.asked_with != asked_with {
            return Err(NotTakenUp::OtherArguments);
        }
        table.remove(state).ok_or(NotTakenUp::Unknown)
    }
}

impl Default for Parked {
    fn default() -> Self {
        Self::new()
    }
}
