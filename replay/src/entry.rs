//! One HAR entry as an exchange that can be judged, or the reason why it cannot.

use super::har_entry::{Body, Entry, Header, Response};
use base64::{Engine, engine::general_purpose::STANDARD};
use gnomon_inspect::normal_host;
use gnomon_observe::Channel;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

/// Why an entry cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unjudgeable {
    NoRequest,
    Url,
    Scheme,
    Method,
}

impl Unjudgeable {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRequest => "no request was recorded",
            Self::Url => "its URL cannot be read",
            Self::Scheme => "its URL is not of http or https",
            Self::Method => "its method cannot be read",
        }
    }
}

/// The evidence that an entry was judged without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    RequestBody,
    ResponseBody,
    Answer,
}

impl Missing {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestBody => "judged without its request body, which was not recorded or cannot be decoded",
            Self::ResponseBody => "judged without its answer's body, which was not recorded or cannot be decoded",
            Self::Answer => "judged without an answer: none was recorded",
        }
    }
}

/// A request and its answer, as they were on the wire except for content codings.
pub struct Exchange<'a> {
    pub channel: Channel,
    /// The host as in the URL, without brackets.
    pub host: String,
    pub port: u16,
    pub method: Method,
    pub path: String,
    pub query: Option<String>,
    pub version: Version,
    pub headers: HeaderMap,
    /// The host that the `Host` header names, if there is one.
    pub named_host: Option<String>,
    pub body: Option<Cow<'a, [u8]>>,
    pub answer: Option<Answer<'a>>,
    pub server_ip: Option<IpAddr>,
    /// The client, where it was recorded.
    pub source: Option<SocketAddr>,
    pub missing: Vec<Missing>,
}

/// The answer.
pub struct Answer<'a> {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Option<Cow<'a, [u8]>>,
}

impl<'a> Exchange<'a> {
    /// Reads an entry.
    ///
    /// # Errors
    /// Why it cannot be judged.
    pub fn read(entry: &'a Entry) -> Result<Self, Unjudgeable> {
        let request = entry.request.as_ref().ok_or(Unjudgeable::NoRequest)?;
        let url = request.url.as_deref().ok_or(Unjudgeable::Url)?;
        let (channel, usual_port) = match url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()).as_deref() {
            // A WebSocket begins as an HTTP request; what follows is no HTTP and not judged.
            Some("https" | "wss") => (Channel::Https, 443),
            Some("http" | "ws") => (Channel::Http, 80),
            Some(_) => return Err(Unjudgeable::Scheme),
            None if url.contains(':') => return Err(Unjudgeable::Scheme),
            None => return Err(Unjudgeable::Url),
        };
        let uri: Uri = url.parse().map_err(|_| Unjudgeable::Url)?;
        let host = normal_host(uri.host().filter(|host| !host.is_empty()).ok_or(Unjudgeable::Url)?);
        let method = request.method.as_deref().unwrap_or("GET").parse().map_err(|_| Unjudgeable::Method)?;
        let mut missing = Vec::new();
        let body = request.post_data.as_ref().and_then(decoded);
        let expects_body = request.post_data.is_some() || request.body_size.is_some_and(|size| size > 0.0);
        if body.is_none() && expects_body {
            missing.push(Missing::RequestBody);
        }
        let answer = entry.response.as_ref().and_then(|response| answer(response, &mut missing));
        if answer.is_none() {
            missing.push(Missing::Answer);
        }
        let headers = headers(request.headers.as_deref());
        let authority = [":authority", "host"].iter().find_map(|name| value(request.headers.as_deref(), name));
        Ok(Self {
            channel,
            host,
            port: uri.port_u16().unwrap_or(usual_port),
            method,
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            version: version(request.http_version.as_deref().unwrap_or_default()),
            named_host: authority.and_then(|authority| authority.parse::<http::uri::Authority>().ok()).map(|a| normal_host(a.host())),
            headers,
            body,
            answer,
            server_ip: entry.server_ip_address.as_deref().and_then(|ip| ip.trim_matches(['[', ']']).parse().ok()),
            source: None,
            missing,
        })
    }

    /// The evidence that it is judged without.
    pub fn notes(&self) -> impl Iterator<Item = &'static str> {
        self.missing.iter().map(|missing| missing.as_str())
    }
}

fn answer<'a>(response: &'a Response, missing: &mut Vec<Missing>) -> Option<Answer<'a>> {
    let status = response.status.filter(|status| (100.0..=999.0).contains(status))? as u16;
    let content = response.content.as_ref();
    let body = content.and_then(decoded);
    if body.is_none() && content.is_some_and(|content| content.size.is_some_and(|size| size > 0.0)) {
        missing.push(Missing::ResponseBody);
    }
    Some(Answer { status, headers: headers(response.headers.as_deref()), body })
}

/// The bytes of a body; none where none were recorded.
fn decoded(body: &Body) -> Option<Cow<'_, [u8]>> {
    let text = body.text.as_deref()?;
    match body.encoding.as_deref() {
        Some("base64") => {
            let compact: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
            STANDARD.decode(compact).ok().map(Cow::Owned)
        }
        _ => Some(Cow::Borrowed(text.as_bytes())),
    }
}

/// Headers without what HTTP/2 writes as such and without what was true of the coded body only.
fn headers(list: Option<&[Header]>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for header in list.unwrap_or_default() {
        let (Some(name), Some(value)) = (&header.name, &header.value) else { continue };
        // Pseudo-headers are no header names, so they fall out here.
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value.as_bytes())) else { continue };
        if ![header::CONTENT_ENCODING, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(&name) {
            // Past 24,576 entries a map takes no more; nothing that HTTP carries has as many.
            if map.try_append(name, value).is_err() {
                break;
            }
        }
    }
    map
}

fn value<'h>(list: Option<&'h [Header]>, name: &str) -> Option<&'h str> {
    let header = list?.iter().find(|header| header.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(name)))?;
    header.value.as_deref()
}

/// `HTTP/1.1`, `h2`, `http/2.0`, `HTTP/3` … as exporters write them.
fn version(text: &str) -> Version {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    match digits.as_bytes() {
        [b'3', ..] => Version::HTTP_3,
        [b'2', ..] => Version::HTTP_2,
        b"1.0" => Version::HTTP_10,
        _ => Version::HTTP_11,
    }
}
