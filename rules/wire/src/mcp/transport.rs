//! Signatures outside the message: request headers, paths, challenges, the `endpoint` event.

use gnomon_kit::percent;
use smol_str::SmolStr;

use super::header::decode_header_value;
use super::signature::{Signature, SignatureSet};
use crate::mcp_names::{is_mcp_method, is_protocol_version};

/// Most bytes of an `endpoint` event's data; longer ones are not taken for an endpoint.
pub const MAX_ENDPOINT: usize = 2048;

/// H1 to H4 of a request's headers. Names must be lower case.
pub fn header_signatures<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> SignatureSet {
    let mut set = SignatureSet::EMPTY;
    for (name, value) in headers {
        // Cheap way out for the dozens of headers that are not ours.
        let Some(rest) = name.strip_prefix("mcp-") else {
            // One name that is no text does not hide another.
            if name == "sec-websocket-protocol" && offers_mcp(&String::from_utf8_lossy(value)) {
                set.insert(Signature::H4);
            }
            continue;
        };
        let value = value.trim_ascii();
        match rest {
            "protocol-version" if text(value).is_some_and(is_protocol_version) => {
                set.insert(Signature::H1);
            }
            "session-id" if !value.is_empty() => set.insert(Signature::H2),
            "method" if text(value).and_then(|raw| decode_header_value(raw).ok()).is_some_and(|method| is_mcp_method(&method)) => {
                set.insert(Signature::H3);
            }
            "name" => set.insert(Signature::H3),
            param if param.starts_with("param-") => set.insert(Signature::H3),
            _ => {}
        }
    }
    set
}

/// True if a list of WebSocket subprotocols (RFC 6455 section 11.3.4) holds MCP's.
fn offers_mcp(protocols: &str) -> bool {
    protocols.split(',').map(str::trim_ascii).any(|name| {
        let (begins, rest) = name.split_at_checked(3).unwrap_or_default();
        begins.eq_ignore_ascii_case("mcp") && (rest.is_empty() || rest.starts_with(['.', '-', '/', '+']))
    })
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()
}

/// P1, P2 and P3 of a request line. `path_and_query` is the origin form; an absolute form is read
/// from its path on. The path is compared percent-decoded and without regard to case, as lenient
/// servers do. `accept` is the joined `Accept` header.
pub fn path_signatures(method: &str, path_and_query: &str, accept: Option<&str>) -> SignatureSet {
    let mut set = SignatureSet::EMPTY;
    let (path, query) = split_target(path_and_query);
    if method == "POST" && query.is_some_and(names_session) {
        set.insert(Signature::P1);
    }
    let path = percent::decoded(path);
    let path = path.strip_suffix('/').unwrap_or(&path);
    if ends_as_mcp(path) && accept.is_some_and(accepts_event_stream) {
        set.insert(Signature::P2);
    }
    if matches!(method, "GET" | "HEAD") && is_protected_resource(path) {
        set.insert(Signature::P3);
    }
    set
}

/// True if a path, without its query, ends as endpoints of MCP usually do: in `mcp` or `sse`. It proves nothing; it is enough not to pass
/// on what cannot be read.
pub fn path_says_mcp(path: &str) -> bool {
    let path = percent::decoded(path);
    ends_as_mcp(path.strip_suffix('/').unwrap_or(&path))
}

fn ends_as_mcp(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    last.eq_ignore_ascii_case("mcp") || last.eq_ignore_ascii_case("sse")
}

fn split_target(target: &str) -> (&str, Option<&str>) {
    let target = match target.split_once("://") {
        // An absolute form: the path begins after the authority.
        Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
        }
        _ => target,
    };
    let target = target.split('#').next().unwrap_or_default();
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

fn names_session(query: &str) -> bool {
    query.split('&').any(|pair| {
        let name = pair.split_once('=').map(|(name, _)| name);
        name.is_some_and(|name| name.eq_ignore_ascii_case("sessionId") || name.eq_ignore_ascii_case("session_id"))
    })
}

fn accepts_event_stream(accept: &str) -> bool {
    accept.split(',').any(|range| range.split(';').next().is_some_and(|range| range.trim().eq_ignore_ascii_case("text/event-stream")))
}

fn is_protected_resource(path: &str) -> bool {
    const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource/";
    path.to_ascii_lowercase().split_once(WELL_KNOWN).is_some_and(|(_, resource)| !resource.is_empty())
}

/// R3: a `WWW-Authenticate` value with a `Bearer` challenge and a `resource_metadata` parameter
/// (RFC 9728 section 5.1). Text inside quoted strings does not count.
pub fn challenge_signature(www_authenticate: &str) -> Option<Signature> {
    let mut bearer = false;
    let mut metadata = false;
    for part in outside_quotes(www_authenticate).split([',', ' ', '\t']) {
        let (name, value) = match part.split_once('=') {
            Some((name, _)) => (name, true),
            None => (part, false),
        };
        bearer |= !value && name.eq_ignore_ascii_case("Bearer");
        metadata |= value && name.eq_ignore_ascii_case("resource_metadata");
    }
    (bearer && metadata).then_some(Signature::R3)
}

fn outside_quotes(text: &str) -> String {
    let mut kept = String::new();
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if !quoted => kept.push(c),
            _ => {}
        }
    }
    kept
}

/// The URL that the client of an HTTP+SSE server (2024-11-05) must POST to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Path and query, or an absolute URL, as the server wrote it.
    pub target: SmolStr,
}

impl Endpoint {
    /// The path and query of the target, whichever form it has.
    pub fn path_and_query(&self) -> &str {
        match self.target.split_once("://") {
            Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
            None => &self.target,
        }
    }
}

/// R2: an SSE event named `endpoint` whose data is a path with a session id in its query. The
/// caller checks that it is the first event of the stream.
pub fn endpoint_event(event_name: &str, data: &str) -> Option<Endpoint> {
    if event_name != "endpoint" || data.len() > MAX_ENDPOINT {
        return None;
    }
    let target = data.trim();
    let (_, query) = split_target(target);
    query.filter(|query| names_session(query))?;
    Some(Endpoint { target: SmolStr::new(target) })
}
