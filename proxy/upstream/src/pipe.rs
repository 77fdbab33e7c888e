//! A line that all requests to a server share: standard input and output of a process, or the one event
//! stream of the transport of 2024-11-05.

use crate::{
    asked::Asked,
    conversation::{Conversation, Heard, Said, SharedLine},
    error::UpstreamError,
    heard::{self, Listener},
};
use bytes::Bytes;
use gnomon_catalogue::{
    members::Members,
    rpc::{self, INTERNAL_ERROR, Id, Message, Notification, Outcome, Response, RpcError},
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, mpsc::error::TrySendError, watch};

/// Most messages that wait to be written, and most that wait for one reader.
const QUEUE: usize = 64;
/// The unit in which waiting messages are counted, bytes, and how many units may wait: a longer message waits alone.
const UNIT: usize = 1 << 10;
const MOST_UNWRITTEN: u32 = 8 << 10;
/// How long nothing was heard of a program before it is asked whether it is there, ahead of a call, and how long it may take to say so:
/// a call that is written to one that hangs is lost, and with a session nobody else looks at it.
const QUIET: Duration = Duration::from_secs(10);
const AWAKE_WITHIN: Duration = Duration::from_secs(10);
/// Most requests in progress.
pub(crate) const MOST_WAITING: usize = 1024;

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
    asked: Arc<Asked>,
    /// True if a request timed out, and nothing was received since.
    silent: AtomicBool,
    /// True once it was logged that answers come under ids that no request has.
    told: AtomicBool,
    /// When something was heard last, and whether anything was.
    heard_at: Mutex<Instant>,
    spoken: AtomicBool,
    /// Held by whoever asks whether somebody is there.
    waking: tokio::sync::Mutex<()>,
    behind: Behind,
    patience: Duration,
}

/// Whether the line is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It is.
    Up,
    /// It is no longer.
    Gone,
    /// It is no longer, as whoever is behind it hangs.
    Hangs,
}

/// What is behind the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// A program, which is ended where it hangs.
    Program,
    /// A server that others look at.
    Server,
}

struct Waiting {
    /// The channel to the waiting caller; its last place is for the answer.
    said: mpsc::Sender<Heard>,
    /// The client's own progress token, JSON.
    token: Option<String>,
    /// Whoever waits, where they are told what the server logs.
    listener: Option<Listener>,
    owed: Owed,
}

/// Whether an answer is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Soon,
    /// At the end, as for a subscription.
    Sometime,
}

impl Pipe {
    /// A line to a server whose outgoing messages are taken from the receiver.
    #[must_use]
    pub fn new(patience: Duration) -> (Arc<Self>, mpsc::Receiver<Outgoing>) {
        Self::to(Behind::Server, patience)
    }

    /// A line to a program: it is down once that hangs.
    #[must_use]
    pub fn to_program(patience: Duration) -> (Arc<Self>, mpsc::Receiver<Outgoing>) {
        Self::to(Behind::Program, patience)
    }

