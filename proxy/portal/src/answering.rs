//! How an exchange is answered: as one document, or as a stream that begins with what was said first, and what becomes of its work when
//! nobody reads any more.

use crate::{
    crew::TICK,
    portal::Portal,
    responses::{plain, streamed},
};
use bytes::Bytes;
use gnomon_access::Caller;
use gnomon_relay::{
    emission::Emission,
    outflow::{Heard, Outflow, Stream},
    unsent::Recipient,
};
use gnomon_upstream::rpc::Outcome;
use http::{HeaderMap, Response, StatusCode, header::ACCEPT};
use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// The time after which a client gets a head and a stream if there is no message yet.
pub(crate) const SILENCE: Duration = Duration::from_millis(500);
const _: () = assert!(TICK.as_millis() < SILENCE.as_millis(), "a request's first timer would be due before the tick");
/// Most messages that wait for a reader.
const EMISSIONS: usize = 64;
/// The time for which a call goes on whose client may come back.
pub(crate) const ABSENCE: Duration = Duration::from_secs(5 * 60);

/// The kinds of answer that a client can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepts {
    /// JSON and event streams.
    Both,
    /// JSON only.
    Json,
    /// Event streams only.
    Events,
    /// No kind that can be given.
    Neither,
}

impl Accepts {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).peekable();
        if values.peek().is_none() {
            return Self::Both;
        }
        let (mut json, mut events) = (false, false);
        for kind in values.flat_map(|value| value.split(',')) {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            let is = |names: [&str; 2]| names.iter().any(|name| kind.eq_ignore_ascii_case(name));
            let any = kind == "*/*";
            json |= any || is(["application/json", "application/*"]);
            events |= any || is(["text/event-stream", "text/*"]);
        }
        match (json, events) {
            (true, true) => Self::Both,
            (true, false) => Self::Json,
            (false, true) => Self::Events,
            (false, false) => Self::Neither,
        }
    }
}

/// The way of an exchange's messages to the client, which decides what a lost connection means.
pub(crate) enum Way {
    /// The client has a session, so it may come back for them: a lost connection is no cancellation (2025-11-25, Streamable HTTP,
    /// "Sending Messages to the Server").
    Session(Box<dyn FnOnce(Recipient) -> (Arc<Stream>, Outflow) + Send>),
    /// To this connection only: closing it cancels the request (2026-07-28, Streamable HTTP).
    Connection,
}

/// Whether a request goes on without a reader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unheard {
    GoesOn,
    Ends,
}

/// Work whose client may leave before it is given to a task of its own. Of the session era it goes on then.
struct Work<F: Future<Output = Option<Outcome>> + Send + 'static> {
    portal: Arc<Portal>,
    unheard: Unheard,
    parts: Option<(Pin<Box<F>>, mpsc::Receiver<Emission>)>,
}

impl<F: Future<Output = Option<Outcome>> + Send + 'static> Drop for Work<F> {
    fn drop(&mut self) {
        if let (Unheard::GoesOn, Some((work, mut emitted))) = (self.unheard, self.parts.take()) {
            self.portal.spawn(async move {
                let nobody = async {
                    while emitted.recv().await.is_some() {}
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    _ = work => {}
                    () = nobody => {}
                    () = tokio::time::sleep(ABSENCE) => {}
                }
            });
        }
    }
}

