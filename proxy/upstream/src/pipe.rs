//! A line that all requests to a server share: standard input and output of a process, or the one event
//! stream of the transport of 2024-11-05.

use crate::{
    conversation::{Conversation, Said},
    error::UpstreamError,
    members::Members,
    rpc::{self, Id, Message, Notification, Outcome},
};
use bytes::Bytes;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Most messages that wait to be written, and most that wait for one reader.
const QUEUE: usize = 64;
/// What is counted as one of those that wait, bytes, and how many may: of one message that is longer, it alone.
const UNIT: usize = 1 << 10;
const MOST_UNWRITTEN: u32 = 8 << 10;
/// Most requests under way.
const MOST_WAITING: usize = 1024;

/// A message that waits to be written, and the room that it has meanwhile.
pub type Outgoing = (Bytes, OwnedSemaphorePermit);

/// One end of a shared line.
pub struct Pipe {
    lines: mpsc::Sender<Outgoing>,
    unwritten: Arc<Semaphore>,
    waiting: Mutex<HashMap<Id, Waiting>>,
    next: AtomicU64,
    unasked: Mutex<mpsc::Sender<Message>>,
    heard: Mutex<Option<mpsc::Receiver<Message>>>,
    open: watch::Sender<Line>,
    patience: Duration,
}

/// Whether the line is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Up,
    Gone,
}

struct Waiting {
    said: mpsc::Sender<Said>,
    /// The client's own progress token, JSON.
    token: Option<String>,
    owed: Owed,
}

/// Whether an answer is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Soon,
    /// At the end of all: it is a subscription.
    Sometime,
}

impl Pipe {
    /// A line whose outgoing messages are taken from the receiver.
    #[must_use]
    pub fn new(patience: Duration) -> (Arc<Self>, mpsc::Receiver<Outgoing>) {
        let (lines, outgoing) = mpsc::channel(QUEUE);
        let (unasked, heard) = mpsc::channel(QUEUE);
        let pipe = Self {
            lines,
            unwritten: Arc::new(Semaphore::new(MOST_UNWRITTEN as usize)),
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
            unasked: Mutex::new(unasked),
            heard: Mutex::new(Some(heard)),
            open: watch::Sender::new(Line::Up),
            patience,
        };
        (Arc::new(pipe), outgoing)
    }

    /// An id that no other request on this line has.
    #[must_use]
    pub fn id(&self) -> Id {
        Id::number(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a request under an id of [`Pipe::id`].
    ///
    /// # Errors
    /// When the line is down or too busy.
    pub async fn request(&self, id: &Id, method: &str, params: Option<&Bytes>) -> Result<Conversation, UpstreamError> {
        let (params, token) = with_token(params, id)?;
        let (said, heard) = mpsc::channel(QUEUE);
        let owed = if method == "subscriptions/listen" { Owed::Sometime } else { Owed::Soon };
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.retain(|_, waiting| !waiting.said.is_closed());
            if waiting.len() >= MOST_WAITING {
                return Err(UpstreamError::Protocol("too many requests wait for it".to_owned()));
            }
            waiting.insert(id.clone(), Waiting { said, token, owed });
        }
        self.send(rpc::request(id, method, params.as_deref())).await?;
        // A subscription is silent while nothing changes.
        let patience = if owed == Owed::Soon { self.patience } else { Duration::MAX };
        Ok(Conversation::over_pipe(id.clone(), heard, patience))
    }

    /// Sends a message that wants no answer.
    ///
    /// # Errors
    /// When the line is down or does not move.
    pub async fn send(&self, text: Bytes) -> Result<(), UpstreamError> {
        if *self.open.borrow() == Line::Gone {
            return Err(UpstreamError::Aborted);
        }
        let sent = async {
            let room = self.unwritten.clone().acquire_many_owned(units(&text)).await.map_err(|_| UpstreamError::Aborted)?;
            self.lines.send((text, room)).await.map_err(|_| UpstreamError::Aborted)
        };
        tokio::time::timeout(self.patience, sent).await.map_err(|_| UpstreamError::Timeout(self.patience))?
    }

    /// A message came in.
    pub async fn take(&self, text: &Bytes) {
        match Message::read(text) {
            Ok(Message::Response(response)) => {
                let waiting = response.id.and_then(|id| self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id));
                if let Some(waiting) = waiting {
                    let _ = waiting.said.send(Said::Answer(response.outcome)).await;
                }
            }
            Ok(Message::Notification(notification)) if notification.method == "notifications/progress" => {
                self.progress(&notification).await
            }
            Ok(message) => {
                // Whoever does not listen loses what is said; the line goes on.
                let unasked = self.unasked.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if unasked.try_send(message).is_err() {
                    tracing::debug!("a message of a server is dropped: nobody listens");
                }
            }
            Err(error) => tracing::debug!("a server wrote what is no message: {}", error.message),
        }
    }

    async fn progress(&self, notification: &Notification) {
        let Ok(members) = Members::of(notification.params.as_ref()) else { return };
        let Some(id) = members.get("progressToken").and_then(|token| Id::of_json(token.as_bytes())) else { return };
        let found = {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.get(&id).and_then(|waiting| Some((waiting.said.clone(), waiting.token.clone()?)))
        };
        if let Some((said, token)) = found {
            let params = Some(members.with(&[("progressToken", Some(&token))]));
            let _ = said.send(Said::Message(Message::Notification(Notification { method: notification.method.clone(), params }))).await;
        }
    }

