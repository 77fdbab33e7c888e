//! Standard error of a process that serves.
//!
//! Whoever reads the log may stall (a terminal that is stopped, a shipper that hangs), and a write to a full pipe lasts until somebody reads.
//! After [`write_apart`] a thread of its own writes, from a bounded buffer, and whoever logs never waits. The price: lines that find no room
//! are left out. They are counted, and told once there is room again. Before, and in commands that only answer, lines are written directly.
//!
//! Errors of writing are no errors of the process: a log on a full disk stops nothing.
#![deny(missing_docs)]

use parking_lot::{Condvar, Mutex};
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fmt,
    io::{self, ErrorKind, Write},
    mem,
    panic::{self, PanicHookInfo},
    thread,
    time::Duration,
};

/// Most bytes that wait to be written.
const MOST_WAITING: usize = 256 << 10;
/// Most memory of the buffers that is kept for use.
const MOST_KEPT: usize = 16 << 10;
/// How long [`flush`] waits.
const LAST: Duration = Duration::from_secs(1);
/// The pause before a terminal that takes nothing at the moment (`EAGAIN`) is tried again.
const AGAIN: Duration = Duration::from_millis(50);
/// The thread needs little, and some processes count every page.
const STACK: usize = 128 << 10;

static LOG: Log = Log::new();

/// Has standard error written by a thread of its own from now on, what a panic says as well. To be called once this process has the user and
/// the rights that it is to keep, as the thread takes over those of its caller. Again, it does nothing.
///
/// # Errors
/// No thread can be started.
pub fn write_apart() -> io::Result<()> {
    {
        let mut state = LOG.state.lock();
        if state.written == Written::Apart {
            return Ok(());
        }
        thread::Builder::new().name("gnomon-log".to_owned()).stack_size(STACK).spawn(|| LOG.run(&mut io::stderr()))?;
        state.written = Written::Apart;
    }
    panic::set_hook(Box::new(tell_panic));
    Ok(())
}

/// A line for people: `gnomon: ` and the text.
pub fn say(what: fmt::Arguments<'_>) {
    LOG.put(format!("gnomon: {what}\n").as_bytes());
}

/// Writes text whole, or not at all.
pub fn write(text: &str) {
    LOG.put(text.as_bytes());
}

/// Waits until everything is written, for a second at most. For the end of the process.
pub fn flush() {
    LOG.flush(LAST);
}

/// The number of lines that were not written, since the start.
#[must_use]
pub fn lost() -> u64 {
    LOG.state.lock().lost
}

/// Standard error as a writer: each write is one or more whole lines, and none fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        LOG.put(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the standard library says of a panic, by the way of all lines.
fn tell_panic(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let backtrace = Backtrace::capture();
    let shown = match backtrace.status() {
        BacktraceStatus::Captured => format!("{backtrace}\n"),
        _ => String::new(),
    };
    let name = thread.name().unwrap_or("<unnamed>");
    LOG.put(format!("\nthread '{name}' {info}\n{shown}").as_bytes());
    // The process ends with this thread.
    if name == "main" {
        LOG.flush(LAST);
    }
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// Whoever logs.
    Directly,
    /// The log's thread.
    Apart,
}

struct LogBuffer {
    written: Written,
    /// Lines that wait for the thread.
    waiting: Vec<u8>,
    /// Lines that found no room, after those that wait; not told yet.
    unread: u64,
    /// The thread is writing.
    busy: bool,
    /// All lines that were not written, for whichever reason.
    lost: u64,
}

struct Log {
    state: Mutex<LogBuffer>,
    /// Something waits.
    more: Condvar,
    /// Everything is written.
    done: Condvar,
}

impl Log {
    const fn new() -> Self {
        let state = LogBuffer { written: Written::Directly, waiting: Vec::new(), unread: 0, busy: false, lost: 0 };
        Self { state: Mutex::new(state), more: Condvar::new(), done: Condvar::new() }
    }

    fn put(&self, lines: &[u8]) {
        let mut state = self.state.lock();
        if state.written == Written::Directly {
            drop(state);
            let _ = io::stderr().write_all(lines);
            return;
        }
        // Once a line was left out so is every other until that is told, so that the line about it stands where they are missing.
        if state.unread > 0 || state.waiting.len() + lines.len() > MOST_WAITING {
            let count = count(lines);
            state.unread += count;
            state.lost += count;
        } else {
            state.waiting.extend_from_slice(lines);
        }
        self.more.notify_one();
    }

