//! The map of a JSON-RPC message: its places, and what stands in them.

use crate::mcp_names::is_gap;

/// The role of a JSON container in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContainerRole {
    Batch,
    Message,
    Params,
    ParamsMeta,
    ClientInfo,
    MetaClientInfo,
    Arguments,
    Result,
    ResultMeta,
    ServerInfo,
    Tools,
    Tool,
    SupportedVersions,
    InputRequests,
    InputRequest,
    Error,
    /// An array where a method's name is due.
    Methods,
    Other,
}

/// The role of the next value. Those below [`STRICT`] must not occur twice in one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Slot {
    Jsonrpc,
    Method,
    Id,
    Params,
    Result,
    Error,
    Name,
    Uri,
    Meta,
    ProtocolVersion,
    ClientInfo,
    ClientName,
    ClientVersion,
    Arguments,
    Capabilities,
    TaskId,
    MetaProtocolVersion,
    MetaClientInfo,
    MetaClientName,
    MetaClientVersion,
    IsError,
    ErrorCode,
    // From here on, repetition decides nothing.
    None,
    Top,
    BatchItem,
    VariantMethod,
    MethodItem,
    ClientCapabilities,
    ParamsId,
    Cursor,
    Leaf,
    ResultProtocolVersion,
    ServerInfo,
    ServerName,
    ServerVersion,
    ResultCapabilities,
    SupportedVersions,
    SupportedVersion,
    ResultMeta,
    MetaServerInfo,
    Tools,
    Tool,
    ToolName,
    ResultType,
    InputRequests,
    InputRequest,
    InputMethod,
    ErrorMessage,
}

pub(super) const STRICT: u8 = Slot::None as u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Object,
    Array,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    True,
    False,
    Null,
    /// Not JSON: what Python, and others that follow it, read as numbers.
    NaN,
    Infinity,
}

/// The prefix of all of MCP's keys in `_meta`.
pub(super) const META_PREFIX: &str = "io.modelcontextprotocol/";
const TOP_LEVEL: [&str; 6] = ["jsonrpc", "method", "id", "params", "result", "error"];
const IN_PARAMS: [&str; 8] = ["name", "uri", "_meta", "protocolversion", "clientinfo", "arguments", "argument", "inputresponses"];

impl Word {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::False => "false",
            Self::Null => "null",
            Self::NaN => "NaN",
            Self::Infinity => "Infinity",
        }
    }
}

/// The slot for the value of this key of `result`.
pub(super) fn result_key(key: &str) -> Slot {
    match key {
        "protocolVersion" => Slot::ResultProtocolVersion,
        "serverInfo" => Slot::ServerInfo,
        "capabilities" => Slot::ResultCapabilities,
        "supportedVersions" => Slot::SupportedVersions,
        "_meta" => Slot::ResultMeta,
        "tools" => Slot::Tools,
        "resultType" => Slot::ResultType,
        "inputRequests" => Slot::InputRequests,
        _ => Slot::None,
    }
}

/// True if a case-insensitive parser (Go's encoding/json, .NET) takes `key` for `name`, which is in lower case. Go also folds the long s
/// and the Kelvin sign. Some readers drop white space and control characters besides (`" method"`).
pub(super) fn same_but_case(key: &str, name: &str) -> bool {
    let mut expected = name.chars();
    key.chars().filter(|c| !is_gap(*c)).all(|c| {
        let folded = match c {
            '\u{17F}' => 's',
            '\u{212A}' => 'k',
            c => c.to_ascii_lowercase(),
        };
        expected.next() == Some(folded)
    }) && expected.next().is_none()
}

/// The deciding top-level key that a case-insensitive parser takes this one for.
pub(super) fn deciding_top_level(key: &str) -> Option<&'static str> {
    TOP_LEVEL.into_iter().find(|name| same_but_case(key, name))
}

/// True if a case-insensitive parser takes this key of `params` for a deciding one.
pub(super) fn deciding_in_params(key: &str) -> bool {
    IN_PARAMS.into_iter().any(|name| same_but_case(key, name))
}
