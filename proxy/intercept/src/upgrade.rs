//! WebSocket and other protocols that an HTTP/1.1 connection turns into: passed on unread.

use crate::{
    download::Download,
    reply,
    route::Route,
    splice::{Said, splice},
};
use gnomon_http::UpstreamBody;
use http::{HeaderMap, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

/// Answers 101 to the client and joins both sides once each has left HTTP.
pub(crate) fn join(route: &Route, client: OnUpgrade, response: &mut Response<UpstreamBody>) -> Response<Download> {
    let server = hyper::upgrade::on(&mut *response);
    let mut stop = route.shared.stopping();
    let (seat, under_way) = (route.seat.clone(), route.seat.begin());
    route.shared.spawn(async move {
        // Its seat is taken until it ends.
        let _under_way = under_way;
        let Ok((client, server)) = tokio::try_join!(client, server) else { return };
        let (mut client, mut server): (TokioIo<Upgraded>, TokioIo<Upgraded>) = (TokioIo::new(client), TokioIo::new(server));
        splice(&mut client, &mut server, Said::default(), (&mut stop, &seat)).await;
    });
    let mut answer = reply::text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers: HeaderMap = std::mem::take(response.headers_mut());
    *answer.headers_mut() = headers;
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    answer
}
