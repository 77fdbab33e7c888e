//! Messages that wait to be sent to clients, and their memory.
//!
//! A client decides how fast it reads, and a server how much there is to read: together they could fill any memory. So a message on
//! its way to a client is charged to its recipient, as a request is ([`crate::room`]), until the last piece of it was sent. Of a
//! list many read the same bytes: each copy that is in memory is charged once, to one of those who wait for it.

use crate::{
    emission::Emission,
    error::CallError,
    metrics::{Lacking, PortalMetrics},
    room::{Common, Taken, unsent},
    shares::owner,
};
use bytes::Bytes;
use gnomon_access::Caller;
use gnomon_shares::Refused;
use gnomon_upstream::rpc::{INTERNAL_ERROR, Id, Outcome, RpcError, response, response_pieces};
use parking_lot::Mutex;
use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// The interval at which a lack of room is logged.
const TOLD_AGAIN: Duration = Duration::from_secs(10);
/// The length from which an answer is not copied on its way, so its room goes with it, bytes.
pub const LARGE: usize = 64 << 10;

/// The body in place of a list for which there is no room. It is known by its place in memory, as no answer of a server's is.
static NO_LIST: LazyLock<Bytes> = LazyLock::new(|| match RpcError::new(INTERNAL_ERROR, CallError::NoRoom.to_string()).into() {
    Outcome::Result(text) | Outcome::Error(text) => text,
});

/// The answer where there is no room for a list.
pub fn no_list() -> Outcome {
    Outcome::Error(NO_LIST.clone())
}

/// True for that answer: nothing was done, so the request may be retried.
pub fn is_no_list(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Error(text) if text.as_ptr() == NO_LIST.as_ptr())
}

/// The recipient of messages.
#[derive(Clone)]
pub struct Recipient {
    owner: Arc<str>,
    metrics: Option<PortalMetrics>,
}

impl Recipient {
    /// The recipient for this caller. Where there is no room, `metrics` count it.
    pub fn of(caller: &Caller, metrics: Option<PortalMetrics>) -> Self {
        Self { owner: owner(caller).as_str().into(), metrics }
    }

    /// Room for so many bytes on their way, as soon as there is some; none where there was none in time.
    pub async fn room_for(&self, bytes: usize) -> Option<Taken> {
        self.told_if_none(unsent().take_for(&self.owner, bytes).await)
    }

    /// The room, if there is some at once.
    pub(crate) fn room_now(&self, bytes: usize) -> Option<Taken> {
        self.told_if_none(unsent().take_now(&self.owner, bytes))
    }

    /// A text that others may be sent as well, with the room that it takes until it was sent.
    pub async fn part_of(&self, common: &Arc<Common>) -> Option<Bytes> {
        // A short one is copied into its answer, which is charged as any.
        if common.text().len() <= LARGE {
            return Some(common.text().clone());
        }
        self.told_if_none(unsent().take_part(&self.owner, common).await)
    }

    /// An answer among several, with the room that it takes: what is large has it already.
    pub async fn in_pieces(&self, id: Option<&Id>, outcome: Outcome) -> Vec<Bytes> {
        let (Outcome::Result(payload) | Outcome::Error(payload)) = &outcome;
        if payload.len() > LARGE {
            return response_pieces(id, &outcome).into();
        }
        let text = response(id, &outcome);
        match self.room_for(text.len()).await {
            Some(room) => vec![room.holds(text)],
            None => vec![response(id, &no_list())],
        }
    }

    /// Passes a message on to a client.
    ///
    /// # Errors
    /// If there is no room for it.
    pub async fn pass_on(&self, emit: &mpsc::Sender<Emission>, text: Bytes) -> Result<(), CallError> {
        let room = self.room_for(text.len()).await.ok_or(CallError::NoRoom)?;
        // If the receiver is gone, this task is dropped soon.
        let _ = emit.send(Emission::Message(room.holds(text))).await;
        Ok(())
    }

    /// A server's answer with the room that it takes until it was sent, or why there is none.
    pub async fn roomy(&self, outcome: Outcome) -> Outcome {
        let (Outcome::Result(payload) | Outcome::Error(payload)) = &outcome;
        if payload.len() <= LARGE {
            return outcome;
        }
        match (self.room_for(payload.len()).await, outcome) {
            (Some(room), Outcome::Result(payload)) => Outcome::Result(room.holds(payload)),
            (Some(room), Outcome::Error(payload)) => Outcome::Error(room.holds(payload)),
            (None, _) => RpcError::new(INTERNAL_ERROR, CallError::NoRoom.to_string()).into(),
        }
    }

    fn told_if_none<T>(&self, taken: Result<T, Refused>) -> Option<T> {
        /// The time of the last log line, so that a flood of messages does not flood the log.
        static TOLD: Mutex<Option<Instant>> = Mutex::new(None);
        if let Ok(taken) = taken {
            return Some(taken);
        }
        if let Some(metrics) = &self.metrics {
            metrics.refused(Lacking::Room);
        }
        let mut told = TOLD.lock();
        if told.is_none_or(|at| at.elapsed() >= TOLD_AGAIN) {
            *told = Some(Instant::now());
            tracing::warn!(caller = %self.owner, "unread answers use all the memory that a caller may take; no more is sent to it");
        }
        None
    }
}
