//! The upstream's HTTP/2, with the `h2` crate: every DATA frame is looked at when it arrives.

use super::{Answer, End, Log, Responder};
use bytes::Bytes;
use h2::server::SendResponse;
use http::{Request, Response};
use std::{future::poll_fn, sync::Arc};

/// Serves one connection.
pub async fn serve<S>(stream: S, number: usize, log: Arc<Log>, responder: Responder)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let Ok(mut connection) = h2::server::Builder::new().initial_window_size(1 << 20).handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(one(request, respond, number, log.clone(), responder.clone()));
    }
}

async fn one(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>, connection: usize, log: Arc<Log>, responder: Responder) {
    let (parts, mut body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let request = log.begin(connection, parts.method, path, parts.headers);
    answer(&log, request, &responder, &mut respond).await;
    loop {
        match body.data().await {
            Some(Ok(data)) => {
                let _ = body.flow_control().release_capacity(data.len());
                log.data(request, &data);
                answer(&log, request, &responder, &mut respond).await;
            }
            Some(Err(error)) => {
                log.end(request, error.reason().map_or(End::Broken, |reason| End::Reset(reason.into())));
                return;
            }
            None => break,
        }
    }
    log.end(request, End::Clean);
    answer(&log, request, &responder, &mut respond).await;
    // Without an answer the stream stays open until it is reset.
    if let Ok(reason) = poll_fn(|context| respond.poll_reset(context)).await {
        log.reset(request, reason.into());
    }
}

async fn answer(log: &Log, request: usize, responder: &Responder, respond: &mut SendResponse<Bytes>) {
    match log.answer(request, responder) {
        None | Some(Answer::Nothing) => {}
        Some(Answer::Full { status, headers, body }) => {
            let Ok(mut send) = respond.send_response(response(status, &headers), body.is_empty()) else { return };
            if !body.is_empty() {
                let _ = send.send_data(body.into(), true);
            }
        }
        Some(Answer::Stream { headers, mut pieces }) => {
            let Ok(mut send) = respond.send_response(response(200, &headers), false) else { return };
            while let Some(piece) = pieces.recv().await {
                if send.send_data(piece.into(), false).is_err() {
                    return;
                }
            }
            let _ = send.send_data(Bytes::new(), true);
        }
        Some(Answer::Switch(_)) => panic!("HTTP/2 has no 101"),
    }
}

fn response(status: u16, headers: &[(&'static str, String)]) -> Response<()> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(()).unwrap()
}
