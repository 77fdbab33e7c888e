//! Answers that the proxy gives itself.

use crate::{
    download::Download,
    route::{BrokenOff, Client, Route},
};
use bytes::Bytes;
use gnomon_inspect::Refusal;
use http::{HeaderValue, Response, StatusCode, header};

/// The header by which people and scripts tell our answers from the server's.
const MARK: &str = "x-gnomon";

pub(crate) fn refusal(refusal: &Refusal) -> Response<Download> {
    let reply = refusal.reply();
    let mut response = text(StatusCode::from_u16(reply.status).unwrap_or(StatusCode::FORBIDDEN), reply.body);
    match reply.content_type {
        Some(kind) => {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        None => {
            response.headers_mut().remove(header::CONTENT_TYPE);
        }
    }
    if let Some(location) = reply.location.and_then(|l| HeaderValue::try_from(l).ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(MARK, HeaderValue::from_static(refusal.action.as_str()));
    response
}

/// A plain-text answer.
pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Response<Download> {
    let body = body.into();
    let mut response = Response::new(Download::full(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The answer to a request that is refused for what it asks its connection to become.
pub(crate) fn refusal_in_words(words: &str) -> Response<Download> {
    let mut response = text(StatusCode::FORBIDDEN, format!("{words}\n"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(MARK, HeaderValue::from_static("block"));
    response
}

/// An answer that says why there is none from upstream.
pub(crate) fn failure(status: StatusCode, cause: &str) -> Response<Download> {
    let mut response = text(status, format!("gnomon: {cause}\n"));
    response.headers_mut().insert(MARK, HeaderValue::from_static("error"));
    response
}

/// An answer without a body: `200` to a CONNECT.
pub(crate) fn established() -> Response<Download> {
    Response::new(Download::empty())
}

/// A refusal as bytes, before a library speaks HTTP for us; the connection is closed after it.
pub(crate) fn raw_refusal(text: &str) -> String {
    let length = text.len() + 1;
    format!(
        "HTTP/1.1 403 Forbidden\r\n{MARK}: block\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}\n"
    )
}

/// The answer to a request whose server broke off before its own.
pub(crate) fn broken_off(route: &Route, status: StatusCode, cause: &str) -> Response<Download> {
    let mut answer = failure(status, cause);
    if route.client == Client::Unaware {
        answer.extensions_mut().insert(BrokenOff);
    }
    answer
}
