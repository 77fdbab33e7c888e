//! Paths at which the network namespaces of this host can be opened: their processes', and their mounts.

use std::collections::HashMap;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use gnomon_host::mountinfo;
use rustix::fs::stat;

/// Device and inode: identifies a namespace as long as anything holds it.
pub(crate) type Id = (u64, u64);

/// The network namespaces that processes are in or that are mounted, with a path to open each.
pub(crate) fn everywhere() -> HashMap<Id, PathBuf> {
    let text = mountinfo::read().inspect_err(|error| tracing::debug!("mounted network namespaces are not known: {error}"));
    let mut found: HashMap<Id, PathBuf> = text
        .iter()
        .flat_map(|text| mounted(text))
        // Something else may be mounted over it.
        .filter_map(|(inode, path)| id_of(&path).filter(|id| id.1 == inode).map(|id| (id, path)))
        .collect();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    for path in numbered.map(|entry| entry.path().join("ns/net")) {
        if let Some(id) = id_of(&path) {
            found.entry(id).or_insert(path);
        }
    }
    found
}

fn id_of(path: &Path) -> Option<Id> {
    stat(path).ok().map(|found| (found.st_dev, found.st_ino))
}

/// The inodes of the network namespaces that are mounted, and where.
fn mounted(text: &str) -> impl Iterator<Item = (u64, PathBuf)> {
    text.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let inode = root.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()?;
        let path = PathBuf::from(std::ffi::OsString::from_vec(mountinfo::unescape(point)));
        after.starts_with("nsfs ").then_some((inode, path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounted_network_namespaces_are_those_of_nsfs_and_no_others() {
        let text = "610 25 0:4 net:[4026532263] /run/netns/a\\040b rw shared:5 - nsfs nsfs rw\n\
                    611 25 0:4 mnt:[4026532264] /run/snapd/ns/x.mnt rw - nsfs nsfs rw\n\
                    612 25 8:1 /net:[4026532265] /srv rw - ext4 /dev/sda1 rw\n\
                    613 25 0:4 net:[x] /run/netns/c rw - nsfs nsfs rw\njunk\n";
        assert_eq!(mounted(text).collect::<Vec<_>>(), [(4_026_532_263, PathBuf::from("/run/netns/a b"))]);
    }
}
