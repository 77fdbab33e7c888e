//! One server's MCP endpoint over HTTP: requests with its credentials, answers within bounds.

use crate::{
    error::UpstreamError,
    events::EventReader,
    heard,
    lane::{lane, lanes},
    unfinished::Account,
};
use bytes::{Bytes, BytesMut};
use gnomon_catalogue::rpc::{Message, Outcome, PARSE_ERROR};
use gnomon_http::{Alpn, Destination, Pools, Scheme, UpstreamBody, Whole};
use gnomon_wire::coding::{DecodeError, DecodeLimits, Decoder, Pace, parse_content_encoding};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HOST, LOCATION},
    uri::PathAndQuery,
};
use http_body::Body;
use http_body_util::Full;
use smol_str::{SmolStr, format_smolstr};
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};
use tokio::task::yield_now;

/// Connections to servers.
pub type ServerPools = Pools<Full<Bytes>>;

/// The session of a legacy connection.
pub const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// The revision in use.
pub const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// Mirrors `method`.
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// Mirrors `params.name` or `params.uri`.
pub const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// The header that names the event after which a stream is resumed.
pub const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// Bounds of talking to a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The timeout of an answer's head, and of each next event.
    pub patience: Duration,
    /// Most bytes of one message.
    pub message: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { patience: Duration::from_secs(120), message: 16 << 20 }
    }
}

/// The address of a server, and the connections to it.
#[derive(Clone)]
pub struct Endpoint {
    pools: Arc<ServerPools>,
    /// The destinations by the [`lane`] that a request comes from: each has connections of its own.
    destinations: Arc<[Destination]>,
    /// The authority, as every request names it.
    host: HeaderValue,
    path: PathAndQuery,
    shown: SmolStr,
    /// Never shown.
    credentials: HeaderMap,
    /// The bounds on its messages.
    pub limits: Limits,
    unfinished: Account,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("authority", &self.destination().authority()).finish_non_exhaustive()
    }
}

/// The answer to a post.
pub struct Posted {
    /// The content of the answer.
    pub reply: Reply,
    /// The session that it begins.
    pub session: Option<HeaderValue>,
}

/// An HTTP answer, by its kind.
pub enum Reply {
    /// Accepted, without content.
    Accepted,
    /// A JSON document.
    Json(Bytes),
    /// An event stream.
    Events(Box<EventReader>),
}

/// An error of a server's URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Not a valid URL.
    #[error("not a URL")]
    Syntax,
    /// Neither `http` nor `https`.
    #[error("only http:// and https:// can be called")]
    Scheme,
    /// The URL has a user name or password.
    #[error("credentials do not belong into a URL; name them under `auth`")]
    Credentials,
}

impl Endpoint {
    /// The endpoint at `url`, called with these headers besides MCP's own.
    ///
    /// # Errors
    /// [`InvalidUrl`].
    pub fn new(pools: Arc<ServerPools>, server: &str, url: &str, credentials: HeaderMap, limits: Limits) -> Result<Self, InvalidUrl> {
        let uri: Uri = url.parse().map_err(|_| InvalidUrl::Syntax)?;
        let (scheme, port) = match uri.scheme_str() {
            Some("https") => (Scheme::Https, 443),
            Some("http") => (Scheme::Http, 80),
            Some(_) => return Err(InvalidUrl::Scheme),
            None => return Err(InvalidUrl::Syntax),
        };
        let authority = uri.authority().ok_or(InvalidUrl::Syntax)?;
        if authority.as_str().contains('@') {
            return Err(InvalidUrl::Credentials);
        }
        let port = authority.port_u16().unwrap_or(port);
        let destination = |lane| {
            let principal = format!("portal {server} {lane}").into();
            Destination::new(scheme, authority.host(), port, Alpn::Http11, principal).map_err(|_| InvalidUrl::Syntax)
        };
        let destinations = (0..lanes()).map(destination).collect::<Result<Arc<[_]>, _>>()?;
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let called = destinations.first().ok_or(InvalidUrl::Syntax)?;
        let host = HeaderValue::from_str(called.authority()).map_err(|_| InvalidUrl::Syntax)?;
        let shown = shown(called, &path);
        Ok(Self { pools, destinations, host, path, shown, credentials, limits, unfinished: Account::of(server) })
    }

