//! WebSocket and other protocols that an HTTP/1.1 connection turns into: passed on unread.

use crate::{download::Download, proxy::Shared, reply};
use http::{HeaderMap, Response, StatusCode, header};
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::io::copy_bidirectional;

/// Answers 101 to the client and joins both sides once each has left HTTP.
pub(crate) fn join(shared: &Arc<Shared>, client: OnUpgrade, response: &mut Response<Incoming>) -> Response<Download> {
    let server = hyper::upgrade::on(&mut *response);
    let mut stop = shared.stopping();
    shared.spawn(async move {
        let Ok((client, server)) = tokio::try_join!(client, server) else { return };
        let (mut client, mut server): (TokioIo<Upgraded>, TokioIo<Upgraded>) = (TokioIo::new(client), TokioIo::new(server));
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => {}
            _ = stop.wait_for(|stopping| *stopping) => {}
        }
    });
    let mut answer = reply::text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers: HeaderMap = std::mem::take(response.headers_mut());
    *answer.headers_mut() = headers;
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    answer
}