    fn to(behind: Behind, patience: Duration) -> (Arc<Self>, mpsc::Receiver<Outgoing>) {
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
            asked: Arc::default(),
            silent: AtomicBool::new(false),
            told: AtomicBool::new(false),
            heard_at: Mutex::new(Instant::now()),
            spoken: AtomicBool::new(false),
            waking: tokio::sync::Mutex::default(),
            behind,
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
    pub async fn request(self: &Arc<Self>, id: &Id, method: &str, params: Option<&Bytes>) -> Result<Conversation, UpstreamError> {
        let (params, token) = with_token(params, id)?;
        let (said, heard) = mpsc::channel(QUEUE);
        let owed = if method == "subscriptions/listen" { Owed::Sometime } else { Owed::Soon };
        {
            let mut waiting = self.waiting.lock();
            waiting.retain(|_, waiting| !waiting.said.is_closed());
            if waiting.len() >= MOST_WAITING {
                return Err(UpstreamError::Protocol("too many requests wait for it".to_owned()));
            }
            waiting.insert(id.clone(), Waiting { said, token, listener: heard::listener(), owed });
        }
        self.send(rpc::request(id, method, params.as_deref())).await?;
        // A subscription is silent while nothing changes.
        let patience = if owed == Owed::Soon { self.patience } else { Duration::MAX };
        let line: Arc<dyn SharedLine> = self.clone();
        Ok(Conversation::over_pipe(id.clone(), heard, patience, Arc::downgrade(&line)))
    }

    /// Makes sure that a program of which nothing was heard for a while is there, before a call is written to it. Where it does one thing
    /// at a time and is at something, it need not answer.
    ///
    /// # Errors
    /// [`UpstreamError::Hangs`] where the line is down, or goes down with this: nothing was written.
    pub(crate) async fn awake(self: &Arc<Self>) -> Result<(), UpstreamError> {
        let is_known = || self.behind == Behind::Server || self.heard_at.lock().elapsed() < QUIET || self.is_busy() || self.asked.any();
        let hangs = Err(UpstreamError::Hangs(AWAKE_WITHIN));
        if self.is_closed() {
            return hangs;
        }
        if self.waking.try_lock().is_ok() && is_known() {
            return Ok(());
        }
        let _one = self.waking.lock().await;
        if self.is_closed() {
            return hangs;
        }
        if is_known() {
            return Ok(());
        }
        if self.is_there(AWAKE_WITHIN.min(self.patience)).await {
            return Ok(());
        }
        self.hangs();
        hangs
    }

    /// Asks whoever is behind it whether they are there: whether they say so in time.
    pub(crate) async fn is_there(self: &Arc<Self>, patience: Duration) -> bool {
        let answered = async {
            let mut conversation = self.request(&self.id(), "ping", None).await?.taken_back();
            while !matches!(conversation.next().await?, Said::Answer(_)) {}
            Ok(())
        };
        // Any answer at all, also one that cannot be read.
        matches!(tokio::time::timeout(patience, answered).await, Ok(Ok(()) | Err(UpstreamError::Protocol(_) | UpstreamError::Rpc(_))))
    }

    /// True once anything came of it: before, it may only be starting.
    pub(crate) fn has_spoken(&self) -> bool {
        self.spoken.load(Ordering::Acquire)
    }

    /// Sends a message that wants no answer.
    ///
    /// # Errors
    /// When the line is down or does not move.
    pub async fn send(&self, text: Bytes) -> Result<(), UpstreamError> {
        if self.is_closed() {
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
        self.silent.store(false, Ordering::Release);
        *self.heard_at.lock() = Instant::now();
        self.spoken.store(true, Ordering::Release);
        match Message::read(text) {
            Ok(Message::Response(response)) => self.answered(response),
            Ok(Message::Notification(notification)) if notification.method == "notifications/progress" => self.progress(&notification),
            Ok(message) => {
                self.asked.heard(&message);
                let Some(message) = self.logged(message) else { return };
                // Messages that no receiver takes are dropped; the line goes on. A request is answered with an error.
                let unasked = self.unasked.lock().clone();
                match unasked.try_send(message) {
                    Err(TrySendError::Full(Message::Request(request)) | TrySendError::Closed(Message::Request(request))) => {
                        let nobody = RpcError::new(INTERNAL_ERROR, "no client is connected that could be asked");
                        self.asked.settled(&request.id);
                        self.try_send(rpc::response(Some(&request.id), &nobody.into()));
                    }
                    Err(_) => tracing::debug!("a message of a server is dropped: nobody listens"),
                    Ok(()) => {}
                }
            }
            Err(error) => tracing::debug!("a server wrote what is not a message: {}", error.message),
        }
    }

    fn answered(&self, response: Response) {
        let mut waiting = self.waiting.lock();
        if let Some(waiting) = response.id.as_ref().and_then(|id| waiting.remove(id)) {
            let _ = waiting.said.try_send(Ok(Said::Answer(response.outcome)));
            return;
        }
        // A late answer has no caller any more; any other was meant for an open request.
        let next = self.next.load(Ordering::Relaxed);
        if response.id.is_some_and(|id| id.json().parse::<u64>().is_ok_and(|number| number < next)) {
            return;
        }
        let owed = |(id, waiting): (&Id, &Waiting)| (waiting.owed == Owed::Soon && !waiting.said.is_closed()).then(|| id.clone());
        let mut all = waiting.iter().filter_map(owed);
        // With several open requests it is unknown which: they wait as long as for any answer.
        let only = all.next().filter(|_| all.next().is_none());
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!("a server answers under an id that no request has");
        }
        if let Some(waiting) = only.and_then(|id| waiting.remove(&id)) {
            let wrong = UpstreamError::Protocol("it bears an id that no request has".to_owned());
            let _ = waiting.said.try_send(Err(wrong));
        }
    }

    /// Passes what the server logs to the requests under way that are told of it, ahead of their answers. Nothing says which it is for:
    /// where several callers are told, or none, it is anybody's, as is any other message. What one caller's calls hear of each other was
    /// that caller's to hear; each of them leaves out what is below the level that it asked for.
    fn logged(&self, message: Message) -> Option<Message> {
        match &message {
            Message::Notification(notification) if notification.method == "notifications/message" => {}
            _ => return Some(message),
        }
        let told: Vec<mpsc::Sender<Heard>> = {
            let waiting = self.waiting.lock();
            let told: Vec<&Waiting> = waiting.values().filter(|waiting| waiting.listener.is_some() && !waiting.said.is_closed()).collect();
            match told.split_first() {
                Some((_, [])) => {}
                Some((first, others))
                    if matches!(first.listener, Some(Listener::Proven(_)))
                        && others.iter().all(|other| other.listener == first.listener) => {}
                _ => return Some(message),
            }
            told.iter().map(|waiting| waiting.said.clone()).collect()
        };
        for said in told {
            // The last place is for the answer.
            if said.capacity() < 2 || said.try_send(Ok(Said::Message(message.clone()))).is_err() {
                tracing::debug!("what a server logs is dropped: it is not read");
            }
        }
        None
    }

    fn progress(&self, notification: &Notification) {
        let Ok(members) = Members::of(notification.params.as_ref()) else { return };
        let Some(id) = members.get("progressToken").and_then(|token| Id::of_json(token.as_bytes())) else { return };
        let found = {
            let waiting = self.waiting.lock();
            waiting.get(&id).and_then(|waiting| Some((waiting.said.clone(), waiting.token.clone()?)))
        };
        if let Some((said, token)) = found {
            let params = Some(members.with(&[("progressToken", Some(&token))]));
            let told = Message::Notification(Notification { method: notification.method.clone(), params });
            // A caller that does not read its progress holds up no other on the line.
            if said.capacity() < 2 || said.try_send(Ok(Said::Message(told))).is_err() {
                tracing::debug!("progress that nobody reads is dropped");
            }
        }
    }

    /// The server's unsolicited messages. Only the first caller gets them.
    pub fn listen(&self) -> Option<mpsc::Receiver<Message>> {
        self.heard.lock().take()
    }

    /// The server's unsolicited messages, taken over from an earlier listener.
    pub fn listen_instead(&self) -> mpsc::Receiver<Message> {
        self.listen().unwrap_or_else(|| {
            let (unasked, heard) = mpsc::channel(QUEUE);
            *self.unasked.lock() = unasked;
            heard
        })
    }

    /// True if a caller waits for an answer.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.values().any(|waiting| waiting.owed == Owed::Soon && !waiting.said.is_closed())
    }

