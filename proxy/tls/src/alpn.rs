//! The application protocols that gnomon speaks.

/// The application protocol of one connection (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Alpn {
    /// `http/1.1`.
    Http11,
    /// `h2`, HTTP/2 (RFC 9113).
    H2,
    /// No ALPN extension, or nothing chosen. For HTTP this means HTTP/1.1.
    None,
}

impl Alpn {
    /// The protocol name on the wire, or `None` where no ALPN is sent.
    #[must_use]
    pub const fn wire(self) -> Option<&'static [u8]> {
        match self {
            Self::Http11 => Some(b"http/1.1"),
            Self::H2 => Some(b"h2"),
            Self::None => None,
        }
    }

    /// Reads what a TLS connection has negotiated. Names that gnomon does not speak count as `None`.
    #[must_use]
    pub fn from_wire(name: Option<&[u8]>) -> Self {
        match name {
            Some(b"h2") => Self::H2,
            Some(b"http/1.1") => Self::Http11,
            _ => Self::None,
        }
    }

    /// The list to put into a rustls configuration that offers just this protocol.
    #[must_use]
    pub fn offer(self) -> Vec<Vec<u8>> {
        self.wire().map(<[u8]>::to_vec).into_iter().collect()
    }
}
