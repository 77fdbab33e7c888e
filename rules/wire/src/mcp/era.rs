//! The two protocol eras and how a message shows which one it belongs to.

use crate::jsonrpc::{Message, Scalar};
use crate::mcp_names::{is_mcp_method, is_protocol_version};

/// MCP before and since it became stateless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Era {
    /// Up to 2025-11-25: `initialize`, sessions, server-to-client requests.
    Legacy,
    /// Since 2026-07-28: every request carries its own metadata.
    Modern,
}

/// The first revision of the modern era.
const FIRST_MODERN: &str = "2026-07-28";

fn era_of_version(version: &str) -> Option<Era> {
    if !is_protocol_version(version) {
        return None;
    }
    // Dates compare as text. Drafts are named by year, and began after the last legacy revision.
    if version.starts_with("DRAFT-") || version >= FIRST_MODERN { Some(Era::Modern) } else { Some(Era::Legacy) }
}

/// The era of a request or notification, from its method, its `_meta`, and the value of the
/// `mcp-protocol-version` header. `None` where nothing says MCP.
///
/// `initialize` is legacy whatever version it asks for: some modern clients ask for 2026-07-28 in
/// it. An MCP method without any version is legacy, as modern requests must carry one.
pub fn era_of(message: &Message, protocol_version_header: Option<&str>) -> Option<Era> {
    match message.method.as_deref() {
        Some("initialize") => {
            return match &message.protocol_version {
                Some(Scalar::Str(version)) if is_protocol_version(version) => Some(Era::Legacy),
                _ => protocol_version_header.and_then(era_of_version).map(|_| Era::Legacy),
            };
        }
        Some("server/discover" | "subscriptions/listen") => return Some(Era::Modern),
        _ => {}
    }
    message
        .meta
        .protocol_version
        .as_deref()
        .and_then(era_of_version)
        .or_else(|| protocol_version_header.and_then(era_of_version))
        .or_else(|| message.meta.mcp.is_present().then_some(Era::Modern))
        .or_else(|| {
            let method = message.method.as_deref()?;
            is_mcp_method(method).then_some(Era::Legacy)
        })
}
