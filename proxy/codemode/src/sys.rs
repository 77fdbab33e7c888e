//! The `unsafe` of this crate: what no crate we use has a safe name for. Every function is as small as its system call, and says
//! what makes it sound; what is done with them, and in which order, is decided in safe code elsewhere.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rquickjs::allocator::{Allocator, RustAllocator};
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// The process after a fork: parent or child.
pub enum Forked {
    /// The new process.
    Child,
    /// The old one.
    Parent(Pid),
}

/// The processor time that a process has used so far; none if it has ended.
pub fn spent(pid: Pid) -> Option<Duration> {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both write one value where they are given a valid place for it.
    let told = unsafe {
        libc::clock_getcpuclockid(pid.as_raw_nonzero().get(), &raw mut clock) == 0 && libc::clock_gettime(clock, &raw mut time) == 0
    };
    told.then(|| Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default()))
}

/// A process that has but one thread. Made by looking, and needed for what is only sound in such a process.
#[derive(Clone, Copy)]
pub struct Alone(());

impl Alone {
    /// Looks at `/proc/self/task`. The crate starts no threads in the processes that call this.
    ///
    /// # Errors
    /// If there are other threads, or their number is unknown.
    pub fn prove() -> io::Result<Self> {
        match std::fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(Self(())),
            _ => Err(io::Error::other("the process has more than one thread")),
        }
    }

    /// `fork(2)`.
    ///
    /// # Errors
    /// Its own.
    pub fn fork(self) -> io::Result<Forked> {
        // SAFETY: what makes fork unsound is a lock that another thread held; there is no other thread.
        match unsafe { libc::fork() } {
            0 => Ok(Forked::Child),
            pid => Pid::from_raw(pid).filter(|_| pid > 0).map(Forked::Parent).ok_or_else(io::Error::last_os_error),
        }
    }

    /// `unshare(2)`.
    ///
    /// # Errors
    /// Its own.
    pub fn unshare(self, what: UnshareFlags) -> io::Result<()> {
        // SAFETY: what makes unshare unsound is another thread that goes on with the old descriptors; there is no other thread.
        Ok(unsafe { rustix::thread::unshare_unsafe(what) }?)
    }

    /// Moves `socket` to number 3 and closes everything from 4 on, also what is owned elsewhere in the process.
    ///
    /// # Errors
    /// `dup2(2)` or `close_range(2)`.
    pub fn keep_only(self, socket: OwnedFd) -> io::Result<OwnedFd> {
        const KEPT: i32 = 3;
        let kept = if socket.as_raw_fd() == KEPT {
            socket
        } else {
            // SAFETY: both are plain numbers. If 3 was owned, its owner is gone with the process that forked: the callers are a
            // fresh zygote and a fresh worker, and neither uses what it inherited but what it passes here.
            if unsafe { libc::dup2(socket.as_raw_fd(), KEPT) } < 0 {
                return Err(io::Error::last_os_error());
            }
            drop(socket);
            // SAFETY: dup2 just made it, and no other code knows of it.
            unsafe { OwnedFd::from_raw_fd(KEPT) }
        };
        // SAFETY: as above: what is closed here has no user left in this process.
        if unsafe { libc::syscall(libc::SYS_close_range, KEPT + 1, u32::MAX, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(kept)
    }
}

/// Ends the process at once: no destructors, no handlers, which are the parent's.
pub fn exit(status: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(status) }
}

/// The processor time that a process has had; none where there is no such process.
pub fn processor_time(pid: Pid) -> Option<Duration> {
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both take a number and write to places of the types that they are documented to write.
    let failed = unsafe {
        libc::clock_getcpuclockid(pid.as_raw_nonzero().get(), &raw mut clock) != 0 || libc::clock_gettime(clock, &raw mut time) != 0
    };
    let taken = || Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?));
    if failed { None } else { taken() }
}

/// Lets a stack that overflows end the process by `SIGSEGV`, without the handler that Rust installs: it would print and `abort`,
/// whose system calls look like a break-out.
pub fn die_of_segv() {
    // SAFETY: the default action runs no code of ours.
    unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
}

/// The sum of the engine's allocations.
#[derive(Debug, Default)]
pub struct Heap {
    used: Cell<usize>,
    cap: Cell<usize>,
    exhausted: Cell<bool>,
}

impl Heap {
    /// Bounds it from now on, in bytes.
    pub fn bound(&self, cap: usize) {
        self.cap.set(cap);
        self.exhausted.set(false);
    }

    /// Whether an allocation was ever refused. The engine's own word is not enough: a script out of memory may see `null` for an
    /// exception.
    pub fn exhausted(&self) -> bool {
        self.exhausted.get()
    }

    fn room(&self, more: usize) -> bool {
        let fits = self.used.get().checked_add(more).is_some_and(|sum| sum <= self.cap.get());
        if !fits {
            self.exhausted.set(true);
        }
        fits
    }

    /// Counts what was allocated.
    fn count(&self, made: *mut u8) -> *mut u8 {
        if made.is_null() {
            self.exhausted.set(true);
        } else {
            // SAFETY: `made` is a live allocation of `RustAllocator`, as all that reaches here.
            self.used.set(self.used.get() + unsafe { RustAllocator::usable_size(made) });
        }
        made
    }
}

/// The engine's allocator: Rust's, counted and bounded.
pub struct Bounded(pub Rc<Heap>);

// SAFETY: every allocation is `RustAllocator`'s, which keeps the trait's promises; what is added only counts, and refuses by the
// null pointer that the trait allows. Sizes are checked against the cap first, so that none of its additions can overflow.
unsafe impl Allocator for Bounded {
    fn alloc(&mut self, size: usize) -> *mut u8 {
        if !self.0.room(size) {
            return std::ptr::null_mut();
        }
        self.0.count(RustAllocator.alloc(size))
    }

    fn calloc(&mut self, count: usize, size: usize) -> *mut u8 {
        match count.checked_mul(size) {
            Some(0) => std::ptr::null_mut(),
            Some(total) if self.0.room(total) => self.0.count(RustAllocator.calloc(count, size)),
            _ => {
                self.0.exhausted.set(true);
                std::ptr::null_mut()
            }
        }
    }

    unsafe fn dealloc(&mut self, block: *mut u8) {
        // SAFETY: the caller's promise: `block` is from this allocator, hence from `RustAllocator`.
        unsafe {
            self.0.used.set(self.0.used.get().saturating_sub(RustAllocator::usable_size(block)));
            RustAllocator.dealloc(block);
        }
    }

    unsafe fn realloc(&mut self, block: *mut u8, size: usize) -> *mut u8 {
        if block.is_null() {
            return self.alloc(size);
        }
        // SAFETY: as for `dealloc`.
        let before = unsafe { RustAllocator::usable_size(block) };
        if size > before && !self.0.room(size - before) {
            return std::ptr::null_mut();
        }
        // SAFETY: as for `dealloc`; on success `block` is gone and its size no longer counted.
        let made = self.0.count(unsafe { RustAllocator.realloc(block, size) });
        if !made.is_null() {
            self.0.used.set(self.0.used.get().saturating_sub(before));
        }
        made
    }

    unsafe fn usable_size(block: *mut u8) -> usize {
        // SAFETY: the caller's promise, passed on.
        unsafe { RustAllocator::usable_size(block) }
    }
}
