//! Room on the disks that gnomon writes to: bytes, and files (inodes).

use std::io;
use std::path::Path;

use rustix::fs::{StatVfs, StatVfsMountFlags, statvfs};

use super::{Check, CheckStatus, Options, Room};

/// Less than this is a full disk: a database of SQLite with its log takes no write.
const FULL: u64 = 4 << 20;
/// Less than this is told before it is full.
const LOW: u64 = 256 << 20;
/// The same for files. Databases need logs beside them, and what is replaced is written beside its place.
const FULL_FILES: u64 = 16;
const LOW_FILES: u64 = 1024;

pub(super) fn examine(options: &Options) -> Vec<Check> {
    options.rooms.iter().map(|room| judge(room, look(&room.path))).collect()
}

/// The file system of the path, or of what of it exists.
fn look(path: &Path) -> io::Result<StatVfs> {
    let mut found = Err(io::ErrorKind::NotFound.into());
    for place in path.ancestors() {
        let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
        found = statvfs(place).map_err(io::Error::from);
        if !matches!(&found, Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)) {
            break;
        }
    }
    found
}

fn judge(room: &Room, found: io::Result<StatVfs>) -> Check {
    let (id, title, path) = (format!("room.{}", room.name), "room on disk", room.path.display());
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            return Check::not_applicable(id, title, format!("{path}: {error}")).next("ask as the user that gnomon runs as, or as root");
        }
    };
    // What is kept for root alone is none of a service's.
    let bytes = found.f_bavail.saturating_mul(found.f_frsize);
    // File systems that make inodes as they need them say 0.
    let files = (found.f_files > 0).then_some(found.f_favail);
    let seen = match files {
        Some(files) => format!("{path}: {} MiB and {files} files are free", bytes >> 20),
        None => format!("{path}: {} MiB are free", bytes >> 20),
    };
    if found.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Check::new(id, title, CheckStatus::Fail, format!("{path} is on a file system that is mounted read-only"))
            .next("findmnt and the kernel's log (dmesg) say why; mount it for writing, or name another folder");
    }
    let state = match (bytes, files) {
        (bytes, files) if bytes < FULL || files.is_some_and(|files| files < FULL_FILES) => CheckStatus::Fail,
        (bytes, files) if bytes < LOW || files.is_some_and(|files| files < LOW_FILES) => CheckStatus::Warn,
        _ => return Check::ok(id, title, seen),
    };
    Check::new(id, title, state, seen).next(
        "make room there (df -h, df -i). On a full disk events are lost, and portals refuse what their audit cannot take; \
         events.retention and audit.max_gib bound what gnomon keeps",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(change: impl Fn(&mut StatVfs)) -> Check {
        let mut found = look(Path::new("/")).unwrap();
        (found.f_frsize, found.f_bavail, found.f_files, found.f_favail) = (4096, 1 << 20, 1 << 20, 1 << 19);
        found.f_flag = StatVfsMountFlags::empty();
        change(&mut found);
        judge(&Room { name: "state", path: "/var/lib/gnomon".into() }, Ok(found))
    }

    #[test]
    fn a_disk_without_room_for_bytes_or_for_files_fails_before_that_it_warns() {
        assert_eq!(judged(|_| {}).state, CheckStatus::Ok);
        assert_eq!(judged(|found| found.f_bavail = 0).state, CheckStatus::Fail);
        assert_eq!(judged(|found| found.f_bavail = 1 << 12).state, CheckStatus::Warn);
        assert_eq!(judged(|found| found.f_favail = 0).state, CheckStatus::Fail);
        assert_eq!(judged(|found| found.f_favail = 100).state, CheckStatus::Warn);
        assert_eq!(judged(|found| (found.f_files, found.f_favail) = (0, 0)).state, CheckStatus::Ok, "inodes are made as needed");
        let read_only = judged(|found| found.f_flag = StatVfsMountFlags::RDONLY);
        assert!(read_only.state == CheckStatus::Fail && read_only.seen.contains("read-only") && read_only.next.is_some());
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_judged_by_the_one_above() {
        assert!(look(Path::new("/no/such/folder")).is_ok() && look(Path::new("no/such/folder")).is_ok());
    }
}
