//! Descriptors inherited by accident.

use std::{fs, os::fd::RawFd};

/// Closes every descriptor but the three standard ones. To be called first of all: whatever this process opened before is
/// gone afterwards.
pub(crate) fn close_others() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<RawFd> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // The one of the listing itself is closed already.
        let _ = nix::unistd::close(number);
    }
}
