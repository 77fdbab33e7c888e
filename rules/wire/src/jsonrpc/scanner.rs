//! The tokenizer.
use super::{Finish, Likeness, Limits, Malformed, Message, Shape};

/// Reads one body.
#[derive(Debug)]
pub struct Scanner {}

impl Scanner {
    /// A scanner at the start of a body.
    pub fn new(_limits: Limits) -> Self {
        Self {}
    }

    /// Reads the next bytes and appends every message they complete.
    ///
    /// # Errors
    /// The body is malformed. Messages completed before the fault are in `out`. Further calls give
    /// the same error.
    pub fn feed(&mut self, _bytes: &[u8], _out: &mut Vec<Message>) -> Result<(), Malformed> {
        Ok(())
    }

    /// Says that the body ended.
    ///
    /// # Errors
    /// As [`Scanner::feed`], and [`Malformed::Truncated`].
    pub fn finish(&mut self, _out: &mut Vec<Message>) -> Result<Finish, Malformed> {
        Ok(Finish::Empty)
    }

    /// How much the body looks like JSON-RPC so far.
    pub fn likeness(&self) -> Likeness {
        Likeness::None
    }

    /// What is known of the message in progress, or of the one in which the body broke.
    pub fn partial(&self) -> Option<&Message> {
        None
    }

    /// Object or array, once known.
    pub fn shape(&self) -> Option<Shape> {
        None
    }
}
