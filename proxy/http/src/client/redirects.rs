//! Where an answer leads, and what is sent on to there.

use super::ClientError;
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, LOCATION, USER_AGENT},
};
use http_body_util::Full;
use std::mem;

/// Most characters of where a redirection leads.
const MAX_PLACE: usize = 300;
/// What is sent on to another server: a header of any other name may be a credential, whatever it is called.
const SENT_ON: [HeaderName; 4] = [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, USER_AGENT];

/// The redirections that a client follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redirects {
    /// None: the caller gets the redirection, and may report where it leads.
    #[default]
    Reported,
    /// At most so many for one request, to `https://` alone; what leads elsewhere, or on and on, is an error. Another server (host and
    /// port) gets neither credentials nor a body. A method other than GET and HEAD is never sent again: its redirection is reported.
    Https(usize),
}

impl Redirects {
    /// How many are followed for a request of this method; none if its redirection is reported.
    pub(super) fn most(self, method: &Method) -> Option<usize> {
        match self {
            Self::Https(most) => (*method == Method::GET || *method == Method::HEAD).then_some(most),
            Self::Reported => None,
        }
    }
}

/// The target of a redirection, printable and not too long.
pub(super) fn shown(place: &HeaderValue) -> String {
    String::from_utf8_lossy(place.as_bytes()).chars().filter(|c| !c.is_control()).take(MAX_PLACE).collect()
}

/// The URL that an answer to a request for `asked` redirects to; none if it redirects to none.
///
/// # Errors
/// It is not one of `https://`.
pub(super) fn target<B>(asked: &Uri, answer: &Response<B>) -> Result<Option<Uri>, ClientError> {
    // The others of this class say that nothing has changed, or offer a choice to people.
    let redirects = matches!(
        answer.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let Some(place) = answer.headers().get(LOCATION).filter(|_| redirects) else { return Ok(None) };
    let to = place.to_str().ok().and_then(|place| resolved(asked, place)).filter(|to| to.scheme_str() == Some("https"));
    to.map(Some).ok_or_else(|| ClientError::Setup(format!("it redirects to what is not an https:// URL ({})", shown(place))))
}

/// A URL as a redirection writes it: whole, or without what stays (RFC 3986 section 4.2). One relative to a folder leads nowhere here.
fn resolved(asked: &Uri, place: &str) -> Option<Uri> {
    let whole = if place.starts_with("//") {
        format!("{}:{place}", asked.scheme_str()?)
    } else if place.starts_with('/') {
        format!("{}://{}{place}", asked.scheme_str()?, asked.authority()?)
    } else {
        place.to_owned()
    };
    whole.parse().ok()
}

/// The same request to where it was led.
pub(super) fn led_to(mut request: Request<Full<Bytes>>, to: Uri) -> Request<Full<Bytes>> {
    if !is_same_server(request.uri(), &to) {
        let all = mem::take(request.headers_mut());
        for name in &SENT_ON {
            if let Some(value) = all.get(name) {
                request.headers_mut().insert(name.clone(), value.clone());
            }
        }
        *request.body_mut() = Full::default();
    }
    *request.uri_mut() = to;
    request
}

/// True if a URL of `https://` is of the server that was asked.
fn is_same_server(asked: &Uri, to: &Uri) -> bool {
    let server = |uri: &Uri| (uri.host().map(str::to_ascii_lowercase), uri.port_u16().unwrap_or(443));
    asked.scheme_str() == Some("https") && server(asked) == server(to)
}
