//! JSON lines: one line per event, appended, bounded in size and age, survives rotation by others and crashes.
//!
//! A line that a crash tore is an event that was never acknowledged: it is cut off when the file is
//! opened next. A write that fails in the middle is taken back, so that a full disk leaves whole
//! lines behind. Every file written to is fsynced before its events count.

use crate::{JsonlTarget, MAX_EVENT_BYTES};
use gnomon_files::FileId;
use gnomon_ledger_model::Keep;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// The file and those it was before are at most so many: `events.jsonl`, `events.jsonl.1` … `events.jsonl.7`.
const PARTS: u32 = 8;

/// The destination of lines.
pub(crate) enum Jsonl {
    None,
    File(LineFile),
    Stdout,
}

impl Jsonl {
    /// Opens the target. `keep` is for all files together.
    pub(crate) fn open(target: &JsonlTarget, keep: Keep) -> io::Result<Self> {
        Ok(match target {
            JsonlTarget::None => Jsonl::None,
            JsonlTarget::Stdout => Jsonl::Stdout,
            JsonlTarget::File(path) => Jsonl::File(LineFile::open(path, keep)?),
        })
    }

    /// Sets the time by which lines are too old.
    pub(crate) fn keep_by(&mut self, now_ms: i64) {
        if let Jsonl::File(file) = self {
            file.now = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(now_ms).unwrap_or(0)));
        }
    }

    /// Removes parts beyond the retention, also while nothing is written.
    pub(crate) fn prune(&mut self) {
        if let Jsonl::File(file) = self {
            file.make_room(0);
            file.prune();
        }
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
    keep: Keep,
    /// True if the failure to rotate was reported.
    told: bool,
    /// The time by which lines are too old; none before it was set: nothing is removed by age then.
    now: Option<SystemTime>,
}

struct Open {
    file: File,
    /// Device and inode.
    identity: FileId,
    /// Devices (`/dev/full`) have no length and cannot be fsynced.
    regular: bool,
}

