//! JSON-RPC 2.0 messages whose payloads stay as they came.
//!
//! Only the envelope is read: `id`, `params`, `result` and `error` are slices of the bytes that
//! arrived, so fields that this version has never heard of pass unharmed. A member that stands twice
//! is refused rather than guessed at, as two readers would take different ones.

use crate::members::{Members, Object, from_json};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use smol_str::{SmolStr, format_smolstr};
use std::borrow::Cow;

pub use crate::members::quoted;

/// The JSON text of an id: a string or a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(SmolStr);

impl Id {
    /// Our own, by number.
    #[must_use]
    pub fn number(number: u64) -> Self {
        Self(format_smolstr!("{number}"))
    }

    /// The id as it stands in JSON.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.0
    }

    fn read(raw: &RawValue) -> Option<Self> {
        matches!(raw.get().as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9')).then(|| Self(SmolStr::new(raw.get())))
    }

    /// An id within a message's parameters, such as `requestId`.
    #[must_use]
    pub fn of_json(json: &[u8]) -> Option<Self> {
        serde_json::from_slice::<&RawValue>(json).ok().and_then(Self::read)
    }
}

/// A message.
#[derive(Clone, Debug)]
pub enum Message {
    /// Wants an answer.
    Request(Request),
    /// Wants none.
    Notification(Notification),
    /// A response.
    Response(Response),
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The request's id.
    pub id: Id,
    /// The method.
    pub method: SmolStr,
    params: Option<Object>,
}

impl Request {
    /// A request with these parameters, the JSON text of an object.
    #[must_use]
    pub fn new(id: Id, method: SmolStr, params: Option<Bytes>) -> Self {
        Self { id, method, params: params.map(Object::new) }
    }

    /// The request with other parameters.
    #[must_use]
    pub fn with(&self, params: Bytes) -> Self {
        Self::new(self.id.clone(), self.method.clone(), Some(params))
    }

    /// The JSON text of its parameters.
    #[must_use]
    pub fn params(&self) -> Option<&Bytes> {
        self.params.as_ref().map(Object::text)
    }

    /// The parameters, member by member; they may be missing.
    ///
    /// # Errors
    /// [`INVALID_PARAMS`], fit for the client's eyes.
    pub fn members(&self) -> Result<Members<'_>, RpcError> {
        match &self.params {
            None => Ok(Members::default()),
            Some(object) => object.members().ok_or_else(|| RpcError::new(INVALID_PARAMS, "a member is listed twice in `params`")),
        }
    }
}

/// A notification.
#[derive(Clone, Debug)]
pub struct Notification {
    /// The method.
    pub method: SmolStr,
    /// JSON text.
    pub params: Option<Bytes>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The request's id; none where the peer could not read it.
    pub id: Option<Id>,
    /// The result or the error.
    pub outcome: Outcome,
}

/// The outcome of a request: a result or an error, JSON text either way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `result`.
    Result(Bytes),
    /// `error`.
    Error(Bytes),
}

/// An error of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// The code (JSON-RPC 2.0 section 5.1, MCP 2026-07-28).
    pub code: i32,
    /// The text, one line.
    pub message: String,
    /// Additional data for the client.
    pub data: Option<serde_json::Value>,
}

/// The bytes are no JSON.
pub const PARSE_ERROR: i32 = -32700;
/// JSON-RPC 2.0 "Invalid Request": JSON, but not a message that may come here.
pub const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC 2.0 "Method not found".
pub const METHOD_NOT_FOUND: i32 = -32601;
/// The parameters do not fit.
pub const INVALID_PARAMS: i32 = -32602;
/// JSON-RPC 2.0 "Internal error": our or the server's fault.
pub const INTERNAL_ERROR: i32 = -32603;
/// A mirrored header says something else than the body (MCP 2026-07-28).
pub const HEADER_MISMATCH: i32 = -32020;
/// The client lacks a capability that the answer needs (MCP 2026-07-28).
pub const MISSING_CAPABILITY: i32 = -32021;
/// The protocol version is not spoken here (MCP 2026-07-28).
pub const UNSUPPORTED_VERSION: i32 = -32022;

