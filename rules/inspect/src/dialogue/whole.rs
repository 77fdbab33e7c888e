//! Messages that come whole, on a channel without HTTP or from a server that the portal speaks to.
//!
//! The caller holds each until it is judged, so there is no gate: a message passes or does not. A text is one message, or one
//! batch; one that two readers could take for different things is judged as unreadable. What is JSON throughout and no message
//! (`{}`) was read, and is nothing.

use super::{Dialogue, MAX_MESSAGES, Refusal, bound};
use gnomon_observe::Action;
use gnomon_wire::jsonrpc::{Finish, Malformed, Message, Scanner, Sink};

impl Dialogue {
    /// Judges the whole of a request; `pieces` joined are its JSON. Where it passes: the strictest action of the rules for any of its
    /// messages, `allow` where there is none.
    ///
    /// # Errors
    /// The refusal, if it must not be sent.
    pub fn request_message(&mut self, pieces: &[&[u8]]) -> Result<Action, Box<Refusal>> {
        for piece in pieces {
            self.asks(piece.len());
            self.show_text(piece);
        }
        let read = read(&mut Scanner::new(self.limits()), pieces, &mut |message| self.take_message(message, |_| ()));
        self.settle_overflow();
        if let Err(malformed) = read {
            self.judge_unreadable(malformed.as_str());
        } else if self.nothing_judged() {
            self.judge_exchange();
        }
        match self.refused() {
            Some(verdict) => Err(self.refuse(verdict)),
            None => Ok(self.verdicts.strictest()),
        }
    }

    /// The answer has begun, with this status where its channel has one.
    pub fn answer_begins(&mut self, status: Option<u16>) {
        self.answer_begins_with(status, |_, _, _| ());
    }

    /// Judges one message of the answer; `pieces` joined are its JSON.
    ///
    /// # Errors
    /// The refusal, if it must not pass. Where it is the server's request, nothing else of the answer is affected, unless it is refused for
    /// its words, which are what the server says within its call: then the call ends with it.
    pub fn answer_message(&mut self, pieces: &[&[u8]]) -> Result<(), Box<Refusal>> {
        self.answers(pieces.iter().map(|piece| piece.len()).sum());
        let (mut refused, mut messages) = (None, 0);
        let mut scanner = self.ears().scanner();
        let read = read(&mut scanner, pieces, &mut |message| {
            messages += 1;
            if refused.is_none() && messages <= MAX_MESSAGES {
                refused = self.take_answer(message);
            }
        });
        if read.is_err() && refused.is_none() {
            refused = scanner.partial().filter(|message| tells(message)).and_then(|message| self.take_answer(message));
        }
        let refused = match read {
            _ if refused.is_some() => refused,
            Ok(_) if messages <= MAX_MESSAGES => None,
            Err(malformed) if scanner.partial().is_some_and(asks) => self.take_unreadable_question(malformed.as_str()),
            // It may answer any of the open calls; if there are none, its request is unknown.
            read => {
                let why = read.err().map_or(bound::TOO_MANY_MESSAGES, Malformed::as_str);
                if self.has_open_calls() {
                    self.answer_is_unreadable(why);
                    self.judge_waiting()
                } else {
                    self.take_unreadable_answer(why)
                }
            }
        };
        refused.map_or(Ok(()), Err)
    }

    /// Ends the answer: all that waited for it is judged and reported.
    ///
    /// # Errors
    /// As [`Dialogue::answer_message`].
    pub fn answer_over(&mut self) -> Result<(), Box<Refusal>> {
        if let Some(refusal) = self.judge_waiting() {
            return Err(refusal);
        }
        self.flush();
        Ok(())
    }
}

/// Hands on every message of a text, and tells whether it can be read as one thing.
fn read(scanner: &mut Scanner, pieces: &[&[u8]], sink: &mut Sink<'_>) -> Result<Finish, Malformed> {
    pieces.iter().try_for_each(|piece| scanner.feed(piece, sink))?;
    scanner.finish(sink)
}

/// True if a message in which a text broke is a notification. It is judged by the method that it shows.
pub(crate) fn tells(message: &Message) -> bool {
    message.method.as_deref().is_some_and(|method| method.starts_with(NOTIFICATIONS))
}

/// The prefix of all methods of notifications.
const NOTIFICATIONS: &str = "notifications/";

/// True if a message in which a text broke expects an answer.
pub(crate) fn asks(message: &Message) -> bool {
    message.method.as_deref().is_some_and(|method| !method.starts_with(NOTIFICATIONS))
}
