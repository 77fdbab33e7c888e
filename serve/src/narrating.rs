//! Detections on standard output while gnomon runs.

use anyhow::{Context as _, Result};
use gnomon_cli::line;
use gnomon_config::Packs;
use gnomon_kit::unix_millis;
use gnomon_ledger::{EventFilter, Follow, Order, ReadError, Reader, StoredEvent};
use std::{
    io::{self, ErrorKind, IsTerminal as _, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

/// The pause before a ledger that cannot be read is tried again.
const TRIED_AGAIN: Duration = Duration::from_secs(5);

/// The text on standard output while gnomon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narration {
    /// No output.
    Silent,
    /// A line for each detection.
    Lines,
    /// Each detection as JSON.
    Json,
}

/// A hint for a person at a terminal to the packs that are off because nobody chose any; nothing for a log.
pub fn hint(packs: &Packs) -> String {
    let off = packs.worth_turning_on();
    if off.is_empty() || !io::stderr().is_terminal() {
        return String::new();
    }
    let found: Vec<String> = off.iter().map(|pack| format!("{} ({})", pack.name, pack.finds.unwrap_or_default())).collect();
    let names: Vec<&str> = off.iter().map(|pack| pack.name).collect();
    format!("  off       packs {}; they are turned on by --packs builtin,{}\n", found.join(", "), names.join(","))
}

/// How long a stop waits for whoever reads standard output.
const LAST: Duration = Duration::from_secs(2);
/// How long it counts what nobody took.
const COUNTED: Duration = Duration::from_secs(1);

/// How far detections are shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Narrated {
    /// As they come.
    AsTheyCome,
    /// To the end of the ledger.
    ToTheEnd,
    /// Nobody takes them; what is left is counted.
    NoFurther,
}

/// Detections, by what became of them.
#[derive(Default)]
struct NarratedCount {
    /// Read in the ledger.
    read: AtomicU64,
    /// Printed.
    printed: AtomicU64,
}

/// Detections that are shown as they become durable.
///
/// Two halves, so that neither a reader of standard output that stalls nor a terminal that is stopped holds anything up: a task reads the ledger
/// like any other reader, and a thread writes.
pub struct Narrating {
    reading: JoinHandle<Result<()>>,
    extent: watch::Sender<Narrated>,
    told: Arc<NarratedCount>,
    /// Ends once nothing more is read.
    read: oneshot::Receiver<()>,
    /// Ends once nothing more is written.
    written: oneshot::Receiver<()>,
}

impl Narrating {
    /// Begins to. A ledger that cannot be read is tried again.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(ledger: PathBuf, narration: Narration) -> Result<Self> {
        Self::onto(ledger, narration, io::stdout())
    }

    fn onto(ledger: PathBuf, narration: Narration, mut out: impl Write + Send + 'static) -> Result<Self> {
        let (ended, written) = oneshot::channel();
        let (all_read, read) = oneshot::channel();
        let (extent, mut until) = watch::channel(Narrated::AsTheyCome);
        let told = Arc::new(NarratedCount::default());
        if narration == Narration::Silent {
            return Ok(Self { reading: tokio::spawn(async { Ok(()) }), extent, told, read, written });
        }
        let (show, mut shown) = mpsc::channel::<String>(1);
        let (failed, failure) = oneshot::channel();
        let counts = told.clone();
        let write = move || {
            let _ended: oneshot::Sender<()> = ended;
            while let Some(lines) = shown.blocking_recv() {
                if let Err(error) = print(&mut out, lines.as_bytes(), &counts) {
                    let _ = failed.send(error);
                    return;
                }
            }
        };
        thread::Builder::new().name("gnomon-shows".to_owned()).spawn(write).context("starting a thread")?;
        let counts = told.clone();
        let reading = tokio::spawn(async move {
            let all_read: oneshot::Sender<()> = all_read;
            follow(&ledger, narration, show, &counts, &mut until).await;
            drop(all_read);
            failure.await.map_or(Ok(()), |error| Err(error.into()))
        });
        Ok(Self { reading, extent, told, read, written })
    }

    /// True once nothing more is shown.
    pub fn is_over(&self) -> bool {
        self.reading.is_finished()
    }

    /// Waits until nothing more is shown.
    ///
    /// # Errors
    /// Nothing can be written to standard output.
    pub async fn over(&mut self) -> Result<()> {
        (&mut self.reading).await.unwrap_or(Ok(()))
    }

    /// Ends it, once the ledger takes no more. What is in the ledger by then is printed, if somebody takes it within two seconds; the number of
    /// lines that nobody took is logged.
    pub async fn stop(self) {
        let _ = self.end().await;
    }

    /// Returns the number of lines that nobody took.
    async fn end(self) -> u64 {
        let Self { reading, extent, told, read, written } = self;
        extent.send_replace(Narrated::ToTheEnd);
        if timeout(LAST, written).await.is_ok() {
            return 0;
        }
        extent.send_replace(Narrated::NoFurther);
        let all = timeout(COUNTED, read).await.is_ok();
        reading.abort();
        let missing = told.read.load(Ordering::Relaxed).saturating_sub(told.printed.load(Ordering::Relaxed));
        if missing > 0 {
            let lines = if all { missing.to_string() } else { format!("at least {missing}") };
            tracing::warn!(lines, "detections were not printed, as nobody took them by the end; they are in the ledger");
        }
        missing
    }
}

