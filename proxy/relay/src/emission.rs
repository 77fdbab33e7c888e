//! The messages to a client before its answer.

use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;

/// A message to the client before its answer.
#[derive(Debug)]
pub enum Emission {
    /// A message.
    Message(Bytes),
    /// The stream can be taken up again from here.
    Prime(Option<Duration>),
    /// The connection ends, the stream goes on. This is notified when the client is back.
    Pause(Arc<Notify>),
}
