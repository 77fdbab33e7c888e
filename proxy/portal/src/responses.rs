//! Responses, by what they say.

use bytes::Bytes;
use gnomon_access::Challenge;
use gnomon_audit::NotWritten;
use gnomon_relay::{
    error::CallError,
    outflow::Outflow,
    unsent::{LARGE, Recipient, is_no_list},
};
use gnomon_upstream::rpc::{self, Outcome, RpcError};
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};

/// A response with the room that it takes until it was sent. What comes in pieces has it already.
pub(crate) async fn charged(recipient: &Recipient, response: Response<Outflow>) -> Response<Outflow> {
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

/// The answer to a caller that is not authenticated.
pub(crate) fn challenged(challenge: &Challenge) -> Response<Outflow> {
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
    plain(StatusCode::SERVICE_UNAVAILABLE, &format!("{error}, so no answer is given; contact the operator of this portal"))
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
