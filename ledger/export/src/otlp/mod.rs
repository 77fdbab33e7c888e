//! OTLP logs over HTTP with protobuf bodies (OpenTelemetry Protocol specification 1.x, section OTLP/HTTP).
//!
//! One request at a time ([`Post`]). Redirects are not followed: a receiver moves by configuration only. The
//! specification calls every 4xx but 429 final; here 401, 403, 404 and the like are retried instead, since an expired token
//! or a wrong path says nothing about the events, and giving those up would lose them all.

mod encode;

use crate::{Answer, Delivery, NoAnswer, OtlpEndpoint, Post, SetupError};
use bytes::Bytes;
use gnomon_ledger::StoredEvent;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode,
    header::{CONTENT_TYPE, USER_AGENT},
};
use opentelemetry_proto::tonic::{collector::logs::v1::ExportLogsServiceResponse, resource::v1::Resource};
use prost::Message;
use std::{fmt, time::Duration};

/// Most extra headers.
pub const MAX_HEADERS: usize = 16;
/// Timeout of a request with its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;
/// The most characters of an answer that errors quote.
const MAX_TOLD: usize = 200;

/// Options of a collector.
pub struct OtlpOptions {
    /// Its address.
    pub endpoint: OtlpEndpoint,
    /// Headers of every request, as `Authorization`. The values are secrets.
    pub headers: Vec<(String, String)>,
    /// `service.version`.
    pub version: &'static str,
    /// Makes an event's one-line body of its JSON.
    pub describe: fn(&str) -> String,
    /// Carries the requests.
    pub post: Box<dyn Post>,
}

/// Sends events to a collector.
pub struct OtlpSink {
    endpoint: OtlpEndpoint,
    headers: HeaderMap,
    resource: Resource,
    describe: fn(&str) -> String,
    post: Box<dyn Post>,
}

impl fmt::Debug for OtlpSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpSink").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl OtlpSink {
    /// A sink that has not connected yet.
    ///
    /// # Errors
    /// When a header is none.
    pub fn new(options: OtlpOptions) -> Result<Self, SetupError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let agent = format!("gnomon/{}", options.version);
        headers.insert(USER_AGENT, HeaderValue::from_str(&agent).map_err(|_| SetupError::Header("user-agent".to_owned()))?);
        for (name, value) in options.headers.into_iter().take(MAX_HEADERS) {
            let parsed = name.parse::<HeaderName>().ok().zip(HeaderValue::from_str(&value).ok());
            let (header, mut value) = parsed.ok_or(SetupError::Header(name))?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Self {
            endpoint: options.endpoint,
            headers,
            resource: encode::resource(options.version, &host),
            describe: options.describe,
            post: options.post,
        })
    }

    pub(crate) fn target(&self) -> String {
        self.endpoint.to_string()
    }

    pub(crate) async fn deliver(&self, events: &[StoredEvent]) -> Delivery {
        let body = encode::request(events, &self.resource, self.describe).encode_to_vec();
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.endpoint.uri().clone();
        *request.headers_mut() = self.headers.clone();
        match self.post.post(request, MAX_ANSWER, REQUEST_TIMEOUT).await {
            Ok(Answer { status, body, after }) => judge(status, &body, after),
            Err(NoAnswer::Unreachable(why)) => Delivery::Failed { why, after: None },
            // The status alone says that it was taken, but an answer that breaks off may be a proxy's.
            Err(NoAnswer::BrokeOff(how)) => Delivery::Failed { why: format!("the answer broke off: {how}"), after: None },
            Err(NoAnswer::Late) => Delivery::Failed { why: format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()), after: None },
        }
    }
}

/// The delivery that an answer means.
fn judge(status: StatusCode, body: &[u8], after: Option<Duration>) -> Delivery {
    if status.is_success() {
        return match ExportLogsServiceResponse::decode(body) {
            Ok(answer) => {
                let partial = answer.partial_success.unwrap_or_default();
                if partial.rejected_log_records > 0 {
                    tracing::warn!(
                        "the collector rejected {} events: {}",
                        partial.rejected_log_records,
                        told(partial.error_message.as_bytes())
                    );
                }
                Delivery::Accepted { rejected: u64::try_from(partial.rejected_log_records).unwrap_or_default() }
            }
            // A page for people with status 200 is a portal's or a proxy's, not a collector's.
            Err(_) => Delivery::Failed { why: "the answer is not OTLP; is this the URL of a collector?".to_owned(), after },
        };
    }
    let why = format!("{status} {}", told(body));
    match status {
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => Delivery::Refused { why },
        _ => Delivery::Failed { why, after },
    }
}

/// The beginning of a stranger's text, printable.
fn told(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .map(|c| if c.is_ascii_graphic() { c } else { ' ' })
        .take(MAX_TOLD)
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_about_the_events_themselves_give_them_up() {
        for status in [400, 413, 422] {
            assert!(matches!(judge(StatusCode::from_u16(status).unwrap(), b"", None), Delivery::Refused { .. }), "{status}");
        }
        for status in [302, 401, 403, 404, 405, 408, 415, 429, 500, 502, 503, 504] {
            assert!(matches!(judge(StatusCode::from_u16(status).unwrap(), b"", None), Delivery::Failed { .. }), "{status}");
        }
    }

    #[test]
    fn a_page_for_people_is_no_acceptance() {
        assert!(matches!(judge(StatusCode::OK, b"<html>Sign in</html>", None), Delivery::Failed { .. }));
        assert_eq!(judge(StatusCode::OK, b"", None), Delivery::Accepted { rejected: 0 });
    }

    #[test]
    fn what_a_receiver_says_is_told_short_and_printable() {
        let text = told(format!("\x1b[2J\n{}", "x".repeat(1000)).as_bytes());
        assert!(text.len() <= MAX_TOLD && text.chars().all(|c| c.is_ascii_graphic() || c == ' '));
    }
}
