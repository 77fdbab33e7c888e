//! The lines beside the ledger, written by a thread of their own: whoever reads standard output may stall, and the disk of the file may hang,
//! but the ledger waits for neither.
//!
//! A file that keeps up is waited for after the database, so that what is acknowledged is in both. Lines that find no room are counted and
//! told; their events are in the ledger.

use crate::{DropReason, JsonlTarget, jsonl::Jsonl, missing::MissingLines, queue::Queue};
use parking_lot::{Condvar, Mutex};
use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::timeout,
};

/// Most bytes of lines that wait to be written: as many events as the ledger's queue has room for, at a KiB each.
const MOST_WAITING: usize = 8 << 20;
/// How long a file that kept up until now is waited for.
const KEEPS_UP: Duration = Duration::from_secs(1);
/// How long the end waits for lines to be written.
const LAST: Duration = Duration::from_secs(2);

const TOO_SLOW: &str = "whoever takes them is too slow, or stalls";

/// The lines of some events.
struct Chunk {
    lines: Vec<u8>,
    events: u64,
    /// Whoever waits for them to be written.
    written: Option<oneshot::Sender<io::Result<()>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    Shut,
}

struct WaitingLines {
    waiting: VecDeque<Chunk>,
    /// Bytes of those that wait.
    bytes: usize,
    /// Events whose lines are being written.
    writing: u64,
    /// The time by which lines are too old.
    now_ms: Option<i64>,
    /// Files that are too old are to be removed.
    prune: bool,
    door: Door,
    /// Events whose lines are missing.
    missing: MissingLines,
    /// The last lines could not be written.
    failed: bool,
}

struct Shared {
    state: Mutex<WaitingLines>,
    more: Condvar,
    queue: Arc<Queue>,
}

/// The lines beside the ledger, if there are to be any.
pub(crate) struct Lines(Option<Open>);

struct Open {
    shared: Arc<Shared>,
    /// A file that keeps up is waited for.
    waited_for: bool,
    /// Ends when the thread has.
    ended: oneshot::Receiver<()>,
}

impl Lines {
    /// Starts the thread that writes to this target.
    pub(crate) fn start(jsonl: Jsonl, target: &JsonlTarget, queue: Arc<Queue>) -> io::Result<Self> {
        let waited_for = match target {
            JsonlTarget::None => return Ok(Self(None)),
            JsonlTarget::File(_) => true,
            JsonlTarget::Stdout => false,
        };
        Self::onto(jsonl, waited_for, queue)
    }

    fn onto(mut sink: impl Sink, waited_for: bool, queue: Arc<Queue>) -> io::Result<Self> {
        let state = WaitingLines {
            waiting: VecDeque::new(),
            bytes: 0,
            writing: 0,
            now_ms: None,
            prune: false,
            door: Door::Open,
            missing: MissingLines::default(),
            failed: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), more: Condvar::new(), queue });
        let (tell, ended) = oneshot::channel();
        let writes = shared.clone();
        thread::Builder::new().name("ledger-lines".to_owned()).spawn(move || {
            let _ended: oneshot::Sender<()> = tell;
            writes.run(&mut sink);
        })?;
        Ok(Self(Some(Open { shared, waited_for, ended })))
    }

    /// Leaves the lines of some events to the thread, and never waits. Without room they are left out and counted.
    pub(crate) fn offer(&self, lines: &[u8], events: u64, now_ms: i64) -> Offered {
        let Some(Open { shared, waited_for, .. }) = &self.0 else { return Offered(None) };
        let mut state = shared.state.lock();
        state.now_ms = Some(now_ms);
        let idle = state.waiting.is_empty() && state.writing == 0;
        if !idle && state.bytes + lines.len() > MOST_WAITING {
            shared.lose(&mut state, events, TOO_SLOW);
            return Offered(None);
        }
        let (tell, written) = oneshot::channel();
        let (tell, written) = if *waited_for && idle { (Some(tell), Some(written)) } else { (None, None) };
        state.bytes += lines.len();
        state.waiting.push_back(Chunk { lines: lines.to_vec(), events, written: tell });
        shared.more.notify_one();
        Offered(written)
    }

    /// Counts lines whose fate somebody waited for.
    pub(crate) fn lost(&self, events: u64, error: &io::Error) {
        if let Some(Open { shared, .. }) = &self.0 {
            shared.lose(&mut shared.state.lock(), events, &error.to_string());
        }
    }

    /// Has files that are too old removed.
    pub(crate) fn prune(&self, now_ms: i64) {
        if let Some(Open { shared, .. }) = &self.0 {
            let mut state = shared.state.lock();
            (state.now_ms, state.prune) = (Some(now_ms), true);
            shared.more.notify_one();
        }
    }

    /// Waits until all lines are written, for two seconds at most. Those that are not are counted.
    pub(crate) async fn finish(mut self) {
        let Some(Open { shared, ended, .. }) = &mut self.0 else { return };
        shared.shut();
        if timeout(LAST, ended).await.is_err() {
            let mut state = shared.state.lock();
            let left = state.writing + state.waiting.drain(..).map(|chunk| chunk.events).sum::<u64>();
            shared.lose(&mut state, left, "nobody took them by the end");
            state.tell_missing();
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Some(open) = &self.0 {
            open.shared.shut();
        }
    }
}

