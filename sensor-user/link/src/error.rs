//! What can go wrong between two ends.

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
    /// Nothing came, or nothing could be sent, within the time given.
    #[error("the other end did not answer in time")]
    TimedOut,
    /// What arrived is no message of this protocol.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// What should be sent cannot be.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A message with more or fewer descriptors than belong to it.
    #[error("{got} descriptors with a {message} that has {expected}")]
    DescriptorCount {
        /// The direction.
        message: &'static str,
        /// How many belong to it.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// A descriptor that is not what belongs to the message.
    #[error("descriptor {position} of a {message} is no {expected:?}")]
    WrongDescriptor {
        /// The direction.
        message: &'static str,
        /// Which of them, from 0.
        position: usize,
        /// What it should be.
        expected: DescriptorKind,
    },
    /// Descriptors were lost on the way: more were sent than ever belong to a message, or this process can open no
    /// more.
    #[error("descriptors were lost on the way")]
    DescriptorsLost,
    /// A message that does not belong at this place of the conversation.
    #[error("{got} where {expected} was expected")]
    OutOfTurn {
        /// What belongs here.
        expected: &'static str,
        /// What came.
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
    /// Somebody listens on this path.
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
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// For `map_err`: names what was tried.
pub(crate) fn os<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> LinkError {
    move |error| LinkError::Os { action, source: error.into() }
}
