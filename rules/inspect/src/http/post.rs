//! Requests that the caller posts itself, message by message: of their heads all is known without there being one.

use crate::{
    Connection, Dialogue,
    connection::RequestPath,
    dialogue::{Mismatches, Opened, Wants},
};
use gnomon_observe::{Family, Field};
use gnomon_wire::mcp;

/// The head of a message that is posted (HTTP/1.1).
#[derive(Clone, Copy, Debug)]
pub struct Post<'a> {
    /// The path, without the query.
    pub path: &'a str,
    /// Its `Accept`.
    pub accept: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// The `User-Agent` of the client.
    pub user_agent: Option<&'a [u8]>,
}

impl Dialogue {
    /// Begins a request that is posted to the connection's server: the facts of its head are known.
    #[must_use]
    pub fn post(connection: &Connection, post: &Post<'_>) -> Self {
        let (rules, mut base, progress) = connection.standing();
        let RequestPath { path, full, endpoint } = connection.place(post.path);
        base.set(Field::HttpMethod, "POST");
        base.set(Field::UrlPath, path);
        base.set(Field::UrlFull, full);
        base.set(Field::HttpVersion, "1.1");
        base.set_some(Field::UserAgent, post.user_agent.and_then(visible));
        if rules.wanted().url {
            connection.place(post.path).tell_all(None, &mut base);
        }
        for name in &rules.wanted().request_headers {
            let value = match name.as_str() {
                "accept" => Some(post.accept.as_bytes()),
                "content-type" => Some(post.content_type.as_bytes()),
                "user-agent" => post.user_agent,
                _ => None,
            };
            if let Some(value) = value {
                base.set_member(Family::RequestHeader, name.clone(), String::from_utf8_lossy(value).into_owned());
            }
        }
        let mut findings = connection.findings(&endpoint);
        findings.signatures = mcp::path_signatures("POST", post.path, Some(post.accept));
        let (mismatches, wants, unread) = (Mismatches::default(), Wants::Json, None);
        Self::open(connection, Opened { rules, base, progress, findings, endpoint, mismatches, wants, unread })
    }
}

/// A header's value as text, if it is text.
fn visible(value: &[u8]) -> Option<&str> {
    let is_text = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    std::str::from_utf8(value).ok().filter(|_| is_text)
}
