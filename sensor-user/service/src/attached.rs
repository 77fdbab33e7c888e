//! The attached eBPF programs, on their way from the process image that loaded them to the one that serves.
//!
//! Loading takes 30 MiB and many pages of code that are never needed again. So the process attaches, and then executes itself with exec(2),
//! which frees all of that at once: the descriptors stay open, and nothing is detached meanwhile. A memory file says which descriptor is
//! which.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::process;

use gnomon_host::cgroup::Hierarchy;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};

use crate::kernel::{Handed, Kernel};
use crate::{Options, ServiceError, os, privilege, taking_over};

/// The most bytes of the memory file; a description takes some hundred.
const MOST: u64 = 64 << 10;

/// The kernel half, attached. Dropping it detaches it.
#[derive(Debug)]
pub struct Attached(pub(crate) Kernel);

#[derive(Serialize, Deserialize)]
struct Note {
    /// The process that wrote it; exec(2) keeps its number.
    pid: u32,
    kernel: Handed,
}

impl Attached {
    /// The environment variable that holds the descriptor number of the memory file.
    pub const VARIABLE: &str = "GNOMON_KERNEL_HALF";

    /// Loads the kernel half and attaches what this kernel can do.
    ///
    /// # Errors
    /// [`ServiceError`]: nothing is attached then.
    pub fn attach(options: &Options) -> Result<Self, ServiceError> {
        let lacking = privilege::lacking()?;
        let cgroup = match &options.cgroup {
            Some(cgroup) => cgroup.clone(),
            None => Hierarchy::find()?.mount().to_owned(),
        };
        let kernel = Kernel::attach(&cgroup, &options.own_cgroup, options.ring_bytes, &lacking)?;
        taking_over::take_over(&kernel, options);
        // From here on this sensor refuses; both may be attached, as neither is redirected to.
        taking_over::relieve(&kernel, options);
        Ok(Self(kernel))
    }

    /// Keeps everything attached across exec(2). The value is what [`Self::VARIABLE`] has to tell the next program.
    ///
    /// # Errors
    /// A system call failed. Everything is detached then.
    pub fn hand_over(self) -> Result<String, ServiceError> {
        let note = Note { pid: process::id(), kernel: self.0.hand_over()? };
        let note = postcard::to_allocvec(&note).map_err(unreadable)?;
        let memory = memfd_create("gnomon-kernel-half", MemfdFlags::CLOEXEC).map_err(os("make a memory file"))?;
        let mut memory = File::from(memory);
        memory.write_all(&note).and_then(|()| memory.rewind()).map_err(os("write to a memory file"))?;
        fcntl_setfd(&memory, FdFlags::empty()).map_err(os("keep a memory file across exec"))?;
        let number = memory.as_raw_fd();
        // Closed by the next process image, or when this process ends.
        std::mem::forget(memory);
        Ok(number.to_string())
    }

    /// Takes over what the previous image of this process attached. To be called once, before anything else opens descriptors, with the
    /// value of [`Self::VARIABLE`].
    ///
    /// # Errors
    /// The value is not that of a [`Attached::hand_over`] of this very process.
    pub fn take_over(value: &str) -> Result<Self, ServiceError> {
        let number: RawFd = value.parse().ok().filter(|number| *number > 2).ok_or_else(|| unreadable(value))?;
        // Looked up by number first, as that opens nothing.
        let target = std::fs::read_link(format!("/proc/self/fd/{number}")).map_err(os("find the memory file"))?;
        if !target.to_string_lossy().starts_with("/memfd:gnomon-kernel-half") {
            return Err(unreadable(value));
        }
        // SAFETY: open, as was just checked, and made by `hand_over`, as its name shows; no other code uses it, as the caller is the first
        // to open anything.
        let memory = File::from(unsafe { OwnedFd::from_raw_fd(number) });
        let mut note = Vec::new();
        memory.take(MOST).read_to_end(&mut note).map_err(os("read the memory file"))?;
        let note: Note = postcard::from_bytes(&note).map_err(unreadable)?;
        if note.pid != process::id() {
            return Err(unreadable("that of another process"));
        }
        // SAFETY: `hand_over` of this process, by its number, kept these open, and nothing else uses them.
        Ok(Self(unsafe { Kernel::take_over(note.kernel)? }))
    }
}

fn unreadable(why: impl std::fmt::Display) -> ServiceError {
    os("take over the kernel half")(io::Error::new(io::ErrorKind::InvalidData, why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_process_kept_is_taken_over() {
        for value in ["", "x", "-1", "0", "2", "1048576"] {
            assert!(Attached::take_over(value).is_err(), "{value}");
        }
        // Something else is open under this number.
        let other = File::open("/dev/null").unwrap();
        assert!(Attached::take_over(&other.as_raw_fd().to_string()).is_err());
        drop(other);
    }
}