/// The answer of an exchange: one document, or a stream that begins with what was said first.
///
/// `work` gets a channel for messages. It is dropped when they have no reader any more, unless the client has a session.
pub(crate) async fn respond<F>(
    (portal, caller): (Arc<Portal>, Arc<Caller>),
    accepts: Accepts,
    way: Way,
    work: impl FnOnce(mpsc::Sender<Emission>) -> F,
    finish: impl FnOnce(Outcome) -> Response<Outflow>,
    encode: impl Fn(&Outcome) -> Bytes + Send + 'static,
) -> Response<Outflow>
where
    F: Future<Output = Option<Outcome>> + Send + 'static,
{
    let (emit, emitted) = mpsc::channel(EMISSIONS);
    let unheard = if let Way::Session(_) = way { Unheard::GoesOn } else { Unheard::Ends };
    let mut under_way = Work { portal: portal.clone(), unheard, parts: Some((Box::pin(work(emit)), emitted)) };
    let Some((work, emitted)) = &mut under_way.parts else { return plain(StatusCode::INTERNAL_SERVER_ERROR, "") };
    let mut done = None;
    let first = match accepts {
        Accepts::Events => None,
        Accepts::Both => tokio::select! {
            biased;
            outcome = &mut *work => match emitted.try_recv() {
                // Both came at once: what was said first is not lost.
                Ok(first) => {
                    done = Some(outcome);
                    Some(first)
                }
                Err(_) => {
                    under_way.parts = None;
                    return outcome.map_or_else(|| plain(StatusCode::ACCEPTED, ""), finish);
                }
            },
            first = emitted.recv() => first,
            () = tokio::time::sleep(SILENCE) => None,
        },
        Accepts::Json | Accepts::Neither => {
            // Messages before the answer have no place in one document; with the channel closed, senders notice.
            emitted.close();
            let outcome = work.await;
            under_way.parts = None;
            return outcome.map_or_else(|| plain(StatusCode::ACCEPTED, ""), finish);
        }
    };
    let Some((work, emitted)) = under_way.parts.take() else { return plain(StatusCode::INTERNAL_SERVER_ERROR, "") };
    let (stream, outflow) = match way {
        Way::Session(make) => make(portal.recipient(&caller)),
        Way::Connection => {
            let (sender, outflow) = Outflow::events();
            (Arc::new(Stream::of_connection(sender, portal.recipient(&caller))), outflow)
        }
    };
    let work = async move {
        match done {
            Some(outcome) => outcome,
            None => work.await,
        }
    };
    portal.spawn(async move {
        say(&stream, unheard, (first, emitted), work, encode).await;
        stream.finish();
    });
    streamed(outflow)
}

async fn say(
    stream: &Stream,
    unheard: Unheard,
    (first, mut emitted): (Option<Emission>, mpsc::Receiver<Emission>),
    work: impl Future<Output = Option<Outcome>>,
    encode: impl Fn(&Outcome) -> Bytes,
) {
    let mut work = pin!(work);
    if let Some(first) = first
        && emission(stream, first).await == Heard::No
        && unheard == Unheard::Ends
    {
        return;
    }
    let mut absent_since = None;
    loop {
        let check = tokio::time::sleep(Duration::from_secs(5));
        tokio::select! {
            biased;
            Some(said) = emitted.recv() => {
                if emission(stream, said).await == Heard::No && unheard == Unheard::Ends {
                    return;
                }
            }
            outcome = &mut work => {
                while let Ok(said) = emitted.try_recv() {
                    let _ = emission(stream, said).await;
                }
                if let Some(outcome) = outcome {
                    let answer = encode(&outcome);
                    drop(outcome);
                    let _ = stream.send(answer).await;
                }
                return;
            }
            // A client that cannot resume is gone for good: dropping the work cancels the request upstream.
            () = stream.left(), if unheard == Unheard::Ends && !stream.is_resumable() => return,
            () = check, if unheard == Unheard::GoesOn || stream.is_resumable() => {
                if stream.is_read() {
                    absent_since = None;
                } else {
                    let since = *absent_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= ABSENCE {
                        return;
                    }
                }
            }
        }
    }
}

async fn emission(stream: &Stream, emission: Emission) -> Heard {
    match emission {
        Emission::Message(message) => stream.send(message).await,
        Emission::Prime(retry) => stream.prime(retry).await,
        Emission::Pause(returned) => {
            stream.pause(&returned);
            Heard::Yes
        }
    }
}
