//! The messages of a server until it has answered one request.

use crate::{asked::Asked, endpoint::Reply, error::UpstreamError, events::EventReader, heard};
use bytes::Bytes;
use gnomon_catalogue::rpc::{Id, Message, Outcome};
use smol_str::SmolStr;
use std::{
    pin::Pin,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, mpsc};

/// How often a stream that broke off is taken up again without anything new coming of it.
const ATTEMPTS: u32 = 5;
/// The delay before a retry, unless the server names one.
const RETRY: Duration = Duration::from_secs(1);
/// The longest that a server may make us wait.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// The answer to a request, complete or in progress.
pub enum Answer {
    /// The answer, at once.
    Done(Outcome),
    /// The server has more to say first.
    Going(Conversation),
}

/// A message before the answer, or the answer.
#[derive(Debug)]
pub enum Said {
    /// A notification, or a request of the server's own.
    Message(Message),
    /// The answer. Nothing comes after it.
    Answer(Outcome),
    /// The stream can be taken up again from here on.
    Primed {
        /// The delay that the server asks for.
        retry: Option<Duration>,
    },
    /// The server ended the stream to go on later; the next call waits for that, unless its reader is back before
    /// ([`Conversation::goes_on_with`]).
    Interrupted {
        /// The delay that the server asked for.
        retry: Duration,
    },
}

/// A message for a request over a shared line, or its failure.
pub(crate) type Heard = Result<Said, UpstreamError>;

/// A line that all requests to a server share.
pub(crate) trait SharedLine: Send + Sync {
    /// The server's questions over it.
    fn asked(&self) -> &Asked;
    /// Called when a request timed out, as the server was silent for too long.
    fn fell_silent(&self);
    /// Cancels a request whose caller no longer waits for the answer.
    fn take_back(&self, id: &Id);
}

/// A session whose streams are taken up again where they break off.
pub(crate) trait Resumes: Send + Sync {
    /// The server's questions in it.
    fn asked(&self) -> &Asked;
    /// The stream after the event `last`; an error when the server does not give it back.
    fn resume<'s>(&'s self, last: Option<&'s str>) -> Resumed<'s>;
}

/// A stream that is being taken up again.
pub(crate) type Resumed<'s> = Pin<Box<dyn Future<Output = Result<EventReader, UpstreamError>> + Send + 's>>;

/// A request in progress.
pub struct Conversation {
    id: Id,
    source: Source,
}

enum Source {
    Http(Box<Stream>),
    Pipe { said: mpsc::Receiver<Heard>, patience: Duration, line: Weak<dyn SharedLine>, undo: Option<TakenBack> },
    Beside(Box<Beside>),
}

/// A request to a server whose messages may also arrive on another stream.
struct Beside {
    way: Way,
    aside: mpsc::Receiver<Message>,
}

type Coming = Pin<Box<dyn Future<Output = Result<Answer, UpstreamError>> + Send>>;

/// The state of a request: its answer's head is awaited, or the messages of its answer are read.
enum Way {
    Coming(Coming),
    Going(Conversation),
}

impl Beside {
    /// See [`Conversation::next`]; messages that were heard elsewhere come first, as they were sent before.
    async fn next(&mut self) -> Result<Said, UpstreamError> {
        tokio::select! {
            biased;
            Some(message) = self.aside.recv() => Ok(Said::Message(message)),
            said = self.way.next() => said,
        }
    }
}

impl Way {
    async fn next(&mut self) -> Result<Said, UpstreamError> {
        loop {
            match self {
                Self::Going(conversation) => return Box::pin(conversation.next()).await,
                Self::Coming(answer) => match answer.await? {
                    Answer::Done(outcome) => return Ok(Said::Answer(outcome)),
                    Answer::Going(conversation) => *self = Self::Going(conversation),
                },
            }
        }
    }
}

/// A request on a shared line, which is cancelled when its caller is dropped.
struct TakenBack {
    line: Weak<dyn SharedLine>,
    id: Option<Id>,
}

