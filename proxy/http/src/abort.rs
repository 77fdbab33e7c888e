//! The body error that means "gnomon stopped this request on purpose".
//!
//! A blocked message must never look complete to the upstream. On HTTP/1.1 hyper closes the
//! connection without the terminating chunk for any body error; on HTTP/2 it resets the stream
//! with the reason it finds in the error's source chain, so this error carries CANCEL there.

use std::error::Error;
use std::fmt;

/// Yield this from a request body to abort the request: HTTP/1.1 closes the connection without a
/// terminator, HTTP/2 sends RST_STREAM(CANCEL) (RFC 9113 section 8.1). [`Pools::send`](crate::Pools::send)
/// then answers [`SendError::Aborted`](crate::SendError::Aborted).
#[derive(Debug)]
pub struct AbortBody {
    cancel: h2::Error,
}

impl AbortBody {
    /// The error to yield.
    #[must_use]
    pub fn new() -> Self {
        Self { cancel: h2::Error::from(h2::Reason::CANCEL) }
    }
}

impl Default for AbortBody {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for AbortBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("request stopped by gnomon")
    }
}

impl Error for AbortBody {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cancel)
    }
}
