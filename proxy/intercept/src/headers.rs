//! Headers that belong to one hop (RFC 9110 section 7.6.1) and must not travel on, and those that must say one thing.

use gnomon_inspect::normal_host;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use std::net::Ipv6Addr;

const HOP: [&str; 9] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Takes them out, but those by which a client and the next proxy know each other.
pub(crate) fn remove_hop_headers_to_a_proxy(headers: &mut HeaderMap) {
    let credentials = headers.remove(header::PROXY_AUTHORIZATION);
    let challenges: Vec<_> = headers.get_all(header::PROXY_AUTHENTICATE).iter().cloned().collect();
    remove_hop_headers(headers);
    if let Some(credentials) = credentials {
        headers.insert(header::PROXY_AUTHORIZATION, credentials);
    }
    for challenge in challenges {
        headers.append(header::PROXY_AUTHENTICATE, challenge);
    }
}

/// Takes them out. `TE: trailers` is put back, as gRPC needs it to pass.
pub(crate) fn remove_hop_headers(headers: &mut HeaderMap) {
    // Most messages have none, and reading the names once is cheaper than looking up each.
    if !headers.keys().any(|name| HOP.contains(&name.as_str())) {
        return;
    }
    let trailers = headers.get(header::TE).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"trailers"));
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in HOP {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// What a request asks to turn its HTTP/1.1 connection into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    WebSocket,
    /// Protocols that are not read, by their names.
    Others(HeaderValue),
    /// Nothing, or HTTP in another version: what is read stays what it is.
    Nothing,
}

/// 16 bytes in Base64 (RFC 6455 section 4.1).
fn is_websocket_key(value: &HeaderValue) -> bool {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    value.as_bytes().strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(digit))
}

impl Upgrade {
    /// WebSocket is what asks with its opening handshake (RFC 6455 section 4.1): its name alone is any other protocol's, because a server
    /// that turns without a key does not speak WebSocket from then on.
    pub fn asked_for(method: &Method, headers: &HeaderMap) -> Self {
        if !headers.contains_key(header::UPGRADE) || !names(headers, &header::CONNECTION, "upgrade") {
            return Self::Nothing;
        }
        let opens = method == Method::GET && headers.get(header::SEC_WEBSOCKET_KEY).is_some_and(is_websocket_key);
        if opens && names(headers, &header::UPGRADE, "websocket") {
            return Self::WebSocket;
        }
        let is_http = |name: &str| {
            let protocol = name.split('/').next().unwrap_or_default();
            ["h2c", "h2", "http"].iter().any(|http| protocol.eq_ignore_ascii_case(http))
        };
        let values = headers.get_all(header::UPGRADE).iter().filter_map(|value| value.to_str().ok());
        let others: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect();
        let others = others.into_iter().filter(|name| !is_http(name)).collect::<Vec<_>>().join(", ");
        match HeaderValue::try_from(others) {
            Ok(others) if !others.is_empty() => Self::Others(others),
            Ok(_) | Err(_) => Self::Nothing,
        }
    }
}

/// True if `wanted` is one of the comma-separated names of a header.
pub(crate) fn names(headers: &HeaderMap, header: &HeaderName, wanted: &str) -> bool {
    let mut values = headers.get_all(header).iter().filter_map(|v| v.to_str().ok());
    values.any(|v| v.split(',').any(|name| name.trim().eq_ignore_ascii_case(wanted)))
}

/// The reason that a request does not name exactly one server. Two readers could take it for two.
pub(crate) fn ambiguous_host(headers: &HeaderMap, uri: &Uri) -> Option<&'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Some("the request has two Host headers");
    }
    if uri.authority().is_some_and(|authority| !is_authority(authority.as_str())) {
        return Some("the request's target has no host");
    }
    match host.map(|host| host.to_str()) {
        None => None,
        Some(Ok(host)) if host.is_empty() || is_authority(host) => {
            let other = uri.host().is_some_and(|target| normal_host(target) != normal_host(host_of(host)));
            other.then_some("Host and the request's target name different servers")
        }
        Some(_) => Some("the Host header is not a host name"),
    }
}