impl Drop for TakenBack {
    fn drop(&mut self) {
        if let Some((line, id)) = self.line.upgrade().zip(self.id.take()) {
            line.take_back(&id);
        }
    }
}

struct Stream {
    /// The event stream; none while it is interrupted.
    events: Option<EventReader>,
    /// The session that resumes it.
    session: Option<Arc<dyn Resumes>>,
    last: Option<SmolStr>,
    retry: Duration,
    attempts: u32,
    /// The time until which it is left alone, while it is interrupted.
    until: Option<Instant>,
    /// Notified when its reader is back before.
    returned: Option<Arc<Notify>>,
}

impl Answer {
    /// Reads the answer to the request `id`. A stream of `session` is taken up again where it breaks off.
    ///
    /// # Errors
    /// When it is no answer to that request.
    pub(crate) fn read(reply: Reply, id: &Id, session: Option<Arc<dyn Resumes>>) -> Result<Self, UpstreamError> {
        match reply {
            Reply::Accepted => Err(UpstreamError::Protocol("it answered a request as if it were a notification".to_owned())),
            Reply::Json(text) => whole(&text, id).map(Self::Done),
            Reply::Events(events) => {
                let stream = Stream { events: Some(*events), session, last: None, retry: RETRY, attempts: 0, until: None, returned: None };
                Ok(Self::Going(Conversation { id: id.clone(), source: Source::Http(Box::new(stream)) }))
            }
        }
    }

    /// Waits for the end of it; what is said before is passed over.
    ///
    /// # Errors
    /// See [`Conversation::next`].
    pub async fn outcome(self) -> Result<Outcome, UpstreamError> {
        match self {
            Self::Done(outcome) => Ok(outcome),
            Self::Going(mut conversation) => loop {
                if let Said::Answer(outcome) = conversation.next().await? {
                    return Ok(outcome);
                }
            },
        }
    }
}

fn whole(text: &Bytes, id: &Id) -> Result<Outcome, UpstreamError> {
    match Message::read(text) {
        Ok(Message::Response(response)) if response.id.as_ref().is_none_or(|other| other == id) => Ok(response.outcome),
        Ok(Message::Response(_)) => Err(UpstreamError::Protocol("it answers another request".to_owned())),
        Ok(_) => Err(UpstreamError::Protocol("it is not an answer".to_owned())),
        Err(error) => Err(UpstreamError::Protocol(error.message)),
    }
}

impl Conversation {
    /// A request over a shared line, whose reader sends what concerns the request `id`. The server may be silent for `patience`.
    #[must_use]
    pub(crate) fn over_pipe(id: Id, said: mpsc::Receiver<Heard>, patience: Duration, line: Weak<dyn SharedLine>) -> Self {
        Self { id, source: Source::Pipe { said, patience, line, undo: None } }
    }

    /// A request whose answer is still coming, while more messages of its server come elsewhere.
    pub(crate) fn beside(
        id: Id,
        answer: impl Future<Output = Result<Answer, UpstreamError>> + Send + 'static,
        aside: mpsc::Receiver<Message>,
    ) -> Self {
        Self { id, source: Source::Beside(Box::new(Beside { way: Way::Coming(Box::pin(answer)), aside })) }
    }

    /// Cancels the request if this is dropped before its answer. Over HTTP closing the connection does so.
    #[must_use]
    pub fn taken_back(mut self) -> Self {
        if let Source::Pipe { undo, line, .. } = &mut self.source {
            *undo = Some(TakenBack { line: line.clone(), id: Some(self.id.clone()) });
        }
        self
    }

    /// The id that the server knows the request by.
    #[must_use]
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// Where the stream is interrupted, it is taken up again as soon as this is notified: its reader, who was told the delay that the
    /// server asks for, is back.
    pub fn goes_on_with(&mut self, returned: Arc<Notify>) {
        match &mut self.source {
            Source::Http(stream) => stream.returned = Some(returned),
            Source::Beside(beside) => {
                if let Way::Going(conversation) = &mut beside.way {
                    conversation.goes_on_with(returned);
                }
            }
            Source::Pipe { .. } => {}
        }
    }

