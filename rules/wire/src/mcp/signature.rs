//! Signatures of messages, and how strong each signature is.

use crate::jsonrpc::{Message, MessageKind, Presence, Scalar};
use crate::mcp_names::{Telling, is_protocol_version, telling};

/// The strength of one signature as evidence. Ordered from weakest to strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Strength {
    /// No evidence alone.
    Weak,
    /// Worth noting.
    Suspected,
    /// An event, and a rule may act on it.
    Probable,
    /// The traffic is MCP.
    Confirmed,
}

/// The part of the traffic that shows a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The headers of a request or of the answer to an upgrade.
    Header,
    /// A message of a request.
    Body,
    /// An answer.
    Response,
    /// Method, path and query of a request.
    Path,
}

macro_rules! signatures {
    ($($id:ident $part:ident $strength:ident $doc:literal;)+) => {
        /// A sign of MCP.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Signature { $(#[doc = $doc] $id),+ }

        impl Signature {
            /// All variants.
            pub const ALL: &[Self] = &[$(Self::$id),+];

            /// The name, e.g. `B1`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$id => stringify!($id)),+ }
            }

            /// The strength of the signature alone.
            pub const fn strength(self) -> Strength {
                match self { $(Self::$id => Strength::$strength),+ }
            }

            /// The part of the traffic that shows it.
            pub const fn part(self) -> Part {
                match self { $(Self::$id => Part::$part),+ }
            }
        }
    };
}

signatures! {
    H1 Header Probable "Request header `mcp-protocol-version` with a protocol version.";
    H2 Header Probable "Header `mcp-session-id`.";
    H3 Header Probable "Request header `mcp-method` with an MCP method, `mcp-name`, or `mcp-param-*`.";
    H4 Header Probable "A WebSocket's subprotocol `mcp`, or one that begins with `mcp.` or `mcp-`.";
    B1 Body Confirmed "The legacy `initialize` request.";
    B2 Body Confirmed "`params._meta` with a key that begins with `io.modelcontextprotocol/`.";
    B3 Body Confirmed "A method no other known protocol uses.";
    B4 Body Weak "A method others use as well (`ping`, `tasks/*`).";
    R1 Response Confirmed "A result only MCP servers give.";
    R2 Response Probable "The first event of an HTTP+SSE stream: `endpoint` with a session in its path.";
    R3 Response Suspected "A `Bearer` challenge with `resource_metadata` (RFC 9728).";
    R4 Response Probable "A JSON-RPC error code of MCP (-32020, -32021, -32022, -32042).";
    P1 Path Probable "A POST to a path with a session id in its query. Counts only with a JSON-RPC body.";
    P2 Path Suspected "A path that ends in `/mcp` or `/sse`, and `Accept` includes `text/event-stream`.";
    P3 Path Suspected "A GET of `/.well-known/oauth-protected-resource/<path>` (RFC 9728).";
}

impl Signature {
    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A set of signatures in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SignatureSet(u32);

const _: () = assert!(Signature::ALL.len() <= u32::BITS as usize, "each signature has a bit of the set");

impl SignatureSet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// Adds one.
    pub const fn insert(&mut self, signature: Signature) {
        self.0 |= signature.bit();
    }

    /// True if it contains this one.
    pub const fn contains(self, signature: Signature) -> bool {
        self.0 & signature.bit() != 0
    }

    /// True if it is empty.
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
        Signature::ALL.iter().copied().filter(move |signature| self.contains(*signature))
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
    if !matches!(message.kind, MessageKind::Request | MessageKind::Notification) {
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
        MessageKind::Response => {
            let handshake = result.protocol_version.as_deref().is_some_and(is_protocol_version)
                && result.server_info.is_present()
                && result.capabilities.is_present();
            let shown = handshake
                || result.input_schema.is_present()
                || result.meta_server_info.is_present()
                || result.supported_versions.is_present();
            shown.then_some(Signature::R1)
        }
        MessageKind::Error => matches!(result.error_code, Some(-32020 | -32021 | -32022 | -32042)).then_some(Signature::R4),
        MessageKind::Request | MessageKind::Notification | MessageKind::Other => None,
    }
}