    fn flush(&self, within: Duration) {
        let mut state = self.state.lock();
        let unwritten =
            |state: &mut LogBuffer| state.written == Written::Apart && (state.busy || !state.waiting.is_empty() || state.unread > 0);
        // Whoever does not read by then gets no more.
        let _ = self.done.wait_while_for(&mut state, unwritten, within);
    }

    /// Writes what comes, for as long as the process lives.
    fn run(&self, out: &mut dyn Write) {
        let mut lines = Vec::new();
        let mut failed: Option<Failed> = None;
        loop {
            {
                let mut state = self.state.lock();
                state.busy = false;
                while state.waiting.is_empty() && state.unread == 0 {
                    self.done.notify_all();
                    self.more.wait(&mut state);
                }
                state.busy = true;
                mem::swap(&mut state.waiting, &mut lines);
                let unread = mem::take(&mut state.unread);
                if unread > 0 {
                    let _ = writeln!(lines, "gnomon: {unread} lines of the log were not written, as nobody read them");
                }
            }
            if let Some(before) = &failed {
                let told = before.told();
                match write_all(out, told.as_bytes()) {
                    Ok(()) => failed = None,
                    Err((left, _)) => failed = failed.map(|before| before.cut(told.as_bytes(), left)),
                }
            }
            // A line that was cut is ended before another begins.
            let is_torn = failed.as_ref().is_some_and(|before| before.torn);
            let ended = if is_torn { write_all(out, b"\n").map_err(|(_, error)| error) } else { Ok(()) };
            let written = match ended {
                Ok(()) => {
                    failed = failed.map(|before| Failed { torn: false, ..before });
                    write_all(out, &lines)
                }
                Err(error) => Err((lines.as_slice(), error)),
            };
            if let Err((left, error)) = written {
                let lost = count(left);
                self.state.lock().lost += lost;
                let (before, torn) = failed.map_or((0, false), |before| (before.lines, before.torn));
                failed = Some(Failed { lines: before + lost, torn, error }.cut(&lines, left));
            }
            lines.clear();
            lines.shrink_to(MOST_KEPT);
        }
    }
}

/// Lines that the system did not take.
struct Failed {
    lines: u64,
    /// What was written last is a part of a line, without an end.
    torn: bool,
    error: io::Error,
}

impl Failed {
    /// After so much was left of what was to be written; where nothing was written, what was torn is torn.
    fn cut(self, whole: &[u8], left: &[u8]) -> Self {
        let last = whole.len().checked_sub(left.len() + 1).and_then(|last| whole.get(last));
        Self { torn: last.map_or(self.torn, |last| *last != b'\n'), ..self }
    }

    fn told(&self) -> String {
        let end = if self.torn { "\n" } else { "" };
        format!("{end}gnomon: {} lines of the log were not written: {}\n", self.lines, self.error)
    }
}

/// The number of lines, of which the last may lack its end.
fn count(lines: &[u8]) -> u64 {
    (lines.iter().filter(|byte| **byte == b'\n').count() as u64).max(1)
}

