//! The portal's endpoint: HTTP in, HTTP out.
//!
//! Both eras share one URL. Which one a request belongs to it says itself: the stateless era names its
//! version in each request, and everything else is of the older one.
//!
//! An attacker controls every byte of a request. Its size is bounded, it is read to its end before
//! anything happens, and web pages of other origins get nowhere (DNS rebinding).

use crate::{cors, crew::TICK, log_in::Visitor, portal::Portal};
use bytes::Bytes;
use gnomon_access::{Caller, Challenge};
use gnomon_audit::NotWritten;
use gnomon_http::Whole;
use gnomon_relay::{
    emission::Emission,
    error::CallError,
    metrics::Lacking,
    offer::Offer,
    outflow::{Heard, Outflow, Stream},
    room::{self, room},
    shares::owner,
    unsent::{LARGE, Recipient, is_no_list},
};
use gnomon_upstream::{
    endpoint::{METHOD, SESSION, VERSION},
    era::{self, meta},
    rpc::{self, INVALID_REQUEST, Message, Outcome, RpcError},
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, EXPECT, HOST, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE},
    request::Parts,
};
use http_body::Body;
use parking_lot::Mutex;
use std::{
    future::poll_fn,
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
/// The timeout of a request's body.
const BODY_PATIENCE: Duration = Duration::from_secs(60);
/// The bounds, in time and bytes, within which an unwanted body is read all the same.
const LINGER: Duration = Duration::from_secs(2);
const MOST_UNWANTED: usize = 16 << 20;
/// The interval at which a lack of room is logged.
const TOLD_AGAIN: Duration = Duration::from_secs(10);
/// The time for which a call goes on whose client may come back.
pub(crate) const ABSENCE: Duration = Duration::from_secs(5 * 60);

impl Portal {
    /// Answers one request of a connection.
    pub(crate) async fn answer<B>(self: &Arc<Self>, request: Request<B>, visitor: &Arc<Visitor>) -> Response<Outflow>
    where
        B: Body<Data = Bytes>,
    {
        let (parts, body) = request.into_parts();
        if let Err(response) = self.admissible(&parts) {
            return response;
        }
        let page = parts.headers.get(ORIGIN).cloned();
        let mut response = match cors::preflight(&parts) {
            Some(response) => response,
            None => self.admitted(parts, body, visitor).await,
        };
        if let Some(page) = page {
            cors::readable(&mut response, page);
        }
        response
    }

    /// Answers a request by a name of ours, from nowhere that it may not come from.
    async fn admitted<B>(self: &Arc<Self>, parts: Parts, body: B, visitor: &Arc<Visitor>) -> Response<Outflow>
    where
        B: Body<Data = Bytes>,
    {
        let authenticator = self.log_in.authenticator();
        if parts.method == Method::GET
            && authenticator.metadata_path() == Some(parts.uri.path())
            && let Some(metadata) = authenticator.metadata()
        {
            return document(StatusCode::OK, metadata);
        }
        if parts.uri.path() != self.options.path {
            return plain(StatusCode::NOT_FOUND, &format!("nothing is here; the portal is at {}", self.options.path));
        }
        let acts = self.options.acts.as_ref();
        let peer = &visitor.peer;
        let caller = match authenticator.authenticate(&parts.headers, peer).await {
            Ok(caller) => caller,
            Err(challenge) => {
                if let Some(acts) = acts {
                    acts.turned_away(peer, &challenge).await;
                }
                return challenged(&challenge);
            }
        };
        if let Some(acts) = acts
            && let Err(error) = acts.let_in(&caller).await
        {
            return unrecorded(error);
        }
        let offer = match Offer::asked_for(parts.uri.query(), self.options.code_mode) {
            Ok(offer) => offer,
            Err(why) => return plain(StatusCode::BAD_REQUEST, &why),
        };
        let modern = parts.headers.get(VERSION).and_then(|v| v.to_str().ok()).is_some_and(era::claims_modern);
        match parts.method {
            Method::POST => {
                let waits = if parts.headers.contains_key(EXPECT) { Waits::Yes } else { Waits::No };
                let body = match read(self, body, &caller, waits).await {
                    Ok(body) => body,
                    Err(response) => return response,
                };
                let response = self.post(Asker { caller: caller.clone(), offer, visitor: visitor.clone() }, &parts.headers, body).await;
                charged(&self.recipient(&caller), response).await
            }
            Method::GET if !modern => self.listen(&caller, &parts.headers, visitor).await,
            Method::DELETE if !modern => self.end(&caller, &parts.headers).await,
            _ => {
                let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "messages are posted here");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
                response
            }
        }
    }

    /// Refuses what comes by another name or from a foreign web page (DNS rebinding; Streamable HTTP, Security Warning).
    #[allow(clippy::result_large_err, reason = "the error is the answer, and is moved once")]
    fn admissible(&self, parts: &Parts) -> Result<(), Response<Outflow>> {
        // HTTP/2 names the host in `:authority`.
        let header = parts.headers.get(HOST).map(|v| v.to_str().unwrap_or_default());
        let host = parts.uri.authority().map(|authority| authority.as_str()).or(header);
        if let Some(host) = host
            && !self.is_own_host(without_port(host))
        {
            return Err(plain(StatusCode::FORBIDDEN, "this portal is not called by that host name; name it under `hosts`"));
        }
        if let Some(origin) = parts.headers.get(ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            let own = origin.split_once("://").is_some_and(|(_, host)| self.is_own_host(without_port(host)));
            if !own && !self.options.origins.iter().any(|allowed| allowed == origin) {
                return Err(plain(StatusCode::FORBIDDEN, "web pages of that origin may not call this portal; name it under `origins`"));
            }
        }
        Ok(())
    }

    pub(crate) fn is_own_host(&self, host: &str) -> bool {
        matches!(host, "localhost" | "127.0.0.1" | "[::1]") || self.options.hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
    }

    async fn post(self: &Arc<Self>, asker: Asker, headers: &HeaderMap, body: Bytes) -> Response<Outflow> {
        let json = headers
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json"));
        if !json {
            return refused(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                None,
                RpcError::new(INVALID_REQUEST, "Content-Type must be application/json"),
            );
        }
        let accepts = Accepts::of(headers);
        if accepts == Accepts::Neither {
            let text = "Accept must allow application/json and text/event-stream";
            return refused(StatusCode::NOT_ACCEPTABLE, None, RpcError::new(INVALID_REQUEST, text));
        }
        if let Some(elements) = Message::batch(&body) {
            return self.batch(asker, headers, elements).await;
        }
        let message = match Message::read(&body) {
            Ok(message) => message,
            Err(error) => return refused(StatusCode::BAD_REQUEST, None, error),
        };
        if is_modern(headers, &message) {
            return self.stateless_post(asker, headers, message, accepts).await;
        }
        self.session_post(asker, headers, message, accepts).await
    }
}

