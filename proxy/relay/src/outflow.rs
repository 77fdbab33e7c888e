//! Event streams to clients: what is said while a request is under way, and where a client can take a
//! stream up again that broke off.

use crate::unsent::Recipient;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc},
    time::{Interval, MissedTickBehavior},
};

/// How often a silent stream shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Most events that wait for a client to read them.
const QUEUE: usize = 64;
/// Most events and bytes that are kept for a client that comes back.
const KEPT_EVENTS: usize = 256;
const KEPT_BYTES: usize = 1 << 20;
/// Most bytes that are kept for all clients together. A stream keeps at most an eighth of what is left of them, so that those of
/// one client leave room for others'.
const KEPT_BY_ALL: usize = 64 << 20;

/// The bytes that are kept.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// The body of a response: a document, or a stream of events.
pub enum Outflow {
    /// The whole body.
    Whole(Option<Bytes>),
    /// The whole body, in pieces that have their room.
    Pieces(std::vec::IntoIter<Bytes>),
    /// Events as they come.
    Events {
        /// Events, encoded.
        events: mpsc::Receiver<Bytes>,
        /// Breaks silence.
        alive: Box<Interval>,
    },
}

impl Outflow {
    /// An empty body.
    #[must_use]
    pub fn empty() -> Self {
        Self::Whole(None)
    }

    /// A stream, and its other end.
    #[must_use]
    pub fn events() -> (mpsc::Sender<Bytes>, Self) {
        let (sender, events) = mpsc::channel(QUEUE);
        let mut alive = tokio::time::interval(KEEP_ALIVE);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        alive.reset();
        (sender, Self::Events { events, alive: Box::new(alive) })
    }
}

impl From<Bytes> for Outflow {
    fn from(whole: Bytes) -> Self {
        Self::Whole((!whole.is_empty()).then_some(whole))
    }
}

impl Body for Outflow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(whole) => Poll::Ready(whole.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pieces(pieces) => Poll::Ready(pieces.next().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Events { events, alive } => {
                if let Poll::Ready(event) = events.poll_recv(cx) {
                    alive.reset();
                    return Poll::Ready(event.map(|event| Ok(Frame::data(event))));
                }
                match alive.poll_tick(cx) {
                    Poll::Ready(_) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b":\n\n"))))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_none(),
            Self::Pieces(pieces) => pieces.len() == 0,
            Self::Events { .. } => false,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(whole) => http_body::SizeHint::with_exact(whole.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Pieces(pieces) => http_body::SizeHint::with_exact(pieces.as_slice().iter().map(|bytes| bytes.len() as u64).sum()),
            Self::Events { .. } => http_body::SizeHint::new(),
        }
    }
}

/// An event. JSON has no raw line breaks where it matters, but may be written over several lines.
#[must_use]
pub fn event(id: Option<&str>, retry: Option<Duration>, data: &[u8]) -> Bytes {
    let mut text = BytesMut::with_capacity(data.len() + 64);
    if let Some(id) = id {
        text.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    if let Some(retry) = retry {
        text.extend_from_slice(format!("retry: {}\n", retry.as_millis()).as_bytes());
    }
    // Most are one line, which is found out many bytes at a time.
    let mut from = 0;
    for end in memchr::memchr2_iter(b'\n', b'\r', data).chain([data.len()]) {
        let line = data.get(from..end).unwrap_or_default();
        if !line.is_empty() || data.is_empty() {
            text.extend_from_slice(b"data: ");
            text.extend_from_slice(line);
            text.extend_from_slice(b"\n");
        }
        from = end + 1;
    }
    text.extend_from_slice(b"\n");
    text.freeze()
}

/// A stream that a client can come back to.
pub struct Stream {
    /// The stream's name within the session.
    pub name: u64,
    returns: Returns,
    recipient: Recipient,
    state: Mutex<FlowState>,
}

struct FlowState {
    live: Option<mpsc::Sender<Bytes>>,
    kept: VecDeque<(u64, Bytes)>,
    kept_bytes: usize,
    next: u64,
    resumable: bool,
    over: bool,
    /// Those who wait for the client to come back.
    returned: Vec<Weak<Notify>>,
}

impl FlowState {
    fn keep(&mut self, number: u64, event: Bytes) {
        let others = KEPT.fetch_add(event.len(), Ordering::Relaxed).saturating_sub(self.kept_bytes);
        let share = KEPT_BY_ALL.saturating_sub(others) / 8;
        self.kept_bytes += event.len();
        self.kept.push_back((number, event));
        while self.kept.len() > KEPT_EVENTS || self.kept_bytes > share || self.kept_bytes > KEPT_BYTES && self.kept.len() > 1 {
            let Some((_, oldest)) = self.kept.pop_front() else { break };
            self.kept_bytes -= oldest.len();
            KEPT.fetch_sub(oldest.len(), Ordering::Relaxed);
        }
    }
}

impl Drop for FlowState {
    fn drop(&mut self) {
        KEPT.fetch_sub(self.kept_bytes, Ordering::Relaxed);
    }
}

/// Whether a client can come back to what it missed: only sessions have an address for that (GET with `Last-Event-ID`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Returns {
    Yes,
    No,
}

