//! The hash of a list of tools: SHA-256 over the sorted SHA-256 of its entries, each as its bytes stand.
//!
//! Servers that keep their tools in a hash map list them in another order each time, which is no change.

use sha2::{Digest as _, Sha256};

/// Most entries whose order does not count; those beyond count in the order in which they stand.
const MAX_SORTED: usize = 4096;

/// Hashes the entries of `result.tools` as they pass.
#[derive(Clone, Debug, Default)]
pub(super) struct Digest {
    is_list: bool,
    /// Where the entry at hand begins in the bytes at hand.
    from: Option<usize>,
    entry: Sha256,
    sorted: Vec<[u8; 32]>,
    beyond: Option<Sha256>,
}

impl Digest {
    /// A message begins.
    pub fn message(&mut self) {
        if self.is_list {
            *self = Self::default();
        }
    }

    /// A list begins.
    pub fn list(&mut self) {
        self.is_list = true;
    }

    /// An entry begins at this index of the bytes at hand.
    pub fn begin(&mut self, at: usize) {
        self.from = Some(at);
    }

    /// The bytes at hand are over.
    pub fn chunk(&mut self, bytes: &[u8]) {
        if let Some(from) = &mut self.from {
            self.entry.update(bytes.get(*from..).unwrap_or_default());
            *from = 0;
        }
    }

    /// The entry ends with the byte at this index.
    pub fn end(&mut self, bytes: &[u8], at: usize) {
        let Some(from) = self.from.take() else { return };
        self.entry.update(bytes.get(from..=at).unwrap_or_default());
        let digest: [u8; 32] = self.entry.finalize_reset().into();
        if self.sorted.len() < MAX_SORTED {
            self.sorted.push(digest);
        } else {
            self.beyond.get_or_insert_default().update(digest);
        }
    }

    /// The message has ended: the hash, if it has a list.
    pub fn over(&mut self) -> Option<[u8; 32]> {
        if !self.is_list {
            return None;
        }
        self.sorted.sort_unstable();
        let mut all = Sha256::new();
        self.sorted.iter().for_each(|digest| all.update(digest));
        if let Some(beyond) = self.beyond.take() {
            all.update(beyond.finalize());
        }
        Some(all.finalize().into())
    }

    /// Bytes that are kept.
    pub fn kept(&self) -> usize {
        self.sorted.len() * 32
    }
}
