//! What is kept of a list that somebody else writes.

use std::ops::Deref;

/// At most `N` of what a list has, the first ones, and whether that is all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtMost<T, const N: usize> {
    kept: Vec<T>,
    has_more: bool,
}

impl<T, const N: usize> AtMost<T, N> {
    pub(crate) const fn new() -> Self {
        Self { kept: Vec::new(), has_more: false }
    }

    /// Keeps one more, if there is room.
    pub(crate) fn push(&mut self, one: T) {
        if self.kept.len() < N {
            self.kept.push(one);
        } else {
            self.has_more = true;
        }
    }

    /// The list has more than these.
    #[must_use]
    pub const fn has_more(&self) -> bool {
        self.has_more
    }

    pub(crate) fn into_kept(self) -> Vec<T> {
        self.kept
    }
}

impl<T, const N: usize> Deref for AtMost<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.kept
    }
}
