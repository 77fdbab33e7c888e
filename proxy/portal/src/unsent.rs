//! What waits to be sent to clients, and the room that there is for it.
//!
//! A client decides how fast it reads, and a server how much there is to read: together they could fill any memory. So a message on
//! its way to a client is charged to whoever it is for, as a request is ([`crate::room`]), until the last piece of it was sent. Lists
//! are not: all clients read the same bytes.

use crate::{
    call::{Call, Emission},
    front::busy,
    metrics::{Lacking, PortalMetrics},
    outflow::Outflow,
    portal::Portal,
    room::{Taken, unsent},
    rpc::{INTERNAL_ERROR, Outcome, RpcError},
    shares::owner,
    upstream::UpstreamError,
};
use bytes::Bytes;
use gnomon_access::Caller;
use http::Response;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often it is told that there is no room.
const TOLD_AGAIN: Duration = Duration::from_secs(10);
/// From here on an answer is not copied on its way, so its room goes with it, bytes.
pub(crate) const LARGE: usize = 64 << 10;

/// Whoever messages are for.
#[derive(Clone)]
pub struct Recipient {
    owner: Arc<str>,
    metrics: Option<PortalMetrics>,
}

impl Recipient {
    pub fn of(caller: &Caller, metrics: Option<PortalMetrics>) -> Self {
        Self { owner: owner(caller).as_str().into(), metrics }
    }

    /// Room for so many bytes on their way, as soon as there is some; none where there was none in time.
    pub(crate) async fn room_for(&self, bytes: usize) -> Option<Taken> {
        /// When it was last told: a flood of messages is none of lines.
        static TOLD: Mutex<Option<Instant>> = Mutex::new(None);
        if let Ok(taken) = unsent().take_for(&self.owner, bytes).await {
            return Some(taken);
        }
        if let Some(metrics) = &self.metrics {
            metrics.refused(Lacking::Room);
        }
        let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= TOLD_AGAIN) {
            *told = Some(Instant::now());
            tracing::warn!(caller = %self.owner, "what a caller does not read takes all the memory that there is for it; more is not sent");
        }
        None
    }
}

impl Portal {
    pub(crate) fn recipient(&self, caller: &Caller) -> Recipient {
        Recipient::of(caller, self.options.metrics.clone())
    }

    /// Passes a message on to a client.
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) async fn pass_on(&self, call: &Call, text: Bytes) -> Result<(), UpstreamError> {
        let room = self.recipient(&call.caller).room_for(text.len()).await.ok_or(UpstreamError::NoRoom)?;
        // Nobody listens any more: whoever drives this is dropped soon.
        let _ = call.emit.send(Emission::Message(room.holds(text))).await;
        Ok(())
    }

    /// A server's answer with the room that it takes until it was sent, or why there is none.
    pub(crate) async fn roomy(&self, caller: &Caller, outcome: Outcome) -> Outcome {
        let (Outcome::Result(payload) | Outcome::Error(payload)) = &outcome;
        if payload.len() <= LARGE {
            return outcome;
        }
        match (self.recipient(caller).room_for(payload.len()).await, outcome) {
            (Some(room), Outcome::Result(payload)) => Outcome::Result(room.holds(payload)),
            (Some(room), Outcome::Error(payload)) => Outcome::Error(room.holds(payload)),
            (None, _) => RpcError::new(INTERNAL_ERROR, UpstreamError::NoRoom.to_string()).into(),
        }
    }

    /// A response with the room that it takes until it was sent. What comes in pieces has it already.
    pub(crate) async fn charged(&self, caller: &Caller, response: Response<Outflow>) -> Response<Outflow> {
        let Outflow::Whole(Some(whole)) = response.body() else { return response };
        match self.recipient(caller).room_for(whole.len()).await {
            Some(room) => response.map(|body| match body {
                Outflow::Whole(Some(whole)) => Outflow::Whole(Some(room.holds(whole))),
                other => other,
            }),
            None => busy(&format!("{}; then try again", UpstreamError::NoRoom)),
        }
    }
}