/// Whether messages reach a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The client, now or when it comes back.
    Yes,
    /// Gone, and cannot be resumed.
    No,
}

impl Stream {
    /// A session's stream to the reader at the other end.
    #[must_use]
    pub fn new(name: u64, live: mpsc::Sender<Bytes>, recipient: Recipient) -> Self {
        Self::of(name, Returns::Yes, live, recipient)
    }

    /// A stream that ends with its connection, whatever its server offers: closing it is how a client without a session cancels
    /// (2026-07-28, Streamable HTTP).
    #[must_use]
    pub fn of_connection(live: mpsc::Sender<Bytes>, recipient: Recipient) -> Self {
        Self::of(0, Returns::No, live, recipient)
    }

    fn of(name: u64, returns: Returns, live: mpsc::Sender<Bytes>, recipient: Recipient) -> Self {
        let state = FlowState {
            live: Some(live),
            kept: VecDeque::new(),
            kept_bytes: 0,
            next: 0,
            resumable: false,
            over: false,
            returned: Vec::new(),
        };
        Self { name, returns, recipient, state: Mutex::new(state) }
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, FlowState> {
        self.state.lock()
    }

    /// Tells the client that it can come back to this place.
    pub async fn prime(&self, retry: Option<Duration>) -> Heard {
        if self.returns == Returns::No {
            return if self.is_read() { Heard::Yes } else { Heard::No };
        }
        self.state().resumable = true;
        self.put(retry, Bytes::new()).await
    }

    /// Sends a message. Where there is no room for it, as others have not been read, the connection ends.
    pub async fn send(&self, message: Bytes) -> Heard {
        self.put(None, message).await
    }

    async fn put(&self, retry: Option<Duration>, data: Bytes) -> Heard {
        let (live, encoded, resumable) = {
            let mut state = self.state();
            let id = state.resumable.then(|| format!("{}.{}", self.name, state.next));
            let encoded = event(id.as_deref(), retry, &data);
            if state.resumable {
                let number = state.next;
                state.next += 1;
                state.keep(number, encoded.clone());
            }
            (state.live.clone(), encoded, state.resumable)
        };
        // The original's room is freed, as the copy has its own.
        drop(data);
        let heard = match live {
            None => false,
            Some(live) => match self.recipient.room_for(encoded.len()).await {
                Some(room) => live.send(room.holds(encoded)).await.is_ok(),
                None => {
                    self.state().live = None;
                    false
                }
            },
        };
        if heard || resumable { Heard::Yes } else { Heard::No }
    }

    /// Ends the connection, but not the stream, if the client can come back; `returned` is notified when it has.
    pub fn pause(&self, returned: &Arc<Notify>) {
        if self.returns == Returns::Yes {
            let mut state = self.state();
            state.live = None;
            state.returned.retain(|waits| waits.strong_count() > 0);
            state.returned.push(Arc::downgrade(returned));
        }
    }

    /// Ends the stream.
    pub fn finish(&self) {
        let mut state = self.state();
        state.live = None;
        state.over = true;
    }

    /// Whether the client reads, or can come back.
    pub fn is_wanted(&self) -> bool {
        let state = self.state();
        state.resumable || state.live.as_ref().is_some_and(|live| !live.is_closed())
    }

    /// Whether the client reads at this moment.
    pub fn is_read(&self) -> bool {
        self.state().live.as_ref().is_some_and(|live| !live.is_closed())
    }

    /// True once all was sent.
    pub fn is_over(&self) -> bool {
        self.state().over
    }

    /// Whether a client can come back to it.
    pub fn is_resumable(&self) -> bool {
        self.state().resumable
    }

    /// Waits until the client no longer reads from this connection.
    pub async fn left(&self) {
        let live = self.state().live.clone();
        match live {
            Some(live) => live.closed().await,
            None => std::future::pending().await,
        }
    }

    /// A client comes back, having read up to the event `last`. What is sent from now on goes to it.
    pub fn resume(&self, last: u64) -> Outflow {
        let (sender, outflow) = Outflow::events();
        let mut state = self.state();
        for (_, event) in state.kept.iter().filter(|(number, _)| *number > last) {
            // More than fits into the queue, or than there is room for, is lost to this client; it was away for too long.
            let Some(room) = self.recipient.room_now(event.len()) else { break };
            let _ = sender.try_send(room.holds(event.clone()));
        }
        state.live = (!state.over).then_some(sender);
        for waits in std::mem::take(&mut state.returned) {
            if let Some(waits) = waits.upgrade() {
                waits.notify_one();
            }
        }
        outflow
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn anybody() -> Recipient {
        Recipient::of(&gnomon_access::Caller::anonymous([192, 0, 2, 1].into()), None)
    }

    async fn read(mut outflow: Outflow, count: usize) -> String {
        let mut text = String::new();
        for _ in 0..count {
            let Some(Ok(frame)) = outflow.frame().await else { break };
            text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        text
    }

    #[tokio::test]
    async fn a_client_that_comes_back_gets_what_it_missed() {
        let (sender, outflow) = Outflow::events();
        let stream = Stream::new(3, sender, anybody());
        assert_eq!(stream.prime(Some(Duration::from_millis(500))).await, Heard::Yes);
        assert_eq!(stream.send(Bytes::from_static(b"{\"one\":1}")).await, Heard::Yes);
        stream.pause(&Arc::default());
        assert_eq!(read(outflow, 9).await, "id: 3.0\nretry: 500\ndata: \n\nid: 3.1\ndata: {\"one\":1}\n\n");
        assert_eq!(stream.send(Bytes::from_static(b"{\"two\":2}")).await, Heard::Yes);
        stream.finish();
        assert_eq!(read(stream.resume(0), 9).await, "id: 3.1\ndata: {\"one\":1}\n\nid: 3.2\ndata: {\"two\":2}\n\n");
    }

    #[tokio::test]
    async fn without_a_way_back_a_client_that_leaves_is_gone() {
        let (sender, outflow) = Outflow::events();
        let stream = Stream::new(1, sender, anybody());
        assert_eq!(stream.send(Bytes::from_static(b"{}")).await, Heard::Yes);
        drop(outflow);
        assert_eq!(stream.send(Bytes::from_static(b"{}")).await, Heard::No);
        assert!(!stream.is_wanted());
    }

    #[tokio::test]
    async fn a_stream_of_one_connection_names_no_place_to_come_back_to_and_ends_with_it() {
        let (sender, outflow) = Outflow::events();
        let stream = Stream::of_connection(sender, anybody());
        assert_eq!(stream.prime(Some(Duration::from_millis(500))).await, Heard::Yes);
        stream.pause(&Arc::default());
        assert_eq!(stream.send(Bytes::from_static(b"{\"one\":1}")).await, Heard::Yes);
        assert!(!stream.is_resumable());
        stream.finish();
        assert_eq!(read(outflow, 9).await, "data: {\"one\":1}\n\n");
        assert_eq!(stream.prime(None).await, Heard::No);
    }

    #[tokio::test]
    async fn whoever_waits_for_a_client_is_told_when_it_is_back_and_not_of_an_earlier_time() {
        let (sender, _outflow) = Outflow::events();
        let stream = Stream::new(1, sender, anybody());
        stream.prime(None).await;
        let _earlier = stream.resume(0);
        let (one, other) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        stream.pause(&one);
        stream.pause(&other);
        assert!(tokio::time::timeout(Duration::from_millis(20), one.notified()).await.is_err());
        let _back = stream.resume(0);
        for waits in [one, other] {
            tokio::time::timeout(Duration::from_secs(10), waits.notified()).await.unwrap();
        }
    }

    #[test]
    fn json_over_several_lines_stays_one_event() {
        assert_eq!(event(None, None, b"{\n\"a\":1\r\n}"), "data: {\ndata: \"a\":1\ndata: }\n\n");
    }
}