/// A request's caller, and the offer it gets.
pub(crate) struct Asker {
    pub caller: Arc<Caller>,
    pub offer: Offer,
    /// The origin of its connection.
    pub visitor: Arc<Visitor>,
}

/// Whether a message says that it is of the stateless era.
fn is_modern(headers: &HeaderMap, message: &Message) -> bool {
    if headers.contains_key(SESSION) {
        return false;
    }
    let header = headers.get(VERSION).and_then(|v| v.to_str().ok());
    if header.is_some_and(era::claims_modern) {
        return true;
    }
    let Message::Request(request) = message else { return false };
    if matches!(request.method.as_str(), "server/discover" | "subscriptions/listen") {
        return true;
    }
    if request.method == "initialize" {
        return false;
    }
    // Asked last, as it reads the parameters: a request without a session is an error in the older era.
    header.is_none_or(|version| !era::is_legacy(version))
        && request.members().is_ok_and(|p| p.object("_meta").is_some_and(|m| m.get(meta::VERSION).is_some()))
        || header.is_none() && headers.contains_key(METHOD)
}

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
        Emission::Pause => {
            stream.pause();
            Heard::Yes
        }
    }
}

/// Reads a body to its end, within the room that there is for its caller.
#[allow(clippy::result_large_err, reason = "the error is the answer, and is moved once")]
async fn read<B: Body<Data = Bytes>>(portal: &Portal, body: B, caller: &Caller, waits: Waits) -> Result<Bytes, Response<Outflow>> {
    let most = portal.options.max_request;
    let declared = body.size_hint().lower();
    let mut body = pin!(body);
    let too_large = |text: String| refused(StatusCode::PAYLOAD_TOO_LARGE, None, RpcError::new(INVALID_REQUEST, text));
    let longer = || too_large(format!("a request may have at most {most} bytes"));
    if declared > most as u64 {
        if waits == Waits::No {
            linger(body).await;
        }
        return Err(longer());
    }
    let whole = async {
        let mut read = Whole::new(&body.size_hint(), most);
        let mut taken = match room().take(caller, usize::try_from(declared).unwrap_or(most)).await {
            Ok(taken) => taken,
            Err(_) => {
                if waits == Waits::No {
                    linger(body).await;
                }
                return Err(no_room(portal, caller));
            }
        };
        while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            let frame = frame.map_err(|_| plain(StatusCode::BAD_REQUEST, "the request body ended early"))?;
            let Ok(data) = frame.into_data() else { continue };
            if read.push(data).is_err() {
                linger(body).await;
                return Err(longer());
            }
            if room().extend(&mut taken, read.len(), 0).await.is_err() {
                linger(body).await;
                return Err(no_room(portal, caller));
            }
        }
        let read = read.into_bytes();
        let values = room::values(&read);
        if values > room::MOST_OF_VALUES {
            return Err(too_large("a request may have at most some 45,000 objects or 200,000 other values".to_owned()));
        }
        room().extend(&mut taken, read.len(), values).await.map_err(|_| no_room(portal, caller))?;
        Ok(taken.holds(read))
    };
    let late = |_| plain(StatusCode::REQUEST_TIMEOUT, "the request body did not come");
    tokio::time::timeout(BODY_PATIENCE, whole).await.map_err(late)?
}

