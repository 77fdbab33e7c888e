//! What is found in the body of an answer, step by step.

use crate::dialogue::{asks, tells};
use gnomon_wire::{
    jsonrpc::{Message, Version},
    mcp,
};

/// The JSON-RPC type of a message that cannot be read, as far as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A server's request, which expects an answer; with the reason that it cannot be read.
    Question(&'static str),
    /// Anything; with the same reason.
    Unknown(&'static str),
}

impl Broken {
    fn of(partial: Option<&Message>, why: &'static str) -> Self {
        // Objects of other APIs have a `method` as well.
        let ours = |message: &&Message| message.jsonrpc != Version::Absent || message.method.as_deref().is_some_and(mcp::is_mcp_method);
        if partial.filter(ours).is_some_and(asks) { Self::Question(why) } else { Self::Unknown(why) }
    }
}

/// A message cannot be read. A notification is one all the same, by what it shows.
pub(super) fn break_off(partial: Option<&Message>, why: &'static str, on: &mut dyn FnMut(Step<'_>)) {
    if let Some(message) = partial.filter(|message| tells(message)) {
        on(Step::Message(message));
    }
    on(Step::Unreadable(Broken::of(partial, why)));
}

/// A step of reading an answer.
pub(crate) enum Step<'a> {
    Message(&'a Message),
    /// Meant as a message, and two readers could take it for different ones.
    Unreadable(Broken),
    Endpoint(&'a str),
    /// What shows itself to be a message ends before its end.
    CutOff,
    /// An event ends at this offset of the decoded text.
    EventEnd {
        text: &'a [u8],
        end: usize,
    },
    /// All of this decoded text of a stream was looked at.
    TextEnd {
        text: &'a [u8],
    },
    /// The stream cannot be decoded any further.
    Undecodable,
}

/// Input left to read in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    More,
    Nothing,
}
