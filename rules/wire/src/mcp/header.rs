//! Header values that mirror the body (MCP 2026-07-28, streamable HTTP, SEP-2243).
//!
//! Policy is decided on the body. The mirrored headers are only compared with it: servers that
//! trust the header and servers that trust the body would otherwise do different things.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::jsonrpc::Message;
use crate::mcp_names::canonical_method;

const OPEN: &str = "=?base64?";
const CLOSE: &str = "?=";

/// A mirrored header value that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderValueError {
    /// The text between the Base64 markers is not canonical Base64 (RFC 4648 section 4).
    #[error("invalid Base64 between the markers")]
    Base64,
    /// The decoded bytes are not UTF-8.
    #[error("the decoded value is not UTF-8")]
    Utf8,
}

/// Reads a mirrored header value: plain text, or `=?base64?…?=` around Base64 of UTF-8. The markers
/// are case-sensitive; a value that only has the first one is plain text.
pub fn decode_header_value(raw: &str) -> Result<Cow<'_, str>, HeaderValueError> {
    let raw = raw.trim_matches([' ', '\t']);
    let Some(encoded) = raw.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix(CLOSE)) else {
        return Ok(Cow::Borrowed(raw));
    };
    let bytes = STANDARD.decode(encoded).map_err(|_| HeaderValueError::Base64)?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| HeaderValueError::Utf8)
}

/// The mirrored headers that disagree with the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MismatchSet(u8);

impl MismatchSet {
    const METHOD: u8 = 1;
    const NAME: u8 = 2;
    const VERSION: u8 = 4;

    /// True if every header that is present agrees.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True if `mcp-method` disagrees with `method`.
    pub const fn method(self) -> bool {
        self.0 & Self::METHOD != 0
    }

    /// True if `mcp-name` disagrees with `params.name` or `params.uri`.
    pub const fn name(self) -> bool {
        self.0 & Self::NAME != 0
    }

    /// True if `mcp-protocol-version` disagrees with `params._meta`.
    pub const fn version(self) -> bool {
        self.0 & Self::VERSION != 0
    }

    /// The names of the headers that disagree.
    pub fn headers(self) -> impl Iterator<Item = &'static str> {
        [(Self::METHOD, "mcp-method"), (Self::NAME, "mcp-name"), (Self::VERSION, "mcp-protocol-version")]
            .into_iter()
            .filter(move |(bit, _)| self.0 & bit != 0)
            .map(|(_, header)| header)
    }
}

/// Which of the three mirrored headers disagree with the body. A missing header agrees (whether it
/// is required is the server's business), and a header sent twice is the caller's business.
///
/// `mcp-name` mirrors `params.name` for `tools/call` and `prompts/get` and `params.uri` for
/// `resources/read`; for other methods it is not compared. A value that cannot be decoded
/// disagrees.
pub fn header_mismatch(message: &Message, mcp_method: Option<&str>, mcp_name: Option<&str>, version: Option<&str>) -> MismatchSet {
    let mut set = MismatchSet::default();
    let method = message.method.as_deref();
    if let Some(header) = mcp_method
        && differs(header, method)
    {
        set.0 |= MismatchSet::METHOD;
    }
    if let Some(header) = mcp_name {
        let mirrored = match method.map(canonical_method) {
            Some("tools/call" | "prompts/get") => Some(message.name.as_deref()),
            Some("resources/read") => Some(message.uri.as_deref()),
            _ => None,
        };
        if mirrored.is_some_and(|body| differs(header, body)) {
            set.0 |= MismatchSet::NAME;
        }
    }
    if let (Some(header), Some(body)) = (version, message.meta.protocol_version.as_deref())
        && header.trim_matches([' ', '\t']) != body
    {
        set.0 |= MismatchSet::VERSION;
    }
    set
}

fn differs(header: &str, body: Option<&str>) -> bool {
    match (decode_header_value(header), body) {
        (Ok(header), Some(body)) => header != body,
        (Err(_), _) | (_, None) => true,
    }
}
