//! Gives back what a program no longer needs: pages of its own code that only the start needed, and memory that was freed.
//!
//! A program that serves for weeks keeps mapped whatever it executed once: reading its configuration, compiling its rules,
//! making its databases. [`give_back_code`] has the kernel forget which pages of the program's file this process uses. What is
//! executed again is mapped again from the page cache, some microseconds for 64 KiB; what is not may leave memory when it gets
//! scarce, and no longer counts as this process's (`RssFile` of proc(5)).
//!
//! The allocator keeps what a thread freed for what that thread makes next, and hands it back while it is at work: after a burst
//! nobody asks it to. [`Idle`] does, on threads that are about to wait.
//!
//! What it deliberately does not do: touch memory that anybody wrote to, breakpoints and probes in the code included, or the
//! code of shared libraries, which other processes keep mapped anyway.
#![deny(missing_docs)]

mod idle;
mod mappings;

pub use idle::Idle;
use mappings::{Mapping, of_program};
use std::{fs, io};

/// Gives back the program's code; returns how many bytes of it were resident. Reads `/proc/self`, which takes a millisecond or so.
///
/// # Errors
/// A mapping could not be read, or the kernel refused. Nothing is lost then, and nothing gained.
pub fn give_back_code() -> io::Result<u64> {
    let program = fs::read_link("/proc/self/exe")?;
    let mappings = fs::read_to_string("/proc/self/smaps")?;
    let mut given = 0;
    for mapping in of_program(&mappings, &program).filter(Mapping::is_untouched_code) {
        forget(&mapping)?;
        given += mapping.resident;
    }
    Ok(given)
}

#[allow(unsafe_code)]
fn forget(mapping: &Mapping) -> io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(mapping.start);
    // SAFETY: the range is a private mapping of a file that this process may not write to and that nobody has written to, so
    // each page that is dropped is read again, the same, from the file. The program's file itself cannot be written to while it
    // runs (ETXTBSY), and its code is not unmapped before the process ends.
    unsafe { rustix::mm::madvise(start, mapping.length, rustix::mm::Advice::LinuxDontNeed) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resident() -> u64 {
        let program = fs::read_link("/proc/self/exe").unwrap();
        let mappings = fs::read_to_string("/proc/self/smaps").unwrap();
        of_program(&mappings, &program).filter(Mapping::is_untouched_code).map(|mapping| mapping.resident).sum()
    }

    #[test]
    fn a_program_that_gave_its_code_back_goes_on_with_less() {
        let before = resident();
        assert!(before > 0, "the code of the test is mapped");
        assert!(give_back_code().unwrap() >= before);
        assert!(resident() < before);
    }
}
