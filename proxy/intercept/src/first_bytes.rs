//! What the first bytes of a connection say when they are not TLS. Nothing is decided here: the tunnel
//! does that.

use crate::{forward::host_of, serve::Speaks};
use gnomon_inspect::normal_host;

/// The client preface of HTTP/2 without TLS (RFC 9113 section 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What first bytes say about HTTP.
pub(crate) enum HttpLike {
    Yes(Speaks),
    Maybe,
    No,
}

/// Whether these first bytes are HTTP. Read until they match or first differ, so that a split
/// request line is no way around.
pub(crate) fn http_like(bytes: &[u8]) -> HttpLike {
    let shared = bytes.len().min(H2_PREFACE.len());
    if bytes[..shared] == H2_PREFACE[..shared] {
        return if shared == H2_PREFACE.len() { HttpLike::Yes(Speaks::Http2) } else { HttpLike::Maybe };
    }
    const LONGEST_LINE: usize = 16 << 10;
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
        let begins = bytes.iter().take(24).all(|b| b.is_ascii_graphic() || *b == b' ' || *b == b'\r');
        return if begins && bytes.len() < LONGEST_LINE { HttpLike::Maybe } else { HttpLike::No };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    if line.is_empty() {
        // An empty line before the request line is allowed (RFC 9112 section 2.2).
        return if bytes.len() > end + 1 { http_like(&bytes[end + 1..]) } else { HttpLike::Maybe };
    }
    if line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0") { HttpLike::Yes(Speaks::Http1) } else { HttpLike::No }
}

/// Whether a request names a resource of the server it is sent to (RFC 9112 section 3.2), and not what a
/// proxy is to fetch, or where it is to connect.
pub(crate) fn asks_the_server(request: &[u8]) -> bool {
    let line = request.trim_ascii_start().split(|b| *b == b'\n').next().unwrap_or_default();
    let target = line.split(|b| *b == b' ').nth(1).unwrap_or_default();
    target.starts_with(b"/") || target == b"*"
}

/// Whether a request asks a proxy for a tunnel (RFC 9110 section 9.3.6).
pub(crate) fn asks_for_a_tunnel(request: &[u8]) -> bool {
    request.trim_ascii_start().starts_with(b"CONNECT ")
}

/// Whether the head of a request is there whole; of HTTP/2 there is nothing to wait for.
pub(crate) fn head_is_over(request: &[u8]) -> bool {
    request.starts_with(H2_PREFACE)
        || memchr::memmem::find(request, b"\r\n\r\n").is_some()
        || memchr::memmem::find(request, b"\n\n").is_some()
}

/// The name in the first Host header, lower case and without its port.
pub(crate) fn host_in(request: &[u8]) -> Option<String> {
    let host = request.split(|b| *b == b'\n').skip(1).take_while(|line| !line.trim_ascii().is_empty()).find_map(|line| {
        let colon = line.iter().position(|b| *b == b':')?;
        line[..colon].eq_ignore_ascii_case(b"host").then(|| line[colon + 1..].trim_ascii())
    })?;
    Some(normal_host(host_of(std::str::from_utf8(host).ok()?)).to_string()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(bytes: &[u8]) -> &'static str {
        match http_like(bytes) {
            HttpLike::Yes(Speaks::Http1) => "http1",
            HttpLike::Yes(Speaks::Http2) => "http2",
            HttpLike::Maybe => "maybe",
            HttpLike::No => "no",
        }
    }

    #[test]
    fn every_prefix_of_a_request_line_stays_undecided_until_its_end() {
        let line = b"POST /mcp HTTP/1.1\r\n";
        for end in 1..line.len() {
            assert_eq!(kind(&line[..end]), "maybe", "{end}");
        }
        assert_eq!(kind(line), "http1");
        for end in 1..H2_PREFACE.len() {
            assert_eq!(kind(&H2_PREFACE[..end]), "maybe", "{end}");
        }
        assert_eq!(kind(H2_PREFACE), "http2");
    }

    #[test]
    fn other_protocols_are_not_taken_for_http() {
        assert_eq!(kind(b"CONNECT {\"verbose\":false}\r\n"), "no");
        assert_eq!(kind(b"SSH-2.0-OpenSSH_9.2\r\n"), "no");
        assert_eq!(kind(b"\x00\x00\x00\x08\x04\xd2\x16\x2f"), "no");
    }

    #[test]
    fn a_request_for_another_proxy_is_told_from_one_for_the_server() {
        for (line, asks) in [
            ("GET /mcp HTTP/1.1\r\n", true),
            ("\r\nOPTIONS * HTTP/1.1\r\n", true),
            ("CONNECT a.example:443 HTTP/1.1\r\n", false),
            ("GET http://a.example/ HTTP/1.1\r\n", false),
        ] {
            assert_eq!(asks_the_server(line.as_bytes()), asks, "{line}");
        }
    }

    #[test]
    fn the_first_host_header_is_found_in_lower_case_and_without_its_port() {
        let name = |head: &str| host_in(head.as_bytes());
        assert_eq!(name("GET / HTTP/1.1\r\nAccept: */*\r\nHOST:  Tools.Example:8080\r\n\r\n").as_deref(), Some("tools.example"));
        assert_eq!(name("GET / HTTP/1.1\r\nhost: [::1]:8080\r\n\r\n").as_deref(), Some("::1"));
        assert_eq!(name("GET / HTTP/1.1\r\n\r\nhost: in.the.body\r\n"), None);
        assert_eq!(name("GET / HTTP/1.1\r\nhost:\r\n\r\n"), None);
    }
}