/// The host of a `Host` header, without its port.
pub(crate) fn host_of(value: &str) -> &str {
    match (value.rfind(':'), value.rfind(']')) {
        (Some(colon), Some(bracket)) if colon > bracket => &value[..colon],
        (Some(_), Some(_)) | (None, _) => value,
        (Some(colon), None) => &value[..colon],
    }
}

/// A host name or address, and perhaps a port. Stricter than RFC 3986, which lets names hold what no server is called.
fn is_authority(text: &str) -> bool {
    let host = host_of(text);
    let port = text.get(host.len()..).and_then(|port| port.strip_prefix(':')).unwrap_or_default();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let named = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    (named || address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()))
        && port.len() <= 5
        && port.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connection_names_goes_with_it() {
        let mut headers = HeaderMap::new();
        headers.insert("connection", "close, X-Private".parse().unwrap());
        headers.insert("x-private", "1".parse().unwrap());
        headers.insert("proxy-authorization", "Basic eA==".parse().unwrap());
        headers.insert("te", "trailers".parse().unwrap());
        headers.insert("mcp-session-id", "s".parse().unwrap());
        remove_hop_headers(&mut headers);
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(headers.contains_key("te") && headers.contains_key("mcp-session-id"));
    }

    #[test]
    fn a_request_for_two_servers_or_an_odd_one_is_ambiguous() {
        let ambiguous = |target: &str, hosts: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append("host", HeaderValue::from_bytes(host).unwrap());
            }
            ambiguous_host(&headers, &target.parse().unwrap()).is_some()
        };
        for fine in ["a.example", "a.example:8080", "A_b.example.", "[::1]:80", "192.0.2.1", "", "a.example:"] {
            assert!(!ambiguous("/", &[fine.as_bytes()]), "{fine}");
        }
        for odd in ["a.example b.example", "a.example,b.example", "a.example/x", "me@a.example", "a%2eexample", "[::1", "a.example:http"] {
            assert!(ambiguous("/", &[odd.as_bytes()]), "{odd}");
        }
        assert!(ambiguous("/", &["b\u{fc}cher.example".as_bytes()]));
        assert!(ambiguous("/", &[b"a.example", b"a.example"]));
        assert!(ambiguous("https://a.example/", &[b"b.example"]));
        assert!(!ambiguous("https://a.example/", &[b"A.example:443"]) && !ambiguous("https://a.example/", &[]));
    }

    #[test]
    fn an_upgrade_is_asked_for_by_the_names_that_are_not_http() {
        let headers = |upgrade: &str, connection: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("upgrade", upgrade.parse().unwrap());
            headers.insert("connection", connection.parse().unwrap());
            headers
        };
        let asked = |upgrade: &str, connection: &str| {
            let mut headers = headers(upgrade, connection);
            headers.insert("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
            assert_ne!(Upgrade::asked_for(&Method::POST, &headers), Upgrade::WebSocket);
            for none in ["", "x", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSBt", "dGhlIHNhbXBsZSBub25j?Q=="] {
                let mut headers = headers.clone();
                headers.insert("sec-websocket-key", none.parse().unwrap());
                assert_ne!(Upgrade::asked_for(&Method::GET, &headers), Upgrade::WebSocket, "{none}");
            }
            Upgrade::asked_for(&Method::GET, &headers)
        };
        let others = |names: &'static str| Upgrade::Others(HeaderValue::from_static(names));
        assert_eq!(asked("WebSocket", "keep-alive, Upgrade"), Upgrade::WebSocket);
        assert_eq!(asked("h2c, websocket", "upgrade"), Upgrade::WebSocket);
        for (nothing, connection) in
            [("h2c", "Upgrade, HTTP2-Settings"), ("websocket", "close"), ("tcp", "close"), ("HTTP/2.0, h2", "upgrade")]
        {
            assert_eq!(asked(nothing, connection), Upgrade::Nothing, "{nothing}");
        }
        assert_eq!(Upgrade::asked_for(&Method::GET, &headers("websocket", "Upgrade")), others("websocket"), "no key, no WebSocket");
        assert_eq!(asked("tcp", "Upgrade"), others("tcp"));
        assert_eq!(asked("h2c, SPDY/3.1, TLS/1.2", "upgrade"), others("SPDY/3.1, TLS/1.2"));
    }
}
