//! One request with who makes it, and its way back to them.

use crate::{
    emission::Emission,
    judged::Whose,
    offer::Offer,
    session::Session,
    shares,
    taken_back::TakenBack,
    waiting::{Waiting, Waits},
};
use gnomon_access::Caller;
use gnomon_observe::Observation;
use gnomon_upstream::Client;
use http::HeaderValue;
use smol_str::SmolStr;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The session or client of a call, by era.
#[derive(Clone)]
pub enum Origin {
    /// A session.
    Session(Arc<Session>),
    /// A client whose requests carry everything.
    Stateless(Arc<Client>),
}

/// The script of Code Mode that a call comes from.
#[derive(Clone)]
pub struct Script {
    /// The execution's name in the record.
    pub execution: SmolStr,
    /// The time that it waited for a person.
    pub waiting: Arc<Waiting>,
    /// The saved snippet whose code asks, if it is not the caller's own.
    pub snippet: Option<Arc<SavedSnippet>>,
}

/// A saved snippet of Code Mode, for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedSnippet {
    /// The name.
    pub name: SmolStr,
    /// The version.
    pub version: u32,
    /// The SHA-256 by which it was approved, 64 hexadecimal digits.
    pub sha256: SmolStr,
}

/// A request with its way to the client.
#[derive(Clone)]
pub struct Call {
    /// The caller.
    pub caller: Arc<Caller>,
    /// The era, and the session if there is one.
    pub from: Origin,
    /// The client's `User-Agent`.
    pub agent: Option<HeaderValue>,
    /// The offer to the client.
    pub offer: Offer,
    /// The script of Code Mode that asks.
    pub script: Option<Script>,
    /// The program of this host that asks.
    pub program: Option<Arc<Observation>>,
    /// Whether the client cancelled it.
    pub taken_back: Arc<TakenBack>,
    /// The way to the client until the answer.
    pub emit: mpsc::Sender<Emission>,
}

impl Call {
    /// The caller, for the rules.
    pub fn whose(&self) -> Whose<'_> {
        let client = match &self.from {
            Origin::Session(session) => &session.client,
            Origin::Stateless(client) => client,
        };
        Whose {
            caller: &self.caller,
            client,
            agent: self.agent.as_ref(),
            execution: self.script.as_ref().map(|script| &script.execution),
            program: self.program.as_deref(),
        }
    }

    /// The owner of a task that it begins or asks for, within its era: who is proven to ask, else the kernel's user, else the session.
    pub fn task_owner(&self) -> SmolStr {
        match &self.from {
            Origin::Session(session) => shares::task_owner(&self.caller, &session.id),
            Origin::Stateless(_) => shares::stateless_task_owner(&self.caller),
        }
    }

    /// Counts the time from now on as waiting for a person.
    pub fn waits(&self) -> Option<Waits> {
        self.script.as_ref().map(|script| script.waiting.begin())
    }
}
