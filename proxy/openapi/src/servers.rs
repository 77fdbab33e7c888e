//! The base URL of an API. Requests go to one base and no other: the document names candidates, and the portal's operator chooses.

use crate::document::Document;
use http::Uri;
use serde_json::Value;
use std::fmt;

/// Most servers of a list that are looked at.
const MAX_SERVERS: usize = 64;
/// Most variables of a server's URL that are put in.
const MAX_VARIABLES: usize = 16;
/// Longest URL, bytes.
const MAX_URL: usize = 2048;

/// The base that every request's URL begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// `https` or `http`.
    pub scheme: Scheme,
    /// Host and, where it is not the scheme's own, port; lower case.
    pub authority: String,
    /// Without `/` at its end: empty, or beginning with `/`.
    pub path: String,
}

/// With or without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// With TLS.
    Https,
    /// Without.
    Http,
}

/// An error in a base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBase {
    /// Not a URL with a host.
    #[error("it is not a URL")]
    Syntax,
    /// Neither `http` nor `https`.
    #[error("it is neither http:// nor https://")]
    Scheme,
    /// The URL has a user name or password.
    #[error("it holds credentials, which do not belong into a URL")]
    Credentials,
    /// The URL has a query, a fragment, or dots for segments.
    #[error("it holds `?`, `#`, `.` or `..`, which no base can")]
    Path,
}

impl Base {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`InvalidBase`].
    pub fn parse(url: &str) -> Result<Self, InvalidBase> {
        if url.len() > MAX_URL || !url.is_ascii() {
            return Err(InvalidBase::Syntax);
        }
        if url.contains(['?', '#', '\\']) {
            return Err(InvalidBase::Path);
        }
        let uri: Uri = url.parse().map_err(|_| InvalidBase::Syntax)?;
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            Some(_) => return Err(InvalidBase::Scheme),
            None => return Err(InvalidBase::Syntax),
        };
        let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or(InvalidBase::Syntax)?;
        if authority.as_str().contains('@') {
            return Err(InvalidBase::Credentials);
        }
        let usual = if scheme == Scheme::Https { 443 } else { 80 };
        let host = authority.host().to_ascii_lowercase();
        let authority = match authority.port_u16() {
            Some(port) if port != usual => format!("{host}:{port}"),
            None if authority.port().is_some() => return Err(InvalidBase::Syntax),
            _ => host,
        };
        let path = uri.path().trim_end_matches('/');
        if path.split('/').any(|segment| matches!(&*gnomon_kit::percent::decoded(segment), "." | "..")) {
            return Err(InvalidBase::Path);
        }
        Ok(Self { scheme, authority, path: path.to_owned() })
    }

    /// True if only this host can be meant.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self
            .authority
            .rsplit_once(':')
            .map_or(&*self.authority, |(host, port)| if port.bytes().all(|byte| byte.is_ascii_digit()) { host } else { &self.authority });
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

/// The servers of a document, of one of its paths, or of an operation, in order; `here` is where the document came from. What is
/// no base is left out.
pub fn read(owner: &Value, here: Option<&Uri>) -> Option<Vec<Base>> {
    let list = owner.get("servers")?.as_array().filter(|list| !list.is_empty())?;
    Some(list.iter().take(MAX_SERVERS).filter_map(|server| Base::parse(&whole(&url(server)?, here)?).ok()).collect())
}

/// The default server: the first that is encrypted, else the first.
pub fn first(servers: &[Base]) -> Option<&Base> {
    servers.iter().find(|base| base.scheme == Scheme::Https).or(servers.first())
}

/// The servers that the document names for all operations that name none.
pub fn of_document(document: &Document, here: Option<&Uri>) -> Vec<Base> {
    // Without a list it is the root of where the document is (4.8.1).
    read(document.root(), here).unwrap_or_else(|| whole("/", here).and_then(|url| Base::parse(&url).ok()).into_iter().collect())
}

