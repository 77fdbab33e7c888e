//! What is said, apart from how it travels.

pub(crate) mod call;
pub(crate) mod outcome;
pub(crate) mod refusal;
pub(crate) mod tally;
mod whole;
