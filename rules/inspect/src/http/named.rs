//! The headers of a request that every exchange looks at.

use http::{HeaderMap, HeaderValue};
use smol_str::SmolStr;

/// The headers that are looked at for every request, found in one pass. Of a repeated one, the first.
#[derive(Default)]
pub(crate) struct Named<'a> {
    pub accept: Option<&'a HeaderValue>,
    pub content_type: Option<&'a HeaderValue>,
    pub user_agent: Option<&'a HeaderValue>,
    pub mcp_method: Option<&'a HeaderValue>,
    pub mcp_name: Option<&'a HeaderValue>,
    pub mcp_version: Option<&'a HeaderValue>,
    pub mcp_session: Option<&'a HeaderValue>,
    /// True if a header of MCP's came twice: two readers may take different values.
    pub mcp_repeated: bool,
}

impl<'a> Named<'a> {
    pub fn among(headers: &'a HeaderMap) -> Self {
        let mut named = Self::default();
        for (name, value) in headers {
            let (slot, of_mcp) = match name.as_str() {
                "accept" => (&mut named.accept, false),
                "content-type" => (&mut named.content_type, false),
                "user-agent" => (&mut named.user_agent, false),
                "mcp-method" => (&mut named.mcp_method, true),
                "mcp-name" => (&mut named.mcp_name, true),
                "mcp-protocol-version" => (&mut named.mcp_version, true),
                "mcp-session-id" => (&mut named.mcp_session, true),
                _ => continue,
            };
            match slot {
                None => *slot = Some(value),
                Some(_) => named.mcp_repeated |= of_mcp,
            }
        }
        named
    }
}

/// The value as text, if it is text.
pub(crate) fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value.and_then(|value| value.to_str().ok())
}

/// The value as text, with replacement characters for invalid bytes.
pub(crate) fn lossy(value: Option<&HeaderValue>) -> Option<SmolStr> {
    value.map(|value| String::from_utf8_lossy(value.as_bytes()).into())
}
