//! Answers that come as whole messages rather than as the bytes of an HTTP answer: over a line that
//! requests share, or from a server that the portal speaks to.
//!
//! The caller holds each message until it is judged, so there is no gate: a message passes or does not.

use crate::{Exchange, Gate, Refusal, http::answer_body};
use std::ops::ControlFlow;

impl Exchange {
    /// Judges one message of the answer; `pieces` joined are its JSON.
    ///
    /// # Errors
    /// Why it must not pass. Where it is the server's request, nothing else of the answer is affected.
    pub fn answer_message(&mut self, pieces: &[&[u8]]) -> Result<(), Box<Refusal>> {
        self.response.bytes += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        let mut scanner = answer_body::scanner();
        let mut refused = None;
        let read = pieces.iter().try_for_each(|piece| {
            scanner.feed(piece, &mut |message| {
                if refused.is_none() {
                    refused = self.take_answer(message);
                }
            })
        });
        if let Some(refused) = refused {
            return Err(Box::new(self.refuse_answer(refused)));
        }
        if read.is_err() {
            self.answer_is_unreadable();
            return self.judge_waiting().map_or(Ok(()), |refusal| Err(Box::new(refusal)));
        }
        Ok(())
    }

    /// Nothing more comes: what waited for it is judged and reported.
    ///
    /// # Errors
    /// As [`Exchange::answer_message`].
    pub fn answer_over(&mut self) -> Result<(), Box<Refusal>> {
        passes(self.response_end(&mut Vec::new()))
    }

    /// Feeds the whole of a request and says whether it may be sent.
    ///
    /// # Errors
    /// Why not.
    pub fn request_message(&mut self, pieces: &[&[u8]]) -> Result<(), Box<Refusal>> {
        let fed = pieces.iter().try_for_each(|piece| match self.request_bytes(piece) {
            Gate::Refuse(refusal) => ControlFlow::Break(refusal),
            Gate::Hold | Gate::Stream => ControlFlow::Continue(()),
        });
        match fed {
            ControlFlow::Break(refusal) => Err(refusal),
            ControlFlow::Continue(()) => passes(self.request_end()),
        }
    }
}

fn passes(gate: Gate) -> Result<(), Box<Refusal>> {
    match gate {
        Gate::Refuse(refusal) => Err(refusal),
        Gate::Hold | Gate::Stream => Ok(()),
    }
}
