//! Classifies a connection's first bytes: TLS that is read, TLS that only servers read, or another protocol.
//!
//! The bias: what some server goes on with as TLS is TLS. A receiver ignores the version of a record (RFC 8446 section 5.1, RFC 5246
//! appendix E.1), and servers differ in how far they do: OpenSSL and rustls take any 3.x in the first record, Go's any below 16.0,
//! Java's any from 3.0 on. Where the version is not 3.x, more bytes are asked for, so that other protocols that begin with the same
//! byte are not taken for TLS.

/// The protocol that a connection's first bytes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Undecided: at most 12 bytes are needed.
    Unclear,
    /// Handshake records of TLS or SSL 3.0, whatever the minor version says.
    Tls,
    /// TLS in a form that gnomon does not read and some servers do: a ClientHello in a record of another major version, in the format of
    /// SSL 2.0 (RFC 5246 appendix E.2), or behind an alert or a change of cipher.
    OddTls,
    /// Another protocol.
    Other,
}

const CHANGE_CIPHER: u8 = 20;
const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const CLIENT_HELLO: u8 = 1;
/// The major version of SSL 3.0 and of all TLS.
const MAJOR: u8 = 3;
/// Most bytes of a plaintext record.
pub(super) const MAX_RECORD: usize = 1 << 14;
/// The least and the most bytes of a ClientHello that a server takes: version, random, an empty session, one suite, one compression
/// method; above 64 KiB Go's ends, and others sooner.
const HELLO_BYTES: std::ops::RangeInclusive<usize> = 41..=1 << 16;
/// The first two bytes of an SSL 2.0 record: a bit that says that there is no padding, and the length. OpenSSL has room for a record of
/// TLS and little more.
const SSL2_RECORD: std::ops::RangeInclusive<u16> = 0x8000 | 25..=0x8000 | 0x4200;

/// Looks at the first bytes of a connection. However they are split, an answer that is not [`Opening::Unclear`] stays.
#[must_use]
pub fn opening(bytes: &[u8]) -> Opening {
    match *bytes {
        [] | [HANDSHAKE] => Opening::Unclear,
        [HANDSHAKE, MAJOR, ..] => Opening::Tls,
        [HANDSHAKE, ..] => of_another_version(bytes),
        // A warning, which servers drop; a fatal one ends the connection.
        [ALERT, ..] => shaped(bytes, &[None, None, Some(0), Some(2), Some(1)]),
        [CHANGE_CIPHER, ..] => shaped(bytes, &[None, None, Some(0), Some(1), Some(1)]),
        [high, ref rest @ ..] if high >= 0x80 => {
            let fits = match rest.first() {
                Some(low) => SSL2_RECORD.contains(&u16::from_be_bytes([high, *low])),
                None => high <= SSL2_RECORD.end().to_be_bytes()[0],
            };
            if fits { shaped(bytes, &[None, Some(CLIENT_HELLO), Some(MAJOR), None]) } else { Opening::Other }
        }
        _ => Opening::Other,
    }
}

/// Compares the bytes behind the first one with a shape.
fn shaped(bytes: &[u8], shape: &[Option<u8>]) -> Opening {
    let there = bytes.get(1..).unwrap_or_default();
    if there.iter().zip(shape).any(|(byte, must)| must.is_some_and(|must| must != *byte)) {
        Opening::Other
    } else if there.len() < shape.len() {
        Opening::Unclear
    } else {
        Opening::OddTls
    }
}

/// A handshake record of a major version that is not 3: the length and the beginning of the message say whether it is one. A record that
/// is shorter than the message's header is followed by another.
fn of_another_version(bytes: &[u8]) -> Opening {
    let Some((&[_, _, _, high, low], message)) = bytes.split_first_chunk::<5>() else { return Opening::Unclear };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length == 0 || length > MAX_RECORD || message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Opening::Other;
    }
    if length < 4 {
        return match message.get(length) {
            None => Opening::Unclear,
            Some(&HANDSHAKE) => Opening::OddTls,
            Some(_) => Opening::Other,
        };
    }
    match message {
        [_, a, b, c, ..] if HELLO_BYTES.contains(&(usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c))) => Opening::OddTls,
        [_, _, _, _, ..] => Opening::Other,
        _ => Opening::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decided with its last byte that is needed, and not changed by what follows.
    fn decided(bytes: &[u8]) -> Opening {
        let mut found = Opening::Unclear;
        for end in 0..=bytes.len() {
            let next = opening(&bytes[..end]);
            assert!(found == Opening::Unclear || next == found, "{end} of {bytes:?}: {found:?}, then {next:?}");
            found = next;
        }
        found
    }

    #[test]
    fn a_handshake_is_tls_whatever_minor_version_its_record_names() {
        for minor in 0..=u8::MAX {
            assert_eq!(decided(&[22, 3, minor, 0, 200, 1, 0, 0, 196]), Opening::Tls, "{minor}");
        }
    }

    #[test]
    fn a_hello_that_only_some_servers_take_is_told_from_other_protocols() {
        for major in (0..=u8::MAX).filter(|major| *major != 3) {
            assert_eq!(decided(&[22, major, 1, 0, 200, 1, 0, 0, 196, 3, 3]), Opening::OddTls, "{major}");
            assert_eq!(decided(&[22, major, 1, 0, 1, 1, 22, major, 1, 0, 100]), Opening::OddTls, "{major}");
        }
        for odd in [
            // SSL 2.0's format: OpenSSL's own of old, and the shortest.
            &[0x80, 46, 1, 3, 1, 0, 21, 0, 0, 0, 16][..],
            &[0x80, 25, 1, 3, 3, 0, 3],
            // An alert, a change of cipher.
            &[21, 3, 1, 0, 2, 1, 90, 22, 3, 1],
            &[20, 3, 3, 0, 1, 1, 22, 3, 1],
        ] {
            assert_eq!(decided(odd), Opening::OddTls, "{odd:?}");
        }
        for other in [
            &b"POST /mcp HTTP/1.1\r\n"[..],
            b"\x16\x01\0\0\x01\x01\0\0\0\0\0\0\xdd\x07\0\0", // MongoDB, a message of 278 bytes
            b"\x16\x05\x01\x00\x10\x02",
            b"\x16\x05\x01\x00\x02\x01\x00\x17",
            b"\xff\xfb\x01", // telnet
            b"\x80\x00\x00\x03\x08",
            b"\x80\x01\x00\x01\0\0\0\x04ping", // Thrift
            b"\x80\x2e\x02\x03\x01",
            b"\x80\x09\x01\x03\x01",
            b"\x94\x00\x01\xa4ping", // MessagePack-RPC
            b"\x15\x03\x01\x00\x02\x02\x28",
            b"\x13BitTorrent protocol",
        ] {
            assert_eq!(decided(other), Opening::Other, "{other:?}");
        }
    }
}
