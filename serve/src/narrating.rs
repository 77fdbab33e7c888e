//! Detections on standard output while gnomon runs.

use anyhow::{Context as _, Result};
use gnomon_cli::line;
use gnomon_config::Packs;
use gnomon_ledger::{EventFilter, Follow, ReadError, Reader, StoredEvent};
use std::{
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
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
const LAST: Duration = Duration::from_secs(1);

/// Detections that are shown as they become durable.
///
/// Two halves, so that neither a reader of standard output that stalls nor a terminal that is stopped holds anything up: a task reads the ledger
/// like any other reader, and a thread writes.
pub struct Narrating {
    reading: JoinHandle<Result<()>>,
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
        if narration == Narration::Silent {
            return Ok(Self { reading: tokio::spawn(async { Ok(()) }), written });
        }
        let (show, mut shown) = mpsc::channel::<String>(1);
        let (failed, failure) = oneshot::channel();
        let write = move || {
            let _ended: oneshot::Sender<()> = ended;
            while let Some(lines) = shown.blocking_recv() {
                if let Err(error) = out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
                    let _ = failed.send(error);
                    return;
                }
            }
        };
        thread::Builder::new().name("gnomon-shows".to_owned()).spawn(write).context("starting a thread")?;
        let reading = tokio::spawn(async move {
            read(&ledger, narration, show).await;
            failure.await.map_or(Ok(()), |error| Err(error.into()))
        });
        Ok(Self { reading, written })
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

    /// Ends it. What was read is written, if somebody takes it within a second.
    pub async fn stop(self) {
        self.reading.abort();
        let _ = timeout(LAST, self.written).await;
    }
}

/// Reads detections for as long as somebody shows them.
async fn read(ledger: &Path, narration: Narration, show: mpsc::Sender<String>) {
    let mut follow = None;
    let mut told = false;
    loop {
        let events = match next(&mut follow, ledger).await {
            Ok(events) => events,
            Err(error) => {
                if !told {
                    tracing::warn!("detections are not shown while the ledger cannot be read: {error}");
                }
                told = true;
                tokio::time::sleep(TRIED_AGAIN).await;
                continue;
            }
        };
        told = false;
        let mut lines = String::new();
        for event in events {
            match narration {
                Narration::Json => lines.push_str(&event.json),
                Narration::Lines | Narration::Silent => lines.push_str(&line::with_id(&event.json)),
            }
            lines.push('\n');
        }
        if show.send(lines).await.is_err() {
            return;
        }
    }
}

/// The next detections of the ledger, which is opened if it was not.
async fn next(follow: &mut Option<Follow>, ledger: &Path) -> Result<Vec<StoredEvent>, ReadError> {
    let open = match follow.take() {
        Some(open) => open,
        None => {
            let filter = EventFilter { kinds: vec!["alert".to_owned(), "signal".to_owned()], ..EventFilter::default() };
            Reader::open(ledger).await?.follow(filter, None).await?
        }
    };
    follow.insert(open).next().await
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
        assert!(error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe), "{error}");
        writer.shutdown().await;
    }
}
