//! One request: judged, sent on or answered, and its answer judged in turn.

use crate::{
    arriving::Arriving,
    continuing::ContinueWait,
    download::{Download, Mode},
    headers::{Upgrade, ambiguous_host, host_of, names},
    holding::{Held, Ready, Until, hold, hold_answer, next_frame},
    odd,
    reply::{self, broken_off},
    room::NO_ROOM,
    route::{Client, Route, Toward},
    short, unverified, upgrade,
    upload::Upload,
    watched::{Leg, Watched},
};
use bytes::Bytes;
use gnomon_http::{DialError, SendError, UpstreamBody, UpstreamTlsError};
use gnomon_inspect::{Authority, Connection, Exchange, Head, Passage, Refusal, ResponsePlan, normal_host, says_events};
use gnomon_observe::Field;
use gnomon_record::FlowOutcome;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, uri};
use http_body::Body;
use hyper::body::Incoming;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// Takes one request to its answer. Never fails: what goes wrong is an answer.
pub(crate) async fn forward(route: &Route, request: Request<Incoming>) -> Response<Download> {
    match ContinueWait::of(&request) {
        None => answer_to(route, request, None).await,
        Some(wait) => answer_to(route, request, Some(&wait)).await.map(|body| body.behind(wait.of_the_answer())),
    }
}

