//! Whether a call that has no answer can have been carried out, and the words for it: whoever called must know before it calls again.
//!
//! The bias: only what certainly never left, or was turned away by its server unread, was not carried out.

/// Whether a request left for its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It certainly did not.
    No,
    /// It may have.
    Yes,
}

/// What is known of a call whose client gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CarriedOut {
    /// Its server did not get it, or turned it away.
    No,
    /// Its server may have got it.
    Perhaps,
    /// Its server answered, and the answer may not be given.
    Yes,
}

impl CarriedOut {
    /// The words for whoever called.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::No => "the call was not carried out",
            Self::Perhaps => "the call may have been carried out: check before you repeat it",
            Self::Yes => "the call was carried out, and its answer is withheld: do not repeat it",
        }
    }

    /// The value of [`CARRIED_OUT`] in the data of an error.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Perhaps => PERHAPS,
            Self::Yes => YES,
        }
    }
}

/// The member of an error's data that says whether its call was carried out: `no`, [`PERHAPS`] or [`YES`].
pub const CARRIED_OUT: &str = "carriedOut";
/// It may have been.
pub const PERHAPS: &str = "perhaps";
/// It was, and its answer is withheld.
pub const YES: &str = "yes";

/// Whether a call of this method changes anything: what is only read may be asked for again.
#[must_use]
pub fn changes(method: &str) -> bool {
    matches!(method, "tools/call" | "tasks/cancel" | "tasks/update")
}
