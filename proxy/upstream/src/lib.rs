//! Registered MCP servers, as a client reaches them: whatever their era and transport, kept apart from each other's troubles.
//!
//! An [`Upstream`] is one server. A task of its own keeps a connection to it, fetches its lists, listens for changes, and looks for
//! it when it is gone; the serving code reads the last lists and sends requests through a [`LegacySession`] or a [`ModernPeer`].
//! Messages are read as far as their envelope ([`rpc`]); payloads pass as they came ([`members`]). These modules, and those of what
//! servers list, are `gnomon-catalogue`'s, and are re-exported here.
//!
//! The bias: **one server's trouble is never another's, and never its clients' for longer than it lasts**. Lists are answered from
//! what was fetched last, calls to a server that is known to be gone fail at once, and an entry that clients could not read is left
//! out rather than the list that it stands in.
//!
//! Policy, rules, and the names under which clients know a server's entries are left to others. A server's lists are judged by an
//! [`Oversight`], which is handed in.
//!
//! An attacker controls every byte of a server and its timing. Every message, list, queue and wait is bounded.
#![deny(missing_docs)]

mod api;
mod as_text;
mod asked;
pub mod carried;
mod conversation;
pub mod endpoint;
pub mod era;
mod error;
mod events;
pub mod extensions;
mod heard;
pub mod lane;
pub mod legacy;
pub mod modern;
mod oversight;
mod owner;
mod pipe;
mod program;
mod reach;
mod server;
mod sse;
mod unfinished;
mod work;

pub use api::{Api, ApiOptions, InvalidApi, Selection};
pub use as_text::as_text;
pub use conversation::{Answer, Conversation, Said};
pub use error::{Unconnected, UpstreamError};
pub use gnomon_catalogue::{Fits, catalogue, form, left_out, members, mirror, rpc};
pub use heard::{Listener, hears_logs, take_place};
pub use legacy::{Client, LegacySession, Scope, ServerFace, Speaks};
pub use modern::ModernPeer;
pub use oversight::{Asked, News, Objection, Oversight};
pub use owner::Owner;
pub use program::{Program, ProgramLimits, ProgramOptions, ServerLayers};
pub use reach::{Reach, Transport};
pub use server::{Change, Granting, Presence, Upstream};
