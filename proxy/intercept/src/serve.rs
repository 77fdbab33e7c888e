//! HTTP on the client's side of an intercepted connection.

use crate::{
    asking::{SILENCE, UNREAD},
    departure::{Departure, Noted, UntilOver, served},
    download::Download,
    first_bytes::{Speaks, last_line},
    forward::forward,
    framing::Framed,
    odd,
    passages::passage_of,
    resets::Resets,
    route::{BrokenOff, Client, Route},
    shared::Shared,
};
use gnomon_http::{
    MAX_FIELDS, Scheme,
    server::{Answered, Stalled, http1, http2},
};
use gnomon_inspect::Passage;
use gnomon_record::FlowOutcome;
use http::Response;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// The timeout of a request head for a program that knows of no proxy, idle time before it included: as long as servers allow.
const HEAD_OF_UNAWARE: Duration = Duration::from_secs(300);

/// Runs the requests of an HTTP/2 connection as tasks that end with the proxy.
#[derive(Clone)]
struct Streams(Arc<Shared>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}

/// Serves requests until the client is done, or a stop is requested.
pub(crate) async fn serve<T>(route: Route, io: T, speaks: Speaks)
where
    T: AsyncRead + AsyncWrite + Resets + Unpin + Send + 'static,
{
    let shared: Arc<Shared> = route.shared.clone();
    let (io, twice) = Framed::new(Stalled::after(UNREAD, io));
    let departure = (speaks == Speaks::Http1).then(Arc::<Departure>::default);
    let route = Arc::new(Route { twice, departure: departure.clone(), ..route });
    let of_requests = route.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (route, under_way) = (route.clone(), route.seat.begin());
        async move {
            let answer: Response<Download> = forward(&route, request).await;
            let broken_off = answer.extensions().get::<BrokenOff>().is_some();
            if broken_off { Err(BrokenOff) } else { Ok(answer.map(|body| Answered::new(body, Some(under_way)))) }
        }
    });
    let mut stop = shared.stopping();
    let seat = of_requests.seat.clone();
    seat.is_served();
    match speaks {
        Speaks::Http1 => {
            let departure = departure.unwrap_or_default();
            let io = TokioIo::new(Noted::new(io, departure.clone()));
            let mut builder = http1(if of_requests.client == Client::Unaware { HEAD_OF_UNAWARE } else { SILENCE });
            builder.max_headers(MAX_FIELDS);
            let over = {
                let connection = pin!(builder.serve_connection(io, service).with_upgrades());
                // Dropped before the connection.
                let until_over = UntilOver::new(departure.clone());
                let over = served(connection, &departure, (&mut stop, &seat), |connection| connection.graceful_shutdown()).await;
                until_over.ends();
                over
            };
            if let Some(over) = over {
                tell_odd(&of_requests, over, departure.last_line().unwrap_or_default());
            }
        }
        Speaks::Http2 => {
            let windows = shared.windows.grant(of_requests.destination.principal());
            let connection = http2(Streams(shared.clone()), &windows).serve_connection(TokioIo::new(io.into_inner()), service);
            seat.seated().driven(connection, UNREAD, &mut stop, |connection| connection.graceful_shutdown()).await;
        }
    }
    if seat.gave_up() {
        shared.recorder.flow(FlowOutcome::Silent, Vec::new());
    }
}

/// Reports bytes that hyper answered with 400. They reached no server; but some would have read them, so they are reported as at
/// the beginning of a connection. There it may pass; here the server's connection is others' as well.
fn tell_odd(route: &Route, over: Result<(), hyper::Error>, said: &[u8]) {
    let Err(error) = over else { return };
    if !error.is_parse() || error.is_parse_too_large() {
        return;
    }
    let foreign = if route.destination.scheme() == Scheme::Https { Passage::ForeignInTls } else { Passage::Foreign };
    let passage = passage_of(last_line(said), said, foreign).unwrap_or(Passage::RequestLineOdd);
    let text = "what was sent is not a request that gnomon can read, on a connection that had carried HTTP: it was answered with 400 and not forwarded";
    odd::tell(&route.shared, &route.seat, &route.connection, passage, text);
}
