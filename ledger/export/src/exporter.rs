//! One sink's export: a thread that reads the ledger behind the cursor, sends, and moves the cursor.

use crate::{
    CursorError, Delivery, ExportMetrics, MAX_BATCH, MAX_BATCH_BYTES, Sink, SinkCursor,
    backoff::{WAITS, left_alone},
    counts::SinkCounts,
    cursor::CursorFile,
};
use gnomon_ledger::{EventFilter, Order, ReadError, Reader, StoredEvent};
use std::{
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// The time for the last events when gnomon stops; the rest is sent after the next start.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// An exporter that cannot start.
#[derive(Debug, Error)]
pub enum ExportError {
    /// Its cursor is of no use.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// No thread could be started.
    #[error("the exporter's thread could not be started: {0}")]
    Thread(#[source] io::Error),
}

/// The failure that holds up delivery.
#[derive(Debug, Error)]
enum Held {
    #[error("{why}")]
    Sink { why: String, after: Option<Duration> },
    #[error("the ledger cannot be read: {0}")]
    Ledger(#[from] ReadError),
    #[error(transparent)]
    Cursor(#[from] CursorError),
}

/// Options of an exporter.
#[derive(Debug, Clone)]
pub struct ExporterOptions {
    /// The ledger's database.
    pub ledger: PathBuf,
    /// The folder for the cursor, `export-NAME.cursor`.
    pub state: PathBuf,
}

/// A running export. Dropping it stops it; [`stop`](Self::stop) sends the remaining events first.
#[derive(Debug)]
#[must_use = "an export stops when it is dropped"]
pub struct Exporter {
    stop: watch::Sender<bool>,
}

impl Exporter {
    /// Starts on a thread of its own. Without a cursor it begins with the oldest event in the ledger.
    ///
    /// # Errors
    /// When the cursor's file is unreadable, or there is no thread to be had.
    pub fn start(options: ExporterOptions, sink: Sink, metrics: &ExportMetrics) -> Result<Self, ExportError> {
        let name = sink.name();
        let file = CursorFile::new(options.state.join(format!("export-{name}.cursor")));
        let cursor = file.load()?;
        let (stop, stopping) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ExportError::Thread)?;
        let origin = match cursor {
            Some(_) => CursorOrigin::Unchecked,
            None => CursorOrigin::New,
        };
        let mut export = Export { sink, counts: metrics.of(name), file, cursor: cursor.unwrap_or_default(), origin, proof: Proof::None };
        thread::Builder::new()
            .name(format!("export-{name}"))
            .spawn(move || runtime.block_on(export.run(&options.ledger, stopping)))
            .map_err(ExportError::Thread)?;
        Ok(Self { stop })
    }

    /// Sends the remaining events, for 3 s at most, and stops.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        self.stop.closed().await;
    }
}

/// The relation of the cursor to this ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CursorOrigin {
    /// No cursor was stored.
    New,
    /// A cursor was read but not compared with the ledger yet.
    Unchecked,
    /// The cursor belongs to this ledger.
    Known,
}

/// Proof that the sink accepts events: without it, a refusal may not be about the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    None,
    Accepts,
}

/// The result of one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Sent,
    NothingNew,
}

struct Export {
    sink: Sink,
    counts: SinkCounts,
    file: CursorFile,
    cursor: SinkCursor,
    origin: CursorOrigin,
    proof: Proof,
}

