//! Requests for a tunnel and the answers to them (RFC 9110 section 9.3.6), as far as it must be known where their heads end
//! and what follows. No chunks here: the caller keeps the bytes, at most [`MAX_HEAD`], and asks again when there are more.

use http::uri::Authority;

/// Longest head of a request or of an answer, bytes.
pub const MAX_HEAD: usize = 16 << 10;
/// Most headers in one.
const HEADERS: usize = 64;

/// The result of parsing a CONNECT request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A complete request head.
    Whole {
        /// Bytes of its head; what follows belongs to the tunnel.
        length: usize,
        /// Target host, without brackets.
        host: String,
        /// Target port; not 0.
        port: u16,
    },
    /// More bytes are needed.
    Partial,
    /// Not a CONNECT request, or its head is longer than [`MAX_HEAD`].
    Other,
}

/// The server's answer to a CONNECT request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectOutcome {
    /// The tunnel is open: all bytes after the answer belong to it.
    Open,
    /// The tunnel is open if a proxy said so. A server that takes the request for one of its own has answered it, and what follows
    /// its answer is the next request.
    OpenOrAnswered,
    /// No tunnel: the status, and how many bytes of a body follow, after which another request may.
    Refused(u16, u64),
    /// No tunnel, or no HTTP; where the answer ends is not known.
    Unclear,
}

/// Reads a request for a tunnel at the beginning of `bytes`.
#[must_use]
pub fn request(bytes: &[u8]) -> Request {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Request::Partial,
        Ok(_) | Err(_) => return Request::Other,
    };
    let has_body = request.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("transfer-encoding")
            || (header.name.eq_ignore_ascii_case("content-length") && header.value != b"0")
    });
    let target = request.path.and_then(|path| path.parse::<Authority>().ok());
    let place = target.as_ref().and_then(|target| {
        let host = target.host();
        Some((host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host), target.port_u16()?))
    });
    match (request.method, place) {
        (Some("CONNECT"), Some((host, port))) if !has_body && !host.is_empty() && port != 0 => {
            Request::Whole { length, host: host.to_owned(), port }
        }
        _ => Request::Other,
    }
}

/// Reads the answer to one; `head` is all of its head.
#[must_use]
pub fn answer(head: &[u8]) -> ConnectOutcome {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(_)) = answer.parse(head) else { return ConnectOutcome::Unclear };
    let status = answer.code.unwrap_or(0);
    let named = |name: &'static str| answer.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    match status {
        // Length and coding mean nothing in a proxy's answer (RFC 9110 section 9.3.6), and who has asked a server knows them.
        200..=299 if named("transfer-encoding").next().is_some() => ConnectOutcome::OpenOrAnswered,
        200..=299 if named("content-length").any(|length| length.value != b"0") => ConnectOutcome::OpenOrAnswered,
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
        let whole = b"CONNECT tools.example:443 HTTP/1.1\r\nHost: tools.example:443\r\nProxy-Authorization: Basic eA==\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(request(&whole[..end]), Request::Partial, "{end}");
        }
        let early = [&whole[..], b"\x16\x03\x01"].concat();
        let found = Request::Whole { length: whole.len(), host: "tools.example".to_owned(), port: 443 };
        assert_eq!(request(&early), found);
        let v6 = b"CONNECT [2001:db8::1]:8443 HTTP/1.1\r\n\r\n";
        assert!(matches!(request(v6), Request::Whole { host, port: 8443, .. } if host == "2001:db8::1"));
    }

    #[test]
    fn other_requests_bodies_and_endless_heads_are_none() {
        let endless = [b"CONNECT a:1 HTTP/1.1\r\nx: ", &[b'x'; MAX_HEAD][..]].concat();
        for other in [
            &b"GET http://a.example/ HTTP/1.1\r\n\r\n"[..],
            b"CONNECT a.example HTTP/1.1\r\n\r\n",
            b"CONNECT a.example:0 HTTP/1.1\r\n\r\n",
            b"CONNECT []:8443 HTTP/1.1\r\n\r\n",
            b"CONNECT a.example:1 HTTP/1.1\r\ncontent-length: 5\r\n\r\n",
            b"CONNECT a.example:1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
            &endless,
        ] {
            assert_eq!(request(other), Request::Other);
        }
    }

    #[test]
    fn where_an_answer_ends_is_known_or_said_to_be_unclear() {
        for (head, expected) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", ConnectOutcome::Open),
            ("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", ConnectOutcome::Open),
            ("HTTP/1.0 200 OK\r\ncontent-length: 7\r\n\r\n", ConnectOutcome::OpenOrAnswered),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ConnectOutcome::OpenOrAnswered),
            ("HTTP/1.1 407 Who are you\r\ncontent-length: 7\r\n\r\n", ConnectOutcome::Refused(407, 7)),
            ("HTTP/1.1 407 x\r\ncontent-length: 7\r\ncontent-length: 8\r\n\r\n", ConnectOutcome::Unclear),
            ("HTTP/1.1 403 x\r\ntransfer-encoding: chunked\r\n\r\n", ConnectOutcome::Unclear),
            ("HTTP/1.1 403 x\r\n\r\n", ConnectOutcome::Unclear),
            ("HTTP/1.1 100 Continue\r\n\r\n", ConnectOutcome::Unclear),
            ("SSH-2.0\n\n", ConnectOutcome::Unclear),
        ] {
            assert_eq!(answer(head.as_bytes()), expected, "{head}");
        }
    }
}
