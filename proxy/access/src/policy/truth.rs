//! Three values: a part of an entry holds, does not hold, or rests on a fact that is missing.

/// A truth value of three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Truth {
    /// The part does not hold.
    False,
    /// The fact is missing: never enough for an `allow`, always enough for a `deny`.
    Missing,
    /// The part holds.
    True,
}

impl Truth {
    pub(crate) const fn of(holds: bool) -> Self {
        if holds { Truth::True } else { Truth::False }
    }

    /// Both: the weaker of the two, as Kleene has it.
    pub(crate) fn and(self, other: Self) -> Self {
        self.min(other)
    }

    /// Holds for the fact, if it is there.
    pub(crate) fn about<T>(fact: Option<T>, holds: impl FnOnce(T) -> bool) -> Self {
        fact.map_or(Truth::Missing, |fact| Truth::of(holds(fact)))
    }
}
