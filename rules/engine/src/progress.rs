//! What is already known of the rules: carried from connection to request to message.

use crate::RuleIndex;

/// Sets of rules that fit a word each; a set of up to `INLINE * 64` rules needs no heap.
const INLINE: usize = 4;

/// Which rules are already true or false. Cheap to clone: what holds of a connection holds of each
/// of its requests.
#[derive(Clone, Debug)]
pub struct Progress {
    pub(crate) words: Words,
}

#[derive(Clone, Debug)]
pub(crate) enum Words {
    Inline([Pair; INLINE]),
    Boxed(Box<[Pair]>),
}

/// Sixty-four rules.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pair {
    pub(crate) matched: u64,
    pub(crate) failed: u64,
}

impl Progress {
    pub(crate) fn new(rules: usize) -> Self {
        let words = if rules <= INLINE * 64 {
            Words::Inline([Pair::default(); INLINE])
        } else {
            Words::Boxed(vec![Pair::default(); rules.div_ceil(64)].into_boxed_slice())
        };
        Self { words }
    }

    /// All rules that match so far, in the set's order.
    pub fn matched(&self) -> impl Iterator<Item = RuleIndex> + '_ {
        let pairs: &[Pair] = match &self.words {
            Words::Inline(pairs) => pairs,
            Words::Boxed(pairs) => pairs,
        };
        pairs
            .iter()
            .enumerate()
            .flat_map(|(n, pair)| (0..64).filter(move |bit| pair.matched >> bit & 1 == 1).map(move |bit| RuleIndex((n * 64 + bit) as u16)))
    }
}