    /// What the server says unasked. Only the first caller gets it.
    pub fn listen(&self) -> Option<mpsc::Receiver<Message>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The same; who listened before no longer does.
    pub fn listen_instead(&self) -> mpsc::Receiver<Message> {
        self.listen().unwrap_or_else(|| {
            let (unasked, heard) = mpsc::channel(QUEUE);
            *self.unasked.lock().unwrap_or_else(PoisonError::into_inner) = unasked;
            heard
        })
    }

    /// Whether somebody waits for an answer.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.values().any(|waiting| waiting.owed == Owed::Soon && !waiting.said.is_closed())
    }

    /// The line is down: nobody gets an answer any more.
    pub fn close(&self) {
        self.open.send_replace(Line::Gone);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether it is down.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.open.borrow() == Line::Gone
    }

    /// Until it is down.
    pub async fn closed(&self) {
        // The sender is ours, so this ends only with the line.
        let _ = self.open.subscribe().wait_for(|line| *line == Line::Gone).await;
    }

    /// Until it is down, or nobody uses it any more.
    pub fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut open = self.open.subscribe();
        async move {
            let _ = open.wait_for(|line| *line == Line::Gone).await;
        }
    }

    /// Nobody waits for this answer any more: the server is told, unless the line is busy.
    pub fn take_back(&self, id: &Id) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        let params = format!("{{\"requestId\":{},\"reason\":\"nobody waits for the answer any more\"}}", id.json());
        let told = rpc::notification("notifications/cancelled", Some(params.as_bytes()));
        if let Ok(room) = self.unwritten.clone().try_acquire_many_owned(units(&told)) {
            let _ = self.lines.try_send((told, room));
        }
    }

    /// An answer to a request of the server's own.
    ///
    /// # Errors
    /// As [`Pipe::send`].
    pub async fn respond(&self, id: &Id, outcome: &Outcome) -> Result<(), UpstreamError> {
        self.send(rpc::response(Some(id), outcome)).await
    }
}

fn units(text: &Bytes) -> u32 {
    u32::try_from(text.len().div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, MOST_UNWRITTEN)
}

/// Clients choose progress tokens for themselves, and two may choose the same: on a shared line it is the
/// request's id.
fn with_token(params: Option<&Bytes>, id: &Id) -> Result<(Option<Bytes>, Option<String>), UpstreamError> {
    let unreadable = |error: serde_json::Error| UpstreamError::Protocol(error.to_string());
    let members = Members::of(params).map_err(unreadable)?;
    let Some(meta) = members.object("_meta") else { return Ok((params.cloned(), None)) };
    let Some(token) = meta.get("progressToken") else { return Ok((params.cloned(), None)) };
    let changed = meta.with(&[("progressToken", Some(id.json()))]);
    let changed = std::str::from_utf8(&changed).unwrap_or("{}");
    Ok((Some(members.with(&[("_meta", Some(changed))])), Some(token.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn progress_finds_its_way_back_under_the_token_that_the_client_chose() {
        let (pipe, mut outgoing) = Pipe::new(Duration::from_secs(5));
        let params = Bytes::from_static(br#"{"name":"x","_meta":{"progressToken":"mine","other":1}}"#);
        let mut one = pipe.request(&pipe.id(), "tools/call", Some(&params)).await.unwrap();
        let mut two = pipe.request(&pipe.id(), "tools/call", Some(&params)).await.unwrap();
        assert!(outgoing.recv().await.is_some_and(|(line, _)| line.windows(19).any(|w| w == br#""progressToken":1,""#)));
        pipe.take(&Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":2,"progress":1}}"#))
            .await;
        pipe.take(&Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#)).await;
        let Said::Message(Message::Notification(told)) = two.next().await.unwrap() else { panic!("no progress") };
        assert_eq!(told.params.unwrap(), r#"{"progressToken":"mine","progress":1}"#);
        assert!(matches!(one.next().await, Ok(Said::Answer(Outcome::Result(_)))));
    }

    #[tokio::test]
    async fn what_waits_for_a_program_that_does_not_read_is_bounded_in_bytes() {
        let (pipe, mut outgoing) = Pipe::new(Duration::from_millis(50));
        let large = || Bytes::from(vec![b'a'; 3 << 20]);
        assert!(pipe.send(large()).await.is_ok() && pipe.send(large()).await.is_ok());
        assert!(matches!(pipe.send(large()).await, Err(UpstreamError::Timeout(_))));
        drop(outgoing.recv().await);
        assert!(pipe.send(large()).await.is_ok());
        (0..2).for_each(|_| drop(outgoing.try_recv()));
        assert!(pipe.send(Bytes::from(vec![b'a'; 64 << 20])).await.is_ok(), "one alone may be of any length");
    }

    #[tokio::test]
    async fn a_line_that_goes_down_ends_every_request() {
        let (pipe, _outgoing) = Pipe::new(Duration::from_secs(5));
        let mut one = pipe.request(&pipe.id(), "ping", None).await.unwrap();
        pipe.close();
        assert!(matches!(one.next().await, Err(UpstreamError::Aborted)));
        assert!(pipe.request(&pipe.id(), "ping", None).await.is_err());
    }
}
