//! Bytes to facts: what a stranger's bytes say, without believing any of it.
//!
//! Everything here is a push parser: the caller feeds bytes as they arrive and gets facts back.
//! No I/O, no clock, no allocation that grows with the input; the same bytes give the same facts
//! however they were cut into chunks. Each module documents its bounds.
//!
//! | module | from | to |
//! |---|---|---|
//! | [`jsonrpc`] | decoded body bytes | one [`jsonrpc::Message`] per JSON-RPC object |
//! | [`mcp`] | messages, headers, paths | the signatures by which MCP is recognised |
//! | [`sse`] | `text/event-stream` bytes | data bytes and event boundaries |
//! | [`coding`] | `Content-Encoding` bytes | plain bytes, eagerly |
//! | [`connect`] | the head of a request for a tunnel, or of the answer | where to, and what follows |
//! | [`hello`] | the first bytes of a TLS connection | the ClientHello and its JA4 |
//!
//! This crate deliberately does not keep whole bodies, judge anything, or repair input.
//! The trade-off: a hand-written scanner is more code than `serde_json`, but it reads bodies of any
//! size in constant memory and refuses what two JSON parsers could read differently.
//!
//! ```
//! use gnomon_wire::jsonrpc::{Limits, Scanner};
//!
//! let mut scanner = Scanner::new(Limits::default());
//! let mut tools = Vec::new();
//! scanner.feed(br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","par"#, &mut |message| tools.extend(message.name.clone()))?;
//! scanner.feed(br#"ams":{"n\u0061me":"delete_repo"}}"#, &mut |message| tools.extend(message.name.clone()))?;
//! assert_eq!(tools, ["delete_repo"]);
//! # Ok::<(), gnomon_wire::jsonrpc::Malformed>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]
#![warn(missing_docs)]

pub mod coding;
pub mod connect;
pub mod hello;
pub mod jsonrpc;
pub mod mcp;
mod mcp_names;
pub mod sse;