/// A server's URL with the usual values of its variables.
fn url(server: &Value) -> Option<String> {
    let mut url = server.get("url")?.as_str().filter(|url| url.len() <= MAX_URL)?.to_owned();
    for (name, variable) in server.get("variables").and_then(Value::as_object).into_iter().flatten().take(MAX_VARIABLES) {
        if let Some(value) = variable.get("default").and_then(Value::as_str).filter(|value| value.len() <= MAX_URL) {
            url = url.replace(&format!("{{{name}}}"), value);
        }
        if url.len() > MAX_URL {
            return None;
        }
    }
    Some(url).filter(|url| !url.contains(['{', '}']))
}

/// A URL that may be relative to where the document is.
fn whole(url: &str, here: Option<&Uri>) -> Option<String> {
    if url.contains("://") {
        return Some(url.to_owned());
    }
    let here = here?;
    let (scheme, authority) = (here.scheme_str()?, here.authority()?);
    if let Some(other) = url.strip_prefix("//") {
        return Some(format!("{scheme}://{other}"));
    }
    if url.starts_with('/') {
        return Some(format!("{scheme}://{authority}{url}"));
    }
    let folder = here.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    Some(format!("{scheme}://{authority}{folder}/{}", url.strip_prefix("./").unwrap_or(url)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bases_are_plain_urls_of_a_host_and_a_path() {
        for (url, base) in [
            ("https://API.example/v1/", Ok("https://api.example/v1")),
            ("https://api.example:443", Ok("https://api.example")),
            ("http://127.0.0.1:8080/", Ok("http://127.0.0.1:8080")),
            ("https://[::1]:9/x", Ok("https://[::1]:9/x")),
            ("https://user:secret@api.example", Err(InvalidBase::Credentials)),
            ("https://api.example/v1?x=1", Err(InvalidBase::Path)),
            ("https://api.example/v1/../admin", Err(InvalidBase::Path)),
            ("https://api.example/%2e%2e/admin", Err(InvalidBase::Path)),
            ("https://api.example\\@evil.example", Err(InvalidBase::Path)),
            ("ftp://api.example", Err(InvalidBase::Scheme)),
            ("/v1", Err(InvalidBase::Syntax)),
            ("https:///v1", Err(InvalidBase::Syntax)),
            ("javascript:alert(1)", Err(InvalidBase::Syntax)),
        ] {
            assert_eq!(Base::parse(url).map(|base| base.to_string()).as_deref().map_err(|error| *error), base, "{url}");
        }
        assert!(Base::parse("http://localhost:1").unwrap().is_loopback() && Base::parse("http://[::1]").unwrap().is_loopback());
        assert!(!Base::parse("http://localhost.evil.example").unwrap().is_loopback());
    }

    #[test]
    fn relative_servers_are_relative_to_the_document_and_variables_have_their_usual_values() {
        let here: Uri = "https://docs.example/specs/api.json".parse().unwrap();
        for (server, here, base) in [
            (json!({"url": "/v1"}), Some(&here), Some("https://docs.example/v1")),
            (json!({"url": "v1"}), Some(&here), Some("https://docs.example/specs/v1")),
            (json!({"url": "//other.example/v1"}), Some(&here), Some("https://other.example/v1")),
            (json!({"url": "/v1"}), None, None),
            (
                json!({"url": "https://{region}.example/{v}", "variables": {"region": {"default": "eu"}, "v": {"default": "v2"}}}),
                None,
                Some("https://eu.example/v2"),
            ),
            (json!({"url": "https://{region}.example"}), None, None),
            (json!({"url": "https://{x}", "variables": {"x": {"default": "a.example@evil.example"}}}), None, None),
        ] {
            let owner = json!({"servers": [server]});
            let read = read(&owner, here).unwrap();
            assert_eq!(read.first().map(ToString::to_string).as_deref(), base, "{owner}");
        }
    }
}