    /// The server's questions.
    pub(crate) fn asked(&self) -> &Arc<Asked> {
        &self.asked
    }

    /// True if the server owes an answer, and waits for none itself.
    #[must_use]
    pub fn owes(&self) -> bool {
        (self.silent.load(Ordering::Acquire) || self.is_busy()) && !self.asked.any()
    }

    /// Closes the line: all open requests fail.
    pub fn close(&self) {
        self.goes_down(Line::Gone);
    }

    /// The same, as whoever is behind it hangs.
    fn hangs(&self) {
        self.goes_down(Line::Hangs);
    }

    /// Why it went down first stays.
    fn goes_down(&self, why: Line) {
        self.open.send_if_modified(|line| {
            let was_up = *line == Line::Up;
            if was_up {
                *line = why;
            }
            was_up
        });
        self.waiting.lock().clear();
    }

    /// True if it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.open.borrow() != Line::Up
    }

    /// Waits until the line is down.
    pub async fn closed(&self) {
        // The sender is ours, so this ends only with the line.
        let _ = self.open.subscribe().wait_for(|line| *line != Line::Up).await;
    }

    /// Waits until the line is down, or nobody uses it any more; says which.
    pub(crate) fn ended(&self) -> impl Future<Output = Line> + use<> {
        let mut open = self.open.subscribe();
        async move { open.wait_for(|line| *line != Line::Up).await.map_or(Line::Gone, |line| *line) }
    }

    /// Sends a message without waiting for an answer, unless the line is busy.
    fn try_send(&self, text: Bytes) {
        if let Ok(room) = self.unwritten.clone().try_acquire_many_owned(units(&text)) {
            let _ = self.lines.try_send((text, room));
        }
    }

    /// An answer to a request of the server's own.
    ///
    /// # Errors
    /// See [`Pipe::send`].
    pub async fn respond(&self, id: &Id, outcome: &Outcome) -> Result<(), UpstreamError> {
        self.asked.settled(id);
        self.send(rpc::response(Some(id), outcome)).await
    }
}

impl SharedLine for Pipe {
    fn asked(&self) -> &Asked {
        &self.asked
    }

    fn fell_silent(&self) {
        self.silent.store(true, Ordering::Release);
        // Nothing at all came of it: whoever calls next finds another.
        if self.behind == Behind::Program && self.heard_at.lock().elapsed() >= self.patience {
            self.hangs();
        }
    }

