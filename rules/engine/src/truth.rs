//! Kleene's three-valued logic: what is not known yet is neither true nor false.

/// A truth value of three: true, false, unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    True,
    False,
    /// Evidence is missing: not there yet, or not readable.
    Unknown,
}

impl From<bool> for Truth {
    fn from(truth: bool) -> Self {
        if truth { Truth::True } else { Truth::False }
    }
}

impl std::ops::Not for Truth {
    type Output = Truth;
    fn not(self) -> Truth {
        match self {
            Truth::True => Truth::False,
            Truth::False => Truth::True,
            Truth::Unknown => Truth::Unknown,
        }
    }
}

/// False when any is false, else unknown when any is unknown, else true.
pub(crate) fn all(truths: impl Iterator<Item = Truth>) -> Truth {
    let mut sum = Truth::True;
    for truth in truths {
        match truth {
            Truth::False => return Truth::False,
            Truth::Unknown => sum = Truth::Unknown,
            Truth::True => {}
        }
    }
    sum
}

/// True when any is true, else unknown when any is unknown, else false.
pub(crate) fn any(truths: impl Iterator<Item = Truth>) -> Truth {
    let mut sum = Truth::False;
    for truth in truths {
        match truth {
            Truth::True => return Truth::True,
            Truth::Unknown => sum = Truth::Unknown,
            Truth::False => {}
        }
    }
    sum
}