/// The answer to a caller that has too many requests in progress.
fn no_room(portal: &Portal, caller: &Caller) -> Response<Outflow> {
    /// The time of the last log line, so that a flood of requests does not flood the log.
    static TOLD: Mutex<Option<Instant>> = Mutex::new(None);
    let mut told = TOLD.lock();
    if told.is_none_or(|at| at.elapsed() >= TOLD_AGAIN) {
        *told = Some(Instant::now());
        tracing::warn!(caller = %owner(caller), "a request is refused: those under way have all the memory that its caller may take");
    }
    drop(told);
    portal.refused(Lacking::Room);
    busy("the requests that are under way take all room that there is; try again later")
}

/// A response with the room that it takes until it was sent. What comes in pieces has it already.
async fn charged(recipient: &Recipient, response: Response<Outflow>) -> Response<Outflow> {
    let Outflow::Whole(Some(whole)) = response.body() else { return response };
    match recipient.room_for(whole.len()).await {
        Some(room) => response.map(|body| match body {
            Outflow::Whole(Some(whole)) => Outflow::Whole(Some(room.holds(whole))),
            other => other,
        }),
        None => no_room_to_send(),
    }
}

/// The response where there is no room for what it would be.
pub(crate) fn no_room_to_send() -> Response<Outflow> {
    busy(&format!("{}; then try again", CallError::NoRoom))
}

/// The answer where there is no room, and may be soon.
pub(crate) fn busy(why: &str) -> Response<Outflow> {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Whether a client sends its body only when it is asked to (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    Yes,
    No,
}

/// Reads an unwanted body for a while: a client that is still sending when the connection closes never reads the error.
async fn linger<B: Body<Data = Bytes>>(mut body: Pin<&mut B>) {
    let drained = async {
        let mut left = MOST_UNWANTED;
        while let Some(Ok(frame)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = rest;
        }
    };
    let _ = tokio::time::timeout(LINGER, drained).await;
}

/// A host without its port.
pub(crate) fn without_port(host: &str) -> &str {
    match (host.rfind(':'), host.rfind(']')) {
        (Some(colon), Some(bracket)) if colon < bracket => host,
        (Some(colon), _) => &host[..colon],
        (None, _) => host,
    }
}

/// The answer to a caller that is not authenticated.
fn challenged(challenge: &Challenge) -> Response<Outflow> {
    let mut response = plain(challenge.status, &challenge.text);
    if challenge.status != StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge.www_authenticate.clone());
    }
    response
}

/// A response in words.
pub(crate) fn plain(status: StatusCode, text: &str) -> Response<Outflow> {
    if text.is_empty() {
        return with(status, None, Outflow::empty());
    }
    with(status, Some("text/plain; charset=utf-8"), Bytes::from(format!("{text}\n")).into())
}

/// The answer where answers wait for the audit, and it cannot be written.
pub(crate) fn unrecorded(error: NotWritten) -> Response<Outflow> {
    plain(StatusCode::SERVICE_UNAVAILABLE, &format!("{error}, so nothing is answered; tell whoever runs this portal"))
}

/// A JSON-RPC message as a response.
pub(crate) fn document(status: StatusCode, message: Bytes) -> Response<Outflow> {
    with(status, Some("application/json"), message.into())
}

/// An answer as a response. Long lists are given to many, and not copied for each: what is long has its room already.
pub(crate) fn answered(status: StatusCode, id: &rpc::Id, outcome: &Outcome) -> Response<Outflow> {
    if is_no_list(outcome) {
        return no_room_to_send();
    }
    let (Outcome::Result(payload) | Outcome::Error(payload)) = outcome;
    if payload.len() <= LARGE {
        return document(status, rpc::response(Some(id), outcome));
    }
    pieces(status, rpc::response_pieces(Some(id), outcome).into())
}

/// JSON in pieces that have their room already.
pub(crate) fn pieces(status: StatusCode, pieces: Vec<Bytes>) -> Response<Outflow> {
    with(status, Some("application/json"), Outflow::Pieces(pieces.into_iter()))
}

/// An error that concerns the HTTP request.
pub(crate) fn refused(status: StatusCode, id: Option<&rpc::Id>, error: RpcError) -> Response<Outflow> {
    document(status, rpc::response(id, &error.into()))
}

/// A response that is a stream of events.
pub(crate) fn streamed(outflow: Outflow) -> Response<Outflow> {
    let mut response = with(StatusCode::OK, Some("text/event-stream"), outflow);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // For proxies that would otherwise collect it (2026-07-28, Streamable HTTP).
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn with(status: StatusCode, kind: Option<&'static str>, body: Outflow) -> Response<Outflow> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    response
}
