//! The facts kept of one JSON-RPC message. Plain data: the meaning is given in [`crate::mcp`].

use smol_str::SmolStr;

/// The kind of a message by its members (JSON-RPC 2.0 sections 4 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MessageKind {
    /// A `method` and an `id`, even a `null` one.
    Request,
    /// A `method` and no `id`.
    Notification,
    /// `result` without `method`.
    Response,
    /// `error` without `method` and `result`.
    Error,
    /// None of these: a JSON object that is not a JSON-RPC message.
    #[default]
    Other,
}

/// The `jsonrpc` member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Version {
    /// Missing; lenient servers accept that.
    #[default]
    Absent,
    /// The string `2.0`.
    V2,
    /// Anything else.
    Other,
}

/// The `id` member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Id {
    /// A string, decoded.
    Str(SmolStr),
    /// A number, as it was written (`1.0` and `1e400` stay).
    Num(SmolStr),
    /// `null`.
    Null,
    /// A type JSON-RPC does not allow (boolean, array, object).
    Other,
}

impl Id {
    /// The id as JSON text, for an answer; any other value becomes `null`.
    pub fn to_json(&self) -> String {
        match self {
            Self::Str(text) => quoted(text),
            Self::Num(raw) => raw.to_string(),
            Self::Null | Self::Other => "null".to_owned(),
        }
    }
}

fn quoted(text: &str) -> String {
    use std::fmt::Write as _;
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if c < ' ' => {
                // Writing to a String cannot fail.
                let _ = write!(json, "\\u{:04x}", c as u32);
            }
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

/// The `params` member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ParamsShape {
    /// No such member.
    #[default]
    Absent,
    /// By name, as MCP does.
    Object,
    /// By position; never MCP.
    Array,
    /// A scalar or `null`.
    Other,
}

/// The presence of a member (of the type that the field's documentation names).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Presence {
    /// Absent, or of another type.
    #[default]
    Absent,
    /// Present.
    Present,
}

impl Presence {
    /// `true` for [`Presence::Present`].
    pub const fn is_present(self) -> bool {
        matches!(self, Self::Present)
    }
}

/// Complete or cut, for a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Truncation {
    /// Nothing was left out.
    #[default]
    Whole,
    /// A bound was reached and the rest was dropped.
    Cut,
}

impl Truncation {
    /// `true` for [`Truncation::Cut`].
    pub const fn is_cut(self) -> bool {
        matches!(self, Self::Cut)
    }
}

/// A member whose type tells protocols apart: MCP has a string where ACP has an integer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// A string, decoded.
    Str(SmolStr),
    /// A number, as it was written.
    Num(SmolStr),
    /// Any other type.
    Other,
}

impl Scalar {
    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            Self::Num(_) | Self::Other => None,
        }
    }
}

/// The facts of `params._meta` (MCP 2026-07-28, per-request metadata).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Meta {
    /// Some key begins with `io.modelcontextprotocol/`.
    pub mcp: Presence,
    /// The string `io.modelcontextprotocol/protocolVersion`.
    pub protocol_version: Option<SmolStr>,
    /// `name` of `io.modelcontextprotocol/clientInfo`.
    pub client_name: Option<SmolStr>,
    /// `version` of `io.modelcontextprotocol/clientInfo`.
    pub client_version: Option<SmolStr>,
    /// Key names in order, at most [`super::MAX_META_KEYS`].
    pub keys: Vec<SmolStr>,
}

