//! JSON lines: one line per event, appended, survives rotation and crashes.
//!
//! A line that a crash tore is an event that was never acknowledged: it is cut off when the file is
//! opened next. A write that fails in the middle is taken back, so that a full disk leaves whole
//! lines behind. Every file written to is fsynced before its events count.

use crate::{JsonlTarget, MAX_EVENT_BYTES};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Where lines go.
pub(crate) enum Jsonl {
    None,
    File(LineFile),
    Stdout,
}

impl Jsonl {
    pub(crate) fn open(target: &JsonlTarget) -> io::Result<Self> {
        Ok(match target {
            JsonlTarget::None => Jsonl::None,
            JsonlTarget::Stdout => Jsonl::Stdout,
            JsonlTarget::File(path) => Jsonl::File(LineFile::open(path)?),
        })
    }

    /// Writes whole lines and waits until they are on disk (for standard output: handed over).
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Jsonl::None => Ok(()),
            Jsonl::File(file) => file.append(lines),
            Jsonl::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
        }
    }
}

/// A file of lines, found by its path and recognised by its inode.
pub(crate) struct LineFile {
    path: PathBuf,
    /// Absent after a failure that may have left a torn line; opened (and repaired) again by the
    /// next append.
    open: Option<Open>,
}

struct Open {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    /// Devices and pipes (`/dev/full`, a named pipe) have no length and cannot be fsynced.
    regular: bool,
}

impl LineFile {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), open: Some(open(path)?) })
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.was_rotated() {
            self.open = None;
        }
        let current = match &mut self.open {
            Some(current) => current,
            None => self.open.insert(open(&self.path)?),
        };
        let written = current.append(lines);
        if written.is_err() {
            self.open = None;
        }
        written
    }

    /// Whether the path now leads elsewhere: logrotate renamed or removed the file.
    fn was_rotated(&self) -> bool {
        let Some(open) = &self.open else { return false };
        match fs::metadata(&self.path) {
            Ok(there) => (there.dev(), there.ino()) != open.identity,
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }
}

impl Open {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if !self.regular {
            return self.file.write_all(lines);
        }
        let before = self.file.metadata()?.len();
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // If this fails too, the repair at the next opening cuts the torn line.
            let _ = self.file.set_len(before);
        }
        written
    }
}

fn open(path: &Path) -> io::Result<Open> {
    let existed = path.exists();
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
    let there = file.metadata()?;
    let regular = there.is_file();
    if regular {
        repair(&file, there.len())?;
        if !existed && let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            // A new file is durable once its folder's entry is.
            File::open(dir)?.sync_all()?;
        }
    }
    Ok(Open { file, identity: (there.dev(), there.ino()), regular })
}

/// Cuts off a torn last line. A tail too long to be one of our lines is not ours to delete: it is
/// only ended.
fn repair(mut file: &File, length: u64) -> io::Result<()> {
    let mut tail = vec![0; (MAX_EVENT_BYTES + 1).min(usize::try_from(length).unwrap_or(usize::MAX))];
    let from = length - tail.len() as u64;
    file.read_exact_at(&mut tail, from)?;
    match tail.iter().rposition(|byte| *byte == b'\n') {
        _ if tail.is_empty() => Ok(()),
        Some(last) if last + 1 == tail.len() => Ok(()),
        Some(last) => file.set_len(from + last as u64 + 1),
        None if from == 0 => file.set_len(0),
        None => file.write_all(b"\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_in(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("events.jsonl")
    }

    #[test]
    fn a_torn_last_line_is_cut_off_at_the_next_opening() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_in(&dir);
        for (found, left) in [("{\"a\":1}\n{\"b\":", "{\"a\":1}\n"), ("{\"a\"", ""), ("", ""), ("{}\n", "{}\n")] {
            fs::write(&path, found).unwrap();
            let mut file = LineFile::open(&path).unwrap();
            file.append(b"{\"c\":3}\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{left}{{\"c\":3}}\n"));
        }
    }

    #[test]
    fn a_long_tail_that_is_not_ours_is_ended_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_in(&dir);
        let foreign = "x".repeat(MAX_EVENT_BYTES * 2);
        fs::write(&path, &foreign).unwrap();
        LineFile::open(&path).unwrap().append(b"{}\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{foreign}\n{{}}\n"));
    }

    #[test]
    fn a_renamed_removed_or_truncated_file_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_in(&dir);
        let mut file = LineFile::open(&path).unwrap();
        file.append(b"1\n").unwrap();
        fs::rename(&path, dir.path().join("events.jsonl.1")).unwrap();
        file.append(b"2\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
        fs::remove_file(&path).unwrap();
        file.append(b"3\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "3\n");
        // logrotate's copytruncate
        fs::write(&path, "").unwrap();
        file.append(b"4\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "4\n");
        assert_eq!(fs::read_to_string(dir.path().join("events.jsonl.1")).unwrap(), "1\n");
    }

    #[test]
    fn a_full_disk_is_an_error_and_never_a_panic() {
        let mut file = LineFile::open(Path::new("/dev/full")).unwrap();
        assert_eq!(file.append(b"{}\n").unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(file.append(b"{}\n").is_err());
    }

    #[test]
    fn others_may_not_read_it() {
        let dir = tempfile::tempdir().unwrap();
        LineFile::open(&file_in(&dir)).unwrap();
        assert_eq!(fs::metadata(file_in(&dir)).unwrap().mode() & 0o137, 0);
    }
}
