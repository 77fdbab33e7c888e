//! Errors between two ends.

use std::io;
use std::path::PathBuf;

use crate::codec::{DecodeError, EncodeError};
use crate::message::DescriptorKind;

/// A message that was not sent or received, or a socket that could not be had.
///
/// After an error in what arrived the next message can be received: boundaries are kept. Descriptors that came with a
/// bad message are closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The other end hung up, or sent a message without a byte.
    #[error("the other end hung up")]
    Closed,
    /// Timed out.
    #[error("the other end did not answer in time")]
    TimedOut,
    /// The bytes received are not a message of this protocol.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The message cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A message with more or fewer descriptors than belong to it.
    #[error("{got} descriptors with a {message} that has {expected}")]
    DescriptorCount {
        /// The direction.
        message: &'static str,
        /// The number that belong to it.
        expected: usize,
        /// The number received.
        got: usize,
    },
    /// A descriptor that is not what belongs to the message.
    #[error("descriptor {position} of a {message} is not a {expected:?}")]
    WrongDescriptor {
        /// The direction.
        message: &'static str,
        /// Its position, from 0.
        position: usize,
        /// The expected kind.
        expected: DescriptorKind,
    },
    /// Descriptors were lost on the way: more were sent than ever belong to a message, or this process can open no
    /// more.
    #[error("descriptors were lost on the way")]
    DescriptorsLost,
    /// A message that does not belong at this place of the conversation.
    #[error("{got} where {expected} was expected")]
    OutOfTurn {
        /// The expected message.
        expected: &'static str,
        /// The message received.
        got: String,
    },
    /// The peer lives in a process namespace that cannot be seen from here.
    #[error("the peer's process cannot be seen from this process namespace")]
    UnseenPeer,
    /// The peer has ended.
    #[error("the peer's process has ended")]
    PeerGone,
    /// Not a Unix socket that keeps message boundaries.
    #[error("not a Unix socket of type SOCK_SEQPACKET")]
    NotOurSocket,
    /// Another process listens on this path.
    #[error("{path} is in use by another gnomon: stop it, or use another path")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something else than a socket is at this path.
    #[error("{path} is not a socket, and is left alone: remove it, or use another path")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action}")]
    Os {
        /// The action that failed.
        action: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// For `map_err`: names the failed action.
pub(crate) fn os<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> LinkError {
    move |error| LinkError::Os { action, source: error.into() }
}