/// Lines that were left to the thread.
#[must_use]
pub(crate) struct Offered(Option<oneshot::Receiver<io::Result<()>>>);

impl Offered {
    /// The fate of the lines: `Ok` also where they are not waited for, or were not written in time; whether they are written then is
    /// counted later.
    pub(crate) async fn written(self) -> io::Result<()> {
        let Some(mut written) = self.0 else { return Ok(()) };
        match timeout(KEEPS_UP, &mut written).await {
            Ok(written) => written.unwrap_or_else(|_| Err(io::Error::other("the thread of the lines has ended"))),
            Err(_) => {
                // It may have been written in this very moment.
                written.close();
                match written.try_recv() {
                    Ok(written) => written,
                    Err(TryRecvError::Empty | TryRecvError::Closed) => Ok(()),
                }
            }
        }
    }
}

/// Where lines go.
trait Sink: Send + 'static {
    fn keep_by(&mut self, now_ms: i64);
    fn prune(&mut self);
    fn append(&mut self, lines: &[u8]) -> io::Result<()>;
}

impl Sink for Jsonl {
    fn keep_by(&mut self, now_ms: i64) {
        Jsonl::keep_by(self, now_ms);
    }

    fn prune(&mut self) {
        Jsonl::prune(self);
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        Jsonl::append(self, lines)
    }
}

impl Shared {
    fn shut(&self) {
        self.state.lock().door = Door::Shut;
        self.more.notify_one();
    }

    /// Writes until the door is shut and nothing waits.
    fn run(&self, sink: &mut impl Sink) {
        loop {
            let (chunk, now_ms, prune) = {
                let mut state = self.state.lock();
                while state.waiting.is_empty() && !state.prune {
                    if !state.failed
                        && let Some(events) = state.missing.end()
                    {
                        tracing::warn!(
                            events,
                            "JSON lines are written again; those of so many events are missing, which are in the ledger"
                        );
                    }
                    if state.door == Door::Shut {
                        state.tell_missing();
                        return;
                    }
                    match state.missing.due_in(Instant::now()) {
                        None => self.more.wait(&mut state),
                        Some(Duration::ZERO) => state.tell_missing(),
                        Some(left) => {
                            let _ = self.more.wait_for(&mut state, left);
                        }
                    }
                }
                let chunk = state.waiting.pop_front();
                state.bytes -= chunk.as_ref().map_or(0, |chunk| chunk.lines.len());
                state.writing = chunk.as_ref().map_or(0, |chunk| chunk.events);
                (chunk, state.now_ms, std::mem::take(&mut state.prune))
            };
            if let Some(now_ms) = now_ms {
                sink.keep_by(now_ms);
            }
            if prune {
                sink.prune();
            }
            let Some(Chunk { lines, events, written }) = chunk else { continue };
            let done = sink.append(&lines);
            {
                let mut state = self.state.lock();
                (state.writing, state.failed) = (0, done.is_err());
            }
            // Whoever waits counts them; what nobody waits for is counted here.
            let unheard = match written {
                Some(written) => written.send(done).err(),
                None => Some(done),
            };
            if let Some(Err(error)) = unheard {
                self.lose(&mut self.state.lock(), events, &error.to_string());
            }
        }
    }