impl Export {
    async fn run(&mut self, ledger: &Path, mut stopping: watch::Receiver<bool>) {
        let mut backoff = WAITS;
        let mut told = String::new();
        let mut reader = None;
        loop {
            let pass = tokio::select! {
                pass = self.pass(ledger, &mut reader) => pass,
                // A batch under way is given up: it is sent again, now or after the next start.
                _ = stopping.wait_for(|stop| *stop) => break,
            };
            let wait = match pass {
                Ok(Pass::Sent) => Duration::ZERO,
                Ok(Pass::NothingNew) => self.sink.poll(),
                Err(ref held) => {
                    self.counts.failures.inc();
                    let why = held.to_string();
                    let after = match held {
                        Held::Sink { after, .. } => *after,
                        Held::Ledger(_) | Held::Cursor(_) => None,
                    };
                    let wait = left_alone(backoff.failed(), after);
                    if why != told {
                        tracing::warn!("events do not reach {}: {why}; trying again in {} s", self.sink.target(), wait.as_secs().max(1));
                        told = why;
                    }
                    wait
                }
            };
            if matches!(pass, Ok(Pass::Sent)) {
                backoff.reset();
                if !std::mem::take(&mut told).is_empty() {
                    tracing::info!("events reach {} again", self.sink.target());
                }
            }
            if !wait.is_zero() {
                tokio::select! {
                    () = sleep(wait) => {}
                    _ = stopping.wait_for(|stop| *stop) => break,
                }
            }
        }
        // The last events of a host that goes down for good are worth a moment.
        let rest = async { while let Ok(Pass::Sent) = self.pass(ledger, &mut reader).await {} };
        let _ = timeout(LAST_WORDS, rest).await;
    }

    /// Sends the next events, if there are any.
    async fn pass(&mut self, ledger: &Path, reader: &mut Option<Reader>) -> Result<Pass, Held> {
        if reader.as_ref().is_some_and(Reader::is_displaced) {
            // It was begun anew.
            *reader = None;
            self.origin = match self.origin {
                CursorOrigin::New => CursorOrigin::New,
                CursorOrigin::Unchecked | CursorOrigin::Known => CursorOrigin::Unchecked,
            };
        }
        let reader = match reader {
            Some(reader) => reader,
            None => reader.insert(Reader::open(ledger).await?),
        };
        let Some(newest) = newest(reader).await? else { return Ok(Pass::NothingNew) };
        if self.origin == CursorOrigin::Unchecked {
            self.compare(reader, &newest).await?;
        }
        self.counts.lag.set(newest.seq.saturating_sub(self.cursor.seq).max(0));
        let page = page_behind(reader, self.cursor.seq, MAX_BATCH).await?;
        let Some(first) = page.first() else { return Ok(Pass::NothingNew) };
        // Numbers have no gaps but those that retention made.
        let missing = u64::try_from(first.seq - self.cursor.seq - 1).unwrap_or_default();
        if self.origin == CursorOrigin::Known && missing > 0 {
            self.counts.lost.inc_by(missing);
            tracing::warn!("{missing} events were removed by retention before they reached {}", self.sink.target());
        }
        self.cursor.seq = first.seq - 1;
        self.origin = CursorOrigin::Known;
        self.send(&page, &newest).await?;
        self.counts.lag.set(newest.seq.saturating_sub(self.cursor.seq).max(0));
        Ok(Pass::Sent)
    }

    /// Finds out whether the cursor is this ledger's. A ledger that was made anew is sent from its beginning.
    async fn compare(&mut self, reader: &mut Reader, newest: &StoredEvent) -> Result<(), ReadError> {
        let there = page_behind(reader, self.cursor.seq.saturating_sub(1), 1).await?;
        let other = there.first().is_some_and(|event| event.seq == self.cursor.seq && id(event) != self.cursor.event_id);
        self.origin = CursorOrigin::Known;
        if other || newest.seq < self.cursor.seq {
            tracing::warn!("the ledger is another than the one that was sent to {}: it is sent from its beginning", self.sink.target());
            self.cursor = SinkCursor::default();
            self.origin = CursorOrigin::New;
        }
        Ok(())
    }

