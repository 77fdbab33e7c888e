//! One direction of a TCP connection, put in order (RFC 9293): segments out of order, repeated, overlapping.
//!
//! The first copy of a byte counts. What does not fit the bound of waiting bytes, or never came, is a gap; nothing behind a
//! gap is handed out, as what it meant is unknown.

use std::collections::BTreeMap;

/// A gap after which nothing more of a stream is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// More bytes wait for a missing segment than may wait.
    TooMuchWaits,
}

/// The largest distance of a segment from the expected sequence number that still belongs to the connection: the largest window (RFC
/// 7323).
const MAX_DISTANCE: i32 = 1 << 30;

/// The bytes of one direction as they become known.
#[derive(Debug)]
pub struct Reassembly {
    /// The sequence number expected next; none before the first segment.
    next: Option<u32>,
    /// Bytes handed out.
    handed: u64,
    /// Bytes that came too early, by their place in the stream. They do not overlap.
    waiting: BTreeMap<u64, Vec<u8>>,
    waiting_bytes: usize,
    bound: usize,
    gap: Option<Gap>,
}

impl Reassembly {
    /// A stream in which at most `bound` bytes wait for a missing segment.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { next: None, handed: 0, waiting: BTreeMap::new(), waiting_bytes: 0, bound, gap: None }
    }

    /// The connection begins: the first byte has the number behind the SYN's.
    pub fn syn(&mut self, sequence: u32) {
        if self.next.is_none() {
            self.next = Some(sequence.wrapping_add(1));
        }
    }

    /// Adds a segment; bytes that are now in order are appended to `out`. Without a SYN before it, the stream begins here.
    pub fn segment(&mut self, sequence: u32, payload: &[u8], out: &mut Vec<u8>) {
        if payload.is_empty() || self.gap.is_some() {
            return;
        }
        let next = *self.next.get_or_insert(sequence);
        // How far ahead of what is expected; behind is negative. Sequence numbers wrap.
        let ahead = sequence.wrapping_sub(next).cast_signed();
        if !(-MAX_DISTANCE..=MAX_DISTANCE).contains(&ahead) {
            return;
        }
        let behind = usize::try_from(-i64::from(ahead)).unwrap_or(0);
        let Some(fresh) = payload.get(behind..).filter(|fresh| !fresh.is_empty()) else { return };
        self.keep(self.handed + u64::try_from(ahead).unwrap_or(0), fresh);
        let before = out.len();
        while let Some(chunk) = self.waiting.remove(&(self.handed)) {
            self.waiting_bytes -= chunk.len();
            self.handed += chunk.len() as u64;
            out.extend_from_slice(&chunk);
        }
        // Only so far, as a stream of 2^32 bytes has every number twice.
        self.next = Some(next.wrapping_add((out.len() - before) as u32));
        if self.waiting_bytes > self.bound {
            self.gap = Some(Gap::TooMuchWaits);
            self.waiting = BTreeMap::new();
            self.waiting_bytes = 0;
        }
    }

    /// Stores bytes where there are none yet.
    fn keep(&mut self, mut start: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // The waiting bytes that already cover the start.
            if let Some((at, known)) = self.waiting.range(..=start).next_back() {
                let end = at + known.len() as u64;
                if end > start {
                    let covered = usize::try_from(end - start).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[covered..];
                    start = end;
                    continue;
                }
            }
            let free = match self.waiting.range(start..).next() {
                Some((at, _)) => usize::try_from(at - start).unwrap_or(usize::MAX).min(bytes.len()),
                None => bytes.len(),
            };
            let (put, rest) = bytes.split_at(free);
            self.waiting.insert(start, put.to_vec());
            self.waiting_bytes += put.len();
            start += put.len() as u64;
            bytes = rest;
        }
    }

    /// True if bytes were seen that could not be handed out.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.gap.is_some() || !self.waiting.is_empty()
    }

    /// Bytes that wait for a gap before them to be filled.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting_bytes
    }
}
