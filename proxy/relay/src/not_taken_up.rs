//! The reasons that a parked call is not resumed.

use std::time::Duration;

/// The timeout of a client's answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// The reason that a call is not resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTakenUp {
    /// The call has ended, or is another caller's.
    #[error(
        "`requestState` is unknown or has expired: a call waits for input for {} minutes, and where too many wait the oldest goes of the caller \
         who has the most; call anew",
        PATIENCE.as_secs() / 60
    )]
    Unknown,
    /// The call that waits is another one.
    #[error("`requestState` belongs to a call with other arguments: repeat that call as it was, with `inputResponses`")]
    OtherArguments,
}