    /// Sends a page in its order, in parts of bounded size; a part that is refused is halved until the event is found
    /// that the sink does not take.
    async fn send(&mut self, page: &[StoredEvent], newest: &StoredEvent) -> Result<(), Held> {
        let mut parts = parts(page);
        let mut doubtful: Vec<&StoredEvent> = Vec::new();
        let mut refusal = String::new();
        while let Some(part) = parts.pop() {
            match self.sink.deliver(part).await {
                Delivery::Accepted { rejected } => {
                    self.proof = Proof::Accepts;
                    self.give_up(&mut doubtful, &refusal)?;
                    let rejected = rejected.min(part.len() as u64);
                    self.counts.rejected.inc_by(rejected);
                    self.counts.delivered.inc_by(part.len() as u64 - rejected);
                    self.counts.succeeded.set(now());
                    self.advance(part)?;
                }
                Delivery::Refused { why } if part.len() > 1 => {
                    tracing::debug!("{} refuses {} events: {why}", self.sink.target(), part.len());
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Delivery::Refused { why } => {
                    refusal = why;
                    doubtful.extend(part);
                    if self.proof == Proof::Accepts {
                        self.give_up(&mut doubtful, &refusal)?;
                    }
                }
                Delivery::Failed { why, after } => return Err(Held::Sink { why, after }),
            }
        }
        if doubtful.is_empty() {
            return Ok(());
        }
        // Nothing was accepted so far. If the newest event is refused as well, the receiver is at fault and the events wait.
        match self.sink.deliver(std::slice::from_ref(newest)).await {
            Delivery::Accepted { .. } => {
                self.proof = Proof::Accepts;
                Ok(self.give_up(&mut doubtful, &refusal)?)
            }
            Delivery::Refused { why } => Err(Held::Sink { why: format!("it refuses every event: {why}"), after: None }),
            Delivery::Failed { why, after } => Err(Held::Sink { why, after }),
        }
    }

    /// Skips events that the sink will never accept.
    fn give_up(&mut self, doubtful: &mut Vec<&StoredEvent>, why: &str) -> Result<(), CursorError> {
        for event in doubtful.drain(..) {
            self.counts.rejected.inc();
            tracing::warn!("{} refuses the event {}, which stays in the ledger: {why}", self.sink.target(), id(event));
            self.advance(std::slice::from_ref(event))?;
        }
        Ok(())
    }

    fn advance(&mut self, part: &[StoredEvent]) -> Result<(), CursorError> {
        let Some(last) = part.last() else { return Ok(()) };
        self.cursor = SinkCursor { seq: last.seq, event_id: id(last) };
        self.file.store(&self.cursor)
    }
}

/// The parts in the order of sending, the first last.
fn parts(page: &[StoredEvent]) -> Vec<&[StoredEvent]> {
    let mut parts = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (at, event) in page.iter().enumerate() {
        if at > begin && bytes + event.json.len() > MAX_BATCH_BYTES {
            parts.push(&page[begin..at]);
            (begin, bytes) = (at, 0);
        }
        bytes += event.json.len();
    }
    parts.push(&page[begin..]);
    parts.reverse();
    parts
}

async fn page_behind(reader: &mut Reader, seq: i64, limit: usize) -> Result<Vec<StoredEvent>, ReadError> {
    reader.events(&EventFilter { after: Some(seq), limit, ..EventFilter::default() }, Order::OldestFirst).await
}

async fn newest(reader: &mut Reader) -> Result<Option<StoredEvent>, ReadError> {
    Ok(reader.events(&EventFilter { limit: 1, ..EventFilter::default() }, Order::NewestFirst).await?.pop())
}

/// The `event.id`; `-` where it is not to be found.
fn id(event: &StoredEvent) -> String {
    let fields: Option<serde_json::Value> = serde_json::from_str(&event.json).ok();
    let id = fields.as_ref().and_then(|fields| fields.get("event.id")?.as_str());
    // The id is written into a line of the cursor's file.
    id.filter(|id| !id.is_empty() && id.len() <= 64 && id.chars().all(|c| c.is_ascii_graphic())).unwrap_or("-").to_owned()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_sent_in_order_and_in_parts_of_bounded_size() {
        let event = |seq, length: usize| StoredEvent { seq, at_ms: 0, json: "x".repeat(length) };
        let page = [event(1, 600 << 10), event(2, 600 << 10), event(3, 10), event(4, 2 << 20), event(5, 1)];
        let mut parts = parts(&page);
        parts.reverse();
        let numbers: Vec<Vec<i64>> = parts.iter().map(|part| part.iter().map(|event| event.seq).collect()).collect();
        assert_eq!(numbers, [vec![1], vec![2, 3], vec![4], vec![5]]);
    }
}