/// Writes lines and counts those that were taken.
fn print(out: &mut impl Write, mut lines: &[u8], told: &NarratedCount) -> io::Result<()> {
    while !lines.is_empty() {
        match out.write(lines) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                let (taken, left) = lines.split_at(written);
                told.printed.fetch_add(taken.iter().filter(|byte| **byte == b'\n').count() as u64, Ordering::Relaxed);
                lines = left;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

/// Reads detections for as long as somebody shows them, and at last those that are in the ledger by then.
async fn follow(
    ledger: &Path,
    narration: Narration,
    show: mpsc::Sender<String>,
    told: &NarratedCount,
    until: &mut watch::Receiver<Narrated>,
) {
    let mut followed = Followed::default();
    let mut complained = false;
    loop {
        let last = *until.borrow_and_update() != Narrated::AsTheyCome;
        let events = if last {
            followed.rest(ledger).await
        } else {
            tokio::select! {
                events = followed.next(ledger) => events,
                changed = until.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            }
        };
        let events = match events {
            Ok(events) if events.is_empty() => return,
            Ok(events) => events,
            Err(error) if last => {
                tracing::warn!("the last detections are not shown, as the ledger cannot be read: {error}");
                return;
            }
            Err(error) => {
                if !complained {
                    tracing::warn!("detections are not shown while the ledger cannot be read: {error}");
                }
                complained = true;
                let _ = timeout(TRIED_AGAIN, until.changed()).await;
                continue;
            }
        };
        complained = false;
        told.read.fetch_add(events.len() as u64, Ordering::Relaxed);
        let mut lines = String::new();
        for event in events {
            match narration {
                Narration::Json => lines.push_str(&event.json),
                Narration::Lines | Narration::Silent => lines.push_str(&line::with_id(&event.json)),
            }
            lines.push('\n');
        }
        tokio::select! {
            biased;
            sent = show.send(lines) => if sent.is_err() {
                return;
            },
            _ = until.wait_for(|extent| *extent == Narrated::NoFurther) => {}
        }
    }
}

/// The ledger that is followed.
#[derive(Default)]
struct Followed {
    /// When somebody tried to read it first, milliseconds since the Unix epoch.
    since: Option<i64>,
    follow: Option<Follow>,
}

impl Followed {
    /// The next detections of the ledger, at least one: what came while it could not be read comes first. May be dropped while it waits.
    async fn next(&mut self, ledger: &Path) -> Result<Vec<StoredEvent>, ReadError> {
        self.open(ledger).await?.next().await
    }

    /// Those that are in the ledger already; none once all were given.
    async fn rest(&mut self, ledger: &Path) -> Result<Vec<StoredEvent>, ReadError> {
        self.open(ledger).await?.rest().await
    }

    async fn open(&mut self, ledger: &Path) -> Result<&mut Follow, ReadError> {
        let follow = match self.follow.take() {
            Some(follow) => follow,
            None => self.begin(ledger).await?,
        };
        Ok(self.follow.insert(follow))
    }

    async fn begin(&mut self, ledger: &Path) -> Result<Follow, ReadError> {
        let since = self.since;
        self.since = since.or_else(|| Some(unix_millis(SystemTime::now())));
        let mut reader = Reader::open(ledger).await?;
        let behind = match since {
            None => None,
            Some(since) => {
                let first = EventFilter { since_ms: Some(since), limit: 1, ..EventFilter::default() };
                reader.events(&first, Order::OldestFirst).await?.first().map(|event| event.seq - 1)
            }
        };
        let filter = EventFilter { kinds: vec!["alert".to_owned(), "signal".to_owned()], ..EventFilter::default() };
        reader.follow(filter, behind).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use gnomon_ledger::{Event, Ledger, LedgerOptions};
    use gnomon_observe::{Field, Observation};
    use std::{
        io::{BufRead as _, BufReader},
        time::Instant,
    };

    fn detection(number: usize) -> Event {
        let mut seen = Observation::new();
        seen.set(Field::EventKind, "alert");
        seen.set(Field::CommandLine, format!("{number} {}", "x".repeat(1_000)));
        Event::now(seen)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_reader_of_detections_that_stalls_holds_no_stop_up_and_one_that_reads_gets_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.sqlite");
        let (ledger, writer) = Ledger::open(LedgerOptions::new(&path)).await.unwrap();
        let (stalled, out) = io::pipe().unwrap();
        let narrating = Narrating::onto(path.clone(), Narration::Json, out).unwrap();
        let (reader, out) = io::pipe().unwrap();
        let other = Narrating::onto(path.clone(), Narration::Json, out).unwrap();
        let mut lines = BufReader::new(reader).lines();
        // It shows what comes after it opened the ledger.
        let mut number = 0;
        let (tell, told) = std::sync::mpsc::channel();
        thread::spawn(move || {
            while let Some(Ok(line)) = lines.next() {
                let _ = tell.send(line);
            }
        });
        while told.try_recv().is_err() {
            let _ = ledger.record(detection(number));
            number += 1;
            ledger.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for _ in 0..200 {
            let _ = ledger.record(detection(number));
            number += 1;
        }
        ledger.flush().await.unwrap();
        let last = format!("{} xxx", number - 1);
        while !told.recv_timeout(Duration::from_secs(60)).unwrap().contains(&last) {}
        let began = Instant::now();
        narrating.stop().await;
        other.stop().await;
        assert!(began.elapsed() < LAST + Duration::from_secs(4), "{:?}", began.elapsed());
        drop(stalled);
        writer.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_in_the_ledger_at_a_stop_is_printed_to_its_end_and_what_nobody_took_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.sqlite");
        let (ledger, writer) = Ledger::open(LedgerOptions::new(&path)).await.unwrap();
        let (stalled, out) = io::pipe().unwrap();
        let nobody = Narrating::onto(path.clone(), Narration::Json, out).unwrap();
        let (reader, out) = io::pipe().unwrap();
        let narrating = Narrating::onto(path.clone(), Narration::Json, out).unwrap();
        let read = thread::spawn(move || BufReader::new(reader).lines().map_while(Result::ok).count());
        let mut recorded = 0;
        while [&narrating, &nobody].iter().any(|one| one.told.read.load(Ordering::Relaxed) == 0) {
            let _ = ledger.record(detection(recorded));
            recorded += 1;
            ledger.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // More than one page, of which nothing was read when the stop comes.
        for _ in 0..2_500 {
            let _ = ledger.record(detection(recorded));
            recorded += 1;
        }
        writer.shutdown().await;
        let of = |one: &Narrating| one.told.clone();
        let (told, missed) = (of(&narrating), of(&nobody));
        assert_eq!(narrating.end().await, 0);
        let printed = told.printed.load(Ordering::Relaxed);
        assert_eq!((printed, read.join().unwrap() as u64), (told.read.load(Ordering::Relaxed), printed));
        assert!(printed > 2_500, "{printed} of {recorded}");
        let missing = nobody.end().await;
        assert_eq!(missing, missed.read.load(Ordering::Relaxed) - missed.printed.load(Ordering::Relaxed));
        assert!(missing > 2_000, "{missing} of {recorded}");
        drop(stalled);
    }

    #[tokio::test]
    async fn what_came_while_the_ledger_could_not_be_read_and_after_it_was_begun_anew_is_shown_once_and_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.sqlite");
        let mut followed = Followed::default();
        assert!(followed.next(&path).await.is_err(), "there is none");
        let (ledger, writer) = Ledger::open(LedgerOptions::new(&path)).await.unwrap();
        let record = async |number| {
            let _ = ledger.record(detection(number));
            ledger.flush().await.unwrap();
        };
        let mut shown = async |expected: &[usize]| {
            let mut found = Vec::new();
            while found.len() < expected.len() {
                found.extend(timeout(Duration::from_secs(10), followed.next(&path)).await.unwrap().unwrap());
            }
            let numbers = expected.iter().map(|number| format!("\"{number} x"));
            assert!(found.len() == expected.len() && numbers.zip(&found).all(|(number, event)| event.json.contains(&number)), "{found:?}");
        };
        record(0).await;
        record(1).await;
        shown(&[0, 1]).await;
        record(2).await;
        shown(&[2]).await;
        for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
            let _ = std::fs::remove_file(dir.path().join(name));
        }
        record(3).await;
        record(4).await;
        shown(&[3, 4]).await;
        writer.shutdown().await;
    }

    #[tokio::test]
    async fn a_reader_of_detections_that_is_gone_ends_the_showing_with_its_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.sqlite");
        let (ledger, writer) = Ledger::open(LedgerOptions::new(&path)).await.unwrap();
        let (reader, out) = io::pipe().unwrap();
        drop(reader);
        let mut narrating = Narrating::onto(path, Narration::Lines, out).unwrap();
        let error = loop {
            let _ = ledger.record(detection(0));
            if let Ok(ended) = timeout(Duration::from_millis(300), narrating.over()).await {
                break ended.unwrap_err();
            }
        };
        assert!(error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe), "{error}");
        writer.shutdown().await;
    }
}