/// The answer to a request, whose client may wait to be asked for its body.
async fn answer_to(route: &Route, mut request: Request<Incoming>, wait: Option<&ContinueWait>) -> Response<Download> {
    let started = Instant::now();
    if let Some(cause) = ambiguous(route, &request) {
        let text = format!("{cause}: it was answered with 400 and not forwarded");
        odd::tell(&route.shared, &route.seat, &route.connection, Passage::RequestLineOdd, &text);
        return reply::failure(StatusCode::BAD_REQUEST, cause);
    }
    if request.method() == Method::CONNECT {
        return reply::failure(
            StatusCode::NOT_IMPLEMENTED,
            "a tunnel is opened at the start of a connection, not within TLS or after other requests",
        );
    }
    let toward = Toward::of(route, &request);
    let upgrade =
        if request.version() == Version::HTTP_11 { Upgrade::asked_for(request.method(), request.headers()) } else { Upgrade::Nothing };
    let mut on_upgrade = (upgrade != Upgrade::Nothing).then(|| hyper::upgrade::on(&mut request));
    let authority = authority(route, toward, &request).await;
    let connection = match another_name(route, toward, &request) {
        Some(named) => Some(strictest(route, toward, named).await),
        None => None,
    };
    let (mut parts, body) = request.into_parts();
    let exchange = Exchange::begin(
        connection.as_ref().unwrap_or(&route.connection),
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
    let account = route.shared.room.account(route.destination.principal());
    let watched = Watched::new(exchange, &route.shared.recorder, started, route.departure.clone(), account);
    let misdirected = authority == Authority::Differs && route.sni.is_some();
    let unsendable = misdirected || route.problem.is_some();
    // A request that will not be sent is read all the same, as its event is to describe it, but for what its client keeps until it is asked.
    let until = if unsendable && wait.is_none() { Until::Over } else { Until::Decided };
    let head = || parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let (ready, rest, account) = match hold(route, &watched, Arriving::new(body), until, head).await {
        Held::Open { ready, rest, account } => (ready, rest, account),
        Held::NoRoom { rest } => {
            read_out(route, parts.version, rest, wait);
            return no_room(route, &watched);
        }
        Held::Refused { refusal, rest } => {
            read_out(route, parts.version, rest, wait);
            return refused(route, &watched, &parts.uri, &refusal);
        }
        Held::Odd => {
            let cause = "the request's body is in chunks that cannot be read";
            let text = format!("{cause}: it was answered with 400 and not forwarded");
            odd::tell(&route.shared, &route.seat, &route.connection, Passage::RequestLineOdd, &text);
            return unread(&watched, StatusCode::BAD_REQUEST, "malformed_body", cause);
        }
        Held::Broken => return unread(&watched, StatusCode::BAD_REQUEST, "client_aborted", "the request body ended early"),
        Held::Stalled => return unread(&watched, StatusCode::REQUEST_TIMEOUT, "client_stalled", "the request body did not arrive in time"),
    };
    if unsendable {
        read_out(route, parts.version, rest, wait);
        return unsent(route, &watched);
    }
    toward.remove_hop_headers(&mut parts.headers);
    if parts.version < Version::HTTP_11 {
        // It is to be ignored there (RFC 9110 section 10.1.1), and goes on in a version where it is not.
        parts.headers.remove(header::EXPECT);
    }
    let turns = match upgrade {
        Upgrade::Nothing => None,
        Upgrade::WebSocket => Some((HeaderValue::from_static("websocket"), None)),
        Upgrade::Others(protocols) => {
            match upgrade::may_turn(&route.shared, connection.as_ref().unwrap_or(&route.connection), &protocols) {
                Ok(passes) => Some((protocols, Some(passes))),
                Err(text) => {
                    read_out(route, parts.version, rest, wait);
                    watched.with(|e| e.failed("upgrade_refused", &text));
                    watched.finish();
                    return reply::refusal_in_words(&text);
                }
            }
        }
    };
    let asked = turns.zip(on_upgrade.take()).map(|((protocols, passes), client)| upgrade::Asked { client, protocols, passes });
    if let Some(asked) = &asked {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, asked.protocols.clone());
    }
    parts.extensions.clear();
    if let Some(departure) = &route.departure {
        parts.extensions.insert(departure.end());
    }
    let (uri, version) = (parts.uri.clone(), parts.version);
    let account = account.unwrap_or_else(|| {
        let mut account = route.shared.room.account(route.destination.principal());
        account.has_come(rest.as_ref().map_or(0, Arriving::arrived));
        account
    });
    let held = Upload::new(ready, rest, watched.clone(), account);
    let upload = if held.is_end_stream() {
        watched.over(Leg::Request);
        Upload::empty()
    } else {
        held.at(wait.map(ContinueWait::turn))
    };
    let destination = match toward {
        Toward::Proxy if route.toward == Toward::Server => &route.destination.clone().to_a_proxy(),
        Toward::Proxy | Toward::Server => &route.destination,
    };
    let destination = route.learnt.destination(&route.shared.pools, destination, &parts.headers);
    let mut request = Request::from_parts(parts, upload);
    wait.iter().for_each(|wait| wait.listens(&mut request));
    let sent = route.shared.pools.send(&destination, request).await;
    let unasked = wait.is_some_and(ContinueWait::is_answered);
    route.shared.recorder.metrics().answered(started.elapsed());
    match sent {
        Ok(response) => {
            watched.answered();
            route.learnt.answered(&route.shared.pools, response.status(), response.headers());
            // A passage for lack of room is counted when the body is left unread.
            if let Some(passage) = watched.with(|e| e.passed()).filter(|passage| *passage != Passage::NoRoom) {
                route.shared.recorder.metrics().passed(passage);
            }
            answer(route, toward, watched, response, (asked, unasked)).await
        }
        Err(error) => {
            if let SendError::RequestBody = error {
                watched.with(Exchange::request_breaks_off);
            }
            if let Some(rest) = watched.take_unsent().filter(|rest| wait.is_none() || !rest.is_unasked()) {
                // Its event is to say what it was, though it went nowhere.
                let _ = tokio::time::timeout(READ_OUT_TIME, hold(route, &watched, rest, Until::Over, || 0)).await;
            }
            match watched.take_refusal() {
                Some((refusal, rest)) => {
                    read_out(route, version, rest, wait);
                    refused(route, &watched, &uri, &refusal)
                }
                None => unreachable(route, &watched, &error),
            }
        }
    }
}

