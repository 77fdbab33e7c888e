//! A server's event stream, one event at a time.

use crate::{
    error::UpstreamError,
    heard,
    unfinished::{Account, Unfinished},
};
use bytes::Bytes;
use gnomon_http::UpstreamBody;
use gnomon_wire::sse::{HasData, Item, SseParser};
use http_body::Body;
use smol_str::SmolStr;
use std::{collections::VecDeque, future::poll_fn, pin::Pin, time::Duration};

/// An event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The event's name; empty is `message`.
    pub name: SmolStr,
    /// The id after which the stream can be resumed.
    pub id: Option<SmolStr>,
    /// The delay before a reconnection.
    pub retry: Option<Duration>,
    /// The event's data; none where it has none at all.
    pub data: Option<Bytes>,
}

/// Reads the events of an answer, each at most `limit` bytes long.
pub struct EventReader {
    body: UpstreamBody,
    parser: SseParser,
    data: Vec<u8>,
    ready: VecDeque<Event>,
    limit: usize,
    patience: Option<Duration>,
    unfinished: Unfinished,
}

/// How long a server may be silent within an event: a stream that has nothing to say is silent between two.
const WITHIN_AN_EVENT: Duration = Duration::from_secs(120);

impl EventReader {
    /// Reads `body`. With `patience` the stream may not be silent for longer; comments break silence.
    #[must_use]
    pub(crate) fn new(body: UpstreamBody, limit: usize, patience: Option<Duration>, server: &Account) -> Self {
        Self { body, parser: SseParser::new(), data: Vec::new(), ready: VecDeque::new(), limit, patience, unfinished: server.message() }
    }

    /// The next event; none at the stream's end.
    ///
    /// # Errors
    /// When the stream breaks off or an event is too large.
    pub async fn next(&mut self) -> Result<Option<Event>, UpstreamError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let within = (!self.data.is_empty()).then_some(WITHIN_AN_EVENT);
            let chunk = match self.patience.or(within) {
                None => self.chunk().await?,
                Some(patience) => tokio::time::timeout(patience, self.chunk()).await.map_err(|_| UpstreamError::Timeout(patience))??,
            };
            let Some(chunk) = chunk else { return Ok(None) };
            self.read(&chunk)?;
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        loop {
            match poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await {
                None => return Ok(None),
                Some(Err(_)) => return Err(UpstreamError::Aborted),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        heard::now();
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    fn read(&mut self, chunk: &[u8]) -> Result<(), UpstreamError> {
        let Self { parser, data, ready, limit, unfinished, .. } = self;
        let mut over = None;
        parser.feed(chunk, &mut |item, _| match item {
            Item::Data(bytes) => {
                let length = data.len() + bytes.len();
                if over.is_none() && length > *limit {
                    over = Some(UpstreamError::TooLarge(*limit));
                } else if over.is_none() && unfinished.holds(length).is_err() {
                    over = Some(UpstreamError::NoRoom);
                }
                if over.is_none() {
                    data.extend_from_slice(bytes);
                }
            }
            Item::MarkedLine => {}
            Item::Dispatch { event, id, has_data, retry } => {
                let data = std::mem::take(data);
                unfinished.ended();
                ready.push_back(Event {
                    name: SmolStr::new(event),
                    id: id.map(SmolStr::new),
                    retry: retry.map(|millis| Duration::from_millis(millis.into())),
                    data: (has_data == HasData::Yes).then(|| data.into()),
                });
            }
        });
        over.map_or(Ok(()), Err)
    }
}
