//! The messages between a worker and its parent.
//!
//! A frame is a length (four bytes, little endian) and a postcard message. What comes from the worker is hostile input: the length
//! is checked before a byte of it is kept, the message must fill the frame, and what it may say when is for
//! [`sandbox`](crate::sandbox) to judge.

use serde::{Deserialize, Serialize};

use crate::limits::{Limit, Limits};
use crate::outcome::Severity;

/// Characters of an error's text that leave the sandbox.
pub const MAX_MESSAGE: usize = 4_000;
/// Bytes of what is said beside a value.
pub const MAX_REMARK: usize = 2_000;

/// Room for what surrounds the texts in a frame.
const ENVELOPE: usize = 512;

/// A message of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWorker<'a> {
    /// The code is not one expression, so it is read as TypeScript; only ever the first frame. Dying before [`Self::Read`] is
    /// dying of what the code is like.
    Reading,
    /// The code was read.
    Read,
    /// A line of the console.
    Log {
        /// The function of the console that wrote it.
        severity: Severity,
        /// The text.
        text: &'a str,
    },
    /// A host call.
    Call {
        /// Counts up from one.
        id: u32,
        /// The name that is called.
        name: &'a str,
        /// JSON, as the worker says.
        arguments: &'a str,
    },
    /// The worker can do nothing before an answer comes; the clock of the sandbox stops from here.
    Wait,
    /// The end.
    Done {
        /// The result, error or limit.
        end: End<'a>,
        /// Whether lines of the console were cut.
        truncated: bool,
        /// A remark beside a value.
        remark: &'a str,
    },
    /// As [`Self::Wait`], but at most for so long: a timer is due then.
    Rest {
        /// The time in milliseconds.
        milliseconds: u32,
    },
}

/// How a worker says that it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End<'a> {
    /// JSON, as the worker says; empty for `undefined`.
    Value(&'a str),
    /// An error's text.
    Thrown(&'a str),
    /// A bound.
    Limit(Limit),
}

/// A message to a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToWorker<'a> {
    /// The first frame.
    Run {
        /// Bounds to hold.
        limits: Limits,
        /// Code as the model wrote it.
        #[serde(borrow)]
        code: &'a str,
        /// The task.
        task: Work<'a>,
    },
    /// The answer to a call.
    Answer {
        /// The number of the call.
        id: u32,
        /// The answer.
        #[serde(borrow)]
        answer: Answer<'a>,
    },
    /// A [`FromWorker::Rest`] has expired.
    Tick,
}

/// The task of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work<'a> {
    /// Run it.
    Run,
    /// Run it with these arguments, JSON.
    RunWith(&'a str),
    /// Read it, and run nothing.
    Read,
}

/// The answer to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer<'a> {
    /// JSON.
    Value(&'a str),
    /// Refused by the tool, or by policy or rules before it.
    Failed(&'a str),
    /// No such name.
    Unknown(&'a str),
    /// A bound, with its text.
    Limit(&'a str),
}

/// A frame that is not in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Its stated length is more than any frame may have.
    #[error("a frame is longer than it may be")]
    TooLong,
    /// Not exactly one message.
    #[error("a frame is not a message")]
    NoMessage,
}

/// The longest frame that a worker may send.
pub(crate) fn longest_from_worker(limits: &Limits) -> usize {
    let longest = limits.arguments.max(limits.result).max(limits.logs).max(MAX_MESSAGE * 4);
    longest + MAX_REMARK + ENVELOPE
}

/// The longest frame that a parent sends.
pub(crate) const LONGEST_TO_WORKER: usize = crate::limits::MAX_CATALOGUE + ENVELOPE;

/// Splits the first frame off `bytes`: the message and how many bytes it took; `None` if more bytes are needed.
///
/// # Errors
/// If its length exceeds `longest`, or it is not one message. Nothing after that can be read.
pub fn decode(bytes: &[u8], longest: usize) -> Result<Option<(FromWorker<'_>, usize)>, Malformed> {
    let Some((payload, taken)) = split(bytes, longest)? else { return Ok(None) };
    Ok(Some((message(payload)?, taken)))
}

/// The message that fills a payload.
pub(crate) fn message<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Malformed> {
    match postcard::take_from_bytes(payload) {
        Ok((message, [])) => Ok(message),
        _ => Err(Malformed::NoMessage),
    }
}

/// The payload of the first frame and how many bytes it took.
fn split(bytes: &[u8], longest: usize) -> Result<Option<(&[u8], usize)>, Malformed> {
    let Some((head, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let length = length(*head, longest)?;
    Ok(rest.get(..length).map(|payload| (payload, head.len() + length)))
}

/// The length in a head, if it is within bounds.
pub(crate) fn length(head: [u8; 4], longest: usize) -> Result<usize, Malformed> {
    usize::try_from(u32::from_le_bytes(head)).ok().filter(|length| *length <= longest).ok_or(Malformed::TooLong)
}

/// A message as a frame.
pub(crate) fn encode(message: &impl Serialize) -> Option<Vec<u8>> {
    let mut frame = postcard::to_extend(message, vec![0; 4]).ok()?;
    let length = u32::try_from(frame.len() - 4).ok()?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Some(frame)
}
