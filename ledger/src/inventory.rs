//! The inventory: which MCP servers were seen, by whom they were used, what they offer. Aggregated
//! per group in memory, so that the database sees one change per touched server, not per event.
//!
//! Everything in it is claimed by strangers, so everything is bounded.

use crate::volume::Volumes;
use gnomon_observe::{Channel, Confidence, Field, Lookup, Observation, Value};
use hashbrown::{Equivalent, HashMap, HashSet};
use serde::Serialize;
use smol_str::SmolStr;

/// How many servers are kept; beyond it those with the least confidence, longest unseen, make room.
pub const MAX_SERVERS: usize = 16_384;
/// How many paths of one host and port are servers of their own; the others count as path `""`.
pub const MAX_PATHS_PER_HOST: usize = 64;
/// How many client names are kept per server.
pub const MAX_CLIENTS: usize = 64;
/// How many tool names are kept per server.
pub const MAX_TOOLS: usize = 512;
/// How many protocol versions are kept per server.
pub const MAX_PROTOCOLS: usize = 16;
/// Names and paths are cut to this many bytes.
const MAX_NAME: usize = 256;

/// Whether the organisation named the server as allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerStatus {
    /// It did.
    Sanctioned,
    /// It did not.
    Shadow,
}

/// One server of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerRecord {
    /// Its name or address.
    pub address: String,
    /// Its TCP port; absent where there is none.
    pub port: Option<u16>,
    /// The path of its endpoint; empty while only the host is known.
    pub path: String,
    /// Sanctioned or shadow, as of the last event that said.
    pub status: ServerStatus,
    /// What the host catalogue says of it.
    pub catalogue: Option<String>,
    /// First event, milliseconds since the Unix epoch.
    pub first_seen_ms: i64,
    /// Last event, likewise.
    pub last_seen_ms: i64,
    /// MCP messages seen.
    pub calls: u64,
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
    /// How it is reached.
    pub channel: Option<Channel>,
}

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
    /// When it was first seen, milliseconds since the Unix epoch.
    pub first_seen_ms: i64,
}

/// Where an event's server stands in the inventory.
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
        Some(Self { address: text("server.address")?, port: port.filter(|port| *port != 0), path: text("url.path").unwrap_or_default() })
    }

    /// Its entry: that of its path, else that of paths which are not told apart.
    pub(crate) fn find(&self, servers: Vec<ServerRecord>) -> Option<ServerRecord> {
        let mut here: Vec<_> = servers.into_iter().filter(|s| s.address == self.address && s.port == self.port).collect();
        let at = here.iter().position(|s| s.path == self.path).or_else(|| here.iter().position(|s| s.path.is_empty()))?;
        Some(here.swap_remove(at))
    }
}

/// What makes a server one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServerKey {
    pub(crate) address: SmolStr,
    /// 0 where there is none.
    pub(crate) port: i64,
    pub(crate) path: SmolStr,
}

/// What a group of events says of one server.
#[derive(Debug, Default)]
pub(crate) struct ServerDelta {
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    pub(crate) calls: i64,
    pub(crate) sanctioned: Option<bool>,
    pub(crate) catalogue: Option<SmolStr>,
    pub(crate) name: Option<SmolStr>,
    pub(crate) version: Option<SmolStr>,
    pub(crate) confidence: Option<Confidence>,
    pub(crate) channel: Option<SmolStr>,
    pub(crate) clients: HashSet<SmolStr>,
    pub(crate) tools: HashSet<SmolStr>,
    pub(crate) protocols: HashSet<SmolStr>,
}

/// What a group of events says of one incident.
#[derive(Debug)]
pub(crate) struct IncidentDelta {
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    pub(crate) count: i64,
    /// Places of its first and last event in the group.
    pub(crate) first: usize,
    pub(crate) last: usize,
    pub(crate) about: About,
}

/// What an incident is about, as its first event tells.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) rule: Option<SmolStr>,
    pub(crate) rule_name: Option<SmolStr>,
    pub(crate) level: Option<SmolStr>,
    pub(crate) action: Option<SmolStr>,
    pub(crate) client: Option<SmolStr>,
    pub(crate) server: Option<SmolStr>,
}

impl About {
    fn of(seen: &Observation) -> Self {
        let plain = |field| seen.text(field).map(SmolStr::new);
        Self {
            rule: plain(Field::RuleId),
            rule_name: plain(Field::RuleName),
            level: plain(Field::RuleLevel),
            action: plain(Field::Action),
            client: client_name(seen).map(SmolStr::from),
            server: plain(Field::ServerAddress),
        }
    }
}

/// What a group of events changes besides adding rows.
#[derive(Debug, Default)]
pub(crate) struct Deltas {
    pub(crate) servers: HashMap<ServerKey, ServerDelta>,
    pub(crate) incidents: HashMap<SmolStr, IncidentDelta>,
    pub(crate) volumes: Volumes,
}

