//! The first line of a body, where that is a request's.
//!
//! A server that answers a request without reading its body, and keeps the connection, takes the body for the next request on it: many do so
//! for GET and HEAD, and for paths that expect none. So a body that begins as a request does is one to somebody, whatever its head says.

/// The longest method, in bytes.
const LONGEST_METHOD: usize = 32;
/// The longest first line of a request that servers take, in bytes.
const LONGEST_LINE: usize = 64 << 10;
/// What stands in every first line of HTTP/1.
const VERSION: &[u8] = b"http/";

/// What the bytes so far begin.
#[derive(Clone, Debug)]
pub(super) struct FirstLine {
    state: LineState,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
enum LineState {
    /// Ends of lines, which servers pass over (RFC 9112 section 2.2).
    Blank,
    /// So many bytes of a method.
    Method(usize),
    /// Behind it, with so many bytes of [`VERSION`].
    Target(usize),
}

/// The finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    /// As a request does.
    AsRequest,
    Otherwise,
}

impl FirstLine {
    pub const fn new() -> Self {
        Self { state: LineState::Blank, bytes: 0 }
    }

    /// More bytes; the finding once there is one.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<Begins> {
        for byte in bytes {
            self.bytes += 1;
            self.state = match (self.state, byte) {
                _ if self.bytes > LONGEST_LINE => return Some(Begins::Otherwise),
                (LineState::Blank, b'\r' | b'\n') => LineState::Blank,
                (LineState::Blank, byte) if is_of_a_method(*byte) => LineState::Method(1),
                (LineState::Method(length), byte) if length < LONGEST_METHOD && is_of_a_method(*byte) => LineState::Method(length + 1),
                (LineState::Method(_), b' ' | b'\t') => LineState::Target(0),
                (LineState::Target(_), b'\n') | (LineState::Blank | LineState::Method(_), _) => return Some(Begins::Otherwise),
                (LineState::Target(matched), byte) => match VERSION.get(matched) {
                    Some(next) if byte.to_ascii_lowercase() == *next && matched + 1 == VERSION.len() => return Some(Begins::AsRequest),
                    Some(next) if byte.to_ascii_lowercase() == *next => LineState::Target(matched + 1),
                    _ => LineState::Target(usize::from(byte.eq_ignore_ascii_case(&b'h'))),
                },
            };
        }
        None
    }
}

/// RFC 9110 section 5.6.2.
const fn is_of_a_method(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins(text: &str) -> Option<Begins> {
        let whole = FirstLine::new().feed(text.as_bytes());
        let mut pieces = FirstLine::new();
        assert_eq!(text.as_bytes().iter().find_map(|byte| pieces.feed(&[*byte])), whole, "{text:?}: however it is cut");
        whole
    }

    #[test]
    fn a_body_that_begins_as_a_request_does_is_told_from_all_else() {
        for text in ["POST /mcp HTTP/1.1\r\nhost: a", "\r\n\nx-y /a b http/1.0", "GET hHTTP/", "PRI * HTTP/2.0\r\n"] {
            assert_eq!(begins(text), Some(Begins::AsRequest), "{text:?}");
        }
        for text in
            ["{\"a\": \"POST / HTTP/1.1\"}", "--b\r\nPOST / HTTP/1.1", "a=b HTTP/", "Dear Ada,\nHTTP/1.1 is old", "<x> HTTP/", "", "\r\n"]
        {
            assert_ne!(begins(text), Some(Begins::AsRequest), "{text:?}");
        }
        assert_eq!(begins(&format!("GET /{}", "x".repeat(70 << 10))), Some(Begins::Otherwise));
        assert_eq!(begins(&"x".repeat(40)), Some(Begins::Otherwise));
    }
}
