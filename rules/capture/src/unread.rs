//! Why something in a capture was not judged.

/// The reason that a connection, or the rest of one, was not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unread {
    /// Segments are missing in the capture.
    Missing,
    /// HTTP/2 without TLS.
    Http2,
    /// Something else than HTTP and TLS, or HTTP that cannot be read.
    Other,
    /// Longer than the bound.
    TooLong,
    /// The capture begins in the middle of it.
    Begun,
}

impl Unread {
    /// The reason in words, to go behind "not judged because".
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "segments of it were not captured",
            Self::Http2 => "it is HTTP/2 without TLS",
            Self::Other => "it is neither HTTP nor TLS, or cannot be read",
            Self::TooLong => "it is longer than the bound",
            Self::Begun => "it had begun before the capture",
        }
    }
}
