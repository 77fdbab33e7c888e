//! A reader that gives up when one entry takes more than its budget, so that no entry can fill the
//! memory.

use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};

/// The bytes that may still be read before the budget is renewed. Reading ahead counts, so a budget ends
/// up to one buffer early or late.
#[derive(Clone)]
pub struct Budget {
    left: Rc<Cell<u64>>,
    full: u64,
}

impl Budget {
    /// A new entry begins.
    pub fn renew(&self) {
        self.left.set(self.full);
    }
}

pub struct Metered<R> {
    inner: R,
    budget: Budget,
}

impl<R: Read> Metered<R> {
    /// A reader, and the handle that renews its budget.
    pub fn new(inner: R, full: u64) -> (Self, Budget) {
        let budget = Budget { left: Rc::new(Cell::new(full)), full };
        (Self { inner, budget: budget.clone() }, budget)
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.left.get();
        if left == 0 {
            return Err(io::Error::other(format!("one entry is longer than {} MiB", self.budget.full >> 20)));
        }
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..room])?;
        self.budget.left.set(left - read as u64);
        Ok(read)
    }
}
