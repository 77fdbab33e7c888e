//! Web pages of other origins that the configuration lets in (Fetch standard, "CORS protocol").
//!
//! The origins are checked before; the headers here tell browsers, which keep an answer from its page otherwise. Cookies are never asked
//! for: a page sends the token that it was given.

use gnomon_relay::outflow::Outflow;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_TYPE, ORIGIN, VARY,
    },
    request::Parts,
};

/// Headers of an answer that a page may read besides those that every page may.
const EXPOSED: HeaderValue = HeaderValue::from_static("mcp-session-id, mcp-protocol-version, www-authenticate");
/// Methods that a page may use.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
/// The time for which a browser may cache that, seconds.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");

/// The answer to a browser's preflight request, which is sent before authentication.
pub(crate) fn preflight(parts: &Parts) -> Option<Response<Outflow>> {
    let asks =
        parts.method == Method::OPTIONS && parts.headers.contains_key(ORIGIN) && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if !asks {
        return None;
    }
    let mut response = Response::new(Outflow::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, REMEMBERED);
    if let Ok(named) = HeaderValue::from_str(&allowed(&parts.headers).join(", ")) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, named);
    }
    Some(response)
}

/// Lets the page read an answer.
pub(crate) fn readable(response: &mut Response<Outflow>, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(VARY, HeaderValue::from_static("origin"));
}

/// The requested headers that a client of the protocol sends.
fn allowed(headers: &HeaderMap) -> Vec<String> {
    let asked = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter().filter_map(|value| value.to_str().ok());
    let names = asked.flat_map(|value| value.split(',')).filter_map(|name| HeaderName::try_from(name.trim()).ok());
    let of_protocol = |name: &HeaderName| {
        [ACCEPT, AUTHORIZATION, CONTENT_TYPE].contains(name) || name == "last-event-id" || name.as_str().starts_with("mcp-")
    };
    names.filter(of_protocol).take(64).map(|name| name.to_string()).collect()
}
