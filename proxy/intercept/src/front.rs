//! Requests to the proxy itself: CONNECT, absolute-form requests, and mistakes.

use crate::{
    asking::{Asking, Caller, SILENCE, UNREAD, user},
    client_seats::ClientSeat,
    departure::{Departure, Noted, UntilOver, served},
    download::Download,
    first_bytes::last_line,
    forward::forward,
    framing::{Framed, Twice},
    headers::ambiguous_host,
    learnt::Learnt,
    odd, refused, reply,
    route::{Client, Route, Toward},
    shared::Shared,
    tunnel,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use gnomon_http::{
    Alpn, Destination, MAX_FIELDS, Scheme,
    server::{Answered, Stalled, http1},
};
use gnomon_inspect::{Hello, Passage, normal_host};
use gnomon_observe::{Channel, Field};
use gnomon_record::{FlowOutcome, Missing};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use smol_str::SmolStr;
use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc};
use subtle::ConstantTimeEq;
use tokio::{net::TcpStream, time::sleep};

/// Serves one accepted connection.
pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream, client: SocketAddr, seat: Arc<ClientSeat>) {
    let owned = match shared.owners() {
        Some(owners) => owners.owner(&stream).await.inspect(|owned| owners.served(owned.cookie)),
        None => None,
    };
    let missing = match (&owned, shared.owners()) {
        (None, Some(owners)) => owners.missing(&stream),
        _ => Missing::Outside,
    };
    if missing == Missing::Lost {
        return refused::unowned(&shared, &Asking { client, user: None, owned: None, missing, seat }, Channel::Http, stream);
    }
    if let Some(owned) = &owned
        && seat.is_of_in_time(&user(owned)).await.is_err()
    {
        let asking = Asking { client, user: None, owned: Some(Arc::new(owned.clone())), missing, seat };
        return refused::over_share(&shared, &asking, stream);
    }
    let mut stop = shared.stopping();
    let mut byte = [0];
    let speaks = async {
        tokio::select! {
            spoke = stream.peek(&mut byte) => spoke.is_ok_and(|bytes| bytes > 0),
            () = sleep(SILENCE) => false,
            _ = stop.wait_for(|stopping| *stopping) => false,
        }
    };
    match seat.until_needed(speaks).await {
        Some(true) => seat.takes_a_step(),
        Some(false) => return shared.recorder.flow(FlowOutcome::ClientFailed, Vec::new()),
        None => {
            if seat.gave_up() {
                shared.recorder.flow(FlowOutcome::Silent, Vec::new());
            }
            return refused::reset(stream);
        }
    }
    serve_owned(shared, stream, Caller { client, owned: owned.map(Arc::new), missing, seat }).await;
}

/// Serves one connection whose owner is known, or known not to be known.
pub(crate) async fn serve_owned(shared: Arc<Shared>, stream: TcpStream, caller: Caller) {
    let mut stop = shared.stopping();
    let (timeout, seat, recorder) = (shared.options.hello_timeout, caller.seat.clone(), shared.recorder.clone());
    let (stream, twice) = Framed::new(Stalled::after(UNREAD, stream));
    let departure = Arc::<Departure>::default();
    let (of_requests, learnt) = (departure.clone(), Arc::<Learnt>::default());
    let (of_service, of_caller) = (shared.clone(), caller.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, caller) = (of_service.clone(), caller.clone());
        let so_far = (twice.clone(), of_requests.clone(), learnt.clone());
        // A CONNECT is not a request of its own yet: the requests are inside of the tunnel.
        let under_way = (request.method() != Method::CONNECT).then(|| caller.seat.begin());
        async move {
            let answer = front(&shared, caller, so_far, request).await;
            Ok::<_, Infallible>(answer.map(|body| Answered::new(body, under_way)))
        }
    });
    let mut builder = http1(timeout.max(SILENCE));
    builder.max_headers(MAX_FIELDS);
    let io = TokioIo::new(Noted::new(stream, departure.clone()));
    let over = {
        let connection = pin!(builder.serve_connection(io, service).with_upgrades());
        // Dropped before the connection.
        let until_over = UntilOver::new(departure.clone());
        let over = served(connection, &departure, (&mut stop, &seat), |connection| connection.graceful_shutdown()).await;
        until_over.ends();
        over
    };
    if let Some(Err(error)) = over
        && error.is_parse()
    {
        let said = [departure.last_line(), departure.request_line()];
        if let Some(said) = said.into_iter().flatten().find(|said| odd::was_a_request(last_line(said))) {
            let (host, port) = asked_for(said).unwrap_or_default();
            let text = "what was sent is not a request that gnomon can read: it was answered with 400 and not forwarded";
            tell_odd(&shared, &of_caller.asking(None), &host, port, text);
        }
    }
    if seat.gave_up() {
        recorder.flow(FlowOutcome::Silent, Vec::new());
    }
}

