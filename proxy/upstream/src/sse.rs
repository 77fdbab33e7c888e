//! The HTTP+SSE transport of 2024-11-05: one event stream for everything the server says, and a path,
//! named in its first event, for everything sent to it.

use crate::{
    endpoint::Endpoint,
    error::UpstreamError,
    events::EventReader,
    pipe::{Outgoing, Pipe},
};
use ::http::{HeaderMap, uri::PathAndQuery};
use std::sync::{Arc, Weak};
use tokio::sync::mpsc;

/// Opens the stream and waits for the path.
///
/// # Errors
/// When the server has no such stream or names no path of its own.
pub async fn connect(endpoint: Endpoint) -> Result<Arc<Pipe>, UpstreamError> {
    let mut events = endpoint.listen(HeaderMap::new(), None).await?;
    let patience = endpoint.limits.patience;
    let first = tokio::time::timeout(patience, events.next()).await.map_err(|_| UpstreamError::Timeout(patience))??;
    let path = first.filter(|event| event.name == "endpoint").and_then(|event| named_path(&endpoint, &event.data?));
    let path = path.ok_or_else(|| UpstreamError::Protocol("its event stream does not begin with an endpoint".to_owned()))?;
    let (pipe, outgoing) = Pipe::new(patience);
    let target = endpoint.at(path);
    // Only its users keep it open, as the line to a program: nobody joins this task, and it ends with the server's stream, as the line is closed, or as the
    // last of them lets it go.
    let (line, ended) = (Arc::downgrade(&pipe), pipe.ended());
    tokio::spawn(async move {
        tokio::select! {
            () = hear(&line, events) => {}
            () = tell(target, outgoing) => {}
            _ = ended => {}
        }
        if let Some(line) = line.upgrade() {
            line.close();
        }
    });
    Ok(pipe)
}

/// The path that an `endpoint` event names. Only the path counts: another host would get what is meant for this one.
fn named_path(endpoint: &Endpoint, data: &[u8]) -> Option<PathAndQuery> {
    let target = std::str::from_utf8(data).ok()?.trim();
    let path = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
        None if target.starts_with('/') => target.to_owned(),
        None => {
            let base = endpoint.path().path();
            format!("{}{target}", &base[..=base.rfind('/')?])
        }
    };
    path.parse().ok()
}

async fn hear(pipe: &Weak<Pipe>, mut events: EventReader) {
    while let Ok(Some(event)) = events.next().await {
        let Some(held) = pipe.upgrade() else { return };
        if let Some(data) = event.data.filter(|data| !data.is_empty()) {
            held.take(&data).await;
        }
    }
}

/// Sends each message by itself, in order: a server must not see an answer before the request it is for.
async fn tell(target: Endpoint, mut outgoing: mpsc::Receiver<Outgoing>) {
    while let Some((message, _room)) = outgoing.recv().await {
        if let Err(error) = target.post(HeaderMap::new(), message).await {
            tracing::debug!("a message could not be sent: {error}");
            return;
        }
    }
}
