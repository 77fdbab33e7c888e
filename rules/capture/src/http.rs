//! HTTP/1 messages of a whole connection (RFC 9112): requests, answers, and which belongs to which.
//!
//! Parsing stops at the first message that cannot be read, as a server's does: the rest is not guessed at.

use crate::Unread;

/// Most headers of a message.
const MAX_HEADERS: usize = 256;
/// Most exchanges of one connection.
const MAX_EXCHANGES: usize = 10_000;

/// A request or an answer, without transfer coding. Content codings are left as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The method, of a request.
    pub method: String,
    /// The target as written, of a request.
    pub target: String,
    /// The status, of an answer.
    pub status: u16,
    /// Header names and values in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, as far as it was captured.
    pub body: Vec<u8>,
}

/// The result of parsing one connection.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Requests with their answers.
    pub exchanges: Vec<(Message, Option<Message>)>,
    /// Why reading ended before the end of the capture.
    pub rest: Option<Unread>,
}

impl Message {
    /// The value of a header, the first of its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        let values = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        values.flat_map(|(_, value)| value.split(|b| *b == b',')).any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// The framing of a body: how its end is found.
enum Framing {
    Length(usize),
    Chunked,
    None,
    /// With the connection.
    Rest,
}

/// Reads both directions of a connection.
#[must_use]
pub fn exchanges(mut requests: &[u8], mut responses: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    while !requests.is_empty() && parsed.exchanges.len() < MAX_EXCHANGES {
        let Some((request, after)) = request(requests) else {
            parsed.rest = Some(Unread::Other);
            return parsed;
        };
        requests = after;
        let (response, after) = response(responses, &request);
        responses = after;
        // After an upgrade or a tunnel the bytes are no longer HTTP.
        let leaves = response.as_ref().is_some_and(|response| response.status == 101)
            || request.method == "CONNECT" && response.as_ref().is_some_and(|response| (200..300).contains(&response.status));
        parsed.exchanges.push((request, response));
        if leaves {
            parsed.rest = (!requests.is_empty()).then_some(Unread::Other);
            return parsed;
        }
    }
    if !requests.is_empty() {
        parsed.rest = Some(Unread::TooLong);
    }
    parsed
}

fn request(bytes: &[u8]) -> Option<(Message, &[u8])> {
    // A server should ignore an empty line before a request (RFC 9112 section 2.2).
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parser = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = parser.parse(bytes) else { return None };
    let mut message = Message {
        method: parser.method.unwrap_or_default().to_owned(),
        target: parser.path.unwrap_or_default().to_owned(),
        headers: owned(parser.headers),
        ..Message::default()
    };
    let framing = match framing(&message)? {
        Framing::Rest => Framing::None,
        other => other,
    };
    let (body, rest) = body(&bytes[length..], &framing)?;
    message.body = body;
    Some((message, rest))
}

/// The answer to a request, interim ones skipped, and the rest of the answers.
fn response<'a>(mut bytes: &'a [u8], request: &Message) -> (Option<Message>, &'a [u8]) {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parser = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(length)) = parser.parse(bytes) else { return (None, &[]) };
        let mut message = Message { status: parser.code.unwrap_or_default(), headers: owned(parser.headers), ..Message::default() };
        let rest = &bytes[length..];
        if (100..200).contains(&message.status) && message.status != 101 {
            bytes = rest;
            continue;
        }
        let framing = match framing(&message) {
            _ if request.method == "HEAD" || matches!(message.status, 101 | 204 | 304) => Framing::None,
            _ if request.method == "CONNECT" && (200..300).contains(&message.status) => Framing::None,
            Some(framing) => framing,
            None => return (Some(message), &[]),
        };
        return match body(rest, &framing) {
            Some((body, rest)) => {
                message.body = body;
                (Some(message), rest)
            }
            None => (Some(message), &[]),
        };
    }
}

fn owned(headers: &[httparse::Header<'_>]) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|header| (header.name.to_owned(), header.value.to_vec())).collect()
}

/// The framing of the body; none where two readers could disagree (RFC 9112 section 6.3).
fn framing(message: &Message) -> Option<Framing> {
    let lengths: Vec<&[u8]> = message
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, value)| value.trim_ascii())
        .collect();
    if message.header("transfer-encoding").is_some() {
        return (message.has_token("transfer-encoding", "chunked") && lengths.is_empty()).then_some(Framing::Chunked);
    }
    match lengths.split_first() {
        None => Some(Framing::Rest),
        Some((first, others)) => {
            let digits = !first.is_empty() && first.iter().all(u8::is_ascii_digit) && others.iter().all(|other| other == first);
            let length = std::str::from_utf8(first).ok().filter(|_| digits)?.parse().ok()?;
            Some(Framing::Length(length))
        }
    }
}

/// A body and what follows it; a body that breaks off is what there is of it.
fn body<'a>(bytes: &'a [u8], framing: &Framing) -> Option<(Vec<u8>, &'a [u8])> {
    match framing {
        Framing::None => Some((Vec::new(), bytes)),
        Framing::Rest => Some((bytes.to_vec(), &[])),
        Framing::Length(length) => {
            let (body, rest) = bytes.split_at((*length).min(bytes.len()));
            Some((body.to_vec(), rest))
        }
        Framing::Chunked => chunked(bytes),
    }
}

fn chunked(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (skip, length) = match httparse::parse_chunk_size(bytes) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) => return Some((body, &[])),
            Err(_) => return None,
        };
        bytes = &bytes[skip..];
        if length == 0 {
            return Some((body, after_trailers(bytes)));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (chunk, rest) = bytes.split_at(length.min(bytes.len()));
        body.extend_from_slice(chunk);
        bytes = match rest.strip_prefix(b"\r\n") {
            Some(rest) => rest,
            None if rest.len() < 2 => return Some((body, &[])),
            None => return None,
        };
    }
}

/// Trailers end with an empty line.
fn after_trailers(mut bytes: &[u8]) -> &[u8] {
    while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
        let line = bytes[..end].trim_ascii();
        bytes = &bytes[end + 1..];
        if line.is_empty() {
            return bytes;
        }
    }
    &[]
}
