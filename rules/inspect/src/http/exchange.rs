//! One request and its answer over HTTP: heads, and the gates of the bodies' bytes. The messages in the bodies go to the [`Dialogue`]. See
//! [`super::request`] and [`super::response`] for how they are read.

use super::{
    answer_body::AnswerBody,
    charset::is_hidden,
    first_line::FirstLine,
    named::{Named, lossy, text},
    reading::{Manner, Reading, Search, Values, codings, says_frames, says_grpc},
    request_body::{Frames, RequestBody},
};
use crate::{
    Connection, Dialogue, HoldsDialogue, Passage, Refusal, Sighting,
    connection::RequestPath,
    dialogue::{Ahead, Form, Held, Opened, Wants},
    inspector::Endpoint,
    sighting::Findings,
};
use gnomon_observe::{Family, Field, Observation};
use gnomon_wire::mcp::{self, Part, Signature};
use http::{HeaderMap, HeaderValue, Method, Version, header};
use smol_str::{SmolStr, format_smolstr};
use std::sync::Arc;

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, without the query.
    pub path: &'a str,
    /// The query, without its `?`.
    pub query: Option<&'a str>,
    /// The HTTP version on the client's side.
    pub version: Version,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The protocol that ALPN chose on the client's side.
    pub alpn: Option<&'static str>,
    /// Set where `Host` or `:authority` names another server than the connection is for.
    pub authority: Authority,
}

/// The relation of a request's authority to its connection's server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// The authority names that server, or none.
    Agrees,
    /// The authority names another: domain fronting or a confused client.
    Differs,
}

/// Permission to forward the bytes fed so far.
#[derive(Clone, Debug)]
pub enum Gate {
    /// Forward them.
    Stream,
    /// Keep them (up to the window).
    Hold,
    /// Forward nothing of them; give this answer instead, or break off if the head has left.
    Refuse(Box<Refusal>),
}

/// A request and its answer.
pub struct Exchange {
    pub(super) dialogue: Dialogue,
    pub(super) mirrored: Mirrored,
    pub(super) expects: Expects,
    pub(super) body: RequestBody,
    /// Until it is known how the body begins.
    pub(super) first_line: Option<FirstLine>,
    pub(super) said: Said,
    pub(super) response: AnswerBody,
}

/// The body that the head announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expects {
    /// Any body.
    Anything,
    /// A JSON-RPC message.
    Message,
}

/// The part of the request that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Some,
    All,
}

/// Headers of 2026-07-28 that mirror the body.
#[derive(Clone, Debug, Default)]
pub(super) struct Mirrored {
    pub method: Option<SmolStr>,
    pub name: Option<SmolStr>,
    pub version: Option<SmolStr>,
}

impl HoldsDialogue for Exchange {
    fn dialogue(&mut self) -> &mut Dialogue {
        &mut self.dialogue
    }
}

impl Exchange {
    /// Begins with the request's head. Ask [`Exchange::gate`] what to do with it.
    #[must_use]
    pub fn begin(connection: &Connection, head: &Head<'_>) -> Self {
        let (rules, mut base, progress) = connection.standing();
        let named = Named::among(head.headers);
        let (findings, endpoint) = head_findings(connection, head, &named, &mut base);
        if rules.wanted().url {
            connection.place(head.path).tell_all(head.query, &mut base);
        }
        for name in &rules.wanted().request_headers {
            for value in head.headers.get_all(name.as_str()) {
                base.set_member(Family::RequestHeader, name.clone(), String::from_utf8_lossy(value.as_bytes()).into_owned());
            }
        }
        let content_type = lossy(named.content_type);
        let mismatches = [named.mcp_repeated.then_some("duplicate-header"), (head.authority == Authority::Differs).then_some("authority")];
        let (wants, unread) = (wants(text(named.accept)), unread_by_head(head, content_type.as_deref()));
        let opened = Opened { rules, base, progress, findings, endpoint, mismatches, wants, unread };
        let dialogue = Dialogue::open(connection, opened);
        let mirrored = Mirrored { method: lossy(named.mcp_method), name: lossy(named.mcp_name), version: lossy(named.mcp_version) };
        // Of several, servers take the first, the last or all.
        let kinds = head.headers.get_all(header::CONTENT_TYPE).iter();
        let json_expected = kinds.into_iter().any(|kind| kind.as_bytes().to_ascii_lowercase().windows(4).any(|part| part == b"json"));
        let says_mcp = says_mcp(head.path, &findings);
        let framed = content_type.as_deref().is_some_and(says_frames);
        let search = match framed {
            _ if json_expected || says_mcp => Search::Whole,
            true => Search::Bytes,
            false => Search::Opening,
        };
        // Search engines take rows of documents here, and documents may be anything, messages of MCP included.
        let index = head.path.strip_suffix("/_bulk").or_else(|| head.path.strip_suffix("/_msearch"));
        let rows = index.is_some_and(|index| !says_mcp && !mcp::path_says_mcp(index));
        let values = if rows { Values::Rows } else { Values::One };
        let charset_is_odd = is_hidden(head.headers, false);
        let manner = Manner { values, ..Manner::of(dialogue.bounds(), dialogue.limits(), search) };
        let reading = (!charset_is_odd && may_carry_messages(head, json_expected || says_mcp))
            .then(|| Box::new(Reading::new(codings(head.headers), manner)));
        let frames = if framed { Frames::Expected } else { Frames::No };
        let mut exchange = Self {
            expects: if says_mcp && head.method != Method::GET { Expects::Message } else { Expects::Anything },
            mirrored,
            body: RequestBody::new(reading, frames),
            first_line: Some(FirstLine::new()),
            said: Said::Some,
            response: AnswerBody::new(),
            dialogue,
        };
        if charset_is_odd {
            exchange.dialogue.judge_unreadable("charset");
        } else if !exchange.body.is_read() {
            exchange.dialogue.judge_exchange();
        }
        exchange
    }