/// What the connection tells of its requests' framing, of the client's leaving, and what its requests have shown.
type SoFar = (Twice, Arc<Departure>, Arc<Learnt>);

async fn front(shared: &Arc<Shared>, caller: Caller, so_far: SoFar, request: Request<Incoming>) -> Response<Download> {
    let user = match authenticate(shared, request.headers()) {
        Ok(user) => user,
        Err(()) => {
            shared.recorder.flow(FlowOutcome::Refused, Vec::new());
            let mut response = reply::failure(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "this proxy asks for a user name and password");
            response
                .headers_mut()
                .insert(header::PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"gnomon\", charset=\"UTF-8\""));
            return response;
        }
    };
    // The kernel's word on whose it is stands above the name.
    if let (Some(user), None) = (&user, &caller.owned)
        && caller.seat.is_of_in_time(user).await.is_err()
    {
        shared.recorder.flow(FlowOutcome::OverShare, Vec::new());
        return reply::failure(StatusCode::TOO_MANY_REQUESTS, "this user has reached the limit of connections through this proxy");
    }
    let asking = caller.asking(user);
    if request.method() == Method::CONNECT {
        return connect(shared, asking, request);
    }
    match (request.uri().scheme_str(), request.uri().host()) {
        (Some("http"), Some(_)) => plain(shared, &asking, so_far, request).await,
        (Some(scheme), Some(_)) => {
            let scheme: String = scheme.chars().take(20).collect();
            reply::failure(StatusCode::BAD_REQUEST, &format!("cannot proxy {scheme}:// requests; use CONNECT for https"))
        }
        _ => {
            let text = "this is an HTTP proxy, not a server; set HTTPS_PROXY and HTTP_PROXY to this address instead of opening it";
            let mut response = reply::failure(StatusCode::BAD_REQUEST, text);
            // Identifies the authority to trust among those of this host.
            if let Ok(fingerprint) = HeaderValue::from_str(&shared.fingerprint) {
                response.headers_mut().insert("x-gnomon-ca", fingerprint);
            }
            response
        }
    }
}

/// Tells of a request to the proxy for this server that is answered with 400.
fn tell_odd(shared: &Shared, asking: &Asking, host: &str, port: u16, text: &str) {
    shared.recorder.flow(FlowOutcome::Refused, Vec::new());
    let (mut connection, _) = asking.open(&shared.inspector, asking.observe(Channel::Http));
    let _ = connection.hello(host, port, &Hello::default());
    odd::tell(shared, &asking.seat, &connection, Passage::RequestLineOdd, text);
}

/// The server in the first line of a request that the library did not take, as far as one can be made out.
fn asked_for(line: &[u8]) -> Option<(String, u16)> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let connects = words.next()?.eq_ignore_ascii_case(b"CONNECT");
    let uri = http::Uri::try_from(words.next()?).ok()?;
    let port = uri.port_u16().unwrap_or(if connects { 443 } else { 80 });
    Some((normal_host(uri.host()?).to_string(), port))
}

/// `Ok` with the user, or with none if authentication is not required.
fn authenticate(shared: &Shared, headers: &HeaderMap) -> Result<Option<SmolStr>, ()> {
    if shared.options.users.is_empty() {
        return Ok(None);
    }
    let value = headers.get(header::PROXY_AUTHORIZATION).and_then(|v| v.to_str().ok()).ok_or(())?;
    let (scheme, credentials) = value.split_once(' ').ok_or(())?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(());
    }
    let decoded = STANDARD.decode(credentials.trim()).map_err(|_| ())?;
    let colon = decoded.iter().position(|b| *b == b':').ok_or(())?;
    let (name, password) = (&decoded[..colon], &decoded[colon + 1..]);
    // All users are compared, so that time tells nothing about which names exist.
    let mut found = None;
    for user in &shared.options.users {
        let same = user.name.as_bytes().ct_eq(name) & user.password.bytes().ct_eq(password);
        if bool::from(same) {
            found = Some(SmolStr::new(&user.name));
        }
    }
    found.map(Some).ok_or(())
}

