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

use http::uri::Authority;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest head of a request or of an answer, bytes.
pub const MAX_CONNECT_HEAD: usize = 16 << 10;
/// Most headers in one.
const HEADERS: usize = 64;
/// How long the other proxy may take: it connects to the server meanwhile.
const ANSWERS: Duration = Duration::from_secs(60);

/// A request for a tunnel, as its client wrote it. Credentials may be in it, so it is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ConnectHead(Arc<[u8]>);

impl fmt::Debug for ConnectHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectHead(…)")
    }
}

/// What bytes say about a request for a tunnel.
#[derive(Debug, PartialEq, Eq)]
pub enum ConnectRequest {
    /// It is there.
    Whole {
        /// To be sent on.
        head: ConnectHead,
        /// Host that is asked for, without brackets.
        host: String,
        /// Port that is asked for.
        port: u16,
    },
    /// More bytes are needed.
    Partial,
    /// It is another request, or none, or longer than [`MAX_CONNECT_HEAD`].
    Other,
}

/// What the other proxy says.
#[derive(Debug, PartialEq, Eq)]
pub struct ConnectAnswer {
    /// All of the head, as it came.
    pub head: Vec<u8>,
    /// The status and what follows the head.
    pub outcome: ConnectOutcome,
}

/// What became of a request for a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectOutcome {
    /// What follows is the tunnel.
    Open,
    /// No tunnel; so many bytes of a body follow, and another request may.
    Refused(u16, u64),
    /// No tunnel, or no HTTP; where the answer ends is not known.
    Unclear,
}

impl ConnectHead {
    /// Reads a request for a tunnel at the beginning of `bytes`.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> ConnectRequest {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_CONNECT_HEAD => length,
            Ok(httparse::Status::Partial) if bytes.len() < MAX_CONNECT_HEAD => return ConnectRequest::Partial,
            Ok(_) | Err(_) => return ConnectRequest::Other,
        };
        let has_body = request.headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case("transfer-encoding")
                || (header.name.eq_ignore_ascii_case("content-length") && header.value != b"0")
        });
        let target = request.path.and_then(|path| path.parse::<Authority>().ok());
        match (request.method, target.as_ref().and_then(|target| Some((target.host(), target.port_u16()?)))) {
            (Some("CONNECT"), Some((host, port))) if !has_body && !host.is_empty() && port != 0 => {
                let host = crate::dial::unbracketed(host).to_owned();
                ConnectRequest::Whole { head: Self(bytes.get(..length).unwrap_or_default().into()), host, port }
            }
            _ => ConnectRequest::Other,
        }
    }

    /// How many bytes it has.
    #[must_use]
    pub fn length(&self) -> usize {
        self.0.len()
    }

    /// Asks the proxy at the other end of a connection. Nothing that follows the head of its answer is read.
    ///
    /// # Errors
    /// It does not answer within 60 s, or breaks off, or its head is longer than [`MAX_CONNECT_HEAD`].
    pub async fn ask(&self, proxy: &mut TcpStream) -> io::Result<ConnectAnswer> {
        let asked = async {
            proxy.write_all(&self.0).await?;
            let mut head = Vec::with_capacity(256);
            // Byte by byte, as what follows belongs to somebody else; it is a few hundred bytes, once a connection.
            while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
                if head.len() == MAX_CONNECT_HEAD {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer with too long a head"));
                }
                head.push(proxy.read_u8().await?);
            }
            Ok(ConnectAnswer { outcome: outcome(&head), head })
        };
        tokio::time::timeout(ANSWERS, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

fn outcome(head: &[u8]) -> ConnectOutcome {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(_)) = answer.parse(head) else { return ConnectOutcome::Unclear };
    let status = answer.code.unwrap_or(0);
    let named = |name: &'static str| answer.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    match status {
        // Length and coding mean nothing here (RFC 9110 section 9.3.6).
        200..=299 => ConnectOutcome::Open,
        300..=599 if named("transfer-encoding").next().is_none() => {
            let mut lengths = named("content-length").map(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
            match (lengths.next(), lengths.next()) {
                (Some(Some(length)), None) => ConnectOutcome::Refused(status, length),
                _ => ConnectOutcome::Unclear,
            }
        }
        _ => ConnectOutcome::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_for_a_tunnel_is_known_at_its_end_and_not_before() {
        let request = b"CONNECT tools.example:443 HTTP/1.1\r\nHost: tools.example:443\r\nProxy-Authorization: Basic eA==\r\n\r\n";
        for end in 0..request.len() {
            assert_eq!(ConnectHead::parse(&request[..end]), ConnectRequest::Partial, "{end}");
        }
        let early = [&request[..], b"\x16\x03\x01"].concat();
        let ConnectRequest::Whole { head, host, port } = ConnectHead::parse(&early) else { panic!("it is whole") };
        assert_eq!((host.as_str(), port, head.length()), ("tools.example", 443, request.len()));
        assert!(!format!("{head:?}").contains("eA=="));
        let v6 = b"CONNECT [2001:db8::1]:8443 HTTP/1.1\r\n\r\n";
        assert!(matches!(ConnectHead::parse(v6), ConnectRequest::Whole { host, port: 8443, .. } if host == "2001:db8::1"));
    }

    #[test]
    fn other_requests_bodies_and_endless_heads_are_none() {
        let endless = [b"CONNECT a:1 HTTP/1.1\r\nx: ", &[b'x'; MAX_CONNECT_HEAD][..]].concat();
        for other in [
            &b"GET http://a.example/ HTTP/1.1\r\n\r\n"[..],
            b"CONNECT a.example HTTP/1.1\r\n\r\n",
            b"CONNECT a.example:0 HTTP/1.1\r\n\r\n",
            b"CONNECT a.example:1 HTTP/1.1\r\ncontent-length: 5\r\n\r\n",
            b"CONNECT a.example:1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
            &endless,
        ] {
            assert_eq!(ConnectHead::parse(other), ConnectRequest::Other);
        }
    }

    #[test]
    fn where_an_answer_ends_is_known_or_said_to_be_unclear() {
        for (head, expected) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", ConnectOutcome::Open),
            ("HTTP/1.0 200 OK\r\ncontent-length: 7\r\n\r\n", ConnectOutcome::Open),
            ("HTTP/1.1 407 Who are you\r\ncontent-length: 7\r\n\r\n", ConnectOutcome::Refused(407, 7)),
            ("HTTP/1.1 407 x\r\ncontent-length: 7\r\ncontent-length: 8\r\n\r\n", ConnectOutcome::Unclear),
            ("HTTP/1.1 403 x\r\ntransfer-encoding: chunked\r\n\r\n", ConnectOutcome::Unclear),
            ("HTTP/1.1 403 x\r\n\r\n", ConnectOutcome::Unclear),
            ("HTTP/1.1 100 Continue\r\n\r\n", ConnectOutcome::Unclear),
            ("SSH-2.0\n\n", ConnectOutcome::Unclear),
        ] {
            assert_eq!(outcome(head.as_bytes()), expected, "{head}");
        }
    }
}
