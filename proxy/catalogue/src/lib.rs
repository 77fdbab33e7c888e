//! Messages and lists of MCP servers as text: envelopes, objects member by member, entries of lists, their schemas.
//!
//! A message is read as far as its envelope ([`rpc`]); payloads pass as they came ([`members`]). A list becomes entries
//! ([`catalogue`]): each is held to the shape that clients can read, to names that are what they look like and to what its schema may
//! cost, and is left out with a reason ([`left_out`]) where it does not hold, so that one bad entry never costs the others.
//!
//! It deliberately sends no requests: how a server is reached, and when its lists are asked for again, is in `gnomon-upstream`; the portal
//! decides who may know of an entry, and under which name.
//!
//! An attacker controls every byte of a message and of an entry, schemas and their patterns included. The size and the depth of
//! what is read, and the work of checking arguments by a server's schema, are bounded; that work is done on threads of its own.
#![deny(missing_docs)]

pub mod catalogue;
pub mod form;
mod kind;
pub mod left_out;
pub mod members;
pub mod mirror;
mod naming;
pub mod rpc;
mod schema;
mod shape;

pub use shape::Fits;
