//! The result of delivering a batch.

use std::time::Duration;

/// The result of sending a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The sink has it, but for so many events, which it will never take.
    Accepted {
        /// The number of events refused.
        rejected: u64,
    },
    /// The sink refuses the batch for its content; a retry is of no use.
    Refused {
        /// The receiver's text.
        why: String,
    },
    /// The batch may or may not have arrived, or the sink asks for a retry: send it again.
    Failed {
        /// The failure.
        why: String,
        /// The least delay before a retry.
        after: Option<Duration>,
    },
}
