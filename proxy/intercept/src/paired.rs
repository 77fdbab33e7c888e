//! The legacy HTTP+SSE transport: a client POSTs to one URL and reads the answers on an event
//! stream that it opened before. A refused POST is answered there, where the client listens.

use crate::watched::Watched;
use bytes::Bytes;
use quick_cache::sync::Cache;
use smol_str::{SmolStr, format_smolstr};
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// Most event streams remembered.
const STREAMS: usize = 4096;
/// Most answers waiting on one stream.
const WAITING: usize = 64;

/// Open event streams by whose they are and the URL their POSTs go to.
#[derive(Clone)]
pub(crate) struct PairedStreams(Arc<Cache<SmolStr, mpsc::Sender<Bytes>>>);

impl PairedStreams {
    pub fn new() -> Self {
        Self(Arc::new(Cache::new(STREAMS)))
    }

    /// The stream's side, made when an event stream begins.
    pub fn open(&self, principal: &str, authority: &str) -> Pairing {
        let (send, events) = mpsc::channel(WAITING);
        Pairing {
            streams: self.clone(),
            prefix: format_smolstr!("{principal}\n{authority}"),
            send: Some(send),
            key: None,
            events,
            at_border: true,
        }
    }

    /// Puts an event on the stream that belongs to this POST. Gives it back if there is none.
    pub fn answer(&self, principal: &str, authority: &str, path_and_query: &str, event: Bytes) -> Result<(), Bytes> {
        match self.0.get(&key(&format_smolstr!("{principal}\n{authority}"), path_and_query)) {
            Some(stream) => stream.try_send(event).map_err(|e| match e {
                mpsc::error::TrySendError::Full(event) | mpsc::error::TrySendError::Closed(event) => event,
            }),
            None => Err(event),
        }
    }
}

fn key(prefix: &str, path_and_query: &str) -> SmolStr {
    format_smolstr!("{prefix} {path_and_query}")
}

/// An event stream that answers may be sent on.
pub(crate) struct Pairing {
    streams: PairedStreams,
    prefix: SmolStr,
    send: Option<mpsc::Sender<Bytes>>,
    key: Option<SmolStr>,
    events: mpsc::Receiver<Bytes>,
    /// Whether what passed so far ends between two events, so that one of ours fits in.
    at_border: bool,
}

impl Pairing {
    /// Looks at what passes: where events end, and whether the stream told its POST URL.
    pub fn passed(&mut self, data: &[u8], watched: &Watched) {
        self.at_border = data.ends_with(b"\n\n") || data.ends_with(b"\r\n\r\n") || data.ends_with(b"\r\r");
        if self.key.is_none()
            && let Some(path) = watched.with(|e| e.paired_path().map(SmolStr::new))
            && let Some(send) = self.send.take()
        {
            let key = key(&self.prefix, &path);
            self.streams.0.insert(key.clone(), send);
            self.key = Some(key);
        }
    }

    /// An event of ours that is due.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Option<Bytes> {
        if !self.at_border || self.key.is_none() {
            return None;
        }
        match self.events.poll_recv(cx) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }
}

impl Drop for Pairing {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.streams.0.remove(key);
        }
    }
}
