//! The ClientHello of a flow that is watched, not terminated: chunks as the kernel captured them.
//!
//! A thin bound around [`HelloParser`]. A watched flow goes on whatever we make of it, so nothing here is an
//! error: what cannot be read is an outcome to count.

use super::{ClientHello, HelloError, HelloParser, HelloStatus};

/// Most bytes that are captured of one flow, record headers included. Post-quantum hellos are below 2 KiB; a longer
/// one is counted, not read.
pub const MAX_CAPTURE: usize = 16 << 10;

/// The result of assembling the chunks so far. Every one but [`Need`](Assembly::Need) is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assembly {
    /// The beginning of a ClientHello: more chunks are needed.
    Need,
    /// A whole one.
    Done(Box<ClientHello>),
    /// The flow does not begin as TLS does.
    NotTls,
    /// The ClientHello does not end within [`MAX_CAPTURE`] bytes.
    TooLong,
    /// TLS that no further chunk makes a ClientHello of.
    Broken(HelloError),
}

/// Puts the chunks of one flow, in their order, together. Memory: [`MAX_CAPTURE`] bytes.
#[derive(Debug)]
pub struct Assembler {
    parser: HelloParser,
    /// Bytes pushed; stops counting above the bound.
    seen: usize,
}

impl Default for Assembler {
    fn default() -> Self {
        Self::new()
    }
}

impl Assembler {
    /// An assembler at the start of a flow.
    pub fn new() -> Self {
        Self { parser: HelloParser::limited(MAX_CAPTURE), seen: 0 }
    }

    /// Adds the next chunk. Bytes after the ClientHello are ignored.
    pub fn push(&mut self, chunk: &[u8]) -> Assembly {
        let room = MAX_CAPTURE.saturating_sub(self.seen);
        self.seen = self.seen.saturating_add(chunk.len());
        let (within, _) = chunk.split_at(room.min(chunk.len()));
        match self.parser.push(within) {
            Ok(HelloStatus::Incomplete) if self.seen > MAX_CAPTURE => Assembly::TooLong,
            Ok(HelloStatus::Incomplete) => Assembly::Need,
            Ok(HelloStatus::Complete(hello)) => Assembly::Done(hello),
            Ok(HelloStatus::NotTls) => Assembly::NotTls,
            Err(HelloError::TooLarge) => Assembly::TooLong,
            Err(error) => Assembly::Broken(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hello::tests::{real, records};

    fn push_all(bytes: &[u8], cuts: &[usize]) -> Assembly {
        let mut assembler = Assembler::new();
        let mut rest = bytes;
        for cut in cuts {
            let (chunk, after) = rest.split_at((*cut).min(rest.len()));
            rest = after;
            assembler.push(chunk);
        }
        assembler.push(rest)
    }

    #[test]
    fn a_captured_hello_is_done_with_its_last_byte() {
        let bytes = real("curl-7.88");
        let mut assembler = Assembler::new();
        assert_eq!(assembler.push(&bytes[..1]), Assembly::Need);
        assert_eq!(assembler.push(&[]), Assembly::Need);
        assert_eq!(assembler.push(&bytes[1..bytes.len() - 1]), Assembly::Need);
        assert!(
            matches!(assembler.push(&bytes[bytes.len() - 1..]), Assembly::Done(hello) if hello.sni.as_deref() == Some("mcp.example.test"))
        );
        assert!(matches!(assembler.push(b"later"), Assembly::Done(_)));
    }

    #[test]
    fn what_is_not_a_hello_has_its_own_outcome() {
        assert_eq!(push_all(b"SSH-2.0-OpenSSH", &[1]), Assembly::NotTls);
        assert_eq!(push_all(b"\x16\x03\x01\x00\x04\x02", &[3]), Assembly::Broken(HelloError::NotClientHello));
    }

    #[test]
    fn a_hello_beyond_the_capture_is_too_long_at_once_or_at_the_bound() {
        // Its header says so.
        assert_eq!(push_all(b"\x16\x03\x01\x40\x00\x01\x00\x40\x01", &[]), Assembly::TooLong);
        // Its records are so small that their headers fill the capture.
        let mut message = vec![1, 0, 0x30, 0];
        message.resize(4 + 0x3000, 0);
        let bytes = records(&message, 1);
        assert_eq!(push_all(&bytes[..MAX_CAPTURE], &[]), Assembly::Need);
        assert_eq!(push_all(&bytes[..=MAX_CAPTURE], &[]), Assembly::TooLong);
        assert_eq!(push_all(&bytes, &[MAX_CAPTURE, 1, 0]), Assembly::TooLong);
    }

    proptest! {
        #[test]
        fn any_cuts_give_the_same(
            client in prop_oneof![Just("openssl-3.0"), Just("node-20"), Just("python-3.11")],
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            record in 1..600usize,
            cuts in proptest::collection::vec(0..300usize, 0..20),
        ) {
            let mut bytes = records(&real(client)[5..], record);
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            prop_assert_eq!(push_all(&bytes, &[]), push_all(&bytes, &cuts));
        }

        #[test]
        fn cuts_near_the_bound_give_the_same(length in 0..4usize, cut in 0..4usize) {
            let mut message = vec![1, 0, 0x30, 0];
            message.resize(4 + 0x3000, 0);
            let bytes = records(&message, 1);
            let bytes = &bytes[..MAX_CAPTURE - 2 + length];
            prop_assert_eq!(push_all(bytes, &[]), push_all(bytes, &[MAX_CAPTURE - 2 + cut]));
        }
    }
}
