//! The proxy's heartbeat: without it the kernel half redirects nothing, and a program that was told that it is redirected would connect
//! directly.

use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gnomon_sensor::STALE;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::time::{ClockId, clock_gettime};

/// The page that the proxy writes the time of its last beat into.
#[derive(Debug)]
pub(crate) struct Pulse {
    memory: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is only read, as one atomic word, and is unmapped on drop.
unsafe impl Send for Pulse {}
// SAFETY: as above.
unsafe impl Sync for Pulse {}

impl Pulse {
    /// Maps the heartbeat's map; the mapping outlives the descriptor.
    pub(crate) fn map(heartbeat: &OwnedFd) -> io::Result<Self> {
        let length = rustix::param::page_size();
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory of ours.
        let start = unsafe { mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, heartbeat, 0)? };
        let memory = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { memory, length })
    }

    /// True if the last heartbeat is recent enough.
    pub(crate) fn is_there(&self) -> bool {
        // SAFETY: a mapped page, aligned as pages are, that lives as long as `self`; everyone accesses this word as a whole,
        // and a load writes nothing.
        let word = unsafe { AtomicU64::from_ptr(self.memory.as_ptr().cast()) };
        let beat = Duration::from_nanos(word.load(Ordering::Acquire));
        let now = clock_gettime(ClockId::Monotonic);
        let now = Duration::try_from(now).unwrap_or_default();
        !beat.is_zero() && now.saturating_sub(beat) < STALE
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        // SAFETY: our own mapping of this length, which nothing refers to any more. That it fails is impossible for such.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), self.length) };
    }
}