/// The facts of `result` or `error`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ResultFacts {
    /// The string `result.protocolVersion`.
    pub protocol_version: Option<SmolStr>,
    /// `result.serverInfo.name`, or of `_meta["io.modelcontextprotocol/serverInfo"]`.
    pub server_name: Option<SmolStr>,
    /// `version` beside it.
    pub server_version: Option<SmolStr>,
    /// `result.serverInfo` is an object.
    pub server_info: Presence,
    /// `result.capabilities` is an object.
    pub capabilities: Presence,
    /// `result.supportedVersions` is an array with at least one MCP protocol version.
    pub supported_versions: Presence,
    /// `result._meta` has a key that begins with `io.modelcontextprotocol/`.
    pub meta_mcp: Presence,
    /// `result._meta["io.modelcontextprotocol/serverInfo"]` is an object.
    pub meta_server_info: Presence,
    /// Names in `result.tools[]`, at most [`super::MAX_TOOLS`].
    pub tools: Vec<SmolStr>,
    /// `Cut` if `tools` lacks some, or holds one that is cut.
    pub tools_overflow: Truncation,
    /// Some name in `result.tools[]` is no string.
    pub tools_odd: Presence,
    /// Where there is a list `result.tools`: SHA-256 over the sorted SHA-256 of its objects, each as its bytes stand.
    pub tools_hash: Option<[u8; 32]>,
    /// Some element of `result.tools[]` has `inputSchema`.
    pub input_schema: Presence,
    /// `result.isError`, where it is a boolean or null.
    pub is_error: Option<bool>,
    /// True if there is a `result.isError`, of any type.
    pub is_error_given: Presence,
    /// The string `result.resultType` (2026-07-28).
    pub result_type: Option<SmolStr>,
    /// The methods of `result.inputRequests.*` (2026-07-28), the server's requests to the client; at most [`super::MAX_INPUT_REQUESTS`].
    pub input_requests: Vec<SmolStr>,
    /// `Cut` if `input_requests` lacks some, or holds one that is cut.
    pub input_requests_overflow: Truncation,
    /// `error.code`, where it is a whole number, however it is written.
    pub error_code: Option<i64>,
    /// True if there is an `error.code`, of any type.
    pub error_code_given: Presence,
    /// `error.message`, at most [`super::Limits::max_capture`] bytes.
    pub error_message: Option<SmolStr>,
}

/// One JSON-RPC message: the facts, not the text. Every string is bounded by
/// [`super::Limits::max_capture`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Message {
    /// Single, or part of a batch.
    pub shape: super::Shape,
    /// Position in the batch; 0 for a single message.
    pub index: usize,
    /// Offset, in the bytes fed so far, just after the byte that closes the message.
    pub end: u64,
    /// Request, notification, response, error or none.
    pub kind: MessageKind,
    /// The `jsonrpc` member.
    pub jsonrpc: Version,
    /// `method`, where it is a string, or an array around one, which servers in JavaScript take for it.
    pub method: Option<SmolStr>,
    /// `id`, where there is one.
    pub id: Option<Id>,
    /// The type of `params`.
    pub params: ParamsShape,
    /// The string `params.name`: the tool or prompt.
    pub name: Option<SmolStr>,
    /// True if there is a `params.name` that is neither a string nor null.
    pub name_is_odd: Presence,
    /// The string `params.uri`: the resource.
    pub uri: Option<SmolStr>,
    /// True if there is a `params.uri` that is neither a string nor null.
    pub uri_is_odd: Presence,
    /// The string `params.cursor`: the page of a list.
    pub cursor: Option<SmolStr>,
    /// `params.protocolVersion`: a string in MCP, an integer in ACP.
    pub protocol_version: Option<Scalar>,
    /// The string `params.clientInfo.name`.
    pub client_name: Option<SmolStr>,
    /// The string `params.clientInfo.version`.
    pub client_version: Option<SmolStr>,
    /// `params.capabilities` is an object.
    pub capabilities: Presence,
    /// `params.clientCapabilities` is there (ACP).
    pub client_capabilities: Presence,
    /// `params._meta`.
    pub meta: Meta,
    /// `params.taskId` is there (MCP tasks).
    pub task_id: Presence,
    /// `params.id` is there (A2A tasks).
    pub params_id: Presence,
    /// Leaves of `params.arguments` when their capture is on: dotted key path and decoded value.
    /// Elements of an array share its path; numbers, booleans and `null` are text; an empty object
    /// or array is an empty value.
    pub arguments: Vec<(SmolStr, SmolStr)>,
    /// `Cut` if `arguments` lacks some.
    pub arguments_truncated: Truncation,
    /// A captured method, name, uri or id was longer than the bound and is cut.
    pub truncated: bool,
    /// `result` or `error`.
    pub result: ResultFacts,
    /// The findings of what looks at the texts of answers ([`super::Scanner::listening`]).
    pub heard: super::Heard,
}

impl Message {
    /// Bytes that its lists and longest strings take: what may be more than a few of [`super::Limits::max_capture`].
    #[must_use]
    pub fn kept(&self) -> usize {
        let of = |list: &[SmolStr]| list.iter().map(|text| size_of::<SmolStr>() + text.len()).sum::<usize>();
        let arguments = self.arguments.iter().map(|(path, value)| 2 * size_of::<SmolStr>() + path.len() + value.len()).sum::<usize>();
        let single =
            [&self.method, &self.name, &self.uri, &self.cursor, &self.client_name, &self.client_version, &self.result.error_message];
        let single = single.into_iter().flatten().map(|text| text.len()).sum::<usize>();
        of(&self.meta.keys) + of(&self.result.tools) + of(&self.result.input_requests) + arguments + single
    }
}
