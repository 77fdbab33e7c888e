//! The HTTP interface that exports need. Implementers verify TLS and do not follow redirections.

use bytes::Bytes;
use http::{Request, StatusCode};
use std::{future::Future, pin::Pin, time::Duration};

/// A receiver's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// All of it.
    pub body: Bytes,
    /// The delay before a retry, from `Retry-After` if there is one.
    pub after: Option<Duration>,
}

/// An error of a request without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The receiver could not be reached, with the reason.
    Unreachable(String),
    /// The answer broke off, or is longer than it may be, and how.
    BrokeOff(String),
    /// Timed out.
    Late,
}

/// An answer that is still to come.
pub type Posted<'a> = Pin<Box<dyn Future<Output = Result<Answer, NoAnswer>> + Send + 'a>>;

/// Sends requests to a receiver.
pub trait Post: Send + Sync {
    /// Sends a request to where its URI, an absolute one, says. At most `most` bytes of the answer are read, and all takes at most
    /// `patience`.
    fn post(&self, request: Request<Bytes>, most: usize, patience: Duration) -> Posted<'_>;
}
