//! Who is asking, and what they may.

use smol_str::SmolStr;

/// Who is asking, as far as it is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Compared, never parsed: sessions and parked calls belong to it.
    pub subject: SmolStr,
}