fn connect(shared: &Arc<Shared>, asking: Asking, request: Request<Incoming>) -> Response<Download> {
    let target = request.uri().authority().and_then(|a| Some((normal_host(a.host()), a.port_u16()?)));
    let Some((host, port)) = target.filter(|(host, port)| !host.is_empty() && *port != 0) else {
        let text = "CONNECT needs host:port";
        let said = request.uri().authority().map(|a| (normal_host(a.host()).to_string(), a.port_u16().unwrap_or_default()));
        let (host, port) = said.unwrap_or_default();
        tell_odd(shared, &asking, &host, port, text);
        return reply::failure(StatusCode::BAD_REQUEST, text);
    };
    asking.seat.takes_a_step();
    let on_upgrade = hyper::upgrade::on(request);
    let task = shared.clone();
    shared.spawn(async move {
        // The client may go away before the tunnel begins; then there is nothing to do.
        let Ok(upgraded) = on_upgrade.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<Noted<Framed<Stalled<TcpStream>>>>>() else { return };
        let Some(framed) = parts.io.into_inner().into_inner() else { return };
        let client = framed.into_inner().into_inner();
        tunnel::serve(task, asking, host, port, client, parts.read_buf).await;
    });
    reply::established()
}

/// An absolute-form request: HTTP without TLS.
async fn plain(
    shared: &Arc<Shared>,
    asking: &Asking,
    (twice, departure, learnt): SoFar,
    mut request: Request<Incoming>,
) -> Response<Download> {
    let via_us = request.headers().get_all(header::VIA).iter().any(|v| v.to_str().is_ok_and(|v| v.contains(shared.pseudonym.as_str())));
    if via_us {
        shared.recorder.flow(FlowOutcome::Refused, Vec::new());
        return reply::failure(StatusCode::LOOP_DETECTED, "this request came from this proxy; check the proxy settings of this host");
    }
    // The Host header beside the request line does not count (RFC 9112 section 3.2.2), as long as it is one host.
    let host = normal_host(request.uri().host().unwrap_or_default());
    let port = request.uri().port_u16().unwrap_or(80);
    if let Some(cause) = ambiguous_host(request.headers(), &http::Uri::default()) {
        tell_odd(shared, asking, &host, port, &format!("{cause}: it was answered with 400 and not forwarded"));
        return reply::failure(StatusCode::BAD_REQUEST, cause);
    }
    let Ok(destination) = Destination::new(Scheme::Http, &host, port, Alpn::Http11, asking.principal())
        .map(|destination| destination.from(asking.near(None)))
    else {
        let cause = "not a host name or IP address";
        tell_odd(shared, asking, &host, port, cause);
        return reply::failure(StatusCode::BAD_REQUEST, cause);
    };
    // The request line stands above Host (RFC 9112 section 3.2.2).
    if let Ok(value) = HeaderValue::from_str(destination.authority()) {
        request.headers_mut().insert(header::HOST, value);
    }
    let via = format!("1.1 {}", shared.pseudonym);
    let (mut seen, address) = (asking.observe(Channel::Http), host.parse().ok());
    if address.is_some() {
        seen.set(Field::DestinationAddress, host.as_str());
        seen.set(Field::DestinationPort, port);
    }
    let (mut connection, _) = asking.open(&shared.inspector, seen);
    let _ = connection.hello(&host, port, &Hello::default());
    if let Some(ip) = address {
        connection = shared.rule_addresses.also_led_to(&shared.dialer, connection, SocketAddr::new(ip, port)).await;
    }
    if let Ok(via) = HeaderValue::from_str(&via) {
        request.headers_mut().append(header::VIA, via);
    }
    shared.recorder.flow(FlowOutcome::Plain, Vec::new());
    let route = Route {
        shared: shared.clone(),
        connection,
        destination,
        toward: Toward::Server,
        client: Client::Knows,
        sni: None,
        alpn: None,
        problem: None,
        seat: asking.seat.clone(),
        twice,
        learnt,
        departure: Some(departure),
    };
    forward(&route, request).await
}
