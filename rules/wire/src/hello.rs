//! The ClientHello of a TLS connection (RFC 8446 section 4.1.2), from the first bytes of it.
//!
//! It reads plaintext records until one ClientHello is whole, however it is split over records and
//! reads. It keeps what routing and JA4 fingerprints need, in wire order with GREASE (RFC 8701) in
//! place, and makes the fingerprint ([`ClientHello::ja4`]). It does not speak TLS, and does not
//! consume: the caller keeps the bytes to replay them.

mod assembler;
mod ja4;
mod message;
mod opening;
mod parser;

use crate::jsonrpc::Presence;

pub use assembler::{Assembler, Assembly, MAX_CAPTURE};
pub use ja4::Transport;
pub use opening::{Opening, opening};
pub use parser::HelloParser;

/// Most bytes of one ClientHello message; real ones are below 20 KiB.
pub const MAX_HELLO: usize = 64 << 10;

/// The result of parsing the bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloStatus {
    /// The beginning of a ClientHello.
    Incomplete,
    /// A whole one.
    Complete(Box<ClientHello>),
    /// Not the beginning of TLS: pass or refuse as other traffic.
    NotTls,
}

/// TLS that can never become a valid ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// Longer than [`MAX_HELLO`], or what is captured of one ([`MAX_CAPTURE`]).
    #[error("the ClientHello is too long")]
    TooLarge,
    /// A record of another type, empty or too long, before the ClientHello was whole.
    #[error("unexpected TLS record inside the ClientHello")]
    Record,
    /// TLS that only some servers read ([`Opening::OddTls`]).
    #[error("the ClientHello is in a record of another version or format")]
    Opening,
    /// The first handshake message is not a ClientHello.
    #[error("the first handshake message is not a ClientHello")]
    NotClientHello,
    /// A length inside the message does not fit.
    #[error("malformed ClientHello")]
    Malformed,
    /// An extension stands twice (RFC 8446 section 4.2).
    #[error("repeated extension")]
    DuplicateExtension,
    /// The server name is not a host name, or there are several (RFC 6066 section 3).
    #[error("invalid server name")]
    ServerName,
}

/// True for the sixteen values that clients send to keep servers tolerant (RFC 8701). JA4 leaves them out.
pub const fn is_grease(value: u16) -> bool {
    value & 0x0F0F == 0x0A0A && value >> 8 == value & 0xFF
}

/// A ClientHello. All lists are in wire order, GREASE values included.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// `server_name`, a validated host name in lower case without a final dot. `None` without the
    /// extension, or where it holds an IP address.
    pub sni: Option<String>,
    /// ALPN protocol names (RFC 7301).
    pub alpn: Vec<Vec<u8>>,
    /// `supported_versions`; empty without the extension.
    pub versions: Vec<u16>,
    /// `legacy_version`.
    pub legacy_version: u16,
    /// `random`.
    pub random: [u8; 32],
    /// `legacy_session_id`, at most 32 bytes.
    pub session_id: Vec<u8>,
    /// `cipher_suites`.
    pub cipher_suites: Vec<u16>,
    /// Extension types.
    pub extensions: Vec<u16>,
    /// `signature_algorithms`.
    pub signature_algorithms: Vec<u16>,
    /// `supported_groups`.
    pub supported_groups: Vec<u16>,
    /// `encrypted_client_hello` (RFC 9849), real or GREASE.
    pub ech: Presence,
}

#[cfg(test)]
mod tests;
