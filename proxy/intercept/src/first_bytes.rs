//! Classifies the first bytes of a connection that are not TLS. Nothing is decided here: the tunnel
//! does that.
//!
//! The bias: what some server would read as a request is not taken for another protocol. Servers differ in what they accept (Python's
//! `http.server` splits at any white space and ignores the minor version, and looks the method up once it has dropped what it does not
//! know), so a line counts as a request's by its shape, not by whether it is a valid one, and whatever its shape where it names HTTP.

use crate::headers::host_of;
use gnomon_inspect::normal_host;
use gnomon_wire::hello::{Opening, opening};

/// The client preface of HTTP/2 without TLS (RFC 9113 section 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The beginning of HAProxy's PROXY protocol, version 2: what follows is for the server behind, which may speak HTTP.
const PROXY_HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest first line that is waited for, bytes.
const LONGEST_LINE: usize = 16 << 10;

/// The version of HTTP that the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

/// The classification of a first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// HTTP, which is read.
    Http(Speaks),
    /// A line that names HTTP in a way that is not read and that some servers would understand.
    Odd,
    /// A line that may be a request's, and is longer than is read.
    Long,
    /// A line that is not complete, and may become HTTP or not.
    Maybe,
    /// A line that is not a request's by its shape, but is not complete: it may yet name HTTP.
    Strange,
    /// No line: the beginning of TLS, where TLS is not read (within TLS, or behind a beginning that was passed on).
    Hello,
    /// A line of another protocol.
    Foreign,
}