/// The answer to a request whose body did not come.
fn unread(watched: &Watched, status: StatusCode, kind: &str, cause: &str) -> Response<Download> {
    watched.with(|e| e.failed(kind, cause));
    watched.finish();
    reply::failure(status, cause)
}

/// The answer to a request that cannot be sent, whatever it says.
fn unsent(route: &Route, watched: &Watched) -> Response<Download> {
    if let Some(problem) = &route.problem {
        return unreachable(route, watched, problem);
    }
    watched.with(|e| e.failed("misdirected_request", "Host or :authority names another server than the TLS handshake"));
    watched.finish();
    let text = "this connection is for another server name; open a new one (RFC 9110 section 15.5.20)";
    reply::failure(StatusCode::MISDIRECTED_REQUEST, text)
}

/// Most bytes of a refused body that are still read.
const READ_OUT: usize = 1 << 20;
/// The timeout of reading them out.
const READ_OUT_TIME: Duration = Duration::from_secs(5);

/// Reads the rest of a body whose answer is given already. A client that is still sending when its
/// connection is closed may lose the answer to a reset (RFC 9112 section 9.6), and the connection is
/// worth keeping. HTTP/2 resets the one stream instead. What the client keeps until it is asked is not asked for.
fn read_out(route: &Route, version: Version, rest: Option<Arriving>, wait: Option<&ContinueWait>) {
    let Some(mut rest) = rest.filter(|rest| version < Version::HTTP_2 && !rest.is_end_stream()) else { return };
    let mut stop = route.shared.stopping();
    let begins = wait.filter(|_| rest.is_unasked()).map(ContinueWait::answer_begins);
    route.shared.spawn(async move {
        let mut left = READ_OUT;
        let read = async {
            if let Some(begins) = begins {
                begins.await;
            }
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

/// The reason that a request could be read in two ways, if it could.
fn ambiguous<B>(route: &Route, request: &Request<B>) -> Option<&'static str> {
    let chunks = request.version() == Version::HTTP_11 && request.headers().contains_key(header::TRANSFER_ENCODING);
    if chunks && route.twice.seen() {
        return Some("the request has both Content-Length and Transfer-Encoding");
    }
    ambiguous_host(request.headers(), request.uri())
}

/// The host that a request names.
fn named<B>(request: &Request<B>) -> Option<&str> {
    let host = || request.headers().get(header::HOST).and_then(|v| v.to_str().ok()).map(host_of);
    request.uri().host().or_else(host).filter(|host| !host.is_empty())
}

/// What a request calls its server where nothing vouches for that (no SNI) and the connection is for another name.
fn another_name<B>(route: &Route, toward: Toward, request: &Request<B>) -> Option<(String, u16)> {
    let named = named(request).filter(|_| route.sni.is_none()).map(normal_host).filter(|named| named != server_of(route))?;
    let port = match toward {
        Toward::Server => route.destination.port(),
        Toward::Proxy => request.uri().port_u16().unwrap_or_else(|| usual_port(request.uri().scheme_str())),
    };
    Some((named, port))
}

/// The connection as rules see it that name the server as the request does. Whoever contradicts themselves is believed neither of both: what
/// is at the address counts as well, and what is at the one that a request names.
async fn strictest(route: &Route, toward: Toward, (named, port): (String, u16)) -> Connection {
    let connection = route.connection.clone().also_at(&named, port);
    if toward == Toward::Proxy {
        return connection;
    }
    let (shared, destination) = (&route.shared, &route.destination);
    let dialer = shared.dialer.on_behalf_of(destination.principal().clone());
    let reached = destination.address().map(|address| address.ip().to_string());
    let reached = reached.as_deref().unwrap_or_else(|| destination.host());
    let connection = shared.rule_addresses.also_of(&dialer, connection, reached, port).await;
    match gnomon_kit::address(&named) {
        Some(ip) => shared.rule_addresses.also_led_to(&dialer, connection, SocketAddr::new(ip, port)).await,
        None => connection,
    }
}

/// The port that a URL of this scheme is for where it names none.
fn usual_port(scheme: Option<&str>) -> u16 {
    match scheme {
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => 443,
        Some(scheme) if scheme.eq_ignore_ascii_case("ftp") => 21,
        _ => 80,
    }
}

/// The server as rules see it.
fn server_of(route: &Route) -> &str {
    route.connection.seen().text(Field::ServerAddress).unwrap_or_else(|| route.destination.host())
}

/// Compares the server of the request with that of its connection. Without SNI both the name that the client asked for and the one that
/// rules judged count, which may be one of its other names, and any that leads to the address that the connection is for.
async fn authority(route: &Route, toward: Toward, request: &Request<Incoming>) -> Authority {
    if toward == Toward::Proxy {
        // The URL to fetch says nothing about the proxy.
        return Authority::Agrees;
    }
    let Some(named) = named(request).map(normal_host) else { return Authority::Agrees };
    let agrees = match route.sni.as_deref() {
        Some(sni) => named == sni,
        None => {
            named == server_of(route)
                || named == normal_host(route.destination.host())
                || route.learnt.leads_there(&route.shared, &route.destination, &named).await
        }
    };
    if agrees { Authority::Agrees } else { Authority::Differs }
}

/// The answer to a request whose body there was no room for: a rule that refuses could match it.
fn no_room(route: &Route, watched: &Watched) -> Response<Download> {
    watched.finish();
    route.shared.recorder.flow(FlowOutcome::OverShare, Vec::new());
    let mut answer = reply::failure(StatusCode::SERVICE_UNAVAILABLE, NO_ROOM);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    answer
}

/// The answer to a refused request.
fn refused(route: &Route, watched: &Watched, uri: &uri::Uri, refusal: &Refusal) -> Response<Download> {
    let paired = watched.with(|e| e.posts_to_event_stream());
    watched.finish();
    if paired && refusal.location.is_none() {
        let events: String = refusal.targets.iter().filter_map(|t| refusal.event_for(t)).collect();
        let path = uri.path_and_query().map_or("/", uri::PathAndQuery::as_str);
        let sent = route.shared.paired.answer(route.destination.principal(), route.destination.authority(), path, Bytes::from(events));
        if sent.is_ok() {
            return reply::text(StatusCode::ACCEPTED, "Accepted");
        }
    }
    reply::refusal(refusal)
}

fn unreachable(route: &Route, watched: &Watched, error: &SendError) -> Response<Download> {
    let (status, kind) = match error {
        SendError::Dial(DialError::Forbidden { .. }) => (StatusCode::FORBIDDEN, "forbidden_destination"),
        SendError::Dial(DialError::Short { .. }) => (StatusCode::SERVICE_UNAVAILABLE, short::SHORT),
        SendError::Dial(DialError::Timeout { .. }) => (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout"),
        SendError::Dial(_) => (StatusCode::BAD_GATEWAY, "upstream_unreachable"),
        SendError::Tls(UpstreamTlsError::ClientCertificate) => (StatusCode::BAD_GATEWAY, "upstream_client_certificate"),
        SendError::Tls(_) => (StatusCode::BAD_GATEWAY, "upstream_unverified"),
        SendError::RequestBody => (StatusCode::BAD_REQUEST, "client_aborted"),
        _ => (StatusCode::BAD_GATEWAY, "upstream_failed"),
    };
    let cause = error.to_string();
    let kind = if watched.client_has_ended() { "client_aborted" } else { kind };
    if kind == short::SHORT {
        watched.with_told(|e| e.failed(kind, &cause), |due| short::sum_up(route, due));
    } else {
        watched.with(|e| e.failed(kind, &cause));
    }
    watched.finish();
    if let SendError::Tls(tls) = error
        && (*tls == UpstreamTlsError::ClientCertificate || route.client == Client::Unaware)
    {
        route.shared.recorder.report(unverified::reports(&route.shared, &route.seat, &route.connection, &cause));
    }
    match error {
        // Refused by us: that is for people to read.
        SendError::Dial(DialError::Forbidden { .. } | DialError::Short { .. }) | SendError::RequestBody => reply::failure(status, &cause),
        _ => broken_off(route, status, &cause),
    }
}

async fn answer(
    route: &Route,
    toward: Toward,
    watched: Arc<Watched>,
    mut response: Response<UpstreamBody>,
    (asked, unasked): (Option<upgrade::Asked>, bool),
) -> Response<Download> {
    let plan = watched.with(|e| e.response_head(response.status().as_u16(), response.headers()));
    watched.with(|e| {
        if let Some(passage) = e.answer_passed() {
            route.shared.room.passes_unread(route.destination.principal(), e, passage);
        }
    });
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if let Some(refusal) = watched.with(|e| e.switches(response.headers())) {
            watched.over(Leg::Answer);
            return reply::refusal(&refusal);
        }
        watched.finish();
        watched.leaves_http();
        let is_asked = |asked: &upgrade::Asked| {
            let protocols = asked.protocols.to_str().unwrap_or_default();
            protocols.split(", ").any(|protocol| names(response.headers(), &header::UPGRADE, protocol))
        };
        return match asked.filter(is_asked) {
            Some(upgrade::Asked { client, passes, .. }) => {
                if let Some((passage, reports)) = passes {
                    route.shared.recorder.metrics().passed(passage);
                    route.shared.recorder.report(reports);
                }
                upgrade::join(route, client, &mut response)
            }
            None => reply::failure(StatusCode::BAD_GATEWAY, "the server switched protocols without being asked to"),
        };
    }
    let (mut parts, body) = response.into_parts();
    if parts.headers.contains_key(header::TRANSFER_ENCODING) && parts.headers.contains_key(header::CONTENT_LENGTH) {
        // Whichever is believed, another reader may believe the other.
        let cause = "the server's answer has both Content-Length and Transfer-Encoding";
        watched.with(|e| e.failed("upstream_failed", cause));
        return reply::failure(StatusCode::BAD_GATEWAY, cause);
    }
    // Who has logged in for a connection is to know that it ends, and so is who was not asked for a body.
    let to_know = unasked || route.learnt.is_bound() && route.departure.is_some();
    let closes = to_know && names(&parts.headers, &header::CONNECTION, "close");
    toward.remove_hop_headers(&mut parts.headers);
    if closes {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    parts.extensions.clear();
    let events = says_events(&parts.headers);
    // No replacement can be put into a compressed stream.
    let plain_events = events && !parts.headers.contains_key(header::CONTENT_ENCODING);
    let pairing = || plain_events.then(|| route.shared.paired.open(route.destination.principal(), route.destination.authority()));
    let account = || route.shared.room.account(route.destination.principal());
    let download = match plan {
        ResponsePlan::Refuse(refusal) => {
            watched.over(Leg::Answer);
            return reply::refusal(&refusal);
        }
        ResponsePlan::Stream => Download::passing((Ready::default(), body), watched, Mode::Watch, pairing(), account()),
        ResponsePlan::FilterEvents => {
            parts.headers.remove(header::CONTENT_LENGTH);
            parts.headers.remove(header::CONTENT_ENCODING);
            Download::passing((Ready::default(), body), watched, Mode::FilterEvents, pairing(), account())
        }
        ResponsePlan::HoldBody => match hold_answer(route, &watched, body, route.shared.inspector.bounds().window).await {
            Ok((ready, rest, held)) => Download::passing((ready, rest), watched, Mode::Watch, None, held.unwrap_or_else(account)),
            Err(response) => {
                watched.over(Leg::Answer);
                return response;
            }
        },
    };
    Response::from_parts(parts, download)
}
