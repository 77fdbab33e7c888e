//! Signatures of messages, and how strong each signature is.

use crate::jsonrpc::{Kind, Message, Presence, Scalar};

use super::era::is_protocol_version;
use super::method::{Telling, telling};

/// One observation that speaks for MCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Signature {
    /// Request header `mcp-protocol-version` with a protocol version.
    H1,
    /// Header `mcp-session-id`.
    H2,
    /// Request header `mcp-method` with an MCP method, `mcp-name`, or `mcp-param-*`.
    H3,
    /// A WebSocket's subprotocol `mcp`, or one that begins with `mcp.` or `mcp-`.
    H4,
    /// The legacy `initialize` request.
    B1,
    /// `params._meta` with a key that begins with `io.modelcontextprotocol/`.
    B2,
    /// A method no other known protocol uses.
    B3,
    /// A method others use as well (`ping`, `tasks/*`).
    B4,
    /// A result only MCP servers give.
    R1,
    /// The first event of an HTTP+SSE stream: `endpoint` with a session in its path.
    R2,
    /// A `Bearer` challenge with `resource_metadata` (RFC 9728).
    R3,
    /// A JSON-RPC error code of MCP (-32020, -32021, -32022, -32042).
    R4,
    /// A POST to a path with a session id in its query. Counts only with a JSON-RPC body.
    P1,
    /// A path that ends in `/mcp` or `/sse`, and `Accept` includes `text/event-stream`.
    P2,
    /// A GET of `/.well-known/oauth-protected-resource/<path>` (RFC 9728).
    P3,
}

/// How much one signature proves. Ordered from weakest to strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Strength {
    /// Nothing alone.
    Weak,
    /// Worth noting.
    Suspected,
    /// An event, and a rule may act on it.
    Probable,
    /// It is MCP.
    Confirmed,
}

impl Signature {
    const ALL: [Self; 15] = [
        Self::H1,
        Self::H2,
        Self::H3,
        Self::H4,
        Self::B1,
        Self::B2,
        Self::B3,
        Self::B4,
        Self::R1,
        Self::R2,
        Self::R3,
        Self::R4,
        Self::P1,
        Self::P2,
        Self::P3,
    ];

    /// The name, e.g. `B1`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::H1 => "H1",
            Self::H2 => "H2",
            Self::H3 => "H3",
            Self::H4 => "H4",
            Self::B1 => "B1",
            Self::B2 => "B2",
            Self::B3 => "B3",
            Self::B4 => "B4",
            Self::R1 => "R1",
            Self::R2 => "R2",
            Self::R3 => "R3",
            Self::R4 => "R4",
            Self::P1 => "P1",
            Self::P2 => "P2",
            Self::P3 => "P3",
        }
    }

    /// What the signature proves alone.
    pub const fn strength(self) -> Strength {
        match self {
            Self::B1 | Self::B2 | Self::B3 | Self::R1 => Strength::Confirmed,
            Self::H1 | Self::H2 | Self::H3 | Self::H4 | Self::R2 | Self::R4 | Self::P1 => Strength::Probable,
            Self::P2 | Self::P3 | Self::R3 => Strength::Suspected,
            Self::B4 => Strength::Weak,
        }
    }

    /// Where it was seen: `header`, `body`, `response` or `path`.
    pub const fn evidence(self) -> &'static str {
        match self {
            Self::H1 | Self::H2 | Self::H3 | Self::H4 => "header",
            Self::B1 | Self::B2 | Self::B3 | Self::B4 => "body",
            Self::R1 | Self::R2 | Self::R3 | Self::R4 => "response",
            Self::P1 | Self::P2 | Self::P3 => "path",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// A set of signatures in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SignatureSet(u16);

impl SignatureSet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// Adds one.
    pub const fn insert(&mut self, signature: Signature) {
        self.0 |= signature.bit();
    }

    /// Whether it holds this one.
    pub const fn contains(self, signature: Signature) -> bool {
        self.0 & signature.bit() != 0
    }

    /// Whether it holds none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Its members, in the order of [`Signature`].
    pub fn iter(self) -> impl Iterator<Item = Signature> {
        Signature::ALL.into_iter().filter(move |signature| self.contains(*signature))
    }

    /// The strength of the strongest member.
    pub fn strength(self) -> Option<Strength> {
        self.iter().map(Signature::strength).max()
    }
}

impl FromIterator<Signature> for SignatureSet {
    fn from_iter<I: IntoIterator<Item = Signature>>(signatures: I) -> Self {
        let mut set = Self::EMPTY;
        set.extend(signatures);
        set
    }
}

impl Extend<Signature> for SignatureSet {
    fn extend<I: IntoIterator<Item = Signature>>(&mut self, signatures: I) {
        for signature in signatures {
            self.insert(signature);
        }
    }
}

/// The strongest of B1 to B4 that a request or notification shows.
///
/// LSP's `initialize` has no `protocolVersion`, ACP's is an integer beside `clientCapabilities`:
/// neither is B1. A2A's `tasks/*` name their task `params.id`: that is not B4 either.
pub fn message_signature(message: &Message) -> Option<Signature> {
    if !matches!(message.kind, Kind::Request | Kind::Notification) {
        return None;
    }
    let method = message.method.as_deref()?;
    let known = telling(method);
    if known == Some(Telling::Handshake) && is_handshake(message) {
        return Some(Signature::B1);
    }
    if message.meta.mcp == Presence::Present {
        return Some(Signature::B2);
    }
    match known? {
        Telling::Alone => Some(Signature::B3),
        Telling::Handshake => None,
        Telling::Weak => {
            let a2a = message.params_id.is_present() && !message.task_id.is_present();
            (!a2a).then_some(Signature::B4)
        }
    }
}

fn is_handshake(message: &Message) -> bool {
    matches!(&message.protocol_version, Some(Scalar::Str(version)) if is_protocol_version(version))
        && message.client_name.is_some()
        && message.capabilities.is_present()
}

/// R1 for a result only MCP servers give, R4 for an error code of MCP.
pub fn response_signature(message: &Message) -> Option<Signature> {
    let result = &message.result;
    match message.kind {
        Kind::Response => {
            let handshake = result.protocol_version.as_deref().is_some_and(is_protocol_version)
                && result.server_info.is_present()
                && result.capabilities.is_present();
            let shown = handshake
                || result.input_schema.is_present()
                || result.meta_server_info.is_present()
                || result.supported_versions.is_present();
            shown.then_some(Signature::R1)
        }
        Kind::Error => matches!(result.error_code, Some(-32020 | -32021 | -32022 | -32042)).then_some(Signature::R4),
        Kind::Request | Kind::Notification | Kind::Other => None,
    }
}
