//! The time by which what is old is destroyed, over restarts: a [`SteadyClock`] whose knowledge stands in a small file.
//!
//! A process whose clock was wrong leaves things of the future behind, so the newest of them says nothing about the time. The file does: it is
//! written over in place as the clock begins to be doubted, when it is believed again, every ten minutes, and at the end. Where it is missing or says
//! nothing, nothing is too old before the clock has stood for a day.
#![deny(missing_docs)]

use gnomon_kit::{Memory, SteadyClock, SteadyTime, unix_millis};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// The smallest piece that a disk writes whole, bytes.
const BLOCK: usize = 512;
/// The interval at which the state is written.
const KEPT_EVERY: Duration = Duration::from_secs(600);

/// By how much a clock may be behind the newest of what is there, milliseconds, as in [`SteadyClock`].
const TOLERANCE_MS: i64 = 60 * 60 * 1000;

/// What is there already that is to be destroyed by a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing: the system's clock is trusted if no file says otherwise.
    Nothing,
    /// Something, and nobody knows of when.
    Something,
    /// The newest is of this time, milliseconds since the Unix epoch. If no file says more, a system's clock that is behind it went back.
    Until(i64),
}

/// A clock with its file. One process uses it; clones are one clock as of the moment they were made.
#[derive(Clone, Debug)]
pub struct KeptClock {
    steady: SteadyClock,
    file: Option<Arc<File>>,
    path: PathBuf,
    /// The moment at which it was written last, and whether the clock was doubted then.
    kept: Option<(Instant, bool)>,
    complained: Arc<AtomicBool>,
    /// By how many milliseconds the system's clock was ahead at the last reading.
    ahead_ms: i64,
    /// The newest of what is there, where nothing else is known.
    newest_ms: Option<i64>,
    /// A jump that was found as the clock was opened, for the first reading.
    untold_ms: Option<i64>,
}

impl KeptClock {
    /// Opens the file, or makes it (mode 0640), and continues with its time. A file that cannot be used is logged, and counts as empty.
    #[must_use]
    pub fn open(path: &Path, kept: Kept) -> Self {
        let (file, known) = match open(path) {
            Ok((file, known)) => (Some(Arc::new(file)), known),
            Err(error) => {
                tracing::error!("the state of the clock cannot be saved in {}: {error}; make it writable for gnomon", path.display());
                (None, None)
            }
        };
        let mut clock = Self { file, path: path.to_owned(), ..Self::forgetful(kept) };
        if let Some(known) = known {
            clock.steady = SteadyClock::resume(known, unix_millis(SystemTime::now()), Instant::now());
            (clock.newest_ms, clock.untold_ms) = (None, None);
        }
        clock.untold_ms = clock.read().jumped_ms;
        clock
    }

    /// Without a file: each process knows as much as where the file is missing.
    #[must_use]
    pub fn forgetful(kept: Kept) -> Self {
        let (now_ms, at) = (unix_millis(SystemTime::now()), Instant::now());
        let steady = match kept {
            Kept::Nothing => SteadyClock::begin(now_ms, at),
            Kept::Something | Kept::Until(_) => SteadyClock::resume(Memory::NONE, now_ms, at),
        };
        let newest_ms = if let Kept::Until(newest) = kept { Some(newest) } else { None };
        let untold_ms = newest_ms.map(|newest| now_ms.saturating_sub(newest)).filter(|ahead| *ahead < -TOLERANCE_MS);
        let (file, path, kept, complained) = (None, PathBuf::new(), None, Arc::default());
        Self { steady, file, path, kept, complained, ahead_ms: 0, newest_ms, untold_ms }
    }

    /// The time now. May block on the disk when the state is due to be written.
    pub fn read(&mut self) -> SteadyTime {
        let (now_ms, at) = (unix_millis(SystemTime::now()), Instant::now());
        let mut time = self.steady.read(now_ms, at);
        let expected = self.steady.expected(at);
        let doubted = expected != now_ms;
        self.ahead_ms = match self.newest_ms {
            _ if !doubted => 0,
            Some(newest) if now_ms.saturating_sub(newest) < -TOLERANCE_MS => now_ms.saturating_sub(newest),
            Some(_) | None => now_ms.saturating_sub(expected),
        };
        let due = self.kept.is_none_or(|(kept, was)| was != doubted || at.saturating_duration_since(kept) >= KEPT_EVERY);
        if due || time.jumped_ms.is_some() {
            self.kept = Some((at, doubted));
            self.keep();
        }
        time.jumped_ms = time.jumped_ms.or(self.untold_ms.take());
        time
    }

    /// By how many milliseconds the system's clock was ahead at the last reading: negative if it was behind, zero once it is believed.
    #[must_use]
    pub fn ahead_ms(&self) -> i64 {
        self.ahead_ms
    }