impl RpcError {
    /// An error without data.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// The error with data.
    #[must_use]
    pub fn with(mut self, data: serde_json::Value) -> Self {
        self.data = Some(data);
        self
    }
}

impl From<RpcError> for Outcome {
    fn from(error: RpcError) -> Self {
        let mut body = serde_json::json!({"code": error.code, "message": error.message});
        if let Some(data) = error.data {
            body["data"] = data;
        }
        Self::Error(Bytes::from(body.to_string()))
    }
}

impl Outcome {
    /// A result of our own.
    #[must_use]
    pub fn of(result: &serde_json::Value) -> Self {
        Self::Result(Bytes::from(result.to_string()))
    }

    /// A tool's failure, as its result.
    #[must_use]
    pub fn failed_tool(text: &str) -> Self {
        Self::of(&serde_json::json!({"content": [{"type": "text", "text": text}], "isError": true, "resultType": "complete"}))
    }

    /// The code, if it is an error that has one.
    #[must_use]
    pub fn code(&self) -> Option<i64> {
        #[derive(Deserialize)]
        struct Coded {
            code: i64,
        }
        match self {
            Self::Error(error) => serde_json::from_slice::<Coded>(error).ok().map(|coded| coded.code),
            Self::Result(_) => None,
        }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl Message {
    /// Reads one message.
    ///
    /// # Errors
    /// [`PARSE_ERROR`] or [`INVALID_REQUEST`], fit for the client's eyes.
    pub fn read(text: &Bytes) -> Result<Self, RpcError> {
        let envelope: Envelope<'_> = from_json(text).map_err(|error| unreadable(&error))?;
        let slice = |raw: &RawValue| text.slice_ref(raw.get().as_bytes());
        let invalid = |why: &str| RpcError::new(INVALID_REQUEST, why);
        if envelope.jsonrpc.as_deref() != Some("2.0") {
            return Err(invalid("not a JSON-RPC 2.0 message: `jsonrpc` must be \"2.0\""));
        }
        let id = match envelope.id {
            None => None,
            Some(raw) => Some(Id::read(raw).ok_or_else(|| invalid("`id` must be a string or a number"))?),
        };
        let params = envelope.params.map(slice);
        if params.as_ref().is_some_and(|params| params.first() != Some(&b'{')) {
            return Err(invalid("`params` must be an object"));
        }
        match (envelope.method, id, envelope.result, envelope.error) {
            (Some(method), Some(id), None, None) => Ok(Self::Request(Request::new(id, SmolStr::new(method), params))),
            (Some(method), None, None, None) => Ok(Self::Notification(Notification { method: SmolStr::new(method), params })),
            (None, Some(id), Some(result), None) => Ok(Self::Response(Response { id: Some(id), outcome: Outcome::Result(slice(result)) })),
            (None, id, None, Some(error)) => Ok(Self::Response(Response { id, outcome: Outcome::Error(slice(error)) })),
            _ => Err(invalid("neither a request, a notification nor an answer")),
        }
    }

    /// The elements of a batch (2025-03-26 only), unread; none if it is not one.
    #[must_use]
    pub fn batch(text: &Bytes) -> Option<Vec<Bytes>> {
        let first = text.iter().find(|byte| !byte.is_ascii_whitespace())?;
        if *first != b'[' {
            return None;
        }
        let elements: Vec<&RawValue> = serde_json::from_slice(text).ok()?;
        Some(elements.into_iter().map(|raw| text.slice_ref(raw.get().as_bytes())).collect())
    }
}

fn unreadable(error: &serde_json::Error) -> RpcError {
    match error.classify() {
        serde_json::error::Category::Data => {
            let duplicate = error.to_string().contains("duplicate field");
            let why = if duplicate { "a member is listed twice in the message" } else { "not a JSON-RPC message" };
            RpcError::new(INVALID_REQUEST, why)
        }
        _ => RpcError::new(PARSE_ERROR, "the body is not JSON"),
    }
}

/// The text of a request.
#[must_use]
pub fn request(id: &Id, method: &str, params: Option<&[u8]>) -> Bytes {
    let mut text = begin(params.map_or(0, <[u8]>::len) + method.len() + 64);
    text.extend_from_slice(b",\"id\":");
    text.extend_from_slice(id.json().as_bytes());
    put_method(&mut text, method, params);
    text.into()
}

/// The text of a notification.
#[must_use]
pub fn notification(method: &str, params: Option<&[u8]>) -> Bytes {
    let mut text = begin(params.map_or(0, <[u8]>::len) + method.len() + 64);
    put_method(&mut text, method, params);
    text.into()
}

/// The text of an answer; `None` is the id of a request that could not be read.
#[must_use]
pub fn response(id: Option<&Id>, outcome: &Outcome) -> Bytes {
    let (key, payload): (&[u8], _) = match outcome {
        Outcome::Result(result) => (b",\"result\":", result),
        Outcome::Error(error) => (b",\"error\":", error),
    };
    let mut text = begin(payload.len() + 64);
    text.extend_from_slice(b",\"id\":");
    text.extend_from_slice(id.map_or("null", Id::json).as_bytes());
    text.extend_from_slice(key);
    text.extend_from_slice(payload);
    text.push(b'}');
    text.into()
}

/// The response in pieces, with the payload as it is: a large one is not copied.
#[must_use]
pub fn response_pieces(id: Option<&Id>, outcome: &Outcome) -> [Bytes; 3] {
    let (key, payload): (&[u8], _) = match outcome {
        Outcome::Result(result) => (b",\"result\":", result),
        Outcome::Error(error) => (b",\"error\":", error),
    };
    let mut text = begin(64);
    text.extend_from_slice(b",\"id\":");
    text.extend_from_slice(id.map_or("null", Id::json).as_bytes());
    text.extend_from_slice(key);
    [text.into(), payload.clone(), Bytes::from_static(b"}")]
}

fn begin(capacity: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(capacity);
    text.extend_from_slice(b"{\"jsonrpc\":\"2.0\"");
    text
}

fn put_method(text: &mut Vec<u8>, method: &str, params: Option<&[u8]>) {
    text.extend_from_slice(b",\"method\":");
    text.extend_from_slice(quoted(method).as_bytes());
    if let Some(params) = params {
        text.extend_from_slice(b",\"params\":");
        text.extend_from_slice(params);
    }
    text.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Message, RpcError> {
        Message::read(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn payloads_keep_every_byte() {
        let params = r#"{ "arguments" : {"a":1.0, "b":"\u0041"},"name":"x","future":[null] }"#;
        let Ok(Message::Request(request)) = read(&format!(r#"{{"params":{params},"method":"tools/call","id":"a\"b","jsonrpc":"2.0"}}"#))
        else {
            panic!("not read as a request")
        };
        assert_eq!(request.params().map(|params| &**params), Some(params.as_bytes()));
        assert_eq!(request.id.json(), r#""a\"b""#);
        let again = super::request(&Id::number(7), &request.method, request.params().map(|params| &**params));
        assert_eq!(again, format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}"#));
    }

    #[test]
    fn a_member_that_stands_twice_is_refused() {
        let error = read(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}"#).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (INVALID_REQUEST, "a member is listed twice in the message"));
    }

    #[test]
    fn what_is_no_message_is_told_apart_from_what_is_no_json() {
        for (text, code) in [
            ("", PARSE_ERROR),
            ("{", PARSE_ERROR),
            ("[]", INVALID_REQUEST),
            ("7", INVALID_REQUEST),
            (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","result":{}}"#, INVALID_REQUEST),
        ] {
            assert_eq!(read(text).err().map(|e| e.code), Some(code), "{text}");
        }
    }

    #[test]
    fn answers_are_written_with_the_id_they_are_for() {
        let outcome = Outcome::Result(Bytes::from_static(b"{\"x\": 1}"));
        assert_eq!(response(Some(&Id::number(3)), &outcome), "{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{\"x\": 1}}".as_bytes());
        let error = Outcome::from(RpcError::new(PARSE_ERROR, "no"));
        assert_eq!(error.code(), Some(-32700));
        assert!(response(None, &error).starts_with(br#"{"jsonrpc":"2.0","id":null,"error":{"#));
    }
}
