//! Character sets, as content types name them.
//!
//! Readers do not agree on how parameters are told apart: some heed quotes, some do not, some take the first of a name and some the last, and
//! some know the continued and encoded forms of RFC 2231. So each value that some reader might take counts.

use http::{HeaderMap, header};

/// Beginnings of the names of sets that have ASCII in them as it is.
const READ: [&str; 34] = [
    "utf-8",
    "utf8",
    "us-ascii",
    "ascii",
    "ansi",
    "iso-8859",
    "iso8859",
    "latin",
    "windows-125",
    "cp125",
    "koi8",
    "gb2312",
    "gbk",
    "gb18030",
    "big5",
    "euc-",
    "shift",
    "sjis",
    "x-sjis",
    "windows-31j",
    "windows-874",
    "cp437",
    "cp85",
    "cp866",
    "cp874",
    "cp932",
    "cp936",
    "cp949",
    "cp950",
    "ks_c_5601",
    "tis-620",
    "macintosh",
    "x-mac-",
    "binary",
];
/// Those that JSON is recognised in by its bytes (RFC 4627 section 3).
const SHOWN: [&str; 6] = ["utf-16", "utf16", "utf-32", "utf32", "ucs-", "ucs2"];

/// True if a content type names a character set in which what we would read as ASCII is something else, such as UTF-7: whoever honours it
/// reads another text than we do. The media type says nothing about it: some servers read JSON from any body, in the character set that its
/// content type names. No JSON is written in one (RFC 8259 section 8.1). A stream of events does not show in which characters it is, and is
/// UTF-8 to whoever goes by its specification.
pub(crate) fn is_hidden(headers: &HeaderMap, events: bool) -> bool {
    headers.get_all(header::CONTENT_TYPE).iter().any(|kind| {
        let kind = String::from_utf8_lossy(kind.as_bytes()).to_ascii_lowercase();
        values(&kind).any(|charset| !is_one_of(charset, &READ) && (events || !is_one_of(charset, &SHOWN)))
    })
}

fn is_one_of(charset: &str, known: &[&str]) -> bool {
    charset.is_empty() || known.iter().any(|known| charset.starts_with(known))
}

/// Whatever stands behind the name `charset`, wherever it stands; a form of RFC 2231 (`charset*`, `charset*0`) is a value that nobody knows.
fn values(kind: &str) -> impl Iterator<Item = &str> {
    kind.match_indices("charset").filter_map(|(at, name)| {
        let behind = kind.get(at + name.len()..)?.trim_ascii_start();
        if behind.starts_with('*') {
            return Some("*");
        }
        let value = behind.strip_prefix('=')?.trim_start_matches(|c: char| c.is_ascii_whitespace() || matches!(c, '"' | '\''));
        value.split(|c: char| c.is_ascii_whitespace() || matches!(c, '"' | '\'' | ';' | ',')).next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_odd(kind: &'static str) -> bool {
        is_hidden(&HeaderMap::from_iter([(header::CONTENT_TYPE, http::HeaderValue::from_static(kind))]), false)
    }

    #[test]
    fn of_several_content_types_each_counts() {
        let mut headers = HeaderMap::new();
        for kind in ["application/json", "application/json; charset=utf-7"] {
            headers.append(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
        }
        assert!(is_hidden(&headers, false));
    }

    #[test]
    fn what_has_ascii_in_it_as_it_is_and_what_shows_itself_is_not_odd() {
        for known in ["application/json", "application/json; charset=UTF-8", "text/plain;charset=\"cp850\"", "a/b; x=y; charset=utf-16"] {
            assert!(!is_odd(known), "{known}");
        }
        for odd in [
            "application/json; charset=utf-7",
            "application/json;a=b; charset = IBM037",
            "application/json; charset='x-user-defined'",
            "application/json; x=\"; charset=utf-8\"; charset=utf-7",
            "application/json; charset=utf-8; charset=utf-7",
            "application/json; charset=\"\\utf-7\"",
            "application/json; charset*=us-ascii''utf-7",
            "application/json; charset*0=utf; charset*1=-7",
            "text/plain; charset=utf-7",
            "image/png;charset=cp875",
            "text/plain; charset=windows-65000",
        ] {
            assert!(is_odd(odd), "{odd}");
        }
    }

    #[test]
    fn a_stream_of_events_is_in_characters_that_have_ascii_in_them() {
        for (kind, hidden) in [
            ("text/event-stream", false),
            ("text/event-stream; charset=utf-8", false),
            ("text/event-stream; charset=utf-16", true),
            ("text/event-stream; charset=cp037", true),
            ("text/event-stream;charset=unicode_escape", true),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, http::HeaderValue::from_static(kind))]);
            assert_eq!(is_hidden(&headers, true), hidden, "{kind}");
        }
    }
}
