//! BPF maps as shared memory.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{NonNull, null_mut};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The access to the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Read and write.
    Write,
}

/// A part of a map, shared with the kernel, for as long as this lives.
#[derive(Debug)]
pub struct Shared {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory belongs to the process and not to a thread; what is done with it is up to the owners,
// who only use atomics or memory that the kernel has handed over.
unsafe impl Send for Shared {}

impl Shared {
    /// Maps `length` bytes of `map` from `offset`; both multiples of a page.
    ///
    /// # Errors
    /// The error of `mmap(2)`, for example that the map is not that large.
    pub fn map(map: BorrowedFd<'_>, offset: u64, length: usize, access: Access) -> io::Result<Self> {
        let rights = match access {
            Access::Read => ProtFlags::READ,
            Access::Write => ProtFlags::READ | ProtFlags::WRITE,
        };
        // SAFETY: the kernel chooses the place, so no memory in use is touched.
        let start = unsafe { mmap(null_mut(), length, rights, MapFlags::SHARED, map, offset)? };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { start, length })
    }

    /// Its beginning; aligned to a page.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length, and no reference into it outlives `self`.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// The size of a page.
pub fn page() -> usize {
    // Not rustix's: on Linux before 6.4 that reads /proc/self/auxv, which a process that changed its user may not, and panics.
    // SAFETY: reads a constant of the system.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // It cannot fail, and no system has smaller pages.
    usize::try_from(size).unwrap_or(4096)
}