/// Reads the first line, from as much of it as there is. However it is split, the answer that is not [`Line::Maybe`] is the same.
pub(crate) fn first_line(bytes: &[u8]) -> Line {
    match opening(bytes) {
        Opening::Unclear => return Line::Maybe,
        Opening::Tls | Opening::OddTls => return Line::Hello,
        Opening::Other => {}
    }
    let shared = bytes.len().min(H2_PREFACE.len());
    if bytes[..shared] == H2_PREFACE[..shared] {
        return if shared == H2_PREFACE.len() { Line::Http(Speaks::Http2) } else { Line::Maybe };
    }
    let shared = bytes.len().min(PROXY_HEADER.len());
    if bytes[..shared] == PROXY_HEADER[..shared] {
        return if shared == PROXY_HEADER.len() { Line::Odd } else { Line::Maybe };
    }
    let more = if bytes.len() < LONGEST_LINE { Line::Maybe } else { Line::Long };
    // Empty lines before the request line are allowed (RFC 9112 section 2.2), and white space is overlooked by some.
    let Some(begin) = bytes.iter().position(|b| *b != b'\n' && !is_space(*b)) else { return more };
    let end = memchr::memchr(b'\n', &bytes[begin..]).map(|end| begin + end);
    let line = &bytes[begin..end.unwrap_or(bytes.len())];
    let (method, rest) = line.split_at(line.iter().position(|b| !is_token(*b)).unwrap_or(line.len()));
    if line.starts_with(b"PROXY ") && end.is_some() {
        // The bytes after the header are for the server behind (HAProxy's PROXY protocol, version 1).
        return Line::Odd;
    }
    let strange = || match (names_http(line), end) {
        // Servers find a method behind a byte order mark or a control character, and take bytes beyond ASCII for white space.
        (true, _) => Line::Odd,
        (false, None) if bytes.len() < LONGEST_LINE => Line::Strange,
        (false, _) => Line::Foreign,
    };
    // Some servers overlook a NUL in the target of a request; other protocols that begin with a word of letters have none.
    let has_nul = memchr::memchr(0, line).is_some();
    if method.is_empty() || rest.first().is_some_and(|b| !is_space(*b)) || has_nul && !method.iter().all(u8::is_ascii_alphabetic) {
        return strange();
    }
    // Servers that overlook control characters in a target look methods up by name, and names have letters (BER of LDAP does
    // begin with `0`).
    let named = method.iter().any(u8::is_ascii_alphabetic);
    if !named && line.iter().any(|b| b.is_ascii_control() && !is_space(*b)) || has_nul && more == Line::Long {
        return strange();
    }
    if goes_on_behind_a_return(line) {
        // A server may take a carriage return for the end of a line, and then what stands behind it is a head.
        return Line::Odd;
    }
    if end.is_none() {
        return more;
    }
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line {
        _ if !has_nul && (line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0")) => Line::Http(Speaks::Http1),
        _ if names_http(line) || asks_for_a_path(line) => Line::Odd,
        _ => Line::Foreign,
    }
}

/// Reads the first line, where nothing follows.
pub(crate) fn last_line(bytes: &[u8]) -> Line {
    match first_line(bytes) {
        Line::Maybe if names_http(bytes) || asks_for_a_path(bytes) => Line::Odd,
        Line::Maybe | Line::Strange => Line::Foreign,
        line => line,
    }
}

fn names_http(line: &[u8]) -> bool {
    line.windows(5).any(|five| five.eq_ignore_ascii_case(b"HTTP/"))
}

/// Whether a line names HTTP and goes on behind a carriage return.
fn goes_on_behind_a_return(line: &[u8]) -> bool {
    let named = line.windows(5).position(|five| five.eq_ignore_ascii_case(b"HTTP/"));
    named.is_some_and(|at| line[at..].iter().rev().skip(1).any(|byte| *byte == b'\r'))
}

/// Whether a line asks for a path, or for what a proxy is to fetch, as a request does, whatever follows: servers that are built on
/// Node's or Python's usual parser (llhttp) run `POST /mcp` with no version behind it, and with that of RTSP.
fn asks_for_a_path(line: &[u8]) -> bool {
    let mut words = line.split(|b| is_space(*b)).filter(|word| !word.is_empty());
    let named = words.next().is_some_and(|method| method.iter().any(u8::is_ascii_alphabetic));
    let scheme = |target: &[u8], scheme: &[u8]| target.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    named && words.next().is_some_and(|target| target.starts_with(b"/") || scheme(target, b"http://") || scheme(target, b"https://"))
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// White space within a line, as the most lenient servers see it (Python's `str.split` of Latin-1).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0b | 0x0c | b'\r' | 0x1c..=0x1f | 0x85 | 0xa0)
}

/// Whether the first bytes of a server are the SETTINGS that HTTP/2 servers may send at once (RFC 9113 section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settings {
    Yes,
    /// They may become that.
    Maybe,
    No,
}

/// Longest SETTINGS frame: what a peer takes before it has said how long frames may be (RFC 9113 section 4.2).
const LONGEST_SETTINGS: usize = 16 << 10;

/// Looks at the head of a server's first frame.
pub(crate) fn settings(heard: &[u8]) -> Settings {
    // Length, type, flags (no acknowledgement), stream (RFC 9113 sections 4.1 and 6.5).
    let head: [u8; 9] = std::array::from_fn(|at| heard.get(at).copied().unwrap_or(if at == 3 { 4 } else { 0 }));
    let [0, high, low, 4, 0, 0, 0, 0, 0] = head else { return Settings::No };
    let length = usize::from(high) << 8 | usize::from(low);
    match heard.len() {
        0 => Settings::No,
        1..3 if usize::from(high) << 8 <= LONGEST_SETTINGS => Settings::Maybe,
        _ if length > LONGEST_SETTINGS || !length.is_multiple_of(6) => Settings::No,
        3..9 => Settings::Maybe,
        _ => Settings::Yes,
    }
}

/// True if a server that spoke first spoke HTTP: an unsolicited answer, or the SETTINGS of HTTP/2.
pub(crate) fn server_says_http(heard: &[u8]) -> bool {
    let shared = heard.len().min(5);
    settings(heard) == Settings::Yes || shared > 0 && heard[..shared].eq_ignore_ascii_case(&b"HTTP/"[..shared])
}

