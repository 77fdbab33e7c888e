//! Resource URIs before they are compared with patterns: what servers would read in different ways is called ambiguous, and
//! what is written in several ways is brought to one (RFC 3986 6.2.2).

use std::borrow::Cow;

/// A URI in the form that patterns are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plain<'a> {
    /// Everybody reads it the same way.
    Uri(Cow<'a, str>),
    /// Dot segments, needless percent-encoding, backslashes, control characters: it could be read as another URI.
    Ambiguous,
}

/// Brings scheme and host to lower case, and finds out what is ambiguous.
pub(crate) fn plain(uri: &str) -> Plain<'_> {
    if uri.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') || !encoding_is_needed(uri.as_bytes()) {
        return Plain::Ambiguous;
    }
    let end = uri.find(['?', '#']).unwrap_or(uri.len());
    let (head, path) = match uri[..end].find("://") {
        Some(at) => {
            let start = at + 3;
            let path = uri[start..end].find('/').map_or(end, |slash| start + slash);
            (&uri[..path], &uri[path..end])
        }
        None => {
            let scheme = uri[..end].find(':').map_or(0, |colon| colon + 1);
            (&uri[..scheme], &uri[scheme..end])
        }
    };
    // Some servers take what follows a semicolon off a segment before they look at it (RFC 3986 3.3).
    let bare = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    if path.split('/').any(bare) || path.contains("//") {
        return Plain::Ambiguous;
    }
    if head.bytes().any(|b| b.is_ascii_uppercase()) {
        let mut lower = head.to_ascii_lowercase();
        lower.push_str(&uri[head.len()..]);
        return Plain::Uri(Cow::Owned(lower));
    }
    Plain::Uri(Cow::Borrowed(uri))
}

/// True if each `%XX` is complete and of a byte that could not stand unencoded in a path segment. Filters are evaded by `%2F`, `%2E`,
/// `%5C` and encoded letters.
fn encoding_is_needed(uri: &[u8]) -> bool {
    let mut at = 0;
    while let Some(found) = uri[at..].iter().position(|b| *b == b'%') {
        at += found;
        let digit = |n: usize| uri.get(at + n).and_then(|b| char::from(*b).to_digit(16));
        let Some((high, low)) = digit(1).zip(digit(2)) else { return false };
        let byte = u8::try_from(high * 16 + low).unwrap_or(b'/');
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b'\\' | b'%') || byte.is_ascii_control() {
            return false;
        }
        at += 3;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_around_a_pattern_are_ambiguous() {
        for uri in [
            "file:///srv/docs/../../etc/passwd",
            "file:///srv/./a",
            "file:///srv/%2e%2e/a",
            "file:///srv%2Fa",
            "file:///%65tc/passwd",
            "file:///srv\\a",
            "file:///srv//a",
            "file:////srv/a",
            "file:///a%",
            "file:///a%2",
            "file:///a%252e",
            "file:///a\n",
            "docs:..",
            "file:///srv/docs/..;/secret",
            "file:///srv/docs/..;x=1/secret",
            "file:///srv/.;/a",
        ] {
            assert_eq!(plain(uri), Plain::Ambiguous, "{uri}");
        }
    }

    #[test]
    fn a_plain_uri_is_kept_and_scheme_and_host_fold() {
        for uri in ["file:///srv/a.md", "file:///srv/a;v=1/..b", "docs:a", "https://x.example/a?b=../c", "file:///sr%C3%BC/a%20b", "plain"]
        {
            assert_eq!(plain(uri), Plain::Uri(uri.into()), "{uri}");
        }
        assert_eq!(plain("FILE:///Srv/A"), Plain::Uri("file:///Srv/A".into()));
        assert_eq!(plain("HTTPS://X.Example/A"), Plain::Uri("https://x.example/A".into()));
    }
}