    /// The gate for the bytes fed so far.
    pub fn gate(&mut self) -> Gate {
        let may_hold = self.body.is_read() && self.dialogue.held() == Held::Back;
        if let Some(verdict) = self.dialogue.refused() {
            // A batch is answered whole, so the rest of it is read for its ids, within the window.
            let more = self.dialogue.form() == Form::Batch && may_hold;
            return if more { Gate::Hold } else { Gate::Refuse(self.dialogue.refuse(verdict)) };
        }
        if may_hold && !self.body.is_in_frames() && self.dialogue.ahead() != Ahead::Open { Gate::Hold } else { Gate::Stream }
    }

    /// The server leaves HTTP for WebSocket (101), and its head says for what: a client need not have asked for MCP by its name to get
    /// it. What must be answered instead, if it must not pass.
    pub fn switches(&mut self, headers: &HeaderMap) -> Option<Box<Refusal>> {
        let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let says_mcp = mcp::header_signatures(pairs).contains(Signature::H4);
        let known = self.dialogue.signatures().contains(Signature::H4);
        if self.dialogue.unread() != Some(Passage::WebSocket) || !says_mcp || known {
            return None;
        }
        self.dialogue.judge_exchange_again(Signature::H4);
        match self.gate() {
            Gate::Refuse(refusal) => Some(refusal),
            Gate::Hold | Gate::Stream => None,
        }
    }

    /// True if the request was a POST of the legacy HTTP+SSE transport, whose answers go to the paired event stream.
    #[must_use]
    pub fn posts_to_event_stream(&self) -> bool {
        let signatures = self.dialogue.signatures();
        signatures.contains(Signature::P1) && !signatures.contains(Signature::H2)
    }

    /// The passage by which its messages pass unread ([`Dialogue::passed`]).
    #[must_use]
    pub fn passed(&self) -> Option<Passage> {
        self.dialogue.passed()
    }

    /// Reports that are due, in order.
    pub fn reports(&mut self) -> impl Iterator<Item = Sighting> + '_ {
        self.dialogue.reports()
    }

    /// Reports every call as it is now ([`Dialogue::flush`]).
    pub fn flush(&mut self) {
        self.dialogue.flush();
    }

    /// No answer came ([`Dialogue::failed`]).
    pub fn failed(&mut self, cause: &str, detail: &str) {
        self.dialogue.failed(cause, detail);
    }
}

/// Whether the body may carry messages. MCP posts them; with another method whose meaning is known only what says so makes it worth
/// reading, a body that calls itself JSON, headers or a path of MCP: an upload of a transcript is no call.
fn may_carry_messages(head: &Head<'_>, says_so: bool) -> bool {
    // Exact: a server that takes `put` for `PUT` may as well take it for `POST`.
    const OTHERS: [Method; 8] =
        [Method::GET, Method::HEAD, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, Method::TRACE, Method::CONNECT];
    says_so || !OTHERS.contains(head.method)
}

fn is_header(signature: Signature) -> bool {
    signature.part() == Part::Header
}

/// True if a request's head identifies it as MCP, by its headers or its path.
fn says_mcp(path: &str, findings: &Findings) -> bool {
    findings.signatures.iter().any(|s| is_header(s) || s == Signature::P1) || mcp::path_says_mcp(path)
}

/// The passage of messages that the head alone shows not to be JSON-RPC over HTTP.
fn unread_by_head(head: &Head<'_>, content_type: Option<&str>) -> Option<Passage> {
    let websocket =
        |value: &HeaderValue| value.as_bytes().split(|b| *b == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(b"websocket"));
    if head.headers.get_all(header::UPGRADE).iter().any(websocket) {
        return Some(Passage::WebSocket);
    }
    content_type.is_some_and(says_grpc).then_some(Passage::Grpc)
}

fn wants(accept: Option<&str>) -> Wants {
    match accept {
        Some(a) if a.contains("text/event-stream") && !a.contains("application/json") && !a.contains("*/*") => Wants::Events,
        _ => Wants::Json,
    }
}

/// Writes the head into the observation and finds what in it points to MCP.
fn head_findings(connection: &Connection, head: &Head<'_>, named: &Named<'_>, base: &mut Observation) -> (Findings, Arc<Endpoint>) {
    base.set(Field::HttpMethod, head.method.as_str());
    let RequestPath { path, full, endpoint } = connection.place(head.path);
    base.set(Field::UrlPath, path);
    base.set(Field::UrlFull, full);
    base.set(Field::HttpVersion, version_text(head.version));
    base.set_some(Field::Alpn, head.alpn);
    base.set_some(Field::UserAgent, text(named.user_agent));
    base.set_some(Field::McpSessionId, text(named.mcp_session));
    base.set_some(Field::McpProtocolVersion, text(named.mcp_version));
    let headers = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let path_and_query = head.query.map_or_else(|| SmolStr::new(head.path), |query| format_smolstr!("{}?{query}", head.path));
    let mut findings = connection.findings(&endpoint);
    findings.signatures =
        mcp::header_signatures(headers).union(mcp::path_signatures(head.method.as_str(), &path_and_query, text(named.accept)));
    if let Some(named) = text(named.mcp_session).and_then(|session| connection.inspector.session(&endpoint.server, session)) {
        base.set_some(Field::McpClientName, named.name);
        base.set_some(Field::McpClientVersion, named.version);
    }
    (findings, endpoint)
}

fn version_text(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}