/// Whether a request names a resource of the server it is sent to (RFC 9112 section 3.2), and not what a
/// proxy is to fetch, or where it is to connect.
pub(crate) fn asks_the_server(request: &[u8]) -> bool {
    let line = request.trim_ascii_start().split(|b| *b == b'\n').next().unwrap_or_default();
    let target = line.split(|b| *b == b' ').nth(1).unwrap_or_default();
    target.starts_with(b"/") || target == b"*"
}

/// Whether a request asks a proxy for something that it is to fetch, by whatever scheme (absolute form, RFC 9112 section 3.2.2).
pub(crate) fn asks_a_proxy(request: &[u8]) -> bool {
    let line = request.trim_ascii_start().split(|b| *b == b'\n').next().unwrap_or_default();
    let target = line.split(|b| *b == b' ').nth(1).unwrap_or_default();
    let Some((scheme, rest)) = target.iter().position(|b| *b == b':').and_then(|colon| target.split_at_checked(colon)) else {
        return false;
    };
    // RFC 3986 section 3.1.
    let named =
        scheme.first().is_some_and(u8::is_ascii_alphabetic) && scheme.iter().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b));
    named && rest.starts_with(b"://")
}

/// Whether a line that is not read may ask a proxy for something: its target is no path.
pub(crate) fn may_ask_a_proxy(said: &[u8]) -> bool {
    let line = said.trim_ascii_start();
    let target = line.iter().position(|b| is_space(*b)).map_or(&[][..], |end| &line[end..]);
    let begin = target.iter().find(|b| !is_space(**b));
    begin.is_some_and(|begin| !matches!(begin, b'/' | b'*'))
}

/// Whether a request asks a proxy for a tunnel (RFC 9110 section 9.3.6).
pub(crate) fn asks_for_a_tunnel(request: &[u8]) -> bool {
    request.trim_ascii_start().starts_with(b"CONNECT ")
}

