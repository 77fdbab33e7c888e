//! One request: judged, sent on or answered, and its answer judged in turn.

use crate::{
    FlowOutcome,
    download::{Download, Mode},
    headers::{asks_to_upgrade, remove_hop_headers},
    proxy::Shared,
    reply, upgrade,
    upload::{Last, Upload, Watched, judge_chunk},
};
use bytes::Bytes;
use gnomon_http::{Destination, SendError};
use gnomon_inspect::{Authority, Connection, Exchange, Gate, Head, Refusal, ResponsePlan, normal_host};
use http::{Request, Response, StatusCode, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use smol_str::SmolStr;
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

/// Where the requests of a connection go.
#[derive(Clone)]
pub(crate) struct Route {
    pub shared: Arc<Shared>,
    pub connection: Connection,
    pub destination: Destination,
    /// The server name of the ClientHello.
    pub sni: Option<SmolStr>,
    /// What ALPN chose between client and proxy.
    pub alpn: Option<&'static str>,
    /// Why the server cannot be reached, known before the first request.
    pub problem: Option<SendError>,
}

/// Takes one request to its answer. Never fails: what goes wrong is an answer.
pub(crate) async fn forward(route: &Route, mut request: Request<Incoming>) -> Response<Download> {
    let started = Instant::now();
    let authority = authority(route, &request);
    let on_upgrade =
        (request.version() == Version::HTTP_11 && asks_to_upgrade(request.headers())).then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    let exchange = Exchange::begin(
        &route.connection,
        &Head {
            method: &parts.method,
            path: parts.uri.path(),
            query: parts.uri.query(),
            version: parts.version,
            headers: &parts.headers,
            alpn: route.alpn,
            authority,
        },
    );
    let watched = Watched::new(exchange, route.shared.recorder.clone(), started);
    let misdirected = authority == Authority::Differs && route.sni.is_some();
    // What will not be sent is read all the same, as its event is to say what it was.
    let until = if misdirected || route.problem.is_some() { Until::Over } else { Until::Decided };
    let (ready, rest) = match hold(&watched, body, route.shared.inspector.bounds().window, until).await {
        Held::Open { ready, rest } => (ready, rest),
        Held::Refused { refusal, rest } => {
            read_out(route, parts.version, rest);
            return refused(route, &watched, &parts.uri, &refusal);
        }
        Held::Broken => return reply::failure(StatusCode::BAD_REQUEST, "the request body ended early"),
        Held::Stalled => return reply::failure(StatusCode::REQUEST_TIMEOUT, "the request body did not come"),
    };
    if until == Until::Over {
        read_out(route, parts.version, rest);
        return unsendable(route, &watched);
    }
    let upgrade_to = on_upgrade.as_ref().and_then(|_| parts.headers.get(header::UPGRADE).cloned());
    remove_hop_headers(&mut parts.headers);
    parts.headers.remove(header::EXPECT);
    if let Some(protocol) = upgrade_to {
        parts.headers.insert(header::CONNECTION, http::HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
    }
    parts.extensions.clear();
    let (uri, version) = (parts.uri.clone(), parts.version);
    let held = Upload::new(ready, rest, watched.clone());
    let upload = if held.is_end_stream() { Upload::empty() } else { held };
    let sent = route.shared.pools.send(&route.destination, Request::from_parts(parts, upload)).await;
    route.shared.recorder.metrics().answered(started.elapsed());
    match sent {
        Ok(response) => {
            watched.answered();
            answer(route, watched, response, on_upgrade).await
        }
        Err(error) => {
            if let Some(rest) = watched.take_unsent() {
                // Its event is to say what it was, though it went nowhere.
                let window = route.shared.inspector.bounds().window;
                let _ = tokio::time::timeout(READ_OUT_TIME, hold(&watched, rest, window, Until::Over)).await;
            }
            match watched.take_refusal() {
                Some((refusal, rest)) => {
                    read_out(route, version, rest);
                    refused(route, &watched, &uri, &refusal)
                }
                None => unreachable(&watched, &error),
            }
        }
    }
}

/// The answer to a request that cannot be sent, whatever it says.
fn unsendable(route: &Route, watched: &Watched) -> Response<Download> {
    if let Some(problem) = &route.problem {
        return unreachable(watched, problem);
    }
    watched.with(|e| e.failed("misdirected_request", "Host or :authority names another server than the TLS handshake"));
    let text = "this connection is for another server name; open a new one (RFC 9110 section 15.5.20)";
    reply::failure(StatusCode::MISDIRECTED_REQUEST, text)
}

/// Most bytes of a refused body that are still read.
const READ_OUT: usize = 1 << 20;
/// How long they may take.
const READ_OUT_TIME: Duration = Duration::from_secs(5);

/// Reads the rest of a body whose answer is given already. A client that is still sending when its
/// connection is closed may lose the answer to a reset (RFC 9112 section 9.6), and the connection is
/// worth keeping. HTTP/2 resets the one stream instead.
fn read_out(route: &Route, version: Version, rest: Option<Incoming>) {
    let Some(mut rest) = rest.filter(|rest| version < Version::HTTP_2 && !rest.is_end_stream()) else { return };
    let mut stop = route.shared.stopping();
    route.shared.spawn(async move {
        let mut left = READ_OUT;
        let read = async {
            while let Some(Ok(frame)) = next_frame(&mut rest).await {
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                if left == 0 {
                    return;
                }
            }
        };
        tokio::select! {
            () = read => {}
            () = tokio::time::sleep(READ_OUT_TIME) => {}
            _ = stop.wait_for(|stopping| *stopping) => {}
        }
    });
}

/// Whether the request is for the server that its connection is for. Without SNI there is nothing
/// that the two could disagree about.
fn authority(route: &Route, request: &Request<Incoming>) -> Authority {
    let named = request.uri().host().or_else(|| request.headers().get(header::HOST).and_then(|v| v.to_str().ok()).map(host_of));
    let expected = route.sni.as_deref().unwrap_or_else(|| route.destination.host());
    match named {
        Some(named) if normal_host(named) != expected => Authority::Differs,
        _ => Authority::Agrees,
    }
}

/// The host of a `Host` header, without its port.
pub(crate) fn host_of(value: &str) -> &str {
    match (value.rfind(':'), value.rfind(']')) {
        (Some(colon), Some(bracket)) if colon > bracket => &value[..colon],
        (Some(_), Some(_)) | (None, _) => value,
        (Some(colon), None) => &value[..colon],
    }
}

/// What came of holding a request back.
enum Held {
    Open { ready: VecDeque<Bytes>, rest: Option<Incoming> },
    Refused { refusal: Box<Refusal>, rest: Option<Incoming> },
    Stalled,
    Broken,
}

/// How long the next piece of a held body may take: a client that stalls must not keep its place.
const BODY_STALL: Duration = Duration::from_secs(60);

async fn next_frame(body: &mut Incoming) -> Option<Result<http_body::Frame<Bytes>, hyper::Error>> {
    std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

/// How long a body is read before anything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Until the gate opens.
    Decided,
    /// Until it is over: it goes nowhere.
    Over,
}

/// Reads the body as long as the gate says hold, up to the window.
async fn hold(watched: &Watched, mut body: Incoming, window: usize, until: Until) -> Held {
    let mut ready = VecDeque::new();
    let mut size = 0;
    let mut over = body.is_end_stream();
    let mut gate = if body.is_end_stream() { watched.with(Exchange::request_end) } else { watched.with(Exchange::gate) };
    loop {
        match gate {
            Gate::Refuse(refusal) => return Held::Refused { refusal, rest: (!over).then_some(body) },
            Gate::Stream if until == Until::Decided || over || size >= window => {
                return Held::Open { ready, rest: (!over).then_some(body) };
            }
            Gate::Hold if size >= window => {
                gate = watched.with(Exchange::window_full);
                // Past the window nothing is held any more; a gate that still says hold means stream.
                if let Gate::Hold = gate {
                    gate = Gate::Stream;
                }
            }
            Gate::Hold | Gate::Stream => match tokio::time::timeout(BODY_STALL, next_frame(&mut body)).await {
                Err(_) => return Held::Stalled,
                Ok(None) => {
                    over = true;
                    gate = watched.with(Exchange::request_end);
                }
                Ok(Some(Err(_))) => return Held::Broken,
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    size += data.len();
                    gate = watched.with(|e| judge_chunk(e, &data, Last::of(&body)));
                    over = body.is_end_stream();
                    ready.push_back(data);
                }
            },
        }
    }
}

/// The answer to a refused request.
fn refused(route: &Route, watched: &Watched, uri: &http::Uri, refusal: &Refusal) -> Response<Download> {
    let paired = watched.with(|e| e.posts_to_event_stream());
    if paired && refusal.location.is_none() {
        let events: String = refusal.targets.iter().filter_map(|t| refusal.event_for(t)).collect();
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let sent = route.shared.paired.answer(route.destination.principal(), route.destination.authority(), path, Bytes::from(events));
        if sent.is_ok() {
            return reply::text(StatusCode::ACCEPTED, "Accepted");
        }
    }
    reply::refusal(refusal)
}

fn unreachable(watched: &Watched, error: &SendError) -> Response<Download> {
    let (status, kind) = match error {
        SendError::Dial(gnomon_http::DialError::Forbidden { .. }) => (StatusCode::FORBIDDEN, "forbidden_destination"),
        SendError::Dial(gnomon_http::DialError::Timeout { .. }) => (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout"),
        SendError::Dial(_) => (StatusCode::BAD_GATEWAY, "upstream_unreachable"),
        SendError::Tls(_) => (StatusCode::BAD_GATEWAY, "upstream_unverified"),
        SendError::RequestBody => (StatusCode::BAD_REQUEST, "client_aborted"),
        _ => (StatusCode::BAD_GATEWAY, "upstream_failed"),
    };
    let cause = error.to_string();
    watched.with(|e| e.failed(kind, &cause));
    reply::failure(status, &cause)
}

/// The outcome by which a connection is counted whose server cannot be reached.
pub(crate) fn flow_outcome(error: &SendError) -> FlowOutcome {
    match error {
        SendError::Dial(gnomon_http::DialError::Forbidden { .. }) => FlowOutcome::Refused,
        SendError::Dial(gnomon_http::DialError::OutOfReach { .. }) => FlowOutcome::OutOfReach,
        SendError::Tls(_) => FlowOutcome::UpstreamUnverified,
        _ => FlowOutcome::Unreachable,
    }
}

async fn answer(
    route: &Route,
    watched: Arc<Watched>,
    mut response: Response<Incoming>,
    on_upgrade: Option<hyper::upgrade::OnUpgrade>,
) -> Response<Download> {
    let plan = watched.with(|e| e.response_head(response.status().as_u16(), response.headers()));
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        watched.with(Exchange::flush);
        return match on_upgrade {
            Some(client) => upgrade::join(&route.shared, client, &mut response),
            None => reply::failure(StatusCode::BAD_GATEWAY, "the server left HTTP without being asked to"),
        };
    }
    let (mut parts, body) = response.into_parts();
    remove_hop_headers(&mut parts.headers);
    parts.extensions.clear();
    let events = parts.headers.get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"text/event-stream"));
    // Nothing of ours can be put into a compressed stream.
    let plain_events = events && !parts.headers.contains_key(header::CONTENT_ENCODING);
    let pairing = || plain_events.then(|| route.shared.paired.open(route.destination.principal(), route.destination.authority()));
    let download = match plan {
        ResponsePlan::Refuse(refusal) => return reply::refusal(&refusal),
        ResponsePlan::Stream => Download::passing(VecDeque::new(), body, watched, Mode::Watch, pairing()),
        ResponsePlan::FilterEvents => {
            parts.headers.remove(header::CONTENT_LENGTH);
            Download::passing(VecDeque::new(), body, watched, Mode::FilterEvents, pairing())
        }
        ResponsePlan::HoldBody => match hold_answer(&watched, body, route.shared.inspector.bounds().window).await {
            Ok((ready, rest)) => Download::passing(ready, rest, watched, Mode::Watch, None),
            Err(response) => return response,
        },
    };
    Response::from_parts(parts, download)
}

/// Reads the answer's body as long as the gate says hold, up to the window.
#[allow(clippy::result_large_err, reason = "the error is the answer, and is moved once")]
async fn hold_answer(watched: &Watched, mut body: Incoming, window: usize) -> Result<(VecDeque<Bytes>, Incoming), Response<Download>> {
    let mut ready = VecDeque::new();
    let mut size = 0;
    while size < window && !body.is_end_stream() {
        match next_frame(&mut body).await {
            None => break,
            Some(Err(_)) => {
                watched.with(|e| e.failed("upstream_aborted", "the server broke off its answer"));
                return Err(reply::failure(StatusCode::BAD_GATEWAY, "the server broke off its answer"));
            }
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                size += data.len();
                match watched.with(|e| e.response_bytes(&data)) {
                    Gate::Refuse(refusal) => return Err(reply::refusal(&refusal)),
                    gate => {
                        ready.push_back(data);
                        if let Gate::Stream = gate {
                            return Ok((ready, body));
                        }
                    }
                }
            }
        }
    }
    if body.is_end_stream()
        && let Gate::Refuse(refusal) = watched.with(|e| e.response_end(&mut Vec::new()))
    {
        return Err(reply::refusal(&refusal));
    }
    Ok((ready, body))
}
