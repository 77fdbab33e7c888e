//! The messages to a client before its answer.

use bytes::Bytes;
use std::time::Duration;

/// A message to the client before its answer.
#[derive(Debug)]
pub enum Emission {
    /// A message.
    Message(Bytes),
    /// The stream can be taken up again from here.
    Prime(Option<Duration>),
    /// The connection ends, the stream goes on.
    Pause,
}