impl LineFile {
    fn open(path: &Path, keep: Keep) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), open: Some(open(path)?), keep, told: false, now: None })
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.make_room(lines.len());
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

    /// Puts this part aside where it is time to.
    fn make_room(&mut self, more: usize) {
        if self.was_rotated() {
            self.open = None;
        }
        if self.is_due(more) {
            match self.rotate() {
                Ok(()) => self.open = None,
                // The folder belongs to another user, who then has to bound its size.
                Err(error) if !self.told => {
                    self.told = true;
                    tracing::warn!(path = %self.path.display(), %error, "cannot rename the file of events, so it grows");
                }
                Err(_) => {}
            }
        }
    }

    /// True if this part of the lines is full or old enough to be rotated.
    fn is_due(&self, more: usize) -> bool {
        let Some(there) = self.open.as_ref().filter(|open| open.regular).and_then(|open| open.file.metadata().ok()) else { return false };
        let full = there.len() > 0 && there.len() + more as u64 > self.keep.max_bytes / u64::from(PARTS);
        // Where files have no birth time, one that is no longer written to.
        let age = there.created().or_else(|_| there.modified()).ok().and_then(|made| self.now?.duration_since(made).ok());
        full || (there.len() > 0 && age.is_some_and(|age| age > self.keep.retention / PARTS))
    }

    /// Renames this part and those before it; the oldest goes.
    fn rotate(&self) -> io::Result<()> {
        for number in (1..PARTS - 1).rev() {
            match fs::rename(self.part(number), self.part(number + 1)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.part(1))?;
        self.prune();
        Ok(())
    }

    /// Removes parts whose last line is older than anything is kept, up to the first that is kept: what came after it is not older, whatever the
    /// clock said. One of the future was written while the clock was ahead, and keeps no other.
    fn prune(&self) {
        let Some(now) = self.now else { return };
        for path in (1..PARTS).rev().map(|number| self.part(number)) {
            let Ok(written) = fs::metadata(&path).and_then(|there| there.modified()) else { continue };
            match now.duration_since(written) {
                // A file that cannot be removed now is retried later.
                Ok(age) if age > self.keep.retention => drop(fs::remove_file(&path)),
                Ok(_) => return,
                Err(_) => {}
            }
        }
    }

    fn part(&self, number: u32) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        name.into()
    }

    /// True if the path now leads elsewhere: logrotate renamed or removed the file.
    fn was_rotated(&self) -> bool {
        let Some(open) = &self.open else { return false };
        match fs::metadata(&self.path) {
            Ok(there) => FileId::of(&there) != open.identity,
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
    if there.file_type().is_fifo() {
        // Once nobody reads it, whoever writes waits for ever.
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is a named pipe; have whoever reads it follow a file"));
    }
    let regular = there.is_file();
    if regular {
        repair(&file, there.len())?;
        if !existed && let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            // A new file is durable once its folder's entry is.
            File::open(dir)?.sync_all()?;
        }
    }
    Ok(Open { file, identity: FileId::of(&there), regular })
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
    use std::os::unix::fs::MetadataExt as _;
    use std::time::Duration;

    const KEEP: Keep = Keep { max_bytes: 1 << 30, retention: Duration::from_secs(86_400) };

    fn file_in(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("events.jsonl")
    }

    #[test]
    fn a_named_pipe_in_the_place_of_lines_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(std::process::Command::new("mkfifo").arg(file_in(&dir)).status().unwrap().success());
        let error = LineFile::open(&file_in(&dir), KEEP).err().unwrap();
        assert!(error.to_string().contains("named pipe"), "{error}");
    }

    #[test]
    fn a_torn_last_line_is_cut_off_at_the_next_opening() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_in(&dir);
        for (found, left) in [("{\"a\":1}\n{\"b\":", "{\"a\":1}\n"), ("{\"a\"", ""), ("", ""), ("{}\n", "{}\n")] {
            fs::write(&path, found).unwrap();
            let mut file = LineFile::open(&path, KEEP).unwrap();
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
        LineFile::open(&path, KEEP).unwrap().append(b"{}\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{foreign}\n{{}}\n"));
    }

    #[test]
    fn a_renamed_removed_or_truncated_file_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_in(&dir);
        let mut file = LineFile::open(&path, KEEP).unwrap();
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
        let mut file = LineFile::open(Path::new("/dev/full"), KEEP).unwrap();
        assert_eq!(file.append(b"{}\n").unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(file.append(b"{}\n").is_err());
    }

    #[test]
    fn others_may_not_read_it() {
        let dir = tempfile::tempdir().unwrap();
        LineFile::open(&file_in(&dir), KEEP).unwrap();
        assert_eq!(fs::metadata(file_in(&dir)).unwrap().mode() & 0o137, 0);
    }

    #[test]
    fn all_parts_together_stay_within_the_bound_and_keep_the_newest_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_in(&dir);
        let keep = Keep { max_bytes: 16_000, ..KEEP };
        let mut file = LineFile::open(&path, keep).unwrap();
        for number in 0..400 {
            file.append(format!("{number:099}\n").as_bytes()).unwrap();
        }
        let mut lines = String::new();
        let mut bytes = 0;
        for part in (1..20).rev().map(|number| file.part(number)).chain([path.clone()]) {
            let text = fs::read_to_string(part).unwrap_or_default();
            bytes += text.len();
            lines.push_str(&text);
        }
        assert!(bytes <= 16_000 && bytes > 12_000, "{bytes}");
        let numbers: Vec<usize> = lines.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(numbers.last(), Some(&399));
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "no gap");
    }

    #[test]
    fn a_file_that_nobody_writes_to_is_kept_no_longer_than_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_in(&dir);
        let keep = Keep { retention: Duration::from_millis(800), ..KEEP };
        let mut jsonl = Jsonl::open(&JsonlTarget::File(path.clone()), keep).unwrap();
        jsonl.append(b"{}\n").unwrap();
        let since = SystemTime::now();
        loop {
            jsonl.keep_by(gnomon_kit::unix_millis(SystemTime::now()));
            jsonl.prune();
            let left = fs::read_dir(dir.path()).unwrap().flatten().any(|entry| entry.metadata().is_ok_and(|there| there.len() > 0));
            if !left {
                break;
            }
            assert!(since.elapsed().unwrap() < Duration::from_secs(20), "the line is still there");
            std::thread::sleep(Duration::from_millis(20));
        }
        jsonl.append(b"{}\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n");
    }

    #[test]
    fn parts_that_are_too_old_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_in(&dir);
        let old = dir.path().join("events.jsonl.3");
        let foreign = dir.path().join("events.jsonl.3.gz");
        for name in [&old, &foreign] {
            fs::write(name, "{}\n").unwrap();
            File::open(name).unwrap().set_modified(SystemTime::now() - Duration::from_secs(2 * 86_400)).unwrap();
        }
        let mut jsonl = Jsonl::open(&JsonlTarget::File(path.clone()), KEEP).unwrap();
        jsonl.prune();
        assert!(old.exists(), "by a clock that nobody vouched for");
        jsonl.keep_by(gnomon_kit::unix_millis(SystemTime::now()));
        jsonl.prune();
        assert!(!old.exists() && foreign.exists());
    }

    #[test]
    fn a_part_of_a_time_when_the_clock_was_behind_is_removed_no_earlier_than_those_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_in(&dir);
        let part = |number: u32, days: u64| {
            let part = dir.path().join(format!("events.jsonl.{number}"));
            fs::write(&part, "{}\n").unwrap();
            File::open(&part).unwrap().set_modified(SystemTime::now() - Duration::from_secs(days * 86_400 + 60)).unwrap();
            part
        };
        let parts = [part(3, 2), part(2, 0), part(1, 700)];
        let mut jsonl = Jsonl::open(&JsonlTarget::File(path), KEEP).unwrap();
        jsonl.keep_by(gnomon_kit::unix_millis(SystemTime::now()));
        jsonl.prune();
        assert_eq!(parts.map(|part| part.exists()), [false, true, true]);
    }
}
