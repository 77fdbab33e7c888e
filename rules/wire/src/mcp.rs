//! The marks of MCP: method tables, protocol eras and the signatures of every revision.
//!
//! A signature is one observation with a known strength; combining those of a flow is the caller's
//! work. Message signatures look at decoded, structured facts only, never at raw bytes, so text
//! that quotes MCP has none. Revisions: 2024-11-05 to 2025-11-25 (*legacy*: sessions, `initialize`)
//! and 2026-07-28 (*modern*: stateless).

mod era;
mod header;
mod signature;
mod transport;

pub use crate::mcp_names::{canonical_method, is_mcp_method, is_protocol_version, methods, without_gaps};
pub use era::{Era, era_of};
pub use header::{HeaderValueError, MismatchSet, decode_header_value, header_mismatch};
pub use signature::{Part, Signature, SignatureSet, Strength, message_signature, response_signature};
pub use transport::{Endpoint, challenge_signature, endpoint_event, header_signatures, path_says_mcp, path_signatures};

#[cfg(test)]
mod tests;
