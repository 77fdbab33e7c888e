//! The rules that are already decided, carried from connection to request to message.

use crate::RuleIndex;
use gnomon_observe::Phase;

/// A set of up to this many times 64 rules needs no heap.
const INLINE: usize = 4;

/// The rules that are already true or false. Cheap to clone: a decision on a connection holds for each of its requests. It belongs to the
/// set that started it.
#[derive(Clone, Debug)]
pub struct Progress {
    pairs: Pairs,
    /// The phase judged last.
    pub(crate) last: Option<Phase>,
}

#[derive(Clone, Debug)]
enum Pairs {
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
        let pairs = if rules <= INLINE * 64 {
            Pairs::Inline([Pair::default(); INLINE])
        } else {
            Pairs::Boxed(vec![Pair::default(); rules.div_ceil(64)].into_boxed_slice())
        };
        Self { pairs, last: None }
    }

    pub(crate) fn pairs_mut(&mut self) -> &mut [Pair] {
        match &mut self.pairs {
            Pairs::Inline(pairs) => pairs,
            Pairs::Boxed(pairs) => pairs,
        }
    }

    fn pairs(&self) -> &[Pair] {
        match &self.pairs {
            Pairs::Inline(pairs) => pairs,
            Pairs::Boxed(pairs) => pairs,
        }
    }

    /// The decision on a rule; `None` while it is open.
    pub(crate) fn standing(&self, index: usize) -> Option<bool> {
        let pair = self.pairs().get(index / 64)?;
        let mark = 1 << (index % 64);
        (pair.matched & mark != 0).then_some(true).or((pair.failed & mark != 0).then_some(false))
    }

    /// True if the rule has matched so far.
    #[must_use]
    pub fn has_matched(&self, index: RuleIndex) -> bool {
        self.standing(index.get()) == Some(true)
    }

    /// True if the rule cannot match any more.
    #[must_use]
    pub fn is_ruled_out(&self, index: RuleIndex) -> bool {
        self.standing(index.get()) == Some(false)
    }

    /// All rules that match so far, in the set's order.
    pub fn matched(&self) -> impl Iterator<Item = RuleIndex> + '_ {
        self.marked(|pair| pair.matched)
    }

    /// All places that are neither true nor false so far; those beyond the set's last rule as well.
    pub(crate) fn open(&self) -> impl Iterator<Item = RuleIndex> + '_ {
        self.marked(|pair| !(pair.matched | pair.failed))
    }

    fn marked(&self, marks: impl Fn(&Pair) -> u64) -> impl Iterator<Item = RuleIndex> {
        self.pairs().iter().enumerate().flat_map(move |(word, pair)| {
            let mut left = marks(pair);
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                // A set holds fewer rules than a RuleIndex can count.
                Some(RuleIndex(word as u16 * 64 + bit as u16))
            })
        })
    }
}