/// True if the head of a request is complete; HTTP/2 needs no waiting.
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

    #[test]
    fn every_prefix_of_a_request_line_stays_undecided_until_its_end() {
        for line in [&b"POST /mcp HTTP/1.1\r\n"[..], b"\r\n\r\nPOST /mcp HTTP/1.0\n", "POST /caf\u{e9} HTTP/1.1\r\n".as_bytes()] {
            for end in 1..line.len() {
                assert_eq!(first_line(&line[..end]), Line::Maybe, "{end}");
            }
            assert_eq!(first_line(line), Line::Http(Speaks::Http1));
        }
        for end in 1..H2_PREFACE.len() {
            assert_eq!(first_line(&H2_PREFACE[..end]), Line::Maybe, "{end}");
        }
        assert_eq!(first_line(H2_PREFACE), Line::Http(Speaks::Http2));
    }

    #[test]
    fn a_line_that_some_server_reads_as_a_request_is_no_other_protocol_however_it_is_split() {
        for line in [
            &b"POST /mcp HTTP/1.2\r\n"[..],
            b"POST /mcp HTTP/1.1 \r\n",
            b"POST /mcp HTTP/1.1\t\r\n",
            b"POST\t/mcp\tHTTP/1.1\r\n",
            b"POST\x0b/mcp\x0cHTTP/1.1\n",
            b"POST\x1c/mcp\xa0HTTP/1.1\n",
            b"post /mcp http/1.1\r\n",
            b"POST /mcp\0 HTTP/1.1\r\n",
            b"POST \0 HTTP/1.0\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n",
            b"0 /mcp HTTP/2.0\r\n",
            b"POST /mcp \x01 HTTP/3\r\n",
            b"  POST /mcp HTTP/1.9\n",
            b"POST /mcp\r\n",
            b"POST /mcp \n",
            b"POST /mcp RTSP/1.0\r\n",
            b"POST /mcp ICE/1.0\r\n",
            b"post\t/mcp\r\n",
            b"POST http://tools.example/mcp\r\n",
        ] {
            for end in 1..line.len() {
                assert_eq!(first_line(&line[..end]), Line::Maybe, "{end} of {line:?}");
            }
            assert_eq!(first_line(line), Line::Odd, "{line:?}");
        }
        assert_eq!(first_line(PROXY_HEADER), Line::Odd);
        for (line, may) in [
            ("POST http://a/ HTTP/1.2", true),
            ("connect\ta:80 HTTP/1.1", true),
            ("POST /x?u=http://a HTTP/1.2", false),
            ("PRI * HTTP/3", false),
        ] {
            assert_eq!(may_ask_a_proxy(line.as_bytes()), may, "{line}");
        }
        let long = [b"POST /", &[b'x'; LONGEST_LINE][..]].concat();
        assert_eq!(first_line(&long), Line::Long);
        assert_eq!(last_line(b"POST /mcp HTTP/1.1"), Line::Odd);
        assert_eq!(last_line(b"ruok"), Line::Foreign);
    }

    #[test]
    fn a_line_that_names_http_is_no_other_protocol_whatever_else_stands_in_it_and_however_it_is_split() {
        for line in [
            &b"PO:ST /mcp HTTP/1.1\r\n"[..],
            b"@POST /mcp HTTP/1.1\r\n",
            b"\0POST /mcp HTTP/1.1\r\n",
            b"\0\0\0\0POST /mcp HTTP/1.1\r\n",
            b"\x01POST /mcp hTTp/1.1\r\n",
            b"\xffPOST /mcp HTTP/1.1\r\n",
            b"\xef\xbb\xbfPOST /mcp HTTP/1.1\r\n",
            "P\u{d6}ST /mcp HTTP/1.1\r\n".as_bytes(),
            b"\xc2\x85POST /mcp HTTP/1.1\r\n",
            b"POST\xc2\xa0/mcp\xc2\xa0HTTP/1.1\r\n",
            b"P\0ST /mcp HTTP/1.1\r\n",
            b"9\x01 /mcp HTTP/1.1\r\n",
            b"\"POST /mcp http/1.1\n",
        ] {
            let named = line.windows(5).position(|five| five.eq_ignore_ascii_case(b"HTTP/")).unwrap() + 5;
            for end in 1..named {
                assert!(matches!(first_line(&line[..end]), Line::Strange | Line::Maybe), "{end} of {line:?}");
            }
            for end in named..=line.len() {
                assert!(matches!(first_line(&line[..end]), Line::Odd | Line::Maybe), "{end} of {line:?}");
            }
            assert_eq!((first_line(line), last_line(&line[..named])), (Line::Odd, Line::Odd), "{line:?}");
        }
        let late = |length: usize| [&b"\0"[..], &vec![b'x'; length], b" HTTP/1.1\r\n"].concat();
        assert_eq!(first_line(&late(15 << 10)), Line::Odd);
        assert_eq!(first_line(&late(20 << 10)[..17 << 10]), Line::Foreign);
    }

    #[test]
    fn settings_of_http2_are_known_as_what_a_server_may_send_unasked_and_nothing_else_is() {
        let frame = b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64";
        for end in 1..9 {
            assert_eq!(settings(&frame[..end]), Settings::Maybe, "{end}");
        }
        assert_eq!((settings(frame), settings(b"\0\x3f\xfc\x04\0\0\0\0\0")), (Settings::Yes, Settings::Yes));
        for other in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"\0\0\x13\x04\0\0\0\0\0",
            b"\0\x40\x02\x04\0\0\0\0\0",
            b"\0\0\0\x04\x01\0\0\0\0",
            b"\0\0\x06\x04\0\0\0\0\x01",
            b"\x4a\0\0\0\x0a8.0.36\0",
            b"SSH-2.0-OpenSSH_9.2\r\n",
        ] {
            assert_eq!(settings(other), Settings::No, "{other:?}");
        }
    }

    #[test]
    fn other_protocols_are_not_taken_for_http() {
        for said in [
            &b"CONNECT {\"verbose\":false}\r\n"[..],
            b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"*1\r\n$4\r\nPING\r\n",
            b"PING\r\n",
            b"set key 0 0 5\r\n",
            b"0032git-upload-pack /project.git\0host=git.example\0",
            b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02id",
            b"0\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00",
            b"0\x20\x02\x01\x01\x60\x1b\x02\x01\x03\x04\x0dcn=me,dc=here\x80\x07secret7",
            b"GET greeting\r\n",
            b"OPTIONS * RTSP/1.0\r\n",
            b"REGISTER sip:me@sip.example SIP/2.0\r\n",
            b"USER me 0 * :me\r\n",
            b"EHLO me.example\r\n",
            b"\0\0\0\x14\0\x03\0\0user\0ada\0\0",
            b"AMQP\0\0\x09\x01",
            b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05",
            b"\x04\0\0\0\x01\0\0\0\x16\0\x01\0\x0bCQL_VERSION\0\x053.4.5",
            b"\0\0\0\x25\0\x12\0\x03\0\0\0\x01\0\x06client\0\x07Apache Kafka",
            b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x0b\0\0\0",
        ] {
            // Passed on at once, whether their line is complete or not.
            assert!(matches!(first_line(said), Line::Foreign | Line::Strange), "{said:?}");
            assert_eq!(last_line(said), Line::Foreign, "{said:?}");
        }
    }

    #[test]
    fn a_line_that_only_returns_end_is_odd_with_the_first_byte_behind_one() {
        let said = b"POST /mcp HTTP/1.1\rHost: tools.example\r\r{}";
        for end in 1..=said.len() {
            let line = if end < 20 { Line::Maybe } else { Line::Odd };
            assert_eq!(first_line(&said[..end]), line, "{end}");
        }
    }

    #[test]
    fn the_beginning_of_tls_is_no_line_of_another_protocol() {
        for said in [&b"\x16\x03\x01\x02\x00\x01"[..], b"\x16\x03\xff\0\x10", b"\x80\x2e\x01\x03\x01\0\x15", b"\x15\x03\x01\0\x02\x01\x5a"]
        {
            let ends = (1..=said.len()).map(|end| first_line(&said[..end])).collect::<Vec<_>>();
            assert!(ends.iter().all(|line| matches!(line, Line::Maybe | Line::Hello)) && ends.last() == Some(&Line::Hello), "{ends:?}");
        }
    }

    #[test]
    fn a_server_that_speaks_first_in_http_is_told_from_others() {
        for (heard, http) in [
            (&b"HTTP/1.1 408 Request Timeout\r\n"[..], true),
            (b"HT", true),
            (b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80", true),
            (b"SSH-2.0-OpenSSH_9.2\r\n", false),
            (b"220 mail.example ESMTP\r\n", false),
            (b"\x4a\0\0\0\x0a8.0.36\0", false),
            (b"", false),
        ] {
            assert_eq!(server_says_http(heard), http, "{heard:?}");
        }
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
    fn what_a_proxy_is_to_fetch_is_told_by_its_form_whatever_its_scheme() {
        for (line, asks) in [
            ("GET http://a.example/x HTTP/1.1\r\n", true),
            ("GET HTTPS://a.example/x HTTP/1.1\r\n", true),
            ("GET ftp://a.example/x HTTP/1.1\r\n", true),
            ("\r\nGET svn+ssh://a.example/x HTTP/1.1\r\n", true),
            ("GET /x?y=http://a.example/ HTTP/1.1\r\n", false),
            ("GET a.example:80 HTTP/1.1\r\n", false),
            ("GET ://a.example/ HTTP/1.1\r\n", false),
            ("OPTIONS * HTTP/1.1\r\n", false),
        ] {
            assert_eq!(asks_a_proxy(line.as_bytes()), asks, "{line}");
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