    /// What is made at this moment is not younger than this, milliseconds since the Unix epoch: what a clock says that went back does not count.
    #[must_use]
    pub fn not_younger_ms(&self) -> i64 {
        unix_millis(SystemTime::now()).max(self.steady.expected(Instant::now()))
    }

    /// Writes the current state.
    pub fn keep(&self) {
        let Some(file) = &self.file else { return };
        let written = write(file, self.steady.memory(Instant::now()));
        match written {
            Ok(()) => self.complained.store(false, Ordering::Relaxed),
            Err(error) if !self.complained.swap(true, Ordering::Relaxed) => {
                tracing::error!("the state of the clock could not be saved in {}: {error}; retrying", self.path.display());
            }
            Err(_) => {}
        }
    }
}

fn open(path: &Path) -> io::Result<(File, Option<Memory>)> {
    // A file of another type in its place must not block.
    let flags = libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut text = [0; BLOCK];
    let known = match file.read_exact_at(&mut text, 0) {
        Ok(()) => std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
        Err(error) => return Err(error),
    };
    Ok((file, known))
}

fn write(file: &File, known: Memory) -> io::Result<()> {
    let mut text = [b' '; BLOCK];
    let numbers = known.to_string();
    // Three numbers of 64 bits are far shorter.
    for (place, byte) in text.iter_mut().zip(numbers.bytes()) {
        *place = byte;
    }
    text[BLOCK - 1] = b'\n';
    file.write_all_at(&text, 0)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DAY: i64 = 24 * 60 * 60 * 1000;

    fn now() -> i64 {
        unix_millis(SystemTime::now())
    }

    fn about(a: i64, b: i64) -> bool {
        (a - b).abs() < 60_000
    }

    /// The file as a process left it that trusted the time `believed_ms` while the system's clock said `system_ms`.
    fn left(path: &Path, believed_ms: i64, system_ms: i64) {
        write(&File::create(path).unwrap(), Memory { believed_ms, system_ms, stood_ms: 0 }).unwrap();
    }

    #[test]
    fn what_was_doubted_is_doubted_after_restarts_and_believed_once_the_clock_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clock");
        left(&path, now() - 1_000 * DAY, now());
        for _ in 0..3 {
            let time = KeptClock::open(&path, Kept::Something).read();
            assert!(about(time.now_ms, now() - 1_000 * DAY) && time.jumped_ms.is_none(), "{time:?}");
            assert!(about(KeptClock::open(&path, Kept::Something).ahead_ms(), 1_000 * DAY));
        }
        left(&path, now(), now() + 1_000 * DAY);
        let mut clock = KeptClock::open(&path, Kept::Something);
        assert!(about(clock.read().now_ms, now()) && clock.ahead_ms() == 0, "{clock:?}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), BLOCK as u64, "it never grows");
    }

    #[test]
    fn a_clock_that_went_back_over_a_restart_is_told_of_and_dates_nothing_as_older_than_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clock");
        left(&path, now() + 730 * DAY, now() + 730 * DAY);
        let mut clock = KeptClock::open(&path, Kept::Something);
        assert!(about(clock.ahead_ms(), -730 * DAY) && about(clock.not_younger_ms(), now() + 730 * DAY), "{clock:?}");
        assert!(clock.read().jumped_ms.is_some_and(|jumped| about(jumped, -730 * DAY)), "{clock:?}");
        assert_eq!(clock.read().jumped_ms, None, "it is told once");
        // Without a file the newest of what is there tells.
        let mut clock = KeptClock::open(&dir.path().join("missing"), Kept::Until(now() + 730 * DAY));
        assert!(about(clock.ahead_ms(), -730 * DAY), "{clock:?}");
        assert!(clock.read().jumped_ms.is_some_and(|jumped| about(jumped, -730 * DAY)), "{clock:?}");
        let mut clock = KeptClock::open(&dir.path().join("missing too"), Kept::Until(now()));
        assert!(clock.read().jumped_ms.is_none() && clock.ahead_ms() > 0, "{clock:?}");
    }

    #[test]
    fn where_nothing_is_known_only_what_is_new_believes_the_clock() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("new");
        assert!(about(KeptClock::open(&new, Kept::Nothing).read().now_ms, now()));
        assert!(about(KeptClock::open(&new, Kept::Something).read().now_ms, now()), "it is known by now");
        assert!(KeptClock::open(&dir.path().join("missing"), Kept::Something).read().now_ms < DAY);
        let garbage = dir.path().join("garbage");
        std::fs::write(&garbage, [b'x'; BLOCK]).unwrap();
        assert!(KeptClock::open(&garbage, Kept::Something).read().now_ms < DAY);
        assert!(KeptClock::open(dir.path(), Kept::Something).read().now_ms < DAY, "a folder");
    }
}