    /// The next message. Not to be called after the answer.
    ///
    /// # Errors
    /// When the server falls silent, breaks off, or breaks the protocol.
    pub async fn next(&mut self) -> Result<Said, UpstreamError> {
        match &mut self.source {
            Source::Pipe { said, patience, line, undo } => loop {
                match (tokio::time::timeout(*patience, said.recv()).await, line.upgrade()) {
                    (Ok(next), _) => {
                        heard::now();
                        let next = next.ok_or(UpstreamError::Aborted)??;
                        if let (Said::Answer(_), Some(undo)) = (&next, undo) {
                            undo.id = None;
                        }
                        return Ok(next);
                    }
                    // The server waits for an answer to its own question.
                    (Err(_), Some(line)) if line.asked().any() => {}
                    (Err(_), line) => {
                        line.inspect(|line| line.fell_silent());
                        return Err(UpstreamError::Timeout(*patience));
                    }
                }
            },
            Source::Beside(beside) => beside.next().await,
            Source::Http(stream) => stream.next(&self.id).await,
        }
    }
}

impl Stream {
    async fn next(&mut self, id: &Id) -> Result<Said, UpstreamError> {
        loop {
            let events = match &mut self.events {
                Some(events) => events,
                None => {
                    let resumed = self.resume().await?;
                    self.events.insert(resumed)
                }
            };
            let event = match events.next().await {
                Ok(Some(event)) => event,
                Ok(None) | Err(UpstreamError::Aborted) => {
                    self.events = None;
                    if self.session.is_none() || self.last.is_none() || self.attempts >= ATTEMPTS {
                        return Err(UpstreamError::Aborted);
                    }
                    self.attempts += 1;
                    self.until = Some(Instant::now() + self.retry);
                    return Ok(Said::Interrupted { retry: self.retry });
                }
                // The server waits for an answer to its own question.
                Err(UpstreamError::Timeout(_)) if self.session.as_ref().is_some_and(|session| session.asked().any()) => continue,
                Err(error) => return Err(error),
            };
            if let Some(retry) = event.retry {
                self.retry = retry.min(LONGEST_RETRY);
            }
            let resumable = event.id.is_some();
            if resumable {
                self.last = event.id;
            }
            let Some(data) = event.data.filter(|data| !data.is_empty()) else {
                if resumable || event.retry.is_some() {
                    return Ok(Said::Primed { retry: event.retry });
                }
                continue;
            };
            self.attempts = 0;
            if !matches!(event.name.as_str(), "" | "message") {
                continue;
            }
            match Message::read(&data) {
                Ok(Message::Response(response)) if response.id.as_ref() == Some(id) => return Ok(Said::Answer(response.outcome)),
                // Answers to other requests belong to other streams.
                Ok(Message::Response(_)) => {}
                Ok(message) => {
                    if let Some(session) = &self.session {
                        session.asked().heard(&message);
                    }
                    return Ok(Said::Message(message));
                }
                Err(error) => return Err(UpstreamError::Protocol(error.message)),
            }
        }
    }

    async fn resume(&mut self) -> Result<EventReader, UpstreamError> {
        self.rest().await;
        let Some(session) = &self.session else { return Err(UpstreamError::Aborted) };
        session.resume(self.last.as_deref()).await
    }

    /// Leaves the server alone for as long as it asked for, unless the reader is back before: once for an interruption, also where whoever
    /// waits for it hears something else meanwhile and waits anew.
    async fn rest(&mut self) {
        let Some(until) = self.until else { return };
        let over = tokio::time::sleep_until(until.into());
        let is_back = match &self.returned {
            Some(returned) => tokio::select! {
                () = over => false,
                () = returned.notified() => true,
            },
            None => {
                over.await;
                false
            }
        };
        // How often it asks is its reader's own affair then, as without a portal.
        self.attempts = self.attempts.saturating_sub(u32::from(is_back));
        (self.until, self.returned) = (None, None);
    }
}
