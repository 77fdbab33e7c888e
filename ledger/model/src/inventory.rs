//! The inventory: the MCP servers seen, their users, and what they offer.
//!
//! Everything in it is claimed by strangers, so everything is bounded.

use gnomon_observe::{Channel, Confidence};
use serde::Serialize;
use std::ops::AddAssign;

/// The most servers kept; beyond it those with the least confidence, longest unseen, make room.
pub const MAX_SERVERS: usize = 16_384;
/// The most paths of one host and port that are servers of their own; the others count as path `""`.
pub const MAX_PATHS_PER_HOST: usize = 64;
/// The most client names kept per server.
pub const MAX_CLIENTS: usize = 64;
/// The most tool names kept per server.
pub const MAX_TOOLS: usize = 512;
/// The most protocol versions kept per server.
pub const MAX_PROTOCOLS: usize = 16;
/// Most addresses at which one server listens.
pub const MAX_LISTENS: usize = 16;
/// The most users kept per server.
pub const MAX_USERS: usize = 64;
/// Names and paths are cut to this many bytes.
const MAX_NAME: usize = 256;

/// The status of a server: named as allowed by the organisation, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerStatus {
    /// Allowed.
    Sanctioned,
    /// Not named.
    Shadow,
}

/// Whether a server was used, as far as its answers and other signs of it go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Contact {
    /// It was called, connected to or started.
    Used,
    /// A configuration file lists it, and nothing else was seen of it.
    Listed,
    /// Somebody tried to reach it, and nobody ever did: it could not be dialled, and no answer ever came.
    Unreached,
}

impl Contact {
    /// By what is kept of a server: its messages, those for which it could not be dialled, whether it ever answered, and the channel to it.
    #[must_use]
    pub fn of(calls: i64, unreached: i64, answered: bool, channel: Option<Channel>) -> Self {
        match channel {
            _ if unreached > 0 && !answered => Contact::Unreached,
            Some(Channel::Config) if calls == 0 && !answered => Contact::Listed,
            _ => Contact::Used,
        }
    }
}

/// The `error.type` of what could not be dialled: no such name, nobody listens there, no way to it.
pub(crate) const UNREACHED: &str = "upstream_unreachable";

/// Entries that were added to the inventory since the ledger was opened, by their status at that moment.
/// One that was removed because the inventory was full counts again when it comes back. Servers that are started on this host are not among
/// them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstSeen {
    /// Servers that the organisation named as allowed.
    pub sanctioned: u64,
    /// All others.
    pub shadow: u64,
}

impl FirstSeen {
    /// Counts a new entry.
    pub fn add(&mut self, status: ServerStatus) {
        match status {
            ServerStatus::Sanctioned => self.sanctioned += 1,
            ServerStatus::Shadow => self.shadow += 1,
        }
    }
}

impl AddAssign for FirstSeen {
    fn add_assign(&mut self, more: Self) {
        self.sanctioned += more.sanctioned;
        self.shadow += more.shadow;
    }
}

/// One server of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerRecord {
    /// Its name or address; of a local server `pkg:`, registry and name of its package, else `file:` and its path.
    pub address: String,
    /// Its TCP port; absent where there is none.
    pub port: Option<u16>,
    /// The path of its endpoint; empty while only the host is known.
    pub path: String,
    /// Sanctioned or shadow, as of the last event that said.
    pub status: ServerStatus,
    /// Its class in the host catalogue.
    pub catalogue: Option<String>,
    /// First event, milliseconds since the Unix epoch.
    pub first_seen_ms: i64,
    /// Last event, likewise.
    pub last_seen_ms: i64,
    /// MCP messages to it, those of every method; without those for which it could not be dialled.
    #[serde(rename = "messages")]
    pub calls: u64,
    /// MCP messages, else requests and connections, for which it could not be dialled.
    pub unreached: u64,
    /// Whether it was used, is merely listed, or was never reached.
    pub contact: Contact,
    /// Names of clients, sorted, at most [`MAX_CLIENTS`].
    pub clients: Vec<String>,
    /// Names of tools listed or called without error, sorted, at most [`MAX_TOOLS`].
    pub tools: Vec<String>,
    /// Protocol versions, sorted, at most [`MAX_PROTOCOLS`].
    pub protocols: Vec<String>,
    /// Its own name, as it last stated it.
    pub name: Option<String>,
    /// Its own version, likewise.
    pub version: Option<String>,
    /// The highest confidence that it speaks MCP.
    pub confidence: Option<Confidence>,
    /// The channel to it.
    pub channel: Option<Channel>,
    /// Of a server that is started on this host, or that a client's configuration file lists, who has it: names of users, else numbers, sorted, at most [`MAX_USERS`].
    pub users: Vec<String>,
    /// Of a server that is started on this host, the TCP addresses at which it, or what it started, was seen to listen, sorted, at most [`MAX_LISTENS`].
    pub listens: Vec<String>,
}

impl ServerRecord {
    /// True if it is started on this host: its address names a package or a file, which no host is called.
    #[must_use]
    pub fn is_local(&self) -> bool {
        is_local(&self.address)
    }
}

/// True if an address is that of a server that is started on this host.
pub(crate) fn is_local(address: &str) -> bool {
    [LOCAL_PACKAGE, LOCAL_FILE].iter().any(|begins| address.starts_with(begins))
}

/// What the name of a local server begins with that is a package (`gnomon.local.server`).
pub const LOCAL_PACKAGE: &str = "pkg:";
/// The same of one that is a script or a program.
pub const LOCAL_FILE: &str = "file:";

/// A name that was first seen at a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewName {
    /// The server's name or address.
    pub address: String,
    /// Its TCP port.
    pub port: Option<u16>,
    /// The path of its endpoint.
    pub path: String,
    /// The name.
    pub name: String,
    /// The time of the first sighting, milliseconds since the Unix epoch.
    pub first_seen_ms: i64,
}

/// The row of an event's server in the inventory.
pub(crate) struct ServerAt {
    address: String,
    port: Option<u16>,
    path: String,
}

impl ServerAt {
    pub(crate) fn of(json: &str) -> Option<Self> {
        let event: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).ok()?;
        let text = |name: &str| event.get(name).and_then(serde_json::Value::as_str).map(|text| cut(text).to_owned());
        let port = event.get("server.port").and_then(serde_json::Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let address = text("server.address").or_else(|| text("gnomon.local.server"))?;
        Some(Self { address, port: port.filter(|port| *port != 0), path: text("url.path").unwrap_or_default() })
    }

    /// Its entry: that of its path, else that of paths which are not told apart.
    pub(crate) fn find(&self, servers: Vec<ServerRecord>) -> Option<ServerRecord> {
        let mut here: Vec<_> = servers.into_iter().filter(|s| s.address == self.address && s.port == self.port).collect();
        let at = here.iter().position(|s| s.path == self.path).or_else(|| here.iter().position(|s| s.path.is_empty()))?;
        Some(here.swap_remove(at))
    }
}

/// A name or path, as long as the inventory keeps it.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NAME)]
}
