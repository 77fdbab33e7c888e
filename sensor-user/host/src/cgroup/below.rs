//! The children of a cgroup, and their removal.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, unlinkat};

use super::CgroupId;

/// Most cgroups that one search looks at.
pub const MAX_CGROUPS: usize = 65_536;
/// Deepest nesting that is searched. A descriptor is open for each level.
pub const MAX_DEPTH: usize = 64;

/// Removes empty cgroups below a cgroup, deepest first.
pub(super) fn remove_empty_below(parent: BorrowedFd<'_>, name: &str) {
    let mut left = MAX_CGROUPS;
    if let Some(directory) = directory(parent, name) {
        empty(&directory, MAX_DEPTH, &mut left);
    }
}

fn empty(directory: &OwnedFd, depth: usize, left: &mut usize) {
    use std::os::fd::AsFd as _;
    for (name, _) in children(directory.as_fd()) {
        if *left == 0 || depth == 0 {
            return;
        }
        *left -= 1;
        if let Some(child) = self::directory(directory.as_fd(), &name) {
            empty(&child, depth - 1, left);
        }
        // A cgroup in use stays, and so do the ones above it.
        let _ = unlinkat(directory, &*name, AtFlags::REMOVEDIR);
    }
}

fn directory(parent: BorrowedFd<'_>, name: &str) -> Option<OwnedFd> {
    openat(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).ok()
}

/// Names and inode numbers of the child cgroups: kernfs lists both, so none has to be opened.
pub(super) fn children(directory: BorrowedFd<'_>) -> Vec<(String, CgroupId)> {
    let Ok(entries) = Dir::read_from(directory) else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().to_str().ok().filter(|name| !matches!(*name, "." | ".."))?;
            (entry.file_type() == FileType::Directory).then(|| (name.to_owned(), CgroupId(entry.ino())))
        })
        .take(MAX_CGROUPS)
        .collect()
}
