//! Where URLs begin in a text, as readers of URLs take it: whatever stands before `://`, and the schemes of the web by the URL standard
//! (WHATWG URL, "special authority slashes state"), which asks for no slashes and takes backslashes for them: `http:/a`, `http:\\a`, `https:a`.

use crate::effort::Effort;
use std::borrow::Cow;

/// The special schemes of the URL standard whose URLs have a host, in lower case.
const SPECIAL: [&str; 5] = ["http", "https", "ws", "wss", "ftp"];
/// The longest text, in bytes, that is read as a URL with breaks in it.
const LONGEST_BROKEN: usize = 4096;
/// The longest authority, in bytes, of a URL that is marked by nothing but its scheme, and behind a backslash.
const LONGEST_AUTHORITY: usize = 1024;
/// The longest host, in bytes, in other characters or percent-encoded: twelve bytes for each of a name's.
const LONGEST_SPELT: usize = 12 * 254;
/// What a byte of such a host costs to read, in bytes of other text.
const SPELT_COSTS: usize = 16;
/// The letters of the longest scheme of the web, and one more, by which a longer one is known.
const LONGEST_SCHEME: usize = 6;

/// How a URL is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// By slashes or backslashes behind the scheme.
    Slashes,
    /// By a scheme of the web and a colon alone, as numbers of ports may stand.
    Colon,
}

/// What follows the marks of URLs in the text, up to the text's end.
pub(super) fn begins(text: &str) -> impl Iterator<Item = (Mark, &str)> {
    text.match_indices(':').filter_map(|(at, _)| {
        let (before, behind) = (text.get(..at)?, text.get(at + 1..)?);
        let authority = behind.trim_start_matches(['/', '\\']);
        let slashes = behind.len() - authority.len();
        match slashes {
            _ if behind.starts_with("//") => Some((Mark::Slashes, if is_special(before) { authority } else { behind.get(2..)? })),
            _ if !is_special(before) => None,
            0 => Some((Mark::Colon, authority)),
            _ => Some((Mark::Slashes, authority)),
        }
    })
}

/// True if a text ends with a scheme of the web.
fn is_special(before: &str) -> bool {
    let from = before
        .bytes()
        .rev()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
        .take(LONGEST_SCHEME)
        .count();
    let scheme = before.get(before.len() - from..).unwrap_or_default();
    SPECIAL.into_iter().any(|special| scheme.eq_ignore_ascii_case(special))
}

/// A text that is one URL as parsers read it, which drop the tabs and ends of lines within; none where it has none, or is more than a URL.
pub(super) fn without_breaks(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c <= ' ');
    let is_break = |c: char| matches!(c, '\t' | '\n' | '\r');
    let is_one = text.len() <= LONGEST_BROKEN && text.contains(is_break) && !text.contains(' ');
    is_one.then(|| text.replace(is_break, ""))
}

/// The hosts that readers take for that of the URL whose authority begins the text: behind the user, before the port. Where a backslash
/// ends the authority by the URL standard, others read on.
pub(super) fn hosts<'t>(mark: Mark, rest: &'t str, effort: &mut Effort) -> [Option<Cow<'t, str>>; 2] {
    if !effort.takes(1) {
        return [None, None];
    }
    let ends = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '`' | '<' | '>' | ')' | '|' | ';' | ',')
    };
    let within = |text: &'_ str, most: usize| text.floor_char_boundary(most);
    // Without slashes nothing parts one URL from the next, so that each could be as long as the text.
    let rest = if mark == Mark::Colon { rest.get(..within(rest, LONGEST_AUTHORITY)).unwrap_or(rest) } else { rest };
    let standard = rest.find(|c| c == '\\' || ends(c)).and_then(|end| rest.get(..end)).unwrap_or(rest);
    let all = rest.get(..within(rest, standard.len() + LONGEST_AUTHORITY)).filter(|all| all.len() > standard.len()).unwrap_or(standard);
    let longest = all.find(ends).and_then(|end| all.get(..end)).unwrap_or(all);
    if !effort.takes(standard.len() + longest.len()) {
        return [None, None];
    }
    let other = (longest.len() > standard.len()).then(|| host(longest, effort)).flatten();
    [host(standard, effort), other]
}

fn host<'t>(authority: &'t str, effort: &mut Effort) -> Option<Cow<'t, str>> {
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let end = if host.starts_with('[') { host.find(']').map(|at| at + 1) } else { host.find(':') };
    let host = end.and_then(|end| host.get(..end)).unwrap_or(host);
    if host.is_ascii() && !host.contains('%') {
        return Some(Cow::Borrowed(host));
    }
    if host.len() > LONGEST_SPELT || !effort.takes(SPELT_COSTS * host.len()) {
        return None;
    }
    // Digits in other shapes are digits to IDNA.
    Some(match url::Host::parse(host) {
        Ok(host) => Cow::Owned(host.to_string()),
        Err(_) => Cow::Borrowed(host),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_begins_where_some_reader_of_urls_takes_one_to_begin() {
        for (text, begins_with) in [
            ("http://a", &["a"][..]),
            ("http:/a", &["a"]),
            ("HTTPS:a", &["a"]),
            (r"http:\\a", &["a"]),
            (r"x wss:\/a", &["a"]),
            ("http:////a", &["a"]),
            ("file:///a", &["/a"]),
            ("x+http:/a", &[]),
            ("C:/a, a:b, 12:30", &[]),
            ("http://a/http:b", &["a/http:b", "b"]),
            (":", &[]),
            ("é:é", &[]),
        ] {
            let found: Vec<&str> = begins(text).map(|(_, rest)| rest).collect();
            assert_eq!(found, begins_with, "{text}");
        }
    }

    #[test]
    fn only_a_text_that_is_a_url_alone_is_read_without_its_breaks() {
        assert_eq!(without_breaks(" ht\ttp:/\n/a\r\n/b\n"), Some("http://a/b".to_owned()));
        assert_eq!(without_breaks("http://a"), None);
        assert_eq!(without_breaks("see\nhttp://a today"), None);
    }
}
