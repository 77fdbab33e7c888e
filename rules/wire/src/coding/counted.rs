//! An allocator for the brotli decoder that counts what it has given out: the size of the window is the sender's choice (RFC 7932
//! section 9.1), and what of it is allocated is the decoder's, so neither the bytes read nor those made tell how much memory is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use brotli_decompressor::{Allocator, SliceWrapper, StandardAlloc};

/// Memory given out, in bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken(Arc<AtomicUsize>);

impl Taken {
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

pub(super) struct Counted {
    inner: StandardAlloc,
    taken: Taken,
}

impl Counted {
    pub fn new(taken: &Taken) -> Self {
        Self { inner: StandardAlloc::default(), taken: taken.clone() }
    }
}

impl<T: Clone + Default> Allocator<T> for Counted {
    type AllocatedMemory = <StandardAlloc as Allocator<T>>::AllocatedMemory;

    fn alloc_cell(&mut self, len: usize) -> Self::AllocatedMemory {
        self.taken.0.fetch_add(len * size_of::<T>(), Ordering::Relaxed);
        self.inner.alloc_cell(len)
    }

    fn free_cell(&mut self, data: Self::AllocatedMemory) {
        self.taken.0.fetch_sub(data.len() * size_of::<T>(), Ordering::Relaxed);
        self.inner.free_cell(data);
    }
}
