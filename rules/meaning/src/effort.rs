//! How much may be done to find out what the arguments of one call mean: in proportion to their length, whatever stands in them. What it
//! does not reach is not known, and the field is told as partial.

/// What each byte of the arguments allows, in bytes that are read, …
const EACH: usize = 16;
/// … and what every call has.
const ALWAYS: usize = 16 * 1024;

/// What is left, in bytes that may be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    left: usize,
    is_partial: bool,
}

impl Effort {
    /// For arguments of so many bytes.
    pub fn for_length(length: usize) -> Self {
        Self { left: length.saturating_mul(EACH).saturating_add(ALWAYS), is_partial: false }
    }

    /// Takes what reading so many bytes costs; false if that is more than is left. Then nothing is to be read.
    pub fn takes(&mut self, bytes: usize) -> bool {
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or_default();
        self.is_partial |= left.is_none();
        left.is_some()
    }

    /// Something is left out by another bound.
    pub fn leaves_out(&mut self) {
        self.is_partial = true;
    }

    /// True if something was left out.
    pub fn is_partial(self) -> bool {
        self.is_partial
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_it_is_left_out_and_all_that_follows() {
        let mut effort = Effort::for_length(10);
        assert!(effort.takes(10 * EACH) && effort.takes(ALWAYS));
        assert!(!effort.is_partial());
        assert!(effort.takes(0) && !effort.takes(1) && effort.is_partial());
    }
}
