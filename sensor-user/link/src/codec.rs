//! Messages as bytes: postcard (<https://postcard.jamesmunns.com/wire-format>), which is a variant's number and its
//! fields in order.
//!
//! Chosen over a codec of our own because reading and writing then cannot disagree, and over JSON because a bounded
//! type is all it takes to bound a message. What postcard leaves out is added here: the version is compared before
//! anything else is read, an unknown variant is named, and nothing may follow a message.

use crate::MAX_MESSAGE;
use crate::message::{Message, VERSION, Version};

/// A message that cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The message is too long, although its parts are within their bounds.
    #[error("the message has {0} bytes, at most {MAX_MESSAGE} can be sent")]
    TooLong(usize),
    /// Does not happen to the types of this crate.
    #[error("the message cannot be encoded")]
    Encoding(#[source] postcard::Error),
}

/// Bytes that are no message of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Longer than any message.
    #[error("a message of {0} bytes, at most {MAX_MESSAGE} are read")]
    TooLong(usize),
    /// The other end speaks another version.
    #[error("the other end speaks version {theirs} of gnomon's protocol, this one {ours}: restart the older of the two")]
    Version {
        /// Its version.
        theirs: Version,
        /// The version of this build.
        ours: Version,
    },
    /// A variant that this version does not know.
    #[error("unknown {message} (number {variant})")]
    UnknownVariant {
        /// The direction.
        message: &'static str,
        /// Its number.
        variant: u32,
    },
    /// A text or list above its bound, or a choice that this version does not know.
    #[error("a {0} with a text, list or choice that is out of bounds")]
    OutOfBounds(&'static str),
    /// Truncated, or of another format.
    #[error("malformed {message}")]
    Malformed {
        /// The direction.
        message: &'static str,
        /// The error.
        #[source]
        source: postcard::Error,
    },
    /// Bytes follow the message.
    #[error("{extra} bytes follow a {message}")]
    TrailingBytes {
        /// The direction.
        message: &'static str,
        /// The number of extra bytes.
        extra: usize,
    },
}

/// The bytes of a message.
///
/// # Errors
/// More than [`MAX_MESSAGE`] bytes.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, EncodeError> {
    let bytes = postcard::to_allocvec(message).map_err(EncodeError::Encoding)?;
    if bytes.len() > MAX_MESSAGE { Err(EncodeError::TooLong(bytes.len())) } else { Ok(bytes) }
}

/// The message that the bytes are, all of them. Allocates at most in proportion to them.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode<M: Message>(bytes: &[u8]) -> Result<M, DecodeError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let message = M::NAME;
    let malformed = |source| match source {
        postcard::Error::SerdeDeCustom => DecodeError::OutOfBounds(message),
        source => DecodeError::Malformed { message, source },
    };
    let (variant, fields) = postcard::take_from_bytes::<u32>(bytes).map_err(malformed)?;
    if variant == 0 {
        // Before the rest, which another version may have changed.
        let (theirs, _) = postcard::take_from_bytes::<Version>(fields).map_err(malformed)?;
        if theirs.major != VERSION.major {
            return Err(DecodeError::Version { theirs, ours: VERSION });
        }
    }
    if variant >= M::VARIANTS {
        return Err(DecodeError::UnknownVariant { message, variant });
    }
    match postcard::take_from_bytes(bytes).map_err(malformed)? {
        (decoded, []) => Ok(decoded),
        (_, extra) => Err(DecodeError::TrailingBytes { message, extra: extra.len() }),
    }
}