/// Writes all, however long that takes, or returns what is left.
fn write_all<'a>(out: &mut dyn Write, mut left: &'a [u8]) -> Result<(), (&'a [u8], io::Error)> {
    while !left.is_empty() {
        match out.write(left) {
            Ok(0) => return Err((left, ErrorKind::WriteZero.into())),
            Ok(written) => left = &left[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(AGAIN),
            Err(error) => return Err((left, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{
        fs::File,
        io::{BufRead as _, BufReader, Read as _},
        time::Instant,
    };

    /// A log that is written apart, for as long as the tests run.
    fn apart(mut out: impl Write + Send + 'static) -> &'static Log {
        let log: &Log = Box::leak(Box::new(Log::new()));
        log.state.lock().written = Written::Apart;
        thread::spawn(move || log.run(&mut out));
        log
    }

    #[test]
    fn nobody_who_logs_waits_for_whoever_reads_and_what_is_missing_is_told_in_its_place() {
        let (reader, writer) = io::pipe().unwrap();
        let log = apart(writer);
        let began = Instant::now();
        for number in 0..10_000 {
            log.put(format!("{number:099}\n").as_bytes());
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let began = Instant::now();
        log.flush(Duration::from_millis(200));
        assert!(began.elapsed() < Duration::from_secs(5), "the end waits for no reader either");
        let lost = log.state.lock().lost;
        assert!(lost > 0);

        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        let (mut next, mut told) = (0, 0);
        loop {
            let line = lines.next().unwrap();
            if let Some(rest) = line.strip_prefix("gnomon: ") {
                let (count, rest) = rest.split_once(' ').unwrap();
                assert_eq!(rest, "lines of the log were not written, as nobody read them");
                let count: u64 = count.parse().unwrap();
                (next, told) = (next + count, told + count);
            } else {
                assert_eq!(line.parse::<u64>().unwrap(), next);
                next += 1;
            }
            if next == 10_000 && told > 0 {
                break;
            }
        }
        assert_eq!(told, lost);
        log.put(b"the reader is back\n");
        assert_eq!(lines.next().unwrap(), "the reader is back");
    }

    #[test]
    fn a_flush_returns_once_everything_is_written() {
        let (mut reader, writer) = io::pipe().unwrap();
        let log = apart(writer);
        log.put(b"one\n");
        log.put(b"two\n");
        let began = Instant::now();
        log.flush(Duration::from_secs(60));
        assert!(began.elapsed() < Duration::from_secs(60));
        let mut read = [0; 8];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"one\ntwo\n");
    }

    #[test]
    fn a_full_disk_under_the_log_stops_nothing() {
        let log = apart(File::options().write(true).open("/dev/full").unwrap());
        log.put(b"one\ntwo\n");
        log.flush(Duration::from_secs(60));
        log.put(b"three\n");
        log.flush(Duration::from_secs(60));
        assert_eq!(log.state.lock().lost, 3);
    }

    /// Has room for some bytes, then none, then enough.
    struct Disk(std::sync::mpsc::Sender<Vec<u8>>, Vec<Option<usize>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = if self.1.is_empty() { Some(bytes.len()) } else { self.1.remove(0) };
            let room = room.ok_or(ErrorKind::StorageFull)?.min(bytes.len());
            self.0.send(bytes[..room].to_vec()).unwrap();
            Ok(room)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_the_disk_did_not_take_are_told_once_there_is_room() {
        let (send, written) = std::sync::mpsc::channel();
        let log = apart(Disk(send, vec![Some(6), None, None, None]));
        for line in ["first\n", "second\n", "third\n"] {
            log.put(line.as_bytes());
            log.flush(Duration::from_secs(60));
        }
        // The second finds no room, and neither does the line about it before the third.
        log.put(b"fourth\n");
        log.flush(Duration::from_secs(60));
        let text = String::from_utf8(written.try_iter().flatten().collect()).unwrap();
        assert_eq!(
            text,
            format!("first\ngnomon: 2 lines of the log were not written: {}\nfourth\n", io::Error::from(ErrorKind::StorageFull))
        );
    }

    #[test]
    fn a_line_that_was_cut_is_ended_before_the_next_one_whatever_fails_in_between() {
        let full = |failures: usize| vec![None; failures];
        // How much room there is for each write: the first line is cut, and then there is none for a while, or for a part of what is told.
        for rooms in [
            [vec![Some(3)], full(3)].concat(),
            [vec![Some(3)], full(1), full(2), full(2)].concat(),
            [vec![Some(3)], full(1), vec![Some(4)], full(2)].concat(),
        ] {
            let (send, written) = std::sync::mpsc::channel();
            let log = apart(Disk(send, rooms.clone()));
            for line in ["first\n", "second\n", "third\n", "fourth\n", "fifth\n"] {
                log.put(line.as_bytes());
                log.flush(Duration::from_secs(60));
            }
            let text = String::from_utf8(written.try_iter().flatten().collect()).unwrap();
            assert!(text.starts_with("fir\n") && text.ends_with("\nfifth\n"), "{rooms:?}: {text}");
            let whole = |line: &&str| ["second", "third", "fourth", "fifth"].contains(line) || line.starts_with("gnomon: ");
            let odd: Vec<&str> =
                text.lines().skip(1).filter(|line| !whole(line) && !line.is_empty() && !"gnomon".starts_with(*line)).collect();
            assert!(odd.is_empty(), "{rooms:?}: {text}");
        }
    }
}
