//! Finding cgroup v2 among the mounts (proc_pid_mountinfo(5)).

use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, fstatfs};
use serde::Serialize;

use super::{CgroupError, Hierarchy};
use crate::mountinfo::{self, unescape};

/// CGROUP2_SUPER_MAGIC (linux/magic.h).
const CGROUP2: u64 = 0x6367_7270;

/// The generations of cgroups that are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupLayout {
    /// v2 only.
    Pure,
    /// v2 beside controllers of v1.
    Hybrid,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    root: String,
    point: PathBuf,
    writable: bool,
}

pub(super) fn find() -> Result<Hierarchy, CgroupError> {
    let text = mountinfo::read().map_err(|error| CgroupError::new("reading", mountinfo::PATH, error))?;
    let (mounts, layout) = parse(&text);
    mounts.into_iter().find_map(|mount| open(mount, layout)).ok_or(CgroupError::NotMounted)
}

/// `None` if something else was mounted over it since.
fn open(mount: Mount, layout: CgroupLayout) -> Option<Hierarchy> {
    let directory = rustix::fs::open(&mount.point, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    if !is_cgroup(directory.as_fd()).ok()? {
        return None;
    }
    Some(Hierarchy { mount: mount.point, root: mount.root, layout, directory: Arc::new(directory) })
}

pub(super) fn is_cgroup(directory: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(u64::try_from(fstatfs(directory)?.f_type) == Ok(CGROUP2))
}

/// The mounts of cgroup v2, the best one first.
fn parse(text: &str) -> (Vec<Mount>, CgroupLayout) {
    let mut mounts = Vec::new();
    let mut layout = CgroupLayout::Pure;
    for line in text.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        match after.split(' ').next() {
            Some("cgroup") => layout = CgroupLayout::Hybrid,
            Some("cgroup2") => mounts.extend(mount(before)),
            _ => {}
        }
    }
    // Stable: among equals the first that was mounted.
    mounts.sort_by_key(|mount| (mount.root != "/", !mount.writable, !mount.point.starts_with("/sys/fs/cgroup")));
    (mounts, layout)
}

/// `ID PARENT DEVICE ROOT POINT OPTIONS …`
fn mount(fields: &str) -> Option<Mount> {
    let mut fields = fields.split(' ').skip(3);
    let (root, point, options) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Mount {
        root: String::from_utf8(unescape(root)).ok()?,
        point: PathBuf::from(std::ffi::OsString::from_vec(unescape(point))),
        writable: options.split(',').any(|option| option == "rw"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(text: &str) -> (Vec<(String, String)>, CgroupLayout) {
        let (mounts, layout) = parse(text);
        (mounts.into_iter().map(|mount| (mount.root, mount.point.to_string_lossy().into_owned())).collect(), layout)
    }

    fn pair(root: &str, point: &str) -> (String, String) {
        (root.to_owned(), point.to_owned())
    }

    #[test]
    fn a_pure_host_has_one_mount() {
        let text = "35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(points(text), (vec![pair("/", "/sys/fs/cgroup")], CgroupLayout::Pure));
    }

    #[test]
    fn a_hybrid_host_has_v2_beside_v1() {
        let text =
            "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(points(text), (vec![pair("/", "/sys/fs/cgroup/unified")], CgroupLayout::Hybrid));
    }

    #[test]
    fn of_several_mounts_the_whole_and_writable_one_comes_first() {
        let text = "1 0 0:1 /docker/x /part rw - cgroup2 none rw\n\
                    2 0 0:1 / /sys/fs/cgroup ro - cgroup2 none rw\n\
                    3 0 0:1 / /run/cilium/cgroupv2 rw shared:1 master:2 - cgroup2 none rw\n";
        assert_eq!(points(text).0, [pair("/", "/run/cilium/cgroupv2"), pair("/", "/sys/fs/cgroup"), pair("/docker/x", "/part")]);
    }

    #[test]
    fn escapes_are_undone_and_lines_that_are_none_passed_over() {
        let text = "junk\n - cgroup2\n1 2 3 - cgroup2 x y\n1 0 0:1 / /a\\040b\\134c\\9 rw - cgroup2 none rw\n";
        assert_eq!(points(text).0, [pair("/", "/a b\\c\\9")]);
    }

    #[test]
    fn without_cgroup_v2_there_is_none() {
        assert_eq!(points("27 1 254:0 / / rw - ext4 /dev/vda rw\n").0, []);
    }
}
