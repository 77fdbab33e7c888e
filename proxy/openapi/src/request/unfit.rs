//! Arguments that no request can be made of.

/// Longest path and query, bytes. Most servers take 8 KiB.
pub(super) const MAX_TARGET: usize = 16 << 10;

/// An error in arguments of a call. The texts are for the model and repeat no values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// One is missing that the request cannot be made without.
    #[error("`{0}` is missing")]
    Missing(String),
    /// One that cannot stand where it belongs.
    #[error("`{name}` {why}")]
    Wrong {
        /// The argument's name.
        name: String,
        /// The reason it does not fit.
        why: &'static str,
    },
    /// The path and query would be longer than 16 KiB.
    #[error("the arguments make a URL of more than {MAX_TARGET} bytes")]
    TooLong,
}

impl Unfit {
    pub(crate) fn wrong(name: &str, why: &'static str) -> Self {
        Self::Wrong { name: name.to_owned(), why }
    }
}