    /// Counts events whose lines are missing, and says so, but not again and again of what lasts.
    fn lose(&self, state: &mut WaitingLines, events: u64, why: &str) {
        self.queue.count_lost(DropReason::JsonlFailed, events);
        state.missing.add(events, why);
        match state.missing.due_in(Instant::now()) {
            Some(Duration::ZERO) => state.tell_missing(),
            // The thread says it when it is time.
            Some(_) | None => {
                self.more.notify_one();
            }
        }
    }
}

impl WaitingLines {
    fn tell_missing(&mut self) {
        let (events, why) = self.missing.tell(Instant::now());
        if events > 0 {
            tracing::error!(events, why, "JSON lines of events were not written; the events are in the ledger");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{num::NonZeroUsize, sync::mpsc};

    /// Takes lines while it is let, one after the other.
    struct Gate {
        let_in: mpsc::Receiver<()>,
        took: mpsc::Sender<Vec<u8>>,
    }

    impl Sink for Gate {
        fn keep_by(&mut self, _now_ms: i64) {}
        fn prune(&mut self) {}
        fn append(&mut self, lines: &[u8]) -> io::Result<()> {
            let _ = self.let_in.recv();
            let _ = self.took.send(lines.to_vec());
            Ok(())
        }
    }

    fn gated(waited_for: bool) -> (Lines, Arc<Queue>, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
        let queue = Arc::new(Queue::new(NonZeroUsize::MIN));
        let (open, let_in) = mpsc::channel();
        let (took, taken) = mpsc::channel();
        (Lines::onto(Gate { let_in, took }, waited_for, queue.clone()).unwrap(), queue, open, taken)
    }

    fn lost(queue: &Queue) -> u64 {
        queue.dropped().of(DropReason::JsonlFailed)
    }

    #[tokio::test]
    async fn lines_that_nobody_reads_are_bounded_counted_and_waited_for_by_nobody() {
        let (lines, queue, open, taken) = gated(false);
        let began = Instant::now();
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            lines.offer(&chunk, 10, 0).written().await.unwrap();
        }
        assert!(began.elapsed() < KEEPS_UP, "{:?}", began.elapsed());
        // One is being written, or waits to be, and eight more have room.
        assert!((110..=120).contains(&lost(&queue)), "{}", lost(&queue));
        let began = Instant::now();
        lines.finish().await;
        assert!(began.elapsed() < LAST + Duration::from_secs(3), "{:?}", began.elapsed());
        assert_eq!(lost(&queue), 200, "what was not written before the end is missing");
        drop((open, taken));
    }

    #[tokio::test]
    async fn lines_are_written_whole_and_in_order_also_by_the_end() {
        let (lines, queue, open, taken) = gated(false);
        for number in 0..100 {
            let _ = lines.offer(format!("{number}\n").as_bytes(), 1, 0);
            open.send(()).unwrap();
        }
        lines.finish().await;
        assert_eq!(lost(&queue), 0);
        let written: Vec<u8> = taken.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(written).unwrap(), (0..100).map(|number| format!("{number}\n")).collect::<String>());
    }

    #[tokio::test]
    async fn a_file_that_hangs_holds_the_ledger_up_once_and_not_for_long() {
        let (lines, _queue, open, taken) = gated(true);
        let began = Instant::now();
        lines.offer(b"1\n", 1, 0).written().await.unwrap();
        assert!(began.elapsed() >= KEEPS_UP);
        let began = Instant::now();
        for _ in 0..50 {
            lines.offer(b"2\n", 1, 0).written().await.unwrap();
        }
        assert!(began.elapsed() < KEEPS_UP, "{:?}", began.elapsed());
        for _ in 0..51 {
            open.send(()).unwrap();
            taken.recv().unwrap();
        }
        // It keeps up again, and is waited for.
        open.send(()).unwrap();
        while lines.0.as_ref().is_some_and(|open| open.shared.state.lock().writing > 0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        lines.offer(b"3\n", 1, 0).written().await.unwrap();
        assert_eq!(taken.try_recv().unwrap(), b"3\n");
    }
}
