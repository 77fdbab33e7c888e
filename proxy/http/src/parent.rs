//! Another proxy on the way: the tunnel that a client asks of it (RFC 9110 section 9.3.6), asked again for each connection
//! that we make in the client's place.
//!
//! The request is sent as the client wrote it, credentials and all, so it works wherever each connection is asked for them
//! anew (Basic, Bearer). What belongs to one connection (NTLM, Negotiate) works for the connection that the client itself
//! opened, and no other is had in its place.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use gnomon_wire::connect::{self, ConnectOutcome};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

pub use gnomon_wire::connect::MAX_HEAD as MAX_CONNECT_HEAD;

/// The timeout of the other proxy's answer: it connects to the server meanwhile.
const ANSWERS: Duration = Duration::from_secs(60);

/// A request for a tunnel, as its client wrote it. Credentials may be in it, so it is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ConnectHead(Arc<[u8]>);

impl fmt::Debug for ConnectHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectHead(…)")
    }
}

/// A request for a tunnel as far as it was read.
#[derive(Debug, PartialEq, Eq)]
pub enum ConnectRequest {
    /// The whole head was read.
    Whole {
        /// The head, to be sent on.
        head: ConnectHead,
        /// Target host, without brackets.
        host: String,
        /// Target port.
        port: u16,
    },
    /// More bytes are needed.
    Partial,
    /// Another request, something that is not a request, or one longer than [`MAX_CONNECT_HEAD`].
    Other,
}

/// The other proxy's answer.
#[derive(Debug, PartialEq, Eq)]
pub struct ConnectAnswer {
    /// The whole head, as it came.
    pub head: Vec<u8>,
    /// The status and what follows the head.
    pub outcome: ConnectOutcome,
}

impl ConnectHead {
    /// Reads a request for a tunnel at the beginning of `bytes`.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> ConnectRequest {
        match connect::request(bytes) {
            connect::Request::Whole { length, host, port } => {
                ConnectRequest::Whole { head: Self(bytes.get(..length).unwrap_or_default().into()), host, port }
            }
            connect::Request::Partial => ConnectRequest::Partial,
            connect::Request::Other => ConnectRequest::Other,
        }
    }

    /// The length in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.0.len()
    }

    /// Asks the proxy at the other end of a connection. Nothing that follows the head of its answer is read.
    ///
    /// # Errors
    /// If the proxy does not answer within 60 s, hangs up, or its head is longer than [`MAX_CONNECT_HEAD`].
    pub async fn ask(&self, proxy: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<ConnectAnswer> {
        let asked = async {
            proxy.write_all(&self.0).await?;
            let mut head = Vec::with_capacity(256);
            // Byte by byte, as the bytes after the head belong to the tunnel; it is a few hundred bytes, once a connection.
            while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
                if head.len() == MAX_CONNECT_HEAD {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer with too long a head"));
                }
                head.push(proxy.read_u8().await?);
            }
            Ok(ConnectAnswer { outcome: connect::answer(&head), head })
        };
        tokio::time::timeout(ANSWERS, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_kept_as_it_was_written_and_its_credentials_are_never_shown() {
        let request = b"CONNECT tools.example:443 HTTP/1.1\r\nProxy-Authorization: Basic eA==\r\n\r\n";
        let early = [&request[..], b"\x16\x03\x01"].concat();
        let ConnectRequest::Whole { head, host, port } = ConnectHead::parse(&early) else { panic!("it is whole") };
        assert_eq!((host.as_str(), port, &*head.0), ("tools.example", 443, &request[..]));
        assert!(!format!("{head:?}").contains("eA=="));
    }
}