    fn destination(&self) -> &Destination {
        self.destinations.get(lane()).unwrap_or(&self.destinations[0])
    }

    /// The server's host.
    #[must_use]
    pub fn host(&self) -> &str {
        self.destination().host()
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.destination().port()
    }

    /// The path that is called.
    #[must_use]
    pub fn path(&self) -> &PathAndQuery {
        &self.path
    }

    /// The URL without the query, for the audit.
    #[must_use]
    pub fn shown(&self) -> SmolStr {
        self.shown.clone()
    }

    /// The scheme.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.destination().scheme()
    }

    /// The same server at another path, as the legacy transport names one.
    #[must_use]
    pub fn at(&self, path: PathAndQuery) -> Self {
        Self { shown: shown(self.destination(), &path), path, ..self.clone() }
    }

    /// Posts one message.
    ///
    /// # Errors
    /// When there is no answer, or none that MCP knows.
    pub async fn post(&self, headers: HeaderMap, body: Bytes) -> Result<Posted, UpstreamError> {
        self.post_waiting(headers, body, &|| false).await
    }

    /// Posts to a server that may be silent while it `waits` for an answer to its own question.
    pub(crate) async fn post_waiting(
        &self,
        headers: HeaderMap,
        body: Bytes,
        waits: &(dyn Fn() -> bool + Sync),
    ) -> Result<Posted, UpstreamError> {
        let with_session = headers.contains_key(SESSION);
        let mut request = self.request(Method::POST, headers);
        request.headers_mut().insert(CONTENT_TYPE, JSON);
        request.headers_mut().insert(ACCEPT, BOTH);
        let mut response = self.send_waiting(request.map(|()| Full::new(body)), waits).await?;
        let session = response.headers_mut().remove(SESSION);
        let reply = match response.status() {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => Reply::Accepted,
            StatusCode::NOT_FOUND if with_session => return Err(UpstreamError::SessionGone),
            status if status.is_success() => self.read(response).await?,
            status => return Err(self.failure(status, response, with_session).await),
        };
        Ok(Posted { reply, session })
    }

    /// Opens the stream of what the server says by itself, or takes one up again.
    ///
    /// # Errors
    /// When the server has none.
    pub async fn listen(&self, mut headers: HeaderMap, after: Option<&str>) -> Result<EventReader, UpstreamError> {
        if let Some(Ok(after)) = after.map(HeaderValue::from_str) {
            headers.insert(LAST_EVENT, after);
        }
        let with_session = headers.contains_key(SESSION);
        let mut request = self.request(Method::GET, headers);
        request.headers_mut().insert(ACCEPT, EVENTS);
        let response = self.send(request.map(|()| Full::default())).await?;
        match (response.status(), kind(&response)) {
            (StatusCode::NOT_FOUND, _) if with_session => Err(UpstreamError::SessionGone),
            (status, MediaKind::Events) if status.is_success() => {
                Ok(EventReader::new(response.into_body(), self.limits.message, None, &self.unfinished))
            }
            (status, _) => match self.failure(status, response, with_session).await {
                gone @ UpstreamError::SessionGone => Err(gone),
                _ => Err(UpstreamError::Status(status.as_u16())),
            },
        }
    }

    /// The bound on connections to all servers together.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.pools.most_connections()
    }

    /// Ends a session.
    ///
    /// # Errors
    /// If the server cannot be reached; its answer is ignored.
    pub async fn delete(&self, headers: HeaderMap) -> Result<(), UpstreamError> {
        let request = self.request(Method::DELETE, headers);
        self.send(request.map(|()| Full::default())).await.map(drop)
    }

    /// The timeout of an answer's head, and of each next event.
    pub(crate) const fn patience(&self) -> Duration {
        self.limits.patience
    }

    /// Sends a request that is not MCP's, and reads all of the answer, decoded, within `message` bytes and `patience` in all.
    ///
    /// # Errors
    /// When there is no whole answer within these bounds. What its status says is the caller's.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        path: PathAndQuery,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, UpstreamError> {
        // Ours stand in place of theirs, not beside them.
        for name in self.credentials.keys() {
            headers.remove(name);
        }
        let mut request = self.request(method, headers);
        *request.uri_mut() = Uri::from(path);
        let answered = async {
            let (head, body) = self.send(request.map(|()| Full::new(body))).await?.into_parts();
            let body = self.whole(body, self.limits.message).await?;
            let body = decoded(&head.headers, body, self.limits.message).await?;
            Ok(Response::from_parts(head, body))
        };
        tokio::time::timeout(self.limits.patience, answered).await.map_err(|_| UpstreamError::Timeout(self.limits.patience))?
    }

    fn request(&self, method: Method, mut headers: HeaderMap) -> Request<()> {
        headers.extend(self.credentials.iter().map(|(name, value)| (name.clone(), value.clone())));
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(self.path.clone());
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, self.host.clone());
        request
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<UpstreamBody>, UpstreamError> {
        self.send_waiting(request, &|| false).await
    }

    async fn send_waiting(
        &self,
        request: Request<Full<Bytes>>,
        waits: &(dyn Fn() -> bool + Sync),
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let patience = self.limits.patience;
        let mut answered = pin!(async {
            match self.destination().scheme() {
                Scheme::Http => self.pools.send(self.destination(), request).await,
                Scheme::Https => {
                    let destination = self.pools.negotiate(self.destination().clone(), &[Alpn::H2, Alpn::Http11]).await?;
                    self.pools.send(&destination, request).await
                }
            }
        });
        loop {
            match tokio::time::timeout(patience, &mut answered).await {
                Ok(answered) => {
                    heard::now();
                    return Ok(answered?);
                }
                Err(_) if waits() => {}
                Err(_) => return Err(UpstreamError::Timeout(patience)),
            }
        }
    }

    async fn read(&self, response: Response<UpstreamBody>) -> Result<Reply, UpstreamError> {
        match kind(&response) {
            MediaKind::Events => {
                let events = EventReader::new(response.into_body(), self.limits.message, Some(self.limits.patience), &self.unfinished);
                Ok(Reply::Events(Box::new(events)))
            }
            MediaKind::Json => Ok(Reply::Json(self.whole(response.into_body(), self.limits.message).await?)),
            MediaKind::Other => Err(UpstreamError::Protocol("it is neither JSON nor an event stream".to_owned())),
        }
    }

    /// The error that an answer with an error status means: MCP's own errors come with one as well.
    async fn failure(&self, status: StatusCode, response: Response<UpstreamBody>, with_session: bool) -> UpstreamError {
        let kind = kind(&response);
        if status.is_redirection()
            && let Some(to) = response.headers().get(LOCATION)
        {
            // A query may carry secrets.
            let to = to.to_str().unwrap_or_default().split(['?', '#']).next().unwrap_or_default();
            return UpstreamError::Moved { status: status.as_u16(), to: format!("it sends clients to {to}") };
        }
        let with_session = with_session && status == StatusCode::BAD_REQUEST;
        let turns_away = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        // Servers of HTTP+SSE answer a POST with these, whatever the body (2025-03-26, Backwards Compatibility).
        let has_none = matches!(status.as_u16(), 404..=406);
        if kind == MediaKind::Events && !turns_away && !has_none {
            return UpstreamError::Protocol(format!("it sent an event stream with the HTTP status {}", status.as_u16()));
        }
        if kind == MediaKind::Json || with_session && kind == MediaKind::Other {
            let body = match self.whole(response.into_body(), self.limits.message).await {
                Ok(body) => body,
                Err(_) if turns_away => Bytes::new(),
                // What it says of the call is not known.
                Err(cut) => return cut,
            };
            match Message::read(&body) {
                Ok(Message::Response(answer)) => {
                    // Requests of ours have numbers.
                    let of_a_request = answer.id.is_some_and(|id| !id.json().starts_with('"'));
                    // A result is none with such a status: no client of the SDKs takes it. The call may have been carried out all the same.
                    let Outcome::Error(error) = &answer.outcome else {
                        return UpstreamError::Protocol(format!("it sent a result with the HTTP status {}", status.as_u16()));
                    };
                    if with_session && !of_a_request && names_session(error) {
                        return UpstreamError::SessionGone;
                    }
                    return UpstreamError::Rpc(answer.outcome);
                }
                _ if with_session && names_session(&body) => return UpstreamError::SessionGone,
                Err(error) if error.code == PARSE_ERROR && kind == MediaKind::Json && !body.is_empty() && !turns_away && !has_none => {
                    return UpstreamError::Protocol(format!("it sent what is no JSON with the HTTP status {}", status.as_u16()));
                }
                _ => {}
            }
        }
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.credentials.is_empty() => {
                UpstreamError::Unauthenticated(status.as_u16())
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => UpstreamError::Unauthorized(status.as_u16()),
            _ => UpstreamError::Status(status.as_u16()),
        }
    }

    async fn whole(&self, mut body: UpstreamBody, most: usize) -> Result<Bytes, UpstreamError> {
        let (patience, mut unfinished) = (self.limits.patience, self.unfinished.message());
        let read = async {
            let mut read = Whole::new(&body.size_hint(), most);
            while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                let Ok(data) = frame.map_err(|_| UpstreamError::Aborted)?.into_data() else { continue };
                heard::now();
                read.push(data).map_err(|_| UpstreamError::TooLarge(most))?;
                unfinished.holds(read.len()).map_err(|_| UpstreamError::NoRoom)?;
            }
            Ok(read.into_bytes())
        };
        tokio::time::timeout(patience, read).await.map_err(|_| UpstreamError::Timeout(patience))?
    }
}