    /// Sends a cancellation, unless the line is busy.
    fn take_back(&self, id: &Id) {
        self.waiting.lock().remove(id);
        let params = format!("{{\"requestId\":{},\"reason\":\"nobody waits for the answer any more\"}}", id.json());
        self.try_send(rpc::notification("notifications/cancelled", Some(params.as_bytes())));
    }
}

fn units(text: &Bytes) -> u32 {
    u32::try_from(text.len().div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, MOST_UNWRITTEN)
}

/// Clients choose progress tokens for themselves, and two may choose the same: on a shared line it is the
/// request's id.
fn with_token(params: Option<&Bytes>, id: &Id) -> Result<(Option<Bytes>, Option<String>), UpstreamError> {
    let members = Members::of(params).map_err(|_| UpstreamError::unreadable())?;
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
    async fn what_is_logged_reaches_every_call_of_the_one_caller_who_listens_and_none_where_several_do() {
        let ada = || Some(Listener::Proven("ada".into()));
        for (listeners, heard) in [
            (vec![ada(), ada(), None], vec![true, true, false]),
            (vec![ada(), Some(Listener::Proven("bob".into()))], vec![false; 2]),
            (vec![ada(), Some(Listener::Somebody)], vec![false; 2]),
            (vec![Some(Listener::Somebody), Some(Listener::Somebody)], vec![false; 2]),
            (vec![Some(Listener::Somebody), None], vec![true, false]),
        ] {
            let (pipe, _outgoing) = Pipe::new(Duration::from_secs(5));
            let mut calls = Vec::new();
            for listener in &listeners {
                let id = pipe.id();
                calls.push(pipe.request(&id, "tools/call", None).await.unwrap());
                pipe.waiting.lock().get_mut(&id).unwrap().listener.clone_from(listener);
            }
            pipe.take(&Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#))
                .await;
            for id in 1..=listeners.len() {
                pipe.take(&Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#))).await;
            }
            for (call, heard) in calls.iter_mut().zip(heard) {
                assert_eq!(matches!(call.next().await, Ok(Said::Message(_))), heard, "{listeners:?}");
            }
        }
    }

    #[tokio::test]
    async fn an_answer_under_an_id_that_no_request_has_fails_the_one_that_waits_at_once_and_a_late_one_fails_nothing() {
        for wrong in [r#""1""#, "99", "null"] {
            let (pipe, _outgoing) = Pipe::new(Duration::from_secs(5));
            let mut one = pipe.request(&pipe.id(), "ping", None).await.unwrap();
            let text = format!(r#"{{"jsonrpc":"2.0","id":{wrong},"error":{{"code":-32700,"message":"no"}}}}"#);
            let text = text.replace(r#""id":null,"#, "");
            pipe.take(&Bytes::from(text)).await;
            assert!(matches!(one.next().await, Err(UpstreamError::Protocol(_))), "{wrong}");
        }
        let (pipe, _outgoing) = Pipe::new(Duration::from_millis(50));
        drop(pipe.request(&pipe.id(), "ping", None).await.unwrap());
        let mut two = pipe.request(&pipe.id(), "ping", None).await.unwrap();
        pipe.take(&Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#)).await;
        assert!(matches!(two.next().await, Err(UpstreamError::Timeout(_))));
    }

    #[tokio::test]
    async fn whoever_does_not_read_how_far_their_call_is_holds_up_nobody_and_gets_the_answer() {
        let (pipe, _outgoing) = Pipe::new(Duration::from_secs(5));
        let params = Bytes::from_static(br#"{"_meta":{"progressToken":"mine"}}"#);
        let mut one = pipe.request(&pipe.id(), "tools/call", Some(&params)).await.unwrap();
        let progress =
            Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#);
        for _ in 0..1000 {
            tokio::time::timeout(Duration::from_secs(1), pipe.take(&progress)).await.unwrap();
        }
        pipe.take(&Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#)).await;
        while !matches!(one.next().await.unwrap(), Said::Answer(_)) {}
    }

    #[tokio::test]
    async fn a_server_that_waits_for_somebody_s_answer_has_not_fallen_silent() {
        let (pipe, _outgoing) = Pipe::new(Duration::from_millis(50));
        let mut one = pipe.request(&pipe.id(), "tools/call", None).await.unwrap();
        pipe.take(&Bytes::from_static(br#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}"#)).await;
        assert!(tokio::time::timeout(Duration::from_millis(300), one.next()).await.is_err() && !pipe.owes());
        pipe.respond(&Id::of_json(b"\"q\"").unwrap(), &Outcome::Result(Bytes::from_static(b"{}"))).await.unwrap();
        assert!(matches!(one.next().await, Err(UpstreamError::Timeout(_))) && pipe.owes());
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
