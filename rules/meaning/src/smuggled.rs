//! Texts that URLs carry in Base64 or hexadecimal, where a server that is asked for them learns them.

use super::{decoded, urls};
use smol_str::SmolStr;

/// The shortest text, in characters, that is told: shorter ones are ids.
const SHORTEST: usize = 12;

/// The texts within the URLs of a text.
pub(super) fn in_urls(text: &str) -> Vec<SmolStr> {
    let mut found = Vec::new();
    let mut urls = urls::begins(text).map(|(_, rest)| rest).peekable();
    while let Some(rest) = urls.next() {
        // What follows the mark of a URL within this one is read once, as that one's: a colon ends whatever is encoded.
        let own = urls.peek().map_or(rest.len(), |next| rest.len().saturating_sub(next.len()));
        found.extend(texts(url(rest.get(..own).unwrap_or(rest))));
    }
    found
}

fn url(rest: &str) -> &str {
    let end = rest.find(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '<' | '>' | ')' | '|' | '\\'));
    end.and_then(|end| rest.get(..end)).unwrap_or(rest)
}

fn texts(url: &str) -> Vec<SmolStr> {
    // Labels of a host may be the pieces of one text.
    let host = url.split(['/', '?', '#']).next().unwrap_or_default();
    let labels: String = host.split('.').filter(|label| label.len() >= 10 && label.bytes().all(|byte| byte.is_ascii_hexdigit())).collect();
    let plain = decoded::decoded(url);
    let mut found = decoded::within(&plain);
    found.extend(decoded::within(&labels));
    // A word is an id, and JSON is the state of a sign-on.
    found.retain(|text| text.len() >= SHORTEST && text.contains([' ', '\n', ';', ',', ':']) && !text.starts_with(['{', '[']));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_a_url_carries_is_told_and_ids_are_not() {
        for url in [
            "https://x.example/p?d=UTMgcmV2ZW51ZSAxLjRNOyBjaHVybiA0LjIl",
            "![x](https://x.example/p.png?q=UTMgcmV2ZW51ZSAxLjRNOyBjaHVybiA0LjIl)",
            r"https:\\x.example/p?d=UTMgcmV2ZW51ZSAxLjRNOyBjaHVybiA0LjIl",
            "https:x.example/UTMgcmV2ZW51ZSAxLjRNOyBjaHVybiA0LjIl",
            "https://x.example/UTMgcmV2ZW51ZSAxLjRNOyBjaHVybiA0LjIl",
            "https://r.example/?to=https://x.example/p?d=UTMgcmV2ZW51ZSAxLjRNOyBjaHVybiA0LjIl",
            "https://x.example/p?d=UTMgcmV2ZW51ZSAxLjRNOyBjaHVybiA0LjIl&to=https://r.example",
            "https://51332072657665.6e756520312e344d3b20.636875726e20342e3225.x.example/",
        ] {
            assert!(!in_urls(url).is_empty(), "{url}");
        }
        for url in [
            "https://a.example/oauth?state=eyJyIjoiL2hvbWUifQ&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "https://cdn.example/app.4f9d2c1ab8e74f9d2c1ab8e7.js",
            "https://docs.google.com/document/d/1kQ9vHnq2ZyYt3mWb7x0Pq4LsR8uVdEfGhJkMnOpQrSt/edit",
            "no URL: UTMgcmV2ZW51ZSAxLjRNOyBjaHVybiA0LjIl",
        ] {
            assert_eq!(in_urls(url), Vec::<SmolStr>::new(), "{url}");
        }
    }
}