/// Whether an error is about the session. The protocol has 404 for one that is not known, but the examples that many servers were made
/// from answer 400, with an error of no request or bare words: such a server has looked at the header alone.
fn names_session(text: &[u8]) -> bool {
    text.to_ascii_lowercase().windows(b"session".len()).any(|window| window == b"session")
}

fn shown(destination: &Destination, path: &PathAndQuery) -> SmolStr {
    let scheme = if destination.scheme() == Scheme::Https { "https" } else { "http" };
    format_smolstr!("{scheme}://{}{}", destination.authority(), path.path())
}

/// A body without its content codings. Nothing asked for one, but some servers use them all the same. It is decoded in steps, between which
/// others of the thread have their turns.
async fn decoded(headers: &HeaderMap, body: Bytes, most: usize) -> Result<Bytes, UpstreamError> {
    let values = headers.get_all(CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("?"));
    let unknown = |_| UpstreamError::Protocol("its content codings are not known here".to_owned());
    let codings = parse_content_encoding(values).map_err(unknown)?;
    if codings.is_empty() || body.is_empty() {
        return Ok(body);
    }
    let limits = DecodeLimits { max_output: most as u64, ..DecodeLimits::default() };
    let (mut decoder, mut input, mut plain) = (Decoder::new(&codings, limits), &body[..], BytesMut::new());
    let ended = loop {
        let mut sink = |piece: &[u8]| plain.extend_from_slice(piece);
        match decoder.feed_some(&mut input, &mut sink) {
            Ok(Pace::Behind) => {}
            Ok(Pace::Through) => break decoder.finish(&mut sink),
            Err(error) => break Err(error),
        }
        yield_now().await;
    };
    match ended {
        Ok(()) => Ok(plain.freeze()),
        Err(DecodeError::OutputExceeded | DecodeError::RatioExceeded) => Err(UpstreamError::TooLarge(most)),
        Err(error) => Err(UpstreamError::Protocol(error.to_string())),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MediaKind {
    Json,
    Events,
    Other,
}

fn kind(response: &Response<UpstreamBody>) -> MediaKind {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match value.split(';').next().unwrap_or_default().trim() {
        kind if kind.eq_ignore_ascii_case("application/json") => MediaKind::Json,
        kind if kind.eq_ignore_ascii_case("text/event-stream") => MediaKind::Events,
        _ => MediaKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write as _,
        sync::atomic::{AtomicUsize, Ordering},
    };

    #[tokio::test]
    async fn what_an_answer_decodes_to_is_decoded_between_others_turns() {
        const SIZE: usize = 4 << 20;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&vec![b'a'; SIZE]).unwrap();
        let coded = Bytes::from(encoder.finish().unwrap());
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static("gzip"))]);
        let turns = Arc::new(AtomicUsize::new(0));
        let counts = turns.clone();
        let other = tokio::spawn(async move {
            loop {
                counts.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        });
        let plain = decoded(&headers, coded.clone(), SIZE).await.unwrap();
        other.abort();
        assert!(plain.len() == SIZE && plain.iter().all(|byte| *byte == b'a'));
        let turns = turns.load(Ordering::Relaxed);
        assert!(turns >= SIZE / Decoder::STEP / 2, "{turns}");
        assert!(matches!(decoded(&headers, coded, SIZE - 1).await, Err(UpstreamError::TooLarge(_))));
    }
}