impl Deltas {
    /// Adds what the event at place `n` of the group says. What is known already costs look-ups and no
    /// allocation: this runs where events are recorded.
    pub(crate) fn add(&mut self, n: usize, seen: &Observation, at_ms: i64) {
        self.volumes.add(seen, at_ms);
        if let Some(id) = text(seen, Field::IncidentId) {
            let delta = match self.incidents.get_mut(id) {
                Some(delta) => delta,
                None => self.incidents.entry(id.into()).or_insert_with(|| IncidentDelta {
                    first_ms: at_ms,
                    last_ms: at_ms,
                    count: 0,
                    first: n,
                    last: n,
                    about: About::of(seen),
                }),
            };
            delta.first_ms = delta.first_ms.min(at_ms);
            delta.last_ms = delta.last_ms.max(at_ms);
            delta.count += 1;
            delta.last = n;
        }
        if let Some(key) = KeyRef::of(seen) {
            let delta = match self.servers.get_mut(&key) {
                Some(delta) => delta,
                None => self.servers.entry(key.to_key()).or_insert_with(|| ServerDelta {
                    first_ms: at_ms,
                    last_ms: at_ms,
                    ..Default::default()
                }),
            };
            delta.add(seen, at_ms);
        }
    }
}

/// How many calls an event stands for.
pub(crate) fn calls(seen: &Observation) -> i64 {
    i64::try_from(seen.calls()).unwrap_or(i64::MAX)
}

impl ServerDelta {
    /// What the last of the events that said so makes of it; shadow where none did, as in the database.
    pub(crate) fn status(&self) -> ServerStatus {
        if self.sanctioned == Some(true) { ServerStatus::Sanctioned } else { ServerStatus::Shadow }
    }

    fn add(&mut self, seen: &Observation, at_ms: i64) {
        self.first_ms = self.first_ms.min(at_ms);
        self.last_ms = self.last_ms.max(at_ms);
        let method = seen.text(Field::McpMethod);
        self.calls = self.calls.saturating_add(method.map_or(0, |_| calls(seen)));
        if let Lookup::Value(Value::Bool(sanctioned)) = seen.get(Field::Sanctioned) {
            self.sanctioned = Some(*sanctioned);
        }
        let keep = |kept: &mut Option<SmolStr>, field| {
            if let Some(text) = text(seen, field)
                && kept.as_deref() != Some(text)
            {
                *kept = Some(text.into());
            }
        };
        keep(&mut self.catalogue, Field::Catalogue);
        keep(&mut self.name, Field::McpServerName);
        keep(&mut self.version, Field::McpServerVersion);
        keep(&mut self.channel, Field::Channel);
        self.confidence = self.confidence.max(seen.text(Field::Confidence).and_then(|word| word.parse().ok()));
        insert(&mut self.clients, MAX_CLIENTS, client_name(seen));
        insert(&mut self.protocols, MAX_PROTOCOLS, text(seen, Field::McpProtocolVersion));
        if let Lookup::Value(Value::List(tools)) = seen.get(Field::Tools) {
            for tool in tools {
                insert(&mut self.tools, MAX_TOOLS, Some(cut(tool)));
            }
        }
        // A client may ask for any name; a name that was answered without error exists.
        if seen.get(Field::ErrorType) == Lookup::Absent && matches!(seen.get(Field::HttpStatus), Lookup::Value(Value::Int(200))) {
            insert(&mut self.tools, MAX_TOOLS, text(seen, Field::ToolName));
        }
    }
}

/// A [`ServerKey`] that borrows its texts, for looking up.
#[derive(PartialEq, Eq, Hash)]
struct KeyRef<'a> {
    address: &'a str,
    port: i64,
    path: &'a str,
}

impl<'a> KeyRef<'a> {
    /// The server an event tells of, if it tells of an MCP server.
    fn of(seen: &'a Observation) -> Option<Self> {
        let address = text(seen, Field::ServerAddress)?;
        let speaks = seen.get(Field::McpMethod) != Lookup::Absent || seen.get(Field::Tools) != Lookup::Absent;
        let confidence = seen.text(Field::Confidence).and_then(|word| word.parse::<Confidence>().ok());
        if !speaks && confidence.is_none() {
            return None;
        }
        let port = match seen.get(Field::ServerPort) {
            Lookup::Value(Value::Int(port)) => i64::from(u16::try_from(*port).unwrap_or(0)),
            _ => 0,
        };
        // A path is an endpoint only where something spoke MCP; a suspected host has many paths.
        let endpoint = speaks || confidence >= Some(Confidence::Probable);
        let path = if endpoint { text(seen, Field::UrlPath).unwrap_or_default() } else { "" };
        Some(Self { address, port, path })
    }

    fn to_key(&self) -> ServerKey {
        ServerKey { address: self.address.into(), port: self.port, path: self.path.into() }
    }
}

impl Equivalent<ServerKey> for KeyRef<'_> {
    fn equivalent(&self, key: &ServerKey) -> bool {
        (self.address, self.port, self.path) == (key.address.as_str(), key.port, key.path.as_str())
    }
}

/// What to call the client: its own name, else its program, else its `User-Agent`.
pub(crate) fn client_name(seen: &Observation) -> Option<&str> {
    text(seen, Field::McpClientName)
        .or_else(|| text(seen, Field::Executable))
        .or_else(|| seen.text(Field::UserAgent).and_then(|agent| agent.split([' ', '/']).next()).map(cut))
}

fn text(seen: &Observation, field: Field) -> Option<&str> {
    seen.text(field).filter(|text| !text.is_empty()).map(cut)
}

fn insert(set: &mut HashSet<SmolStr>, bound: usize, name: Option<&str>) {
    if let Some(name) = name
        && set.len() < bound
        && !set.contains(name)
    {
        set.insert(name.into());
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NAME)]
}
