//! The chain: each record's hash covers the one before it, its place, and its bytes as they are stored. Nothing is
//! re-encoded to be verified.

use aws_lc_rs::digest::{Context, SHA256};
use std::fmt;

/// SHA-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RecordHash(pub [u8; 32]);

impl fmt::Display for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl RecordHash {
    /// Parses 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok()?;
        Some(RecordHash(hash))
    }
}

/// The id of a chain: random, made with the database.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChainId(pub [u8; 16]);

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ChainId {
    /// Parses 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).ok()?;
        Some(ChainId(id))
    }

    /// The head before the first record, which that record's hash covers.
    #[must_use]
    pub fn start(self) -> Head {
        Head { seq: 0, hash: digest(&[b"gnomon-audit-1 start", &self.0]) }
    }
}

/// The head of a chain: the last record's number, from 1, and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The number; 0 before the first record.
    pub seq: u64,
    /// The hash.
    pub hash: RecordHash,
}

impl Head {
    /// The head after a record with this body.
    #[must_use]
    pub fn then(self, body: &str) -> Head {
        let seq = self.seq.saturating_add(1);
        Head { seq, hash: digest(&[b"gnomon-audit-1 record", &self.hash.0, &seq.to_be_bytes(), body.as_bytes()]) }
    }
}

/// The hash of parts, each behind its length, so that no two lists of parts are the same bytes.
fn digest(parts: &[&[u8]]) -> RecordHash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    RecordHash(hash)
}
